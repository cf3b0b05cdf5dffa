"""Build a cross-encoder that begins as good as its bi-encoder, and write its model folder.

    python training/prepare.py --data DATA
    python training/grow.py --minutes 18
    python training/train_reranker.py --start-from WORK/grown --vectors 0.5 --minutes 60

A bi-encoder reads query and document apart and compares the means of their last vectors. Seven
layers can do the same in one pass over both texts. `read_apart.py` solves for weights with which
the encoder's six layers read them apart, though they lie side by side; a fit brings their vectors
nearer to those that the encoder itself has, token by token. Then a seventh layer is set on top. Its
attention brings the means of both texts to the first token, and its feed-forward part multiplies
them: gelu(x) + gelu(-x) is nearly a square, and ab = ((a + b)^2 - (a - b)^2) / 4. What is inexact
in it is learned from the encoder's cosine. From there, training has only to learn what a bi-encoder
cannot see.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from encoder_vectors import EncoderVectors, Layers, segment_means
from groups import GROUP, RELEVANT_COSINE, TEACHER_SCALE, WORK_DIR, Draw
from helpers.server import base_encoder_path
from read_apart import read_apart
from train_reranker import (
    MAX_TOKENS,
    SHIFTS_FILE,
    blocks_of,
    build_model,
    frozen_encoder,
    learning_rate,
    shifts_in,
    trainable,
    weights_in,
)

PAIRS = 24  # a step, each of another query, ...
SAMPLE = 900  # ... and for what is solved for: many queries, since they have few tokens
READING_SHARE = 0.8  # of the minutes; the rest is for the comparison
RATES = (3e-5, 2e-5)  # learning rates of the two
COSINE_WEIGHT = 0.03  # of the squared error of a logit, beside the distance of the vectors
KEY_PENALTY = 1e-5  # on the squares of the weights of attention, where it is solved for
MEAN_GAIN = 40.0  # how much the means outweigh the first token's own vector
SQUARE_SCALE = 0.3  # of what goes into the squares: small enough to be near the parabola
PRODUCT_SCALE = 0.3  # of what comes out of them
TANH_SCALE = 0.25  # of the result where the head reads it: small enough to be nearly linear

Blocks = Callable[[], Iterator]


def even_keys(blocks: list[tuple[torch.Tensor, ...]], text: int) -> torch.Tensor:
    """Return the weights of attention logits with which it falls evenly on one text of a pair.

    They minimise the divergence of a softmax over all tokens of the pair from the even share that
    each token of the one text is to have. That is convex: there is one solution, (width,).

    Args:
        blocks: Vectors, kinds and mask of pairs: (rows, tokens, width), two times (rows, tokens).
        text: 0 for the query, 1 for the document.
    """
    tokens = torch.cat([x[mask.bool()] for x, _, mask in blocks])
    centre, size = tokens.mean(0), tokens.std(0).median()
    blocks = [((x - centre) / size, kinds, mask) for x, kinds, mask in blocks]
    wanted = torch.cat([segment_means(*block)[text] for block in blocks]).mean(0)
    weights = torch.zeros_like(wanted, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = [(x @ weights).masked_fill(mask == 0, -torch.inf) for x, _, mask in blocks]
        far = torch.cat([part.logsumexp(1) for part in logits]).mean() - wanted @ weights
        far = far + KEY_PENALTY * weights.square().sum()
        far.backward()
        return far

    with torch.enable_grad():
        optimiser.step(loss)
    return weights.detach() / size


def set_comparison(layer, blocks, means) -> None:
    """Make a layer write into the first token's last feature how alike the two texts' means are.

    Args:
        layer: Changed in place.
        blocks: See `even_keys`; the vectors are those that come into the layer.
        means: Means of queries and of documents: two times (texts, width). Their directions'
            principal components count. Those of documents are shorter, since the vectors of a
            longer text differ more: they are scaled to the length of the others, because the norm
            after attention divides both by one number.

    The first half of the attention heads reads the query, the second the document. What the first
    token itself holds has no part in it.
    """
    for part in layer.modules():
        for name, tensor in part.named_parameters(recurse=False):
            tensor.fill_(1.0 if isinstance(part, torch.nn.LayerNorm) and name == "weight" else 0.0)
    own, width = layer.attention.self, means[0].shape[1]
    heads, size, half = own.num_attention_heads, own.attention_head_size, width // 2
    kept = half - 1  # components of each mean; the last feature is for the result
    keys = [even_keys(blocks, text) for text in (0, 1)]
    for head in range(heads):
        last = (head + 1) * size - 1
        own.query.bias[last] = math.sqrt(size)
        own.key.weight[last] = keys[head >= heads // 2]
    directions = F.normalize(torch.cat(means))
    components = torch.linalg.eigh(directions.T @ directions).eigenvectors.flip(1)[:, :kept]
    of_queries, of_documents = ((part @ components).norm(dim=1).mean() for part in means)
    # Turned at random, so that no feature is much larger than another.
    turn, _ = torch.linalg.qr(torch.randn(kept, kept))
    own.value.weight[:kept] = turn @ components.T
    own.value.weight[half : half + kept] = of_queries / of_documents * turn @ components.T
    layer.attention.output.dense.weight.copy_(MEAN_GAIN * torch.eye(width))

    up, down = layer.intermediate.dense.weight, layer.output.dense.weight
    features = torch.arange(kept)
    for place, (a, b) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
        rows = features + place * kept
        up[rows, features] = SQUARE_SCALE * a
        up[rows, features + half] = SQUARE_SCALE * b
        down[width - 1, rows] = PRODUCT_SCALE if place < 2 else -PRODUCT_SCALE
    # The units left over begin with small random weights, so that training can use them.
    up[4 * kept :].normal_(std=0.02)


def set_head(model, last: torch.Tensor, wanted: torch.Tensor) -> None:
    """Make pooler and classifier turn the first token's last feature into the wanted logits."""
    width = len(model.bert.pooler.dense.weight)
    pooler, head = model.bert.pooler.dense, model.classifier
    scale = TANH_SCALE / last.std()
    pooler.weight.normal_(std=0.02)
    pooler.weight[0] = 0
    pooler.weight[0, width - 1] = scale
    pooler.bias.zero_()
    pooler.bias[0] = -scale * last.mean()
    pooled = torch.tanh(scale * (last - last.mean()))
    slope = torch.cov(torch.stack([pooled, wanted]))[0, 1] / pooled.var()
    head.weight.zero_()
    head.weight[0, 0] = slope
    head.bias[0] = wanted.mean() - slope * pooled.mean()


