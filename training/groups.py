"""A pool's queries with their candidates, and the groups that are drawn from them.

A group is what one loss is computed on: a query, a document that belongs to it, and others that
don't, or belong less.
"""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

WORK_DIR = platformdirs.user_cache_path("vllm-score-notebooks") / "training"
GROUP = 6
TEACHER_SCALE = 20.0  # the encoder's own training scaled cosines by 20 before its softmax
LEXICAL_SCALE = 2.0  # logits that the best document by BM25 has over one that shares no word, ...
FULL_LENGTH = 100  # ... if documents have so many tokens; in shorter ones shared words say less
SHORT = 48  # tokens: a pool whose documents are mostly shorter holds single statements, ...
SHORT_WEIGHT = 5.0  # ... and is drawn so many times as often, since there are few such pools
LABEL_BONUS = 4.0  # logits added for the document that a person chose
OWN_BONUS = 2.0  # logits added for the text that an unlabelled query came from
WITHOUT_OWN = 0.3  # share of the groups that hold none of the query's own documents
JUDGED_MALUS = 4.0  # logits taken off a document that a person judged not to answer
RELEVANT_COSINE = 0.45  # where a cosine of the teacher counts as a probability of one half


@dataclass
class Groups:
    """A pool's queries with their candidates, ready to be drawn from.

    Attributes:
        name: The pool's name.
        labelled: Whether a person wrote the queries for their documents.
        weight: How often it is drawn, relative to its size's square root.
        queries: Token ids of each query.
        documents: Token ids of each document.
        candidates: For each query the indices of documents, in this order: its own ones, those
            judged not to answer it, the nearest, the best by words, random ones.
        counts: For each query how many candidates are of each of these five kinds.
        cosines: For each teacher and query the cosines of the candidates.
        lexical: For each query the BM25 scores of the candidates, the best document's being 1.
    """

    name: str
    labelled: bool
    weight: float
    queries: list[np.ndarray]
    documents: list[np.ndarray]
    candidates: list[np.ndarray]
    counts: list[tuple[int, ...]]
    cosines: dict[str, list[np.ndarray]]
    lexical: list[np.ndarray]


def write_groups(groups: Groups, file: Path) -> None:
    """Write a pool's groups to a file, whole or not at all."""
    draft = file.with_suffix(".tmp")
    draft.write_bytes(pickle.dumps(vars(groups)))
    draft.replace(file)


def read_groups(file: Path) -> Groups:
    """Read what `write_groups` wrote."""
    return Groups(**pickle.loads(file.read_bytes()))


def typical_length(groups: Groups) -> float:
    """Return the median length of a pool's documents, in tokens."""
    return float(np.median([len(document) for document in groups.documents]))


class Draw:
    """Draws groups from the pools, every query of a pool once before any comes again."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        self.pools: dict[str, Groups] = {}
        self.drawn: dict[str, int] = {}
        self.orders: dict[tuple[str, int], list[int]] = {}
        self.rng = random.Random(seed)
        self.read()

    def read(self) -> None:
        """Read the pools that are not known yet; prepare.py may still be adding some."""
        for file in sorted(self.folder.glob("*.pkl")):
            if file.stem not in self.pools:
                self.pools[file.stem] = read_groups(file)
                self.drawn.setdefault(file.stem, 0)
        self.weights = [
            p.weight * len(p.queries) ** 0.5 * (SHORT_WEIGHT if typical_length(p) < SHORT else 1)
            for p in self.pools.values()
        ]

    def group(self):
        """Return the (query ids, document ids) pairs of a group and its targets.

        The targets are two rows of GROUP numbers: the teacher's logits, labels included, and the
        probabilities of being relevant.
        """
        name = self.rng.choices(list(self.pools), self.weights)[0]
        pool = self.pools[name]
        turn, place = divmod(self.drawn[name], len(pool.queries))
        if (name, turn) not in self.orders:
            order = list(range(len(pool.queries)))
            random.Random(f"{self.seed} {name} {turn}").shuffle(order)
            self.orders[name, turn] = order
        query = self.orders[name, turn][place]
        self.drawn[name] += 1
        chosen = self.choose(pool.counts[query])
        cosines = np.mean([c[query][chosen] for c in pool.cosines.values()], 0, np.float32)
        documents = [pool.documents[d] for d in pool.candidates[query][chosen]]
        shared = LEXICAL_SCALE * min(1.0, np.mean([len(d) for d in documents]) / FULL_LENGTH)
        order = TEACHER_SCALE * cosines + shared * pool.lexical[query][chosen]
        likely = 1 / (1 + np.exp(TEACHER_SCALE * (RELEVANT_COSINE - cosines)))
        own, judged = pool.counts[query][0], sum(pool.counts[query][:2])
        likely *= 0.35 if pool.labelled else 0.6
        for column, candidate in enumerate(chosen):
            if candidate < own:
                order[column] += LABEL_BONUS if pool.labelled else OWN_BONUS
                likely[column] = 0.98 if pool.labelled else 0.9
            elif candidate < judged:
                order[column] -= JUDGED_MALUS
                likely[column] = 0.04
        return [(pool.queries[query], d) for d in documents], np.stack([order, likely])

    def choose(self, counts: tuple[int, ...]) -> list[int]:
        """Choose a group's places among the candidates: an own document and others of each kind.

        Some groups go without an own one: on them the student learns the teacher's order of
        documents that are all more or less beside the point.
        """
        own, judged, near, words, strange = (
            range(end - count, end) for count, end in zip(counts, np.cumsum(counts), strict=True)
        )
        chosen = []
        if judged or self.rng.random() >= WITHOUT_OWN:
            chosen.append(self.rng.choice(own))
        chosen += self.rng.sample(judged, min(3, len(judged)))
        for source in (
            near[:5],
            words[:5],
            near,
            strange,
            words,
            near,
            judged,
            near,
            words,
            strange,
        ):
            free = [place for place in source if place not in chosen]
            if len(chosen) < GROUP and free:
                chosen.append(self.rng.choice(free))
        return chosen
