"""Make an encoder read the two texts of a pair apart, though they lie side by side, by its weights.

What has to change is attention: no token of a query may see one of the document, nor the other way
round. So each token carries along to which text it belongs, as a small shift of its vector, and in
each head two of the 32 numbers that queries and keys have are given up for a penalty on the other
text's tokens. All of it is solved for, layer by layer, on a sample of pairs; nothing is trained.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F

from encoder_vectors import Apart

PENALTY = 5.0  # logits of attention by which a token of the other text is behind
NOISE = 0.1  # how far a vector varies by itself along its shift, the shift's length being 1, ...
LAST_NOISE = 0.03  # ... and after the last layer, where the texts' means are to be told exactly
STEP_SLOPE = 6.0  # of the step that renews the shift: steep enough to be flat on either side
RIDGE, READOUT_RIDGE = 1e-3, 1e-5  # relative to the variance of a feature
SPARE = 2  # numbers of a head's queries and keys that are given up
SMALLEST = 1e-6  # eigenvalues are at least so much of the largest where one divides by them


def ridge(x: torch.Tensor, wanted: torch.Tensor, strength: float):
    """Return the weights and the bias with which x tells what is wanted, by ridge regression.

    Args:
        x: (tokens, width).
        wanted: (tokens, features).
        strength: Of the penalty, relative to the mean square of a feature of x.
    """
    padded = torch.cat([x, torch.ones(len(x), 1, device=x.device)], 1).double()
    gram = padded.T @ padded / len(padded)
    gram.diagonal().add_(strength * gram.diagonal().mean())
    solved = torch.linalg.solve(gram, padded.T @ wanted.double() / len(padded)).float()
    return solved[:-1], solved[-1]


def correct(layer: torch.nn.Linear, x: torch.Tensor, wanted: torch.Tensor) -> None:
    """Change a dense layer as little as makes it return what is wanted for x."""
    weights, bias = ridge(x, wanted - layer(x), RIDGE)
    layer.weight += weights.T
    layer.bias += bias


def power(matrix: torch.Tensor, exponent: float) -> torch.Tensor:
    """Return a power of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix.double())
    values = values.clamp(min=SMALLEST * values.max())
    return ((vectors * values**exponent) @ vectors.T).float()


def quietest(x: torch.Tensor) -> torch.Tensor:
    """Return the unit vector along which x varies least, of those that a norm leaves in."""
    width = x.shape[1]
    one = torch.full((width, 1), width**-0.5, device=x.device)
    inside = torch.eye(width, device=x.device) - one @ one.T
    spread = inside @ torch.cov(x.T) @ inside
    spread += spread.trace() * one @ one.T
    return torch.linalg.eigh(spread.double()).eigenvectors[:, 0].float()


def centred_size(x: torch.Tensor) -> torch.Tensor:
    """Return the typical size of a feature of x, a vector's mean taken off: what a norm divides by.

    The median over the vectors, as one number.
    """
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt().median()