@torch.no_grad()
def add_layer(reader, target: EncoderVectors, blocks: Iterator):
    """Return a cross-encoder of one layer more than `reader`, which compares its texts' means."""
    count = reader.config.num_hidden_layers
    config = copy.deepcopy(reader.config)
    config.num_hidden_layers = count + 1
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = AutoModelForSequenceClassification.from_config(config).to(reader.device)
    model.load_state_dict(reader.state_dict(), strict=False)
    sample = [inputs for _, inputs in blocks]
    forward, read, means, wanted = Layers(model), [], [], []
    for inputs in sample:
        vectors = forward.every(*inputs)[count - 1].float()
        read.append((vectors, *inputs[1:]))
        means.append(segment_means(*read[-1]))
        wanted.append(logit_of(target.alone(*inputs)[1]))
    means = [target.without_shift(torch.cat(part)) for part in zip(*means, strict=True)]
    layer = model.bert.encoder.layer[count]
    set_comparison(layer, read, means)
    forward = Layers(model)
    products = torch.cat([product_of(forward, layer, inputs) for inputs in sample])
    layer.output.dense.bias[-1] -= products.mean()
    forward = Layers(model)
    found = torch.cat([forward.every(*inputs)[-1][:, 0, -1].float() for inputs in sample])
    set_head(model, found, torch.cat(wanted))
    agreed = np.corrcoef(found.cpu(), torch.cat(wanted).cpu())[0, 1]
    print(f"as built: correlation with the encoder's cosine {agreed:.3f}", flush=True)
    return model


