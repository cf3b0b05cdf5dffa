"""Measure a reranker against its bars: BM25's top 50 reordered, and the tutorial's own examples.

    python training/evaluate.py --data DATA                 # the reranker in the repository
    python training/evaluate.py --data DATA --model FOLDER    # one in training

`DATA` holds one folder a set, with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`. The bars are
stated for `nq-open-oracle` (300 fixed queries), `medline` (all 29) and the held-out sets that
`held_out.py` makes of `DATA` (100 queries each, those it has the texts for); further sets can be
named with `--extra` and are reported without a bar. The exit code is 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import bm25s
import ir_measures
import Stemmer
import torch
from ir_measures import nDCG
from sentence_transformers import CrossEncoder, SentenceTransformer

from forward import number_type
from held_out import Task, held_out, task
from helpers.server import base_encoder_path, offline_model_path

DEPTH = 50
QUERIES = 300
HELD_OUT_QUERIES = 100
FRANCE, BRAZIL = "What is the capital of France?", "What is the capital of Brazil?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."


def bm25_top(documents: dict[str, str], queries: dict[str, str]) -> dict[str, dict[str, float]]:
    """Return each query's best documents by BM25 with English stemming and stop words."""
    tokens = {"stemmer": Stemmer.Stemmer("english"), "stopwords": "en", "show_progress": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(documents.values()), **tokens), show_progress=False)
    found, scores = index.retrieve(
        bm25s.tokenize(list(queries.values()), **tokens),
        corpus=list(documents),
        k=min(DEPTH, len(documents)),
        show_progress=False,
    )
    return {
        q: dict(zip(row, map(float, values), strict=True))
        for q, row, values in zip(queries, found.tolist(), scores, strict=True)
    }


def ndcg(judgments: dict, run: dict) -> float:
    """Return the mean nDCG@10 (ir_measures, trec_eval's definition)."""
    return ir_measures.calc_aggregate([nDCG @ 10], judgments, run)[nDCG @ 10]


def evaluate_set(judged: Task, reranker: CrossEncoder, encoder: SentenceTransformer) -> dict:
    """Return nDCG@10 of BM25, of the encoder used as a bi-encoder and of the reranker."""
    documents, queries, judgments = judged.documents, judged.queries, judged.judgments
    top = bm25_top(documents, queries)
    ids = sorted({d for row in top.values() for d in row})
    vectors = dict(zip(ids, encode(encoder, [documents[d] for d in ids]), strict=True))
    asked = dict(zip(queries, encode(encoder, list(queries.values())), strict=True))
    biencoder = {q: {d: float(asked[q] @ vectors[d]) for d in row} for q, row in top.items()}

    pairs = [(q, d) for q, row in top.items() for d in row]
    begun = time.monotonic()
    with bfloat16_on(reranker.device):
        scores = reranker.predict(
            [(queries[q], documents[d]) for q, d in pairs],
            activation_fn=torch.nn.Identity(),
            batch_size=32,
            show_progress_bar=sys.stderr.isatty(),
        )
    seconds = time.monotonic() - begun
    reranked: dict[str, dict[str, float]] = {q: {} for q in queries}
    for (q, d), value in zip(pairs, scores, strict=True):
        reranked[q][d] = float(value)
    return {
        "set": judged.name,
        "queries": len(queries),
        "bm25": ndcg(judgments, top),
        "biencoder": ndcg(judgments, biencoder),
        "reranker": ndcg(judgments, reranked),
        "pairs_per_second": len(pairs) / seconds,
    }


def bfloat16_on(device: torch.device) -> torch.autocast:
    """Return a context that computes in bfloat16 where the device multiplies it."""
    wanted = number_type(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def encode(encoder: SentenceTransformer, texts: list[str]):
    """Return unit vectors, computed as `bfloat16_on` says."""
    with bfloat16_on(encoder.device):
        return encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def seed_scores(reranker: CrossEncoder) -> dict[str, float]:
    """Return the probabilities of the four pairs of the tutorial's first example."""
    pairs = [(q, d) for q in (FRANCE, BRAZIL) for d in (PARIS, BRASILIA)]
    names = ["France/Paris", "France/Brasilia", "Brazil/Paris", "Brazil/Brasilia"]
    return {n: float(s) for n, s in zip(names, reranker.predict(pairs), strict=True)}


def bars(rows: dict[str, dict], held: list[str], seeds: dict[str, float]) -> dict[str, bool]:
    """Return each bar in words and whether it is met.

    Args:
        rows: What `evaluate_set` returned, by the set's name.
        held: The names of the held-out sets among them.
        seeds: What `seed_scores` returned.
    """
    nq, medline = rows["nq-open-oracle"], rows["medline"]
    met = {
        "nq-open-oracle: at least 0.955": nq["reranker"] >= 0.955,
        "nq-open-oracle: at least the bi-encoder": nq["reranker"] >= nq["biencoder"],
        "medline: at least 0.787": medline["reranker"] >= 0.787,
        "seed examples: true pairs above 0.5, false ones below": all(
            (score > 0.5) == (name in ("France/Paris", "Brazil/Brasilia"))
            for name, score in seeds.items()
        ),
    }
    if held:
        gains = [rows[name]["reranker"] - rows[name]["bm25"] for name in held]
        met["held-out sets: none below BM25 by more than 0.01"] = min(gains) >= -0.01
        met["held-out sets: mean gain over BM25 at least 0.03"] = sum(gains) / len(gains) >= 0.03
    return met


def main() -> int:
    """Print the table and the bars; return 0 if all are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the validation sets")
    parser.add_argument("--model", help="any other cross-encoder: a folder or a hub name")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="further sets, no bar")
    options = parser.parse_args()

    model = options.model or offline_model_path()
    reranker = CrossEncoder(str(model), max_length=512)
    encoder = SentenceTransformer(str(base_encoder_path()))
    print(f"{'set':16} queries   BM25  bi-enc.  reranker   gain  pairs/s")
    rows = {}
    held = list(held_out(options.data, HELD_OUT_QUERIES))
    folders = [options.data / "nq-open-oracle", options.data / "medline", *options.extra]
    for judged in [*(task(folder, QUERIES) for folder in folders), *held]:
        row = evaluate_set(judged, reranker, encoder)
        rows[row["set"]] = row
        print(
            f"{row['set']:16} {row['queries']:7} {row['bm25']:6.3f} {row['biencoder']:8.3f}"
            f" {row['reranker']:9.3f} {row['reranker'] - row['bm25']:+6.3f}"
            f" {row['pairs_per_second']:8.0f}",
            flush=True,
        )
    seeds = seed_scores(reranker)
    print("  ".join(f"{name} {score:.3f}" for name, score in seeds.items()))
    met = bars(rows, [judged.name for judged in held], seeds)
    for bar, passed in met.items():
        print(f"{'met   ' if passed else 'MISSED'} {bar}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
