"""Make an encoder read the two texts of a pair apart, though they lie side by side, by its weights.

What has to change is attention: no token of a query may see one of the document, nor the other way
round. So each token carries along to which text it belongs, as a small shift of its vector, in one
direction for queries and in another for documents; and in each head two of the 32 numbers that
queries and keys have are given up for a penalty on the other text's tokens. With one direction and
two signs the penalty would not be 0 for a text's own tokens, because a norm makes some tokens'
shifts longer than others'. All of it is solved for, layer by layer, on a sample of pairs; nothing
is trained.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F

from encoder_vectors import balance, seen_apart, shared_tokens

LEAD_OF_QUERIES = 8.0  # logits by which a document's tokens are behind for those of the query, ...
LEAD_OF_DOCUMENTS = 3.0  # ... and the other way round, where there are fewer to be put back
ZERO_WEIGHT = 10.0  # of tokens that have no part in a penalty, where it is solved for
NOISE = 0.05  # how far a vector varies by itself along a shift, the shift's length being 1, ...
LAST_NOISE = 0.015  # ... and after the last layer, above which all depends on telling the texts
STEP_SLOPE = 12.0  # of the step that renews a shift: steep enough to be flat near 0 and near 1
RIDGE, READOUT_RIDGE = 1e-3, 1e-5  # relative to the variance of a feature
SPARE = 2  # numbers of a head's queries and keys that are given up
SMALLEST = 1e-6  # eigenvalues are at least so much of the largest where one divides by them


def ridge(x: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, strength: float):
    """Return the weights and the bias with which x tells what is wanted, by ridge regression.

    Args:
        x: (tokens, width).
        wanted: (tokens, features).
        weights: How much each token counts, 1 on average: (tokens,).
        strength: Of the penalty, relative to the mean square of a feature of x.
    """
    padded = torch.cat([x, torch.ones(len(x), 1, device=x.device)], 1).double()
    weighted = padded.T * weights / len(padded)
    gram = weighted @ padded
    gram.diagonal().add_(strength * gram.diagonal().mean())
    solved = torch.linalg.solve(gram, weighted @ wanted.double()).float()
    return solved[:-1], solved[-1]


def telling(x: torch.Tensor, which: torch.Tensor, weights: torch.Tensor):
    """Return the weights and the bias with which x tells tokens of a kind, for a penalty on them.

    A wrong 0 is worse than a wrong 1: it puts a penalty where there is to be none.

    Args:
        x: (tokens, width).
        which: 1 for tokens of the kind, else 0: (tokens,).
        weights: See `ridge`.
    """
    weights = weights * torch.where(which == 0, ZERO_WEIGHT, 1.0)
    matrix, bias = ridge(x, which[:, None], weights, READOUT_RIDGE)
    return matrix[:, 0], bias[0]


def correct(layer: torch.nn.Linear, x: torch.Tensor, wanted: torch.Tensor, weights) -> None:
    """Change a dense layer as little as makes it return what is wanted for x; see `ridge`."""
    matrix, bias = ridge(x, wanted - layer(x), weights, RIDGE)
    layer.weight += matrix.T
    layer.bias += bias


def roots_of(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return the root of a symmetric matrix without negative eigenvalues, and its inverse."""
    values, vectors = torch.linalg.eigh(matrix.double())
    values = values.clamp(min=SMALLEST * values.max())
    return [((vectors * values**exponent) @ vectors.T).float() for exponent in (0.5, -0.5)]


def shifts_for(x: torch.Tensor, noise: float) -> torch.Tensor:
    """Return two shifts, at right angles, along which x varies only by `noise` times their lengths.

    They are the directions in which x varies least, of those that a norm leaves in: (2, width),
    for queries and for documents.
    """
    width = x.shape[1]
    one = torch.full((width, 1), width**-0.5, device=x.device)
    inside = torch.eye(width, device=x.device) - one @ one.T
    spread = inside @ torch.cov(x.T) @ inside
    spread += spread.trace() * one @ one.T
    directions = torch.linalg.eigh(spread.double()).eigenvectors[:, :2].T.float()
    return directions * (x @ directions.T).std(0)[:, None] / noise


