"""The encoder's own vectors as a target: what it makes of each text of a pair alone.

A score is one number a pair; these are 384 numbers a token and layer, so a cross-encoder learns
from them in minutes to read two texts as the encoder reads each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from forward import Forward, mean_vectors

LAST_WEIGHT = 2.0  # of the last layer in the loss; the others have 1
KIND_SHIFT = 1.5  # length of what a document's last vectors have on top, to be told by


class Layers(Forward):
    """A forward pass that returns the vectors after every layer."""

    def __init__(self, model):
        """Round the weights of a BertForSequenceClassification."""
        super().__init__(model)
        self.normed: list[torch.Tensor] = []

    def _norm(self, x, weights):
        x = super()._norm(x, weights)
        self.normed.append(x)
        return x

    def every(self, ids, kinds, mask) -> list[torch.Tensor]:
        """Return the vectors after each layer, each (rows, tokens, width)."""
        self.normed = []
        self.hidden(ids, kinds, mask)
        return self.normed[1::2]


def side_by_side(ids, kinds, mask) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Take a block of pairs apart: ids and mask of the queries, and of the documents.

    A document gets a [CLS] of its own, which it lacks in the pair.
    """
    firsts, lengths = (mask - kinds).sum(1).tolist(), mask.sum(1).tolist()
    queries = [row[:first] for row, first in zip(ids, firsts, strict=True)]
    documents = [
        torch.cat([row[:1], row[first:last]])
        for row, first, last in zip(ids, firsts, lengths, strict=True)
    ]
    return [padded(queries), padded(documents)]


def padded(texts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the texts as one block, and its mask."""
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts], device=ids.device)
    return ids, (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()


class EncoderVectors:
    """What the encoder makes of texts alone, and how far a model's vectors are from it.

    Attributes:
        quiet: A unit vector, along which the encoder's last vectors hardly vary. A document's
            vectors are wanted KIND_SHIFT further along it, so that the layers above can tell them.
    """

    def __init__(self, encoder, quiet: torch.Tensor):
        self.encoder, self.quiet = encoder, quiet
        self.spread: list[torch.Tensor] = []

    @torch.no_grad()
    def alone(self, ids, kinds, mask) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the encoder's vectors at the tokens of each pair, by layer, and the cosines."""
        sides = side_by_side(ids, kinds, mask)
        forward = Layers(self.encoder)
        of_queries, of_documents = (
            forward.every(block, torch.zeros_like(block), inside) for block, inside in sides
        )
        firsts, lengths = (mask - kinds).sum(1).tolist(), mask.sum(1).tolist()
        layers = []
        for query, document in zip(of_queries, of_documents, strict=True):
            whole = torch.zeros(*ids.shape, query.shape[-1], dtype=query.dtype, device=ids.device)
            for row, (first, last) in enumerate(zip(firsts, lengths, strict=True)):
                whole[row, :first] = query[row, :first]
                whole[row, first:last] = document[row, 1 : last - first + 1]
            layers.append(whole)
        means = [
            mean_vectors(vectors[-1], inside)
            for vectors, (_, inside) in zip((of_queries, of_documents), sides, strict=True)
        ]
        layers[-1] = layers[-1].float() + KIND_SHIFT * kinds[:, :, None] * self.quiet
        return layers, F.cosine_similarity(*means)

    def distance(self, got: list[torch.Tensor], wanted: list[torch.Tensor], mask) -> torch.Tensor:
        """Return the mean squared difference of the vectors, each layer's variance being 1.

        Args:
            got: The model's vectors by layer; those of further layers are left out.
            wanted: What `alone` returns.
            mask: 1 for tokens, 0 for padding.
        """
        inside, total, weights = mask.bool(), 0.0, 0.0
        for depth, theirs in enumerate(wanted):
            ours, theirs = got[depth][inside].float(), theirs[inside].float()
            if depth == len(self.spread):
                self.spread.append(theirs.var(0).mean())
            weight = LAST_WEIGHT if depth == len(wanted) - 1 else 1.0
            total = total + weight * (ours - theirs).square().mean() / self.spread[depth]
            weights += weight
        return total / weights