class Sample:
    """Blocks of pairs, and which of their tokens belong to what; a token is one row.

    Attributes:
        blocks: The models' inputs: ids, kinds and mask, each (rows, tokens).
        signs: -1 for a query's tokens, 1 for a document's.
        first: Whether it is the first token of a pair, which both texts may see.
    """

    def __init__(self, blocks: list[tuple[torch.Tensor, ...]]):
        self.blocks = blocks
        self.inside = [mask.bool() for *_, mask in blocks]
        self.signs = torch.cat([2.0 * kinds[mask.bool()] - 1 for _, kinds, mask in blocks])
        starts = [torch.arange(ids.shape[1], device=ids.device) == 0 for ids, *_ in blocks]
        self.first = torch.cat(
            [
                start.expand_as(inside)[inside]
                for start, inside in zip(starts, self.inside, strict=True)
            ]
        )

    def rows(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """Return the tokens' vectors of all blocks, without the padding: (tokens, width)."""
        return torch.cat([x[inside] for x, inside in zip(blocks, self.inside, strict=True)])

    def back(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Put the tokens' vectors back into blocks, each (rows, tokens, width)."""
        parts = rows.split([int(inside.sum()) for inside in self.inside])
        blocks = []
        for part, inside in zip(parts, self.inside, strict=True):
            block = torch.zeros(*inside.shape, part.shape[1], device=part.device)
            block[inside] = part
            blocks.append(block)
        return blocks


def mixed(attention, sample: Sample, x: torch.Tensor, seen: list[torch.Tensor], heads: int):
    """Return what self-attention makes of the tokens' vectors, before its output layer.

    Args:
        attention: A BertSelfAttention.
        sample: Where the tokens are.
        x: (tokens, width).
        seen: For each block which tokens each token sees: (rows, 1 or tokens, tokens).
        heads: The number of heads.
    """
    parts = [sample.back(part(x)) for part in (attention.query, attention.key, attention.value)]
    out = []
    for *block, seen_here in zip(*parts, seen, strict=True):
        rows, tokens, width = block[0].shape
        query, key, value = (y.view(rows, tokens, heads, -1).transpose(1, 2) for y in block)
        y = F.scaled_dot_product_attention(query, key, value, seen_here[:, None].bool())
        out.append(y.transpose(1, 2).reshape(rows, tokens, width))
    return sample.rows(out)


def make_room(attention, x: torch.Tensor, heads: int) -> None:
    """Rewrite each head's queries and keys so that its last SPARE numbers are free, and 0.

    The products of queries and keys stay what they are, but for the directions in which they
    differ least: the products are a matrix of rank 32, of which the 30 largest singular values
    are kept. A part that all keys have in common does not count, since a softmax forbids it.
    """
    query, key = attention.query(x), attention.key(x)
    size = x.shape[1] // heads
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        of_queries = query[:, own].T @ query[:, own] / len(x)
        of_keys = torch.cov(key[:, own].T)
        left, strengths, right = torch.linalg.svd(power(of_queries, 0.5) @ power(of_keys, 0.5))
        strengths[-SPARE:] = 0
        roots = strengths.sqrt()[:, None]
        for layer, new in (
            (attention.query, roots * left.T @ power(of_queries, -0.5)),
            (attention.key, roots * right @ power(of_keys, -0.5)),
        ):
            layer.weight[own] = new @ layer.weight[own]
            layer.bias[own] = new @ layer.bias[own]


def penalise(attention, weights: torch.Tensor, bias: torch.Tensor, heads: int) -> None:
    """Put a penalty on the other text's tokens into the numbers that `make_room` made free.

    Args:
        attention: A BertSelfAttention, changed in place.
        weights: (width, 3), with which a vector tells: its sign; whether it is a query's token
            other than the first; whether it is a document's.
        bias: (3,), to be added.
        heads: The number of heads.
    """
    size = len(weights) // heads
    root = math.sqrt(PENALTY * math.sqrt(size))
    for head in range(heads):
        last = (head + 1) * size - 1
        for place, sign, other in ((last - 1, 1, 1), (last, -1, 2)):
            attention.query.weight[place] = root * sign * weights[:, 0] / 2
            attention.query.bias[place] = root * (sign * bias[0] + 1) / 2
            attention.key.weight[place] = -root * weights[:, other]
            attention.key.bias[place] = -root * bias[other]


def shift_for(x: torch.Tensor, noise: float) -> torch.Tensor:
    """Return a shift along which x varies only by `noise` times its length."""
    direction = quietest(x)
    return direction * (x @ direction).std() / noise


def renew_shift(
    layer, x: torch.Tensor, theirs: torch.Tensor, signs: torch.Tensor, noise: float
) -> None:
    """Make two units of a layer's feed-forward part set the shift anew, whatever is left of it.

    A sum of two units, gelu(slope (s + 1/2)) - gelu(slope (s - 1/2)), is a step: it hardly changes
    near -1 and near 1. The units are those whose own output varies least.

    Args:
        layer: A BertLayer, changed in place.
        x: What its feed-forward part reads: (tokens, width).
        theirs: What it would read without a shift.
        signs: (tokens,)
        noise: See `shift_for`.
    """
    up, down = layer.intermediate.dense, layer.output.dense
    inner = F.gelu(up(x))
    units = (inner.var(0) * down.weight.square().sum(0)).argsort()[:2]
    down.bias += down.weight[:, units] @ inner[:, units].mean(0)
    down.weight[:, units] = 0
    after = theirs + down(F.gelu(up(x)))
    missing = shift_for(after, noise) - ((x - theirs) * signs[:, None]).mean(0)
    weights, bias = ridge(x, signs[:, None], READOUT_RIDGE)
    for unit, way in zip(units, (1, -1), strict=True):
        up.weight[unit] = STEP_SLOPE * weights[:, 0]
        up.bias[unit] = STEP_SLOPE * (bias[0] + way / 2)
        down.weight[:, unit] = 2 * way / STEP_SLOPE * missing
    down.bias -= missing


@torch.no_grad()
def read_apart(encoder, blocks: list[tuple[torch.Tensor, ...]]):
    """Return a model that reads texts side by side as `encoder` reads them apart, and its shifts.

    Args:
        encoder: A BertForSequenceClassification.
        blocks: A sample of pairs, as inputs of the model; some 100 tokens a feature do.

    Returns:
        The model, and by how much the vectors of a document's tokens are shifted after each layer,
        a query's by the opposite: (layers, width).
    """
    heads = encoder.config.num_attention_heads
    model, sample, apart = copy.deepcopy(encoder), Sample(blocks), Apart(encoder)
    signs, mean_of = sample.signs, lambda x: (x * sample.signs[:, None]).mean(0)
    wanted_signs = torch.stack(
        [signs, ((signs < 0) & ~sample.first).float(), (signs > 0).float()], 1
    )
    seen_apart = [apart.seen(kinds, mask) for _, kinds, mask in blocks]
    seen_all = [mask[:, None] for *_, mask in blocks]

    table = encoder.bert.embeddings
    raw = sample.rows(
        [
            table.word_embeddings(ids)
            + table.position_embeddings.weight[: ids.shape[1]]
            + table.token_type_embeddings.weight[0]
            for ids, *_ in blocks
        ]
    )
    shift = shift_for(raw, NOISE)
    kinds = model.bert.embeddings.token_type_embeddings.weight
    kinds[1] = kinds[0] + shift
    kinds[0] -= shift
    theirs, ours = table.LayerNorm(raw), raw + signs[:, None] * shift
    ours = rescaled(model.bert.embeddings.LayerNorm, ours, raw)

    shifts, layers = [], model.bert.encoder.layer
    for old, new in zip(encoder.bert.encoder.layer, layers, strict=True):
        before, after = old.attention, new.attention
        for part in ("query", "key", "value"):
            correct(getattr(after.self, part), ours, getattr(before.self, part)(theirs))
        make_room(after.self, ours, heads)
        penalise(after.self, *ridge(ours, wanted_signs, READOUT_RIDGE), heads)
        theirs = theirs + before.output.dense(mixed(before.self, sample, theirs, seen_apart, heads))
        ours = ours + after.output.dense(mixed(after.self, sample, ours, seen_all, heads))
        ours = rescaled(after.output.LayerNorm, ours, theirs)
        theirs = before.output.LayerNorm(theirs)

        correct(new.intermediate.dense, ours, old.intermediate.dense(theirs))
        renew_shift(new, ours, theirs, signs, LAST_NOISE if new is layers[-1] else NOISE)
        theirs = theirs + old.output.dense(F.gelu(old.intermediate.dense(theirs)))
        ours = ours + new.output.dense(F.gelu(new.intermediate.dense(ours)))
        ours = rescaled(new.output.LayerNorm, ours, theirs)
        theirs = old.output.LayerNorm(theirs)
        shifts.append(mean_of(ours - theirs))
    return model, torch.stack(shifts)


def rescaled(norm: torch.nn.LayerNorm, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Make up for the size that the shift adds, in a norm's weights, and return what it makes."""
    norm.weight *= centred_size(ours) / centred_size(theirs)
    return norm(ours)