def centred_size(x: torch.Tensor) -> torch.Tensor:
    """Return the typical size of a feature of x, a vector's mean taken off: what a norm divides by.

    The median over the vectors, as one number.
    """
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt().median()


class Sample:
    """Blocks of pairs, and which of their tokens belong to what; a token is one row.

    Attributes:
        of_text: 1 in the first column for a query's tokens, in the second for a document's.
        weights: Of each token, so that both texts count the same, 1 on average.
        penalised: The same as `of_text`, but 0 for tokens that both texts may see.
    """

    def __init__(self, blocks: list[tuple[torch.Tensor, ...]]):
        """Take blocks as the models read them: ids, kinds and mask, each (rows, tokens)."""
        self.inside = [mask.bool() for *_, mask in blocks]
        kinds = self.rows([kinds for _, kinds, _ in blocks])
        self.of_text = torch.stack([1 - kinds, kinds], 1).float()
        self.weights = balance(kinds)
        shared = self.rows([shared_tokens(kinds, mask) for _, kinds, mask in blocks])
        self.penalised = self.of_text * ~shared[:, None]

    def shifts(self, difference: torch.Tensor) -> torch.Tensor:
        """Return the mean of a difference over each text's tokens: (2, width)."""
        return self.of_text.T @ difference / self.of_text.sum(0)[:, None]

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


def mixed(attention, sample: Sample, x: torch.Tensor, seen: list[torch.Tensor]) -> torch.Tensor:
    """Return what self-attention makes of the tokens' vectors, before its output layer.

    Args:
        attention: A BertSelfAttention.
        sample: Where the tokens are.
        x: (tokens, width).
        seen: For each block which tokens each token sees: (rows, 1 or tokens, tokens).
    """
    hidden = [(1 - here[:, None].float()) * -1e4 for here in seen]
    blocks = zip(sample.back(x), hidden, strict=True)
    return sample.rows([attention(block, mask)[0] for block, mask in blocks])


def make_room(attention, x: torch.Tensor) -> None:
    """Rewrite each head's queries and keys so that its last SPARE numbers are free, and 0.

    The products of queries and keys stay what they are, but for the directions in which they
    differ least: the products are a matrix of rank 32, of which the 30 largest singular values
    are kept. A part that all keys have in common does not count, since a softmax forbids it.
    """
    query, key = attention.query(x), attention.key(x)
    size = attention.attention_head_size
    for head in range(attention.num_attention_heads):
        own = slice(head * size, (head + 1) * size)
        of_queries, inverse_of_queries = roots_of(query[:, own].T @ query[:, own] / len(x))
        of_keys, inverse_of_keys = roots_of(torch.cov(key[:, own].T))
        left, strengths, right = torch.linalg.svd(of_queries @ of_keys)
        strengths[-SPARE:] = 0
        roots = strengths.sqrt()[:, None]
        for layer, new in (
            (attention.query, roots * left.T @ inverse_of_queries),
            (attention.key, roots * right @ inverse_of_keys),
        ):
            layer.weight[own] = new @ layer.weight[own]
            layer.bias[own] = new @ layer.bias[own]


def penalise(attention, x: torch.Tensor, sample: Sample) -> None:
    """Put a penalty on the other text's tokens into the numbers that `make_room` made free.

    Args:
        attention: A BertSelfAttention, changed in place.
        x: What it reads: (tokens, width).
        sample: What the tokens are.
    """
    size = attention.attention_head_size
    for own, lead in enumerate((LEAD_OF_QUERIES, LEAD_OF_DOCUMENTS)):
        root = math.sqrt(lead * math.sqrt(size))
        places = torch.arange(attention.num_attention_heads) * size + size - SPARE + own
        asking, asking_bias = telling(x, sample.of_text[:, own], sample.weights)
        asked, asked_bias = telling(x, sample.penalised[:, 1 - own], sample.weights)
        attention.query.weight[places] = root * asking
        attention.query.bias[places] = root * asking_bias
        attention.key.weight[places] = -root * asked
        attention.key.bias[places] = -root * asked_bias


