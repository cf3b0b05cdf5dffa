"""Run a BERT cross-encoder fast on a CPU as well, in bfloat16 where the processor multiplies it.

The same arithmetic as transformers' BertForSequenceClassification, arranged for training a small
model: the weights stay float32 and are rounded once a step, query, key and value are one product,
and attention is written out on a CPU, because the backward pass of PyTorch's fused attention takes
longer there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def number_type(device: torch.device | str) -> torch.dtype:
    """Return bfloat16, or float32 for a processor without it, where it takes six times as long."""
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    return torch.bfloat16


class Forward:
    """Forward passes of one training step; make a new one after each change of the weights."""

    def __init__(self, model):
        """Round the weights of a BertForSequenceClassification to `number_type`."""
        self.kind = kind = number_type(model.device)
        self.bert, self.head = model.bert, model.classifier
        self.heads = model.config.num_attention_heads
        self.epsilon = model.config.layer_norm_eps
        self.layers = [
            (
                rounded(kind, attention.self.query, attention.self.key, attention.self.value),
                rounded(kind, attention.output.dense),
                rounded(kind, attention.output.LayerNorm),
                rounded(kind, layer.intermediate.dense),
                rounded(kind, layer.output.dense),
                rounded(kind, layer.output.LayerNorm),
            )
            for layer in model.bert.encoder.layer
            for attention in [layer.attention]
        ]
        self.pooler = rounded(kind, model.bert.pooler.dense)

    def logits(self, last):
        """Return one float32 logit a row, given the vectors after the last layer."""
        pooled = torch.tanh(F.linear(last[:, 0], *self.pooler))
        return F.linear(pooled.float(), self.head.weight, self.head.bias).squeeze(-1)

    def hidden(self, ids, kinds, mask):
        """Return the last layer's vectors: (rows, tokens, width).

        Args:
            ids: Token ids, (rows, tokens).
            kinds: 0 for the query's tokens, 1 for the document's, of the same shape.
            mask: 1 for tokens, 0 for padding, of the same shape.
        """
        rows, tokens = ids.shape
        with torch.no_grad():
            x = self.embedded(ids, kinds).to(self.kind)
        width = x.shape[-1]
        hidden = (1 - self.seen(kinds, mask).to(self.kind))[:, None] * -1e4

        for inputs, output, first_norm, up, down, second_norm in self.layers:
            query, key, value = (
                y.view(rows, tokens, self.heads, -1).transpose(1, 2)
                for y in F.linear(x, *inputs).split(width, -1)
            )
            mixed = attend(query, key, value, hidden).transpose(1, 2).reshape(rows, tokens, -1)
            x = self._norm(F.linear(mixed, *output) + x, first_norm)
            x = self._norm(F.linear(F.gelu(F.linear(x, *up)), *down) + x, second_norm)
        return x

    def embedded(self, ids, kinds):
        """Return the vectors that go into the first layer: (rows, tokens, width)."""
        return self.bert.embeddings(input_ids=ids, token_type_ids=kinds)

    def seen(self, kinds, mask):
        """Return which tokens each token sees, 1 or 0: (rows, 1 or tokens, tokens)."""
        return mask[:, None]

    def _norm(self, x, weights):
        return F.layer_norm(x, x.shape[-1:], *weights, self.epsilon)


def mean_vectors(x, mask):
    """Return the mean of each row's vectors in float32, of those where the mask is 1."""
    return (x.float() * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def attend(query, key, value, hidden):
    """Return attention's output, by the way that is faster on this device."""
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
    scale = query.shape[-1] ** -0.5
    return (query @ key.transpose(2, 3) * scale + hidden).softmax(-1) @ value


def rounded(kind, *layers):
    """Return the layers' weights and biases as numbers of a kind, several of them as one."""
    weights = torch.cat([layer.weight for layer in layers])
    return weights.to(kind), torch.cat([layer.bias for layer in layers]).to(kind)
