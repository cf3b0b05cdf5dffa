"""Scale and shift a trained reranker's logit so that one half is the border of relevance.

    python training/calibrate.py WORK/model --data DATA

The logits of the held-out sets' judged pairs and of as many documents that BM25 finds for the same
queries are fitted by a logistic curve, relevant and other pairs weighing the same, every set
weighing the same. Scale and shift are then multiplied into the classifier, so the model folder is
changed in place. The scale is positive: no order changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from held_out import held_out
from helpers.search import JudgedSet
from train_reranker import score

QUERIES, DEPTH = 60, 10


def labelled_pairs(judged: JudgedSet) -> list[tuple[str, str, bool]]:
    """The judged pairs of a set and what BM25 finds besides: query, document, relevant."""
    how = {"stemmer": Stemmer.Stemmer("english"), "stopwords": "en", "show_progress": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(judged.documents.values()), **how), show_progress=False)
    found, _ = index.retrieve(
        bm25s.tokenize(list(judged.queries.values()), **how),
        corpus=list(judged.documents),
        k=DEPTH,
        show_progress=False,
    )
    return [
        (text, judged.documents[d], judged.judgments[query].get(d, 0) > 0)
        for (query, text), row in zip(judged.queries.items(), found.tolist(), strict=True)
        for d in sorted({*row, *judged.judgments[query]})
    ]


def logits_of(folder: Path, pairs: list[tuple[str, str, bool]]) -> np.ndarray:
    """Return the model's logits of the pairs."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text for query, document, _ in pairs for text in (query, document)]
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    rows = [np.array(row, np.int64) for row in ids]
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    with torch.inference_mode():
        logits, *_ = score(model, list(zip(rows[::2], rows[1::2], strict=True)), special, "cpu")
    return logits.numpy()


def main() -> None:
    """Fit scale and shift, print them, and change the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="model folder that the training wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the validation sets")
    options = parser.parse_args()
    logits, labels, weights = [], [], []
    for judged in held_out(options.data, QUERIES):
        pairs = labelled_pairs(judged)
        relevant = np.array([label for _, _, label in pairs])
        logits.append(logits_of(options.model, pairs))
        labels.append(relevant)
        weights.append(np.where(relevant, 1 / relevant.sum(), 1 / (~relevant).sum()))
    x, y, w = (np.concatenate(parts) for parts in (logits, labels, weights))
    fitted = LogisticRegression(C=1e6).fit(x[:, None], y, w / w.mean())
    scale, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    right = [np.average((a * x + b > 0) == y, weights=w) for a, b in ((1, 0), (scale, shift))]
    print(f"scale {scale:.3f}, shift {shift:+.3f}; balanced accuracy at one half", *right)
    if scale <= 0:
        raise ValueError("The logit falls with relevance: this model is not one to calibrate.")
    file = options.model / "model.safetensors"
    state = load_file(file)
    state["classifier.weight"] *= scale
    state["classifier.bias"] = scale * state["classifier.bias"] + shift
    save_file(state, file, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