def renew_shifts(
    layer, x: torch.Tensor, theirs: torch.Tensor, sample: Sample, noise: float
) -> None:
    """Make four units of a layer's feed-forward part set the shifts anew, whatever is left of them.

    A sum of two units, gelu(slope (s - 1/4)) - gelu(slope (s - 3/4)), is a step: it hardly changes
    near 0 and near 1. The units are those whose own output varies least.

    Args:
        layer: A BertLayer, changed in place.
        x: What its feed-forward part reads: (tokens, width).
        theirs: What it would read without a shift.
        sample: What the tokens are.
        noise: See `shifts_for`.
    """
    up, down = layer.intermediate.dense, layer.output.dense
    inner = F.gelu(up(x))
    units = (inner.var(0) * down.weight.square().sum(0)).argsort()[:4].view(2, 2)
    taken = units.flatten()
    down.bias += down.weight[:, taken] @ inner[:, taken].mean(0)
    down.weight[:, taken] = 0
    missing = shifts_for(theirs + down(F.gelu(up(x))), noise) - sample.shifts(x - theirs)
    weights, bias = ridge(x, sample.of_text, sample.weights, READOUT_RIDGE)
    for text, pair in enumerate(units):
        for unit, way, threshold in zip(pair, (1, -1), (0.25, 0.75), strict=True):
            up.weight[unit] = STEP_SLOPE * weights[:, text]
            up.bias[unit] = STEP_SLOPE * (bias[text] - threshold)
            down.weight[:, unit] = 2 * way / STEP_SLOPE * missing[text]


@torch.no_grad()
def read_apart(encoder, blocks: list[tuple[torch.Tensor, ...]]):
    """Return a model that reads texts side by side as `encoder` reads them apart, and its shifts.

    Args:
        encoder: A BertForSequenceClassification.
        blocks: A sample of pairs, as inputs of the model; some 100 tokens a feature do.

    Returns:
        The model, and the shifts of queries' and of documents' vectors after each layer:
        (layers, 2, width).
    """
    model, sample = copy.deepcopy(encoder), Sample(blocks)
    seen_own = [seen_apart(kinds, mask) for _, kinds, mask in blocks]
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
    shifts = shifts_for(raw, NOISE)
    kinds = model.bert.embeddings.token_type_embeddings.weight
    kinds.copy_(kinds[0] + shifts)
    theirs, ours = table.LayerNorm(raw), raw + sample.of_text @ shifts
    ours = rescaled(model.bert.embeddings.LayerNorm, ours, raw)

    shifts = []
    layers = model.bert.encoder.layer
    for old, new in zip(encoder.bert.encoder.layer, layers, strict=True):
        before, after = old.attention, new.attention
        for part in ("query", "key", "value"):
            correct(
                getattr(after.self, part), ours, getattr(before.self, part)(theirs), sample.weights
            )
        make_room(after.self, ours)
        penalise(after.self, ours, sample)
        theirs = theirs + before.output.dense(mixed(before.self, sample, theirs, seen_own))
        ours = ours + after.output.dense(mixed(after.self, sample, ours, seen_all))
        ours = rescaled(after.output.LayerNorm, ours, theirs)
        theirs = before.output.LayerNorm(theirs)

        inner = old.intermediate.dense(theirs)
        correct(new.intermediate.dense, ours, inner, sample.weights)
        noise = LAST_NOISE if new is layers[-1] else NOISE
        renew_shifts(new, ours, theirs, sample, noise)
        theirs = theirs + old.output.dense(F.gelu(inner))
        ours = ours + new.output.dense(F.gelu(new.intermediate.dense(ours)))
        ours = rescaled(new.output.LayerNorm, ours, theirs)
        theirs = old.output.LayerNorm(theirs)
        shifts.append(sample.shifts(ours - theirs))
    return model, torch.stack(shifts)


def rescaled(norm: torch.nn.LayerNorm, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Make up for the size that the shift adds, in a norm's weights, and return what it makes."""
    norm.weight *= centred_size(ours) / centred_size(theirs)
    return norm(ours)
