"""Know the field names of vLLM's score API, in requests and answers.

Every answer is checked; what does not fit its request is a `ResponseError`.

Source: vLLM 0.32, `vllm/entrypoints/pooling/scoring/protocol.py`. The names have four spellings
that mean the same; this is the one that vLLM documents today. Answers are checked by hand: pydantic
would be one more package in the kernel, and its messages would have to be put into words as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np

from helpers.client.chunks import TokenizeResult
from helpers.client.results import RerankResult, ScoreResult
from helpers.errors import ResponseError

SCORE_PATH = "/score"
RERANK_PATH = "/rerank"
EMBED_PATH = "/v1/embeddings"
MODELS_PATH = "/v1/models"
HEALTH_PATH = "/health"
VERSION_PATH = "/version"
TOKENIZE_PATH = "/tokenize"


class ScoreOptions(TypedDict, total=False):
    """What a request to score or to rerank may have besides its texts.

    An option that is None is not sent, so the server's own default holds.

    Attributes:
        use_activation: False returns the model's raw logits; None leaves the model's default, for a
            cross-encoder the sigmoid, hence scores from 0 to 1.
        truncate_prompt_tokens: Cut each pair to so many tokens; -1 means as many as the model
            takes. Without it a longer pair is an error.
        truncation_side: "right" keeps the beginning of a cut pair, "left" its end.
        max_tokens_per_query: Cut the query alone to so many tokens.
        max_tokens_per_doc: Cut the document alone to so many tokens.
        instruction: What to rank by, for models whose chat template builds the pair.
        chat_template_kwargs: Further values for that template.
        priority: Lower is served earlier, if the server schedules by priority.
        request_id: A name for this request, which comes back in the answer.
        user: A name for whoever asks.
    """

    use_activation: bool | None
    truncate_prompt_tokens: int | None
    truncation_side: str | None
    max_tokens_per_query: int | None
    max_tokens_per_doc: int | None
    instruction: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    priority: int | None
    request_id: str | None
    user: str | None


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None: only these are sent, and only these matter.

    An unknown one is a `TypeError`, as an unknown argument is for Python.

    >>> given_options({"user": None, "use_activation": False})
    {'use_activation': False}
    """
    for name in options:
        if name not in ScoreOptions.__annotations__:
            known = ", ".join(ScoreOptions.__annotations__)
            raise TypeError(f"There is no option {name!r}. The options: {known}.")
    return {name: value for name, value in options.items() if value is not None}