def product_of(forward: Layers, layer, inputs) -> torch.Tensor:
    """Return what a layer's feed-forward part adds to the first token's last feature."""
    forward.every(*inputs)
    first = forward.normed[-2][:, 0].float()
    return layer.output.dense(F.gelu(layer.intermediate.dense(first)))[:, -1]


def logit_of(cosine: torch.Tensor) -> torch.Tensor:
    """Return the logit that a cosine of the encoder counts as."""
    return TEACHER_SCALE * (cosine - RELEVANT_COSINE)


def fit(model, target: EncoderVectors, blocks: Blocks, minutes: float, rate: float) -> None:
    """Train a model to have the encoder's vectors, and its cosine, as logits.

    Where the model has as many layers as the encoder, it is the means of the vectors that are
    compared; where it has one more, the head's logits.
    """
    whole = len(model.bert.encoder.layer) > len(target.shifts)
    trained = list(trainable(model).values())
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
    spent, step, length, recent = 0.0, 0, 60 * minutes, []
    while spent < length:
        began = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(rate, step, spent / length)
        optimiser.zero_grad(set_to_none=True)
        drawn = list(blocks())
        count, seen = sum(len(places) for places, _ in drawn), []
        for places, inputs in drawn:
            wanted, cosine = target.alone(*inputs)
            forward = Layers(model)
            got = forward.every(*inputs)
            distance = target.distance(got, wanted, *inputs[1:])
            if whole:
                logits = forward.logits(got[-1])
            else:
                x = target.without_shift(got[-1].float())
                logits = logit_of(F.cosine_similarity(*segment_means(x, *inputs[1:])))
            error = (logits - logit_of(cosine)).square().mean()
            ((distance + COSINE_WEIGHT * error) * len(places) / count).backward()
            seen.append((distance.item(), error.item()))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        spent += time.monotonic() - began
        recent.append(np.mean(seen, 0))
        if step % 25 == 0:
            distance, error = np.mean(recent, 0)
            print(
                f"step {step}  vectors {distance:.3f}  logits off by {error**0.5:.2f}"
                f"  {(length - spent) / 60:.1f} min left",
                flush=True,
            )
            recent = []


def main() -> None:
    """Fit the reading, add the layer that compares, fit both, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="default: %(default)s")
    parser.add_argument("--start-from", type=Path, help="folder that this wrote, to go on from")
    parser.add_argument("--minutes", type=float, default=18.0, help="length of the fit")
    parser.add_argument("--seed", type=int, default=43)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = base_encoder_path()
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=MAX_TOKENS)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    draw = Draw(options.work_dir / "groups", options.seed)

    def blocks(count: int = PAIRS) -> Iterator:
        """Draw pairs of different queries, and put them on the device, like lengths together."""
        pairs = [draw.group()[0][turn % GROUP] for turn in range(count)]
        for places, inputs in blocks_of(pairs, special):
            yield places, tuple(part.to(device) for part in inputs)

    encoder = frozen_encoder(base, device)
    if options.start_from:
        model = build_model(base, weights_in(options.start_from)).to(device)
        shifts = shifts_in(options.start_from).to(device)
        target = EncoderVectors(encoder, shifts)
        minutes = options.minutes
    else:
        reader, shifts = read_apart(encoder, [inputs for _, inputs in blocks(SAMPLE)])
        target = EncoderVectors(encoder, shifts)
        fit(reader, target, blocks, READING_SHARE * options.minutes, RATES[0])
        model = add_layer(reader, target, blocks(SAMPLE))
        minutes = (1 - READING_SHARE) * options.minutes
    fit(model, target, blocks, minutes, RATES[1])
    folder = options.work_dir / "grown"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    np.save(folder / SHIFTS_FILE, shifts.cpu().numpy())


if __name__ == "__main__":
    main()
