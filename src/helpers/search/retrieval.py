"""Find documents for queries: by words, by vectors, by both, and in a reranker's order.

What every function here returns is a *run*: for each query the identifiers of the documents that
were found, best first. A run holds places and no scores, since those of two methods cannot be
compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from helpers.errors import InputError, ScoreError

Run = dict[str, list[str]]
Embed = Callable[[list[str]], np.ndarray]

DEPTH = 100  # documents a query: what Recall@100 looks at
TEXTS_A_REQUEST = 128
# The constant of reciprocal rank fusion in the paper that introduced it; see `fuse`.
RRF_CONSTANT = 60


class Bm25Index:
    """Find documents that share words with a query, rare words counting more (BM25).

    The work is done by bm25s (Lù, 2024, arXiv:2407.03618). It is made for English: words are
    reduced to their stems, and words such as "the" are left out. Texts in a language that does not
    put spaces between words are not found.
    """

    def __init__(self, documents: Mapping[str, str]) -> None:
        """Index the documents.

        Args:
            documents: The texts by identifier. An empty one is never found.

        Raises:
            InputError: No document holds a word to search by.
            ScoreError: bm25s or PyStemmer is not installed.
        """
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise ScoreError(
                f"A search by words needs a package that is missing ({error.name}). Install them "
                "with: pip install bm25s PyStemmer"
            ) from None
        self._ids = list(documents)
        self._tokenize = bm25s.tokenize
        self._options = {
            "stopwords": "en",
            "stemmer": Stemmer.Stemmer("english"),
            "show_progress": False,
        }
        self._index = bm25s.BM25()
        tokens = self._tokenize(list(documents.values()), **self._options)
        if not any(tokens.ids):
            raise InputError(
                f"None of the {len(self._ids)} documents holds a word to search by: they are "
                "empty, hold only words such as 'the', or are in a script that this search does "
                "not split into words. Give documents in English."
            )
        self._index.index(tokens, show_progress=False)

    def search(self, queries: Mapping[str, str], depth: int = DEPTH) -> Run:
        """Return for each query at most `depth` documents; only those that share a word with it.

        Documents with the same score stand in the order in which they were given. (bm25s's own
        choice of the best leaves that order to the processor.)

        Args:
            queries: The texts by identifier.
            depth: The most documents of a query, at least 1.
        """
        run: Run = {}
        texts = list(queries.values())
        words = self._tokenize(texts, return_ids=False, **self._options) if texts else []
        for query_id, said in zip(queries, words, strict=True):
            known = [word for word in said if word in self._index.vocab_dict]
            scores = self._index.get_scores(known) if known else np.zeros(len(self._ids))
            best = np.argsort(-scores, kind="stable")[:depth]
            run[query_id] = [self._ids[row] for row in best if scores[row] > 0]
        return run


class VectorIndex:
    """Find documents whose vector points where the query's does (cosine similarity).

    Every document is compared with every query. That is exact, and quick up to some 100,000
    documents; larger collections use an approximate index.
    """

    def __init__(self, documents: Mapping[str, str], embed: Embed) -> None:
        """Embed the documents, once, in requests of 128 texts.

        Args:
            documents: The texts by identifier, at least one.
            embed: Returns for N texts an array of shape (N, dimensions), as `ScoreClient.embed`
                does.

        Raises:
            InputError: There is no document.
        """
        if not documents:
            raise InputError("There is no document to search in: give at least one.")
        self._places = {document_id: place for place, document_id in enumerate(documents)}
        self._ids = list(documents)
        self._embed = embed
        self._vectors = self._unit_vectors(documents)

    def search(self, queries: Mapping[str, str], depth: int = DEPTH) -> Run:
        """Return for each query the nearest `depth` documents."""
        if not queries:
            return {}
        run = {}
        for query_id, vector in zip(queries, self._unit_vectors(queries), strict=True):
            nearest = np.argsort(-(self._vectors @ vector), kind="stable")[:depth]
            run[query_id] = [self._ids[row] for row in nearest]
        return run

    def similarities(self, pairs: pd.DataFrame) -> np.ndarray:
        """Return the cosine similarity, -1 to 1, of each row's query and document.

        Args:
            pairs: Rows as `candidates` returns them: query_id, document_id and query (the text).
        """
        queries = dict(zip(pairs.query_id, pairs["query"], strict=True))
        places = {query_id: place for place, query_id in enumerate(queries)}
        asked = self._unit_vectors(queries)[pairs.query_id.map(places).to_numpy()]
        found = self._vectors[pairs.document_id.map(self._places).to_numpy()]
        return np.einsum("ij,ij->i", asked, found)

    def _unit_vectors(self, texts: Mapping[str, str]) -> np.ndarray:
        rows = list(texts.values())
        starts = range(0, len(rows), TEXTS_A_REQUEST)
        vectors = np.concatenate([self._embed(rows[at : at + TEXTS_A_REQUEST]) for at in starts])
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def fuse(*runs: Run, constant: float = RRF_CONSTANT, depth: int = DEPTH) -> Run:
    """Merge runs by reciprocal rank fusion.

    A document gets 1 / (constant + place) from each run that found it, places counted from 1, and
    the sums decide (Cormack, Clarke and Büttcher, SIGIR 2009, with the constant 60). In a tie
    the document that was met first comes first.

    >>> fuse({"q": ["a", "b"]}, {"q": ["b", "c"]})
    {'q': ['b', 'a', 'c']}
    """
    fused = {}
    for query_id in dict.fromkeys(query_id for run in runs for query_id in run):
        points: dict[str, float] = defaultdict(float)
        for run in runs:
            for place, document_id in enumerate(run.get(query_id, []), start=1):
                points[document_id] += 1 / (constant + place)
        fused[query_id] = sorted(points, key=lambda found: -points[found])[:depth]
    return fused


def candidates(
    queries: Mapping[str, str], documents: Mapping[str, str], *runs: Run, depth: int
) -> pd.DataFrame:
    """Return the pairs that a reranker has to score, each of them once.

    Args:
        queries: The texts by identifier.
        documents: The texts by identifier.
        *runs: What was found.
        depth: How many documents of each query and run.

    Returns:
        A frame with the columns query_id, document_id, query and document (the texts).
    """
    pairs = dict.fromkeys(
        (query_id, document_id)
        for run in runs
        for query_id, found in run.items()
        for document_id in found[:depth]
    )
    return pd.DataFrame(
        [(q, d, queries[q], documents[d]) for q, d in pairs],
        columns=["query_id", "document_id", "query", "document"],
    )


def rerank(run: Run, scored: pd.DataFrame, depth: int) -> Run:
    """Put the first `depth` documents of each query in the order of their scores.

    Documents below these stay where they are, and equal scores keep their order.

    Args:
        run: What was found.
        scored: The pairs with their scores: the columns query_id, document_id and score.
        depth: How many documents of each query the reranker reads.

    Raises:
        InputError: A pair among the first `depth` has no score.
    """
    scores = dict(
        zip(zip(scored.query_id, scored.document_id, strict=True), scored.score, strict=True)
    )
    try:
        return {
            query_id: [
                *sorted(found[:depth], key=lambda document_id: -scores[query_id, document_id]),
                *found[depth:],
            ]
            for query_id, found in run.items()
        }
    except KeyError as error:
        query_id, document_id = error.args[0]
        raise InputError(
            f"Document {document_id} is among the first {depth} of query {query_id} and was not "
            "scored. Score all candidates of that depth first."
        ) from None
