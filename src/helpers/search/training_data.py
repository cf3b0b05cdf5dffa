"""Check judged sets before a reranker is trained on one and measured on the other."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from helpers.errors import InputError
from helpers.search.datasets import JudgedSet

SHOWN = 3  # examples in a message


def check_training_data(
    train: JudgedSet,
    held_out: JudgedSet,
    count_tokens: Callable[[str, str], int],
    max_tokens: int,
) -> pd.DataFrame:
    """Refuse data that would spoil a training or its measure, and count what will be cut.

    Args:
        train: What the model learns from.
        held_out: What it is measured on.
        count_tokens: Returns for a query and a document the number of tokens of the pair.
        max_tokens: How many tokens of a pair the model reads.

    Returns:
        One row a part, indexed by train and held-out, with the columns queries, relevant (its
        pairs of a query and a relevant document), too_long (those with more than `max_tokens`)
        and tokens_cut (how many tokens of these the model does not read).

    Raises:
        InputError: A part has fewer than two queries, a query without a relevant document, or a
            judgment of a document that is missing; or a query's text or a relevant document is in
            both parts.
    """
    parts = {"train": train, "held-out": held_out}
    relevant = {part: _relevant(part, judged) for part, judged in parts.items()}
    texts = [
        {text.casefold().strip() for text in judged.queries.values()} for judged in parts.values()
    ]
    if same := texts[0] & texts[1]:
        raise InputError(
            f"{len(same)} queries are in both parts ({_some(same)}). What was trained on cannot "
            "show what was learned: keep each query in one part only."
        )
    answers = [{judged.documents[d] for _, d in relevant[p]} for p, judged in parts.items()]
    if leaks := answers[0] & answers[1]:
        raise InputError(
            f"{len(leaks)} relevant documents are in both parts ({_some(leaks)}). The model could "
            "learn them by heart: put queries that share an answer into the same part."
        )
    rows = []
    for part, judged in parts.items():
        lengths = [count_tokens(judged.queries[q], judged.documents[d]) for q, d in relevant[part]]
        cut = [length - max_tokens for length in lengths if length > max_tokens]
        rows.append((len(judged.queries), len(lengths), len(cut), sum(cut)))
    columns = ["queries", "relevant", "too_long", "tokens_cut"]
    return pd.DataFrame(rows, index=list(parts), columns=columns)


def _relevant(part: str, judged: JudgedSet) -> list[tuple[str, str]]:
    """Return a part's pairs of a query and a relevant document, or raise."""
    if len(judged.queries) < 2:
        raise InputError(
            f"The part {part} has a single query. Nothing general can be learned from it or shown "
            "on it: 50 are a beginning."
        )
    pairs = [
        (query_id, document_id)
        for query_id, grades in judged.judgments.items()
        for document_id, grade in grades.items()
        if grade >= judged.relevant_from
    ]
    if without := set(judged.queries) - {query_id for query_id, _ in pairs}:
        raise InputError(
            f"{len(without)} of {len(judged.queries)} queries of the part {part} have no relevant "
            f"document, which is one of grade {judged.relevant_from} or more "
            f"({_some(without)}). Judge more of their documents, or leave them out."
        )
    if unknown := {document_id for _, document_id in pairs} - set(judged.documents):
        raise InputError(
            f"{len(unknown)} judged documents of the part {part} are missing ({_some(unknown)}). "
            "Do judgments and documents belong to the same set?"
        )
    return pairs


def _some(names: set[str]) -> str:
    """Write some of the names, sorted."""
    shown = ", ".join(repr(name) for name in sorted(names)[:SHOWN])
    return f"{shown}, …" if len(names) > SHOWN else shown