def score_payload(
    model: str, query: str | list[str], document: str | list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON body of a score request.

    >>> score_payload("m", "capital of France?", "Paris.", {"user": None, "use_activation": False})
    {'model': 'm', 'queries': 'capital of France?', 'documents': 'Paris.', 'use_activation': False}
    """
    return {"model": model, "queries": query, "documents": document, **given_options(options)}


def rerank_payload(
    model: str,
    query: str,
    documents: str | list[str],
    top_n: int | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the JSON body of a rerank request."""
    limit = {} if top_n is None else {"top_n": top_n}
    return {"model": model, "query": query, "documents": documents} | limit | given_options(options)


def embed_payload(model: str, texts: str | list[str], truncate: int | None) -> dict[str, Any]:
    """Return the JSON body of a request for embeddings."""
    return {"model": model, "input": texts} | given_options({"truncate_prompt_tokens": truncate})


def tokenize_payload(model: str, text: str, add_special_tokens: bool) -> dict[str, Any]:
    """Return the JSON body of a tokenize request."""
    options = {"add_special_tokens": add_special_tokens, "return_token_strs": True}
    return {"model": model, "prompt": text, **options}


def pairs_of(payload: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the queries and the documents of a score request, one of each for every pair.

    >>> pairs_of({"queries": "capital of France?", "documents": ["Lyon.", "Paris."]})
    (['capital of France?', 'capital of France?'], ['Lyon.', 'Paris.'])
    """
    sides = payload["queries"], payload["documents"]
    queries, documents = ([texts] if isinstance(texts, str) else texts for texts in sides)
    return (queries * len(documents) if len(queries) == 1 else queries), documents


def longest_text(payload: Mapping[str, Any]) -> str:
    """Name the longest text of a request: most likely it is the one that is too long.

    >>> longest_text({"query": "capital of France?", "documents": ["Lyon.", "Paris."]})
    ' The longest text is documents[1], with 6 characters.'
    """
    sizes = [
        (len(text), f"{name}[{row}]")
        for name, texts in payload.items()
        if isinstance(texts, list)
        for row, text in enumerate(texts)
    ]
    size, name = max(sizes, default=(0, ""))
    return f" The longest text is {name}, with {size:,} characters." if name else ""


def score_result(answer: Any, queries: list[str], documents: list[str]) -> ScoreResult:
    """Return a score answer in the order of the request: one finite score for each pair."""
    scores = _in_order(answer, len(queries), "pair", "score", _score_of_pair)
    return ScoreResult(tuple(queries), tuple(documents), tuple(scores), **_about(answer))


def rerank_result(
    answer: Any, query: str, documents: list[str], top_n: int | None = None
) -> RerankResult:
    """Return a rerank answer best first; equal scores keep the server's order.

    There must be as many results as asked for, each with the position of another document and a
    finite score; a text that came along must be that document's.
    """
    scores: dict[int, float] = {}
    for entry in _list_in(answer, "results"):
        index = _index_of(entry, "result")
        if not 0 <= index < len(documents) or index in scores:
            raise ResponseError(
                f"Expected each index once, from 0 to {len(documents) - 1}, got {index}"
                f"{' twice' if index in scores else ''}."
            )
        # Some servers send the position alone; then there is no text to compare.
        document = entry.get("document")
        text = document.get("text") if isinstance(document, dict) else document
        if text not in (None, documents[index]):
            raise ResponseError(f"Document {index} came back as another text: {_sketch(text)}.")
        scores[index] = _score(entry.get("relevance_score"), f"document {index}")
    expected = min(top_n or len(documents), len(documents))
    if len(scores) != expected:
        raise ResponseError(
            f"{len(documents)} documents were sent, {expected} results were expected, and "
            f"{len(scores)} came back."
        )
    ranking = sorted(scores, key=lambda index: -scores[index])
    return RerankResult(
        query=query,
        documents=tuple(documents[index] for index in ranking),
        indices=tuple(ranking),
        scores=tuple(scores[index] for index in ranking),
        **_about(answer),
    )


def embed_result(answer: Any, count: int) -> np.ndarray:
    """Return the vectors of an answer in the order of the request: float32 of shape (count, size).

    There must be one for each text, all of one size and of finite numbers.
    """
    vectors = _in_order(answer, count, "text", "vector", lambda entry: entry.get("embedding"))
    try:
        matrix = np.array(vectors)
    except ValueError:
        raise ResponseError("The vectors that came back have different sizes.") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "if":
        raise ResponseError(f"Expected vectors of numbers, got {_sketch(vectors[0])}.")
    with np.errstate(over="ignore"):  # what is too large for float32 counts as infinite
        matrix = matrix.astype(np.float32)
    if not np.isfinite(matrix).all():
        raise ResponseError("A vector that came back holds something else than finite numbers.")
    return matrix


def tokenize_result(answer: Any, text: str) -> TokenizeResult:
    """Check a tokenize answer: each token has a number and a name, the longest input is stated."""
    fields: Any = answer if isinstance(answer, dict) else {}
    ids, names = fields.get("tokens"), fields.get("token_strs")
    longest = fields.get("max_model_len")
    whole = _is_list_of(int, ids) and _is_list_of(str, names) and len(ids) == len(names)
    if not whole or type(longest) is not int:
        raise ResponseError(f"Expected the tokens of a text, got {_sketch(answer)}.")
    return TokenizeResult(text, tuple(names), tuple(ids), longest)


def served_models(answer: Any) -> list[str]:
    """Return the names in an answer of `/v1/models`, which may be several for one model."""
    entries: Any = answer.get("data") if isinstance(answer, dict) else None
    names = [entry.get("id") for entry in entries] if _is_list_of(dict, entries) else None
    if not _is_list_of(str, names):
        raise ResponseError(f"Expected a list of models, got {_sketch(answer)}.")
    return names or []


def server_version(answer: Any) -> str:
    """Return the version in an answer of `/version`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        raise ResponseError(f"Expected a version, got {_sketch(answer)}.")
    return answer["version"]


def parse_json(content: bytes) -> Any:
    """Return what the JSON says, or raise `ResponseError`."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        start = content[:80].decode("utf-8", "replace")
        raise ResponseError(
            f"Expected JSON, got {len(content)} bytes that start with {start!r}. Is this the "
            "address of a vLLM server?"
        ) from None


def shorten_list(names: list[Any], most: int = 8) -> str:
    """Name the first few of a list.

    >>> shorten_list([1, 2, 3, 4], most=2)
    '1, 2 and 2 more'
    """
    text = ", ".join(str(name) for name in names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def _about(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what every result holds besides its scores."""
    usage = answer.get("usage")
    # Gateways leave it out; older servers give the sum alone, which for scoring is the same.
    usage = usage if isinstance(usage, dict) else {}
    counts = usage.get("prompt_tokens"), usage.get("total_tokens")
    return {
        "model": str(answer.get("model", "")),
        "prompt_tokens": next((count for count in counts if type(count) is int), None),
        "request_id": str(answer.get("id", "")),
        "raw": answer,
    }


def _in_order(
    answer: Any, count: int, sent: str, back: str, value: Callable[[dict[str, Any]], Any]
) -> list[Any]:
    """Return the value of each entry of `data`, in the order of the request.

    `sent` and `back` name, in the singular and for messages, what was sent and what came back.
    """
    data = _list_in(answer, "data")
    if len(data) != count:
        raise ResponseError(f"{count} {sent}s were sent and {len(data)} {back}s came back.")
    values = {_index_of(entry, back): value(entry) for entry in data}
    if values.keys() != set(range(count)):
        raise ResponseError(
            f"Expected one {back} for each index from 0 to {count - 1}, "
            f"got the indices {shorten_list(sorted(values))}."
        )
    return [values[index] for index in range(count)]


def _list_in(answer: Any, field: str) -> list[Any]:
    if not isinstance(answer, dict) or not isinstance(answer.get(field), list):
        raise ResponseError(f"Expected an answer with a list `{field}`, got {_sketch(answer)}.")
    return answer[field]


def _index_of(entry: Any, back: str) -> int:
    if not isinstance(entry, dict) or type(entry.get("index")) is not int:
        raise ResponseError(f"Expected a {back} with an index, got {_sketch(entry)}.")
    return entry["index"]


def _score(score: Any, owner: str) -> float:
    try:
        if type(score) in (int, float) and math.isfinite(score):
            return float(score)
    except OverflowError:  # an integer too large for a float
        pass
    raise ResponseError(f"The score of {owner} is {_sketch(score)}: not a number.")


def _score_of_pair(entry: dict[str, Any]) -> float:
    return _score(entry.get("score"), f"pair {entry['index']}")


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _sketch(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
