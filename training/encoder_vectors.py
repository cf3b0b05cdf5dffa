"""The encoder's own vectors as a target: what it makes of each text of a pair alone.

A score is one number a pair; these are 384 numbers a token and layer, so a cross-encoder learns
from them in minutes to read two texts as the encoder reads each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from forward import Forward, mean_vectors

LAST_WEIGHT = 2.0  # of the last layer in the loss; the others have 1


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


def shared_tokens(kinds, mask) -> torch.Tensor:
    """Return where a pair's [CLS] and the query's [SEP] are: (rows, tokens)."""
    places = torch.arange(kinds.shape[1], device=kinds.device)
    separator = (mask - kinds).sum(1, keepdim=True) - 1
    return (places == 0) | (places == separator)


def seen_apart(kinds, mask) -> torch.Tensor:
    """Return which tokens each token sees if texts are read apart: (rows, tokens, tokens)."""
    own = kinds[:, :, None] == kinds[:, None]
    return (own | shared_tokens(kinds, mask)[:, None]) & mask[:, None].bool()


def balance(kinds: torch.Tensor) -> torch.Tensor:
    """Return how much each token counts, 1 on average, so that both texts count the same.

    Args:
        kinds: 0 for the query's tokens, 1 for the document's: (tokens,).
    """
    of_documents = kinds.float()
    share = of_documents.mean()
    return of_documents / share / 2 + (1 - of_documents) / (1 - share) / 2


class Apart(Layers):
    """The same in which no token sees one of the other text, but for the query's [CLS] and [SEP].

    Nor does it know a document's tokens from a query's: alone, a text has one kind of token.

    An encoder's attention rests on these two where it looks for nothing. With them its vectors
    are nearly those that it has when it reads each text alone.
    """

    def embedded(self, ids, kinds):
        """Return the vectors that go into the first layer: (rows, tokens, width)."""
        return super().embedded(ids, torch.zeros_like(kinds))

    def seen(self, kinds, mask):
        """Return which tokens each token sees, 1 or 0: (rows, tokens, tokens)."""
        return seen_apart(kinds, mask)


def segment_means(x, kinds, mask) -> list[torch.Tensor]:
    """Return the means of the queries' and of the documents' vectors, each (rows, width)."""
    return [mean_vectors(x, mask - kinds), mean_vectors(x, kinds)]


class EncoderVectors:
    """What the encoder makes of texts alone, and how far a model's vectors are from it.

    Attributes:
        shifts: By how much the vectors of a query's and of a document's tokens are to be shifted
            after each layer, so that the layers above can tell them: (layers, 2, width).
    """

    def __init__(self, encoder, shifts: torch.Tensor):
        """Read with a BertForSequenceClassification."""
        self.forward, self.shifts = Apart(encoder), shifts
        self.spread: list[torch.Tensor] = []
        self.along, _ = torch.linalg.qr(shifts[-1].T)

    def without_shift(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last layer's vectors without what they have along its shifts."""
        return x - x @ self.along @ self.along.T

    @torch.no_grad()
    def alone(self, ids, kinds, mask) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the vectors wanted at the tokens of each pair, by layer, and the cosines."""
        layers = self.forward.every(ids, kinds, mask)
        cosine = F.cosine_similarity(*segment_means(layers[-1], kinds, mask))
        layers = [x + shifts[kinds] for x, shifts in zip(layers, self.shifts, strict=True)]
        return layers, cosine

    def distance(self, got: list[torch.Tensor], wanted: list[torch.Tensor], kinds, mask):
        """Return the mean squared difference of the vectors, each layer's variance being 1.

        Queries and documents count the same, although documents have far more tokens. After the
        last layer a shift may be longer or shorter than it should, since nothing reads along it.

        Args:
            got: The model's vectors by layer; those of further layers are left out.
            wanted: What `alone` returns.
            kinds: 0 for the query's tokens, 1 for the document's.
            mask: 1 for tokens, 0 for padding. The first token may have any vector: it is what
                the score is made of.
        """
        inside, total, sizes = mask.bool(), 0.0, 0.0
        inside[:, 0] = False
        weights = balance(kinds[inside])
        for depth, theirs in enumerate(wanted):
            ours, theirs = got[depth][inside].float(), theirs[inside].float()
            if depth == len(self.spread):
                self.spread.append(theirs.var(0).mean())
            size, far = 1.0, ours - theirs
            if depth == len(wanted) - 1:
                size, far = LAST_WEIGHT, self.without_shift(far)
            far = (far.square().mean(1) * weights).mean()
            total = total + size * far / self.spread[depth]
            sizes += size
        return total / sizes
