"""Measure a reranker against its bars: in float32, and as vLLM serves it.

    python training/evaluate.py --data DATA                   # the reranker in the repository
    python training/evaluate.py --data DATA --model FOLDER    # one in training
    python training/evaluate.py --data DATA --queries 100     # a quicker, rougher look

`DATA` holds one folder a set, with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`. On
`nq-open-oracle`, `medline`, the held-out sets that `held_out.py` makes of `DATA`, and further ones
that `--extra` names, BM25's first 50 documents are put in a new order. On the tutorial corpus it is
the first 20 of the bi-encoder and of the hybrid, as in notebook 10. The exit code is 1 if a bar is
missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from sentence_transformers import CrossEncoder, SentenceTransformer

from held_out import held_out
from helpers import ScoreServer, score_pairs
from helpers.search import (
    Bm25Index,
    JudgedSet,
    VectorIndex,
    candidates,
    compare,
    fuse,
    load_judged,
    measure,
    rerank,
)
from helpers.server import base_encoder_path, offline_model_path

Scorer = Callable[[pd.DataFrame], np.ndarray]
Embed = Callable[[list[str]], np.ndarray]

QUERIES, HELD_OUT_QUERIES, DEPTH, TUTORIAL_DEPTH = 300, 100, 50, 20
FRANCE, BRAZIL = "What is the capital of France?", "What is the capital of Brazil?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."
TOKYO, YEN = "What currency is used in Tokyo?", "The currency of Japan is the yen."
SEA, RIVERS = "Which river flows into the North Sea?", ("The Rhine rises", "The Nile flows")
SERVED_PAIRS = 200


def runs_on_bm25(judged: JudgedSet, encode: Embed, scorers: dict[str, Scorer]) -> dict:
    """Return BM25's run, and its first documents in the order of each scorer."""
    runs = {"BM25": Bm25Index(judged.documents).search(judged.queries, DEPTH)}
    pairs = candidates(judged.queries, judged.documents, runs["BM25"], depth=DEPTH)
    index = VectorIndex(dict(zip(pairs.document_id, pairs.document, strict=True)), encode)
    for name, score in {"bi-encoder": index.similarities, **scorers}.items():
        runs[name] = rerank(runs["BM25"], pairs.assign(score=score(pairs)), DEPTH)
    return runs


def tutorial_runs(judged: JudgedSet, index: VectorIndex, scorers: dict[str, Scorer]) -> dict:
    """Return the stages of notebook 10, those with a reranker once for each scorer."""
    meaning = index.search(judged.queries)
    firsts = {"bi-encoder": meaning}
    firsts["hybrid"] = fuse(Bm25Index(judged.documents).search(judged.queries), meaning)
    pairs = candidates(judged.queries, judged.documents, *firsts.values(), depth=TUTORIAL_DEPTH)
    runs = dict(firsts)
    for name, score in scorers.items():
        scored = pairs.assign(score=score(pairs))
        for first, run in firsts.items():
            runs[f"{first} + {name}"] = rerank(run, scored, TUTORIAL_DEPTH)
    return runs


def means(judged: JudgedSet, runs: dict) -> dict[str, float]:
    """Print a row of the table; return the mean nDCG@10 of each run."""
    scores = measure(runs, judged)
    found = scores[scores.measure == "nDCG@10"].groupby("stage", sort=False).value.mean()
    cells = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
    print(f"{judged.name:15} {len(judged.queries):4}  {cells}", flush=True)
    return found.to_dict()


def tutorial_bars(scorers: dict[str, Scorer], encode: Embed) -> dict[str, bool]:
    """Measure on the tutorial corpus; return each bar in words and whether it is met."""
    judged = load_judged()
    runs = tutorial_runs(judged, VectorIndex(judged.documents, encode), scorers)
    means(judged, runs)
    scores, met = measure(runs, judged), {}
    for name in scorers:
        for first in ("bi-encoder", "hybrid"):
            gain = compare(scores, first, f"{first} + {name}")
            shown = f"{gain.difference:+.3f} [{gain.low:.3f}, {gain.high:.3f}]"
            met[f"tutorial, {name}: {first} + reranker above {first} ({shown})"] = gain.low > 0
    return met


