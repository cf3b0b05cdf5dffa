"""List the pairs of the tutorial corpus that are found and that nobody has judged.

A reranker reads the first 20 documents that a search finds, and may put any of them into the first
ten. So once the first 20 of BM25, of the bi-encoder and of the two merged are judged, every stage
of notebooks 09 and 10 is, whatever reranker serves:

    python scripts/unjudged.py                 # the pairs with their texts; exit status 1 if any
    python scripts/unjudged.py --depth 50      # what a deeper look would ask for
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np

from helpers.search import Bm25Index, JudgedSet, Run, VectorIndex, fuse, load_judged
from helpers.server import base_encoder_path

DEPTH = 20


def first_stages(data: JudgedSet, embed: Callable[[list[str]], np.ndarray]) -> dict[str, Run]:
    """Return what the three searches of notebook 09 find for every query, by name.

    Args:
        data: Documents and queries.
        embed: Returns for N texts an array of shape (N, dimensions).
    """
    words = Bm25Index(data.documents).search(data.queries)
    meaning = VectorIndex(data.documents, embed).search(data.queries)
    return {"BM25": words, "bi-encoder": meaning, "hybrid": fuse(words, meaning)}


def unjudged(data: JudgedSet, runs: dict[str, Run], depth: int) -> dict[str, list[tuple[str, str]]]:
    """Return for each run the pairs of identifiers without a grade in its first `depth`."""
    return {
        name: [
            (query_id, document_id)
            for query_id, found in run.items()
            for document_id in found[:depth]
            if document_id not in data.judgments[query_id]
        ]
        for name, run in runs.items()
    }


def packaged_encoder() -> Callable[[list[str]], np.ndarray]:
    """Return the MiniLM encoder in this process; it needs no server."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(base_encoder_path()), device="cpu")
    return lambda texts: encoder.encode(texts, show_progress_bar=False)


def main() -> int:
    """Print what is unjudged; return 1 if anything is, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, default=DEPTH, help="how deep to look (default: 20)")
    options = parser.parse_args()
    data = load_judged()
    missing = unjudged(data, first_stages(data, packaged_encoder()), options.depth)
    pairs = dict.fromkeys(pair for found in missing.values() for pair in found)
    for query_id, document_id in pairs:
        print(f"{query_id} {data.queries[query_id]}\n  {document_id} {data.documents[document_id]}")
    for name, found in missing.items():
        share = 1 - len(found) / (options.depth * len(data.queries))
        print(f"{name}: {share:.1%} of the first {options.depth} are judged")
    return bool(pairs)


if __name__ == "__main__":
    sys.exit(main())
