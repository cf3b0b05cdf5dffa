"""Know the field names of vLLM's score API, in requests, answers and errors.

Source: vLLM 0.32, `vllm/entrypoints/pooling/scoring/protocol.py`. The names have four spellings
that mean the same; this is the one that vLLM documents today.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

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

# The other spellings of queries and documents. vLLM tries every spelling, so a request with any
# mistake is also told that these fields are missing, which is noise.
OTHER_SPELLINGS = frozenset({"items", "data_1", "data_2", "text_1", "text_2"})
LONGEST_MESSAGE = 500


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None: only these are sent, and only these matter.

    >>> given_options({"user": None, "use_activation": False})
    {'use_activation': False}
    """
    return {name: value for name, value in options.items() if value is not None}


def score_payload(
    model: str, query: str | list[str], document: str | list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON body of a score request; an option that is None is not sent.

    >>> score_payload("m", "capital of France?", "Paris.", {"user": None, "use_activation": False})
    {'model': 'm', 'queries': 'capital of France?', 'documents': 'Paris.', 'use_activation': False}
    """
    return {"model": model, "queries": query, "documents": document, **given_options(options)}


def score_result(answer: object, queries: list[str], documents: list[str]) -> ScoreResult:
    """Check a score answer and return it in the order of the request.

    Raises `ResponseError` unless there is exactly one finite score for each pair.
    """
    scores = _in_order(answer, len(queries), "pair", "score", _score_of_pair)
    return ScoreResult(
        queries=tuple(queries),
        documents=tuple(documents),
        scores=tuple(scores),
        model=str(answer.get("model", "")),
        prompt_tokens=_prompt_tokens(answer),
        request_id=str(answer.get("id", "")),
        raw=answer,
    )


def rerank_payload(
    model: str, query: str, documents: str | list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON body of a rerank request; an option that is None is not sent.

    >>> rerank_payload("m", "capital of France?", ["Lyon.", "Paris."], {"top_n": 1, "user": None})
    {'model': 'm', 'query': 'capital of France?', 'documents': ['Lyon.', 'Paris.'], 'top_n': 1}
    """
    return {"model": model, "query": query, "documents": documents, **given_options(options)}


def rerank_result(
    answer: object, query: str, documents: list[str], top_n: int | None = None
) -> RerankResult:
    """Check a rerank answer and return it best first; equal scores keep the server's order.

    documents: what was sent, in the order in which it was sent.
    top_n: what was asked for; 0 and None mean all.

    Raises `ResponseError` unless there are as many results as asked for, each with the position
    of another document and a finite score. A text that came along must be that document's.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
        raise ResponseError(f"Expected an answer with a list `results`, got {_sketch(answer)}.")
    ranking = _ranking(answer["results"], documents)
    expected = min(top_n or len(documents), len(documents))
    if len(ranking) != expected:
        raise ResponseError(
            f"{len(documents)} documents were sent, {expected} results were expected, and "
            f"{len(ranking)} came back."
        )
    return RerankResult(
        query=query,
        documents=tuple(documents[index] for index in ranking),
        indices=tuple(ranking),
        scores=tuple(ranking.values()),
        model=str(answer.get("model", "")),
        prompt_tokens=_prompt_tokens(answer),
        request_id=str(answer.get("id", "")),
        raw=answer,
    )


def embed_payload(
    model: str, documents: str | list[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON body of a request for embeddings; an option that is None is not sent.

    >>> embed_payload("m", ["Lyon.", "Paris."], {"truncate_prompt_tokens": None})
    {'model': 'm', 'input': ['Lyon.', 'Paris.']}
    """
    return {"model": model, "input": documents, **given_options(options)}


def embed_result(answer: object, count: int) -> np.ndarray:
    """Check an answer with embeddings and return them in the order of the request.

    Returns float32 of shape (count, size of a vector). Raises `ResponseError` unless there is
    exactly one vector of finite numbers for each text, and all have one size.
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


def _ranking(results: list[object], documents: list[str]) -> dict[int, float]:
    """Return the score of each position, best first."""
    scores: dict[int, float] = {}
    for entry in results:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int:
            raise ResponseError(f"Expected a result with an index, got {_sketch(entry)}.")
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
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _prompt_tokens(answer: Mapping[str, Any]) -> int:
    usage = answer.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if type(tokens) is not int:
        raise ResponseError("The answer does not say how many tokens it used (`usage`).")
    return tokens


def _score(score: object, owner: str) -> float:
    if type(score) not in (int, float) or not _is_finite(score):
        raise ResponseError(f"The score of {owner} is {score}: not a number.")
    return float(score)


def _score_of_pair(entry: dict[str, Any]) -> float:
    return _score(entry.get("score"), f"pair {entry['index']}")


def _in_order(
    answer: object, count: int, sent: str, back: str, value: Callable[[dict[str, Any]], Any]
) -> list[Any]:
    """Return the value of each entry of `data`, in the order of the request.

    sent, back: what was sent and what came back, in the singular, for the messages.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise ResponseError(f"Expected an answer with a list `data`, got {_sketch(answer)}.")
    data = answer["data"]
    if len(data) != count:
        raise ResponseError(f"{count} {sent}s were sent and {len(data)} {back}s came back.")
    values: dict[int, Any] = {}
    for entry in data:
        if not isinstance(entry, dict) or type(entry.get("index")) is not int:
            raise ResponseError(f"Expected a {back} with an index, got {_sketch(entry)}.")
        values[entry["index"]] = value(entry)
    if values.keys() != set(range(count)):
        raise ResponseError(
            f"Expected one {back} for each index from 0 to {count - 1}, "
            f"got the indices {shorten_list(sorted(values))}."
        )
    return [values[index] for index in range(count)]


def tokenize_payload(model: str, text: str, *, add_special_tokens: bool) -> dict[str, Any]:
    """Return the JSON body of a tokenize request.

    >>> tokenize_payload("m", "Paris.", add_special_tokens=False)  # doctest: +NORMALIZE_WHITESPACE
    {'model': 'm', 'prompt': 'Paris.', 'add_special_tokens': False, 'return_token_strs': True}
    """
    return {
        "model": model,
        "prompt": text,
        "add_special_tokens": add_special_tokens,
        "return_token_strs": True,
    }


def tokenize_result(answer: object, text: str) -> TokenizeResult:
    """Check a tokenize answer and return it.

    Raises `ResponseError` unless each token has a number and a name, and the longest input is
    stated.
    """
    fields = answer if isinstance(answer, dict) else {}
    ids, names = fields.get("tokens"), fields.get("token_strs")
    longest = fields.get("max_model_len")
    lists = isinstance(ids, list) and isinstance(names, list)
    if not lists or len(ids) != len(names) or type(longest) is not int:
        raise ResponseError(f"Expected the tokens of a text, got {_sketch(answer)}.")
    if not all(type(number) is int for number in ids) or not all(map(_is_text, names)):
        raise ResponseError(f"Expected numbers and names of tokens, got {_sketch(answer)}.")
    return TokenizeResult(text, tuple(names), tuple(ids), longest)


def served_models(answer: object) -> list[str]:
    """Return the names in an answer of `/v1/models`, which may be several for one model."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if isinstance(entries, list):
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        if len(names) == len(entries) and all(isinstance(name, str) for name in names):
            return names
    raise ResponseError(f"Expected a list of models, got {_sketch(answer)}.")


def server_version(answer: object) -> str:
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


def error_body(content: bytes) -> dict[str, Any] | str:
    """Return the body of an error: the object if it is JSON, else the text."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else content.decode("utf-8", "replace")


def error_sentence(body: Mapping[str, Any] | str) -> str:
    """Return what an error body says, on one line.

    vLLM nests validation errors as text inside `error.message`, one for each spelling of the
    fields; here each mistake is named once.

    >>> error_sentence({"error": {"message": "The model `x` does not exist.", "code": 404}})
    'The model `x` does not exist.'
    >>> error_sentence({"error": {"message": "2 validation errors:\\n"
    ...     "  {'type': 'missing', 'loc': 'body.documents', 'msg': 'Field required'}\\n"
    ...     "  {'type': 'missing', 'loc': 'body.text_1', 'msg': 'Field required'}"}})
    'documents: Field required'
    """
    message: object = body
    if isinstance(body, Mapping):
        error = body.get("error", body)
        if isinstance(error, Mapping):
            # FastAPI itself says `detail`, vLLM says `message`.
            error = error.get("message") or error.get("detail") or json.dumps(body, default=str)
        message = error
    if isinstance(message, list):
        return _one_line(_join_mistakes(message) or json.dumps(message, default=str))
    text = str(message)
    mistakes = [_literal(line) for line in text.splitlines() if line.lstrip().startswith("{")]
    return _one_line(_join_mistakes(mistakes) or text)


def is_unknown_model(body: Mapping[str, Any] | str) -> bool:
    """Tell a 404 for a model name from a 404 for a route, which has no `error` object."""
    return isinstance(body, Mapping) and isinstance(body.get("error"), Mapping)


def is_too_long(message: str) -> bool:
    """Recognise vLLM's refusal of a pair with more tokens than the model takes."""
    return "maximum context length" in message


def shorten_list(names: list[Any], most: int = 8) -> str:
    """Name the first few of a list.

    >>> shorten_list([1, 2, 3, 4], most=2)
    '1, 2 and 2 more'
    """
    text = ", ".join(str(name) for name in names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def _join_mistakes(entries: list[Any]) -> str:
    mistakes = [entry for entry in entries if isinstance(entry, Mapping) and "msg" in entry]
    named = [(_field(entry.get("loc", "")), _mistake(entry)) for entry in mistakes]
    telling = [(field, text) for field, text in named if field not in OTHER_SPELLINGS]
    lines = [f"{field}: {text}" if field else text for field, text in telling or named]
    return "; ".join(dict.fromkeys(lines))


def _field(location: object) -> str:
    """Return the request's field in a location such as `body.queries.ScoreMultiModalParam`."""
    parts = location.split(".") if isinstance(location, str) else location
    if not isinstance(parts, (list, tuple)):
        return ""
    # Class names of the server start with a capital, positions in the body are numbers.
    names = [part for part in map(str, parts) if re.fullmatch("[a-z_][a-z0-9_]*", part)]
    return next((name for name in names if name != "body"), "")


def _mistake(entry: Mapping[str, Any]) -> str:
    text = str(entry["msg"])
    context = entry.get("ctx")
    if isinstance(context, Mapping) and "error" in context:
        text += f" ({context['error']})"
    given = entry.get("input")
    if isinstance(given, (str, int, float)) and not str(given).startswith("<"):
        text += f" (it was {str(given)[:80]!r})"
    return text


def _literal(line: str) -> object:
    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None  # the server cuts long entries, and a cut one says nothing more


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer too large for a float
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _sketch(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