def example_bars(name: str, score: Scorer) -> dict[str, bool]:
    """Score the examples of the notebooks; return each bar in words and whether it is met."""
    asked = [(q, d) for q in (FRANCE, BRAZIL) for d in (PARIS, BRASILIA)]
    passages = list(load_judged().documents.values())
    rivers = [
        next(p for p in passages if p.startswith(start)) for start in ("The Rhine", "The Nile")
    ]
    asked += [(SEA, river) for river in rivers] + [(TOKYO, text) for text in passages]
    values = expit(score(pd.DataFrame(asked, columns=["query", "document"])))
    capitals, (rhine, nile), currencies = values[:4], values[4:6], values[6:]
    first = passages[int(currencies.argmax())]
    print(f"{name}: capitals {capitals.round(3)}, Rhine {rhine:.3f}, Nile {nile:.3f}, {first!r}")
    return {
        f"{name}: true capitals above 0.5, false ones below": bool(
            ((capitals > 0.5) == [True, False, False, True]).all()
        ),
        f"{name}: the Rhine before the Nile": bool(rhine > nile),
        f"{name}: the yen first for Tokyo": first == YEN,
    }


def gain_bars(name: str, rows: dict[str, dict[str, float]], held: list[str]) -> dict[str, bool]:
    """Return each bar on nDCG@10 in words and whether it is met."""
    gains = [rows[one][name] - rows[one]["BM25"] for one in held]
    met = {
        f"{name}: nq-open-oracle at least 0.955": rows["nq-open-oracle"][name] >= 0.955,
        f"{name}: medline at least 0.787": rows["medline"][name] >= 0.787,
    }
    if gains:
        met[f"{name}: no held-out set below BM25 by more than 0.01"] = min(gains) >= -0.01
        met[f"{name}: mean gain on them at least 0.03"] = sum(gains) / len(gains) >= 0.03
    return met


def main() -> int:
    """Print the table and the bars; return 0 if all are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the validation sets")
    parser.add_argument("--model", type=Path, help="folder of another cross-encoder")
    parser.add_argument("--queries", type=int, default=QUERIES, help="at most so many of a set")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="further sets, no bar")
    options = parser.parse_args()

    model = options.model or offline_model_path()
    reranker = CrossEncoder(str(model), max_length=512)
    encoder = SentenceTransformer(str(base_encoder_path()))
    bar = sys.stderr.isatty()

    def encode(texts: list[str]) -> np.ndarray:
        return encoder.encode(texts, show_progress_bar=False)

    def in_float32(pairs: pd.DataFrame) -> np.ndarray:
        texts = list(zip(pairs["query"], pairs["document"], strict=True))
        return reranker.predict(texts, activation_fn=lambda x: x, show_progress_bar=bar)

    folders = [options.data / name for name in ("nq-open-oracle", "medline")] + options.extra
    held = list(held_out(options.data, min(options.queries, HELD_OUT_QUERIES)))
    sets = [*(load_judged(folder, max_queries=options.queries) for folder in folders), *held]
    with ScoreServer(str(model.resolve())) as server, server.client() as client:

        def as_served(pairs: pd.DataFrame) -> np.ndarray:
            asked = pairs["query"], pairs["document"]
            how = {"truncate_prompt_tokens": -1, "use_activation": False, "progress": bar}
            return score_pairs(client, *asked, **how)

        scorers = {"float32": in_float32, "served": as_served}
        met, rows = tutorial_bars(scorers, encode), {}
        for judged in sets:
            rows[judged.name] = means(judged, runs_on_bm25(judged, encode, scorers))
        for name, score in scorers.items():
            met |= gain_bars(name, rows, [judged.name for judged in held]) | example_bars(
                name, score
            )
        some = load_judged().sample(SERVED_PAIRS // 10)
        nearest = VectorIndex(some.documents, encode).search(some.queries, 10)
        pairs = candidates(some.queries, some.documents, nearest, depth=10)
        moved = np.abs(expit(in_float32(pairs)) - expit(as_served(pairs))).max()
        met[f"{len(pairs)} pairs served within 0.02 of float32 ({moved:.3f})"] = bool(moved <= 0.02)
    for bar_text, passed in met.items():
        print(f"{'met   ' if passed else 'MISSED'} {bar_text}")
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
