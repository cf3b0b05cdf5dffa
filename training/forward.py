"""Run a BERT cross-encoder with its LoRA layers merged, in bfloat16, fast on a CPU as well.

The same arithmetic as transformers' BertForSequenceClassification under PEFT, arranged for training
a small model: each LoRA product is added to its weight once a step, so that every layer is one
large product; and attention is written out, because the backward pass of PyTorch's fused attention
took a quarter of the time of a step on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


class MergedForward:
    """Forward passes of one training step; make a new one after each change of the weights."""

    def __init__(self, model):
        """Merge the LoRA layers of a PEFT-wrapped BertForSequenceClassification."""
        inner = model.base_model.model
        self.bert, self.head = inner.bert, inner.classifier
        self.heads = inner.config.num_attention_heads
        self.epsilon = inner.config.layer_norm_eps
        self.layers = [
            (
                *map(merged, (attention.self.query, attention.self.key, attention.self.value)),
                merged(attention.output.dense),
                norm(attention.output.LayerNorm),
                merged(layer.intermediate.dense),
                merged(layer.output.dense),
                norm(layer.output.LayerNorm),
            )
            for layer in inner.bert.encoder.layer
            for attention in [layer.attention]
        ]
        self.pooler = merged(inner.bert.pooler.dense)

    def logits(self, ids, kinds, mask):
        """Return one float32 logit a row.

        Args:
            ids: Token ids, (rows, tokens).
            kinds: 0 for the query's tokens, 1 for the document's, of the same shape.
            mask: 1 for tokens, 0 for padding, of the same shape.
        """
        rows, tokens = ids.shape
        with torch.no_grad():
            x = self.bert.embeddings(input_ids=ids, token_type_ids=kinds).bfloat16()
        size = x.shape[-1] // self.heads
        padding = (1 - mask.bfloat16())[:, None, None, :] * -1e4

        def split(y):
            return y.view(rows, tokens, self.heads, size).transpose(1, 2)

        for query, key, value, output, first_norm, up, down, second_norm in self.layers:
            q, k, v = (split(F.linear(x, *weights)) for weights in (query, key, value))
            attention = (q @ k.transpose(2, 3) * size**-0.5 + padding).softmax(-1)
            mixed = (attention @ v).transpose(1, 2).reshape(rows, tokens, -1)
            x = self._norm(F.linear(mixed, *output) + x, first_norm)
            x = self._norm(F.linear(F.gelu(F.linear(x, *up)), *down) + x, second_norm)
        pooled = torch.tanh(F.linear(x[:, 0], *self.pooler))
        head = self.head.modules_to_save["default"]
        return F.linear(pooled.float(), head.weight, head.bias).squeeze(-1)

    def _norm(self, x, weights):
        return F.layer_norm(x, x.shape[-1:], *weights, self.epsilon)


def merged(layer):
    """Return weight and bias of a LoRA layer, summed in float32, as bfloat16."""
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    weight = layer.base_layer.weight + layer.scaling["default"] * (up @ down)
    return weight.bfloat16(), layer.base_layer.bias.bfloat16()


def norm(layer):
    """Return weight and bias of a LayerNorm as bfloat16."""
    return layer.weight.bfloat16(), layer.bias.bfloat16()
