"""Read what a server says when it refuses a request, and put it in one sentence."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

# The other spellings of queries and documents. vLLM tries every spelling, so a request with any
# mistake is also told that these fields are missing, which is noise.
OTHER_SPELLINGS = frozenset({"items", "data_1", "data_2", "text_1", "text_2"})
LONGEST_MESSAGE = 500


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
        message = body.get("error", body)
        if isinstance(message, Mapping):
            # FastAPI itself says `detail`, vLLM says `message`.
            message = message.get("message") or message.get("detail") or json.dumps(body)
    if isinstance(message, list):
        mistakes, text = message, json.dumps(message)
    else:
        text = str(message)
        mistakes = [_literal(line) for line in text.splitlines() if line.lstrip().startswith("{")]
    line = " ".join((_join_mistakes(mistakes) or text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def is_unknown_model(body: Mapping[str, Any] | str) -> bool:
    """Tell a 404 for a model's name from a 404 for a route, which speaks of no model."""
    error = body.get("error") if isinstance(body, Mapping) else None
    return isinstance(error, Mapping) and "model" in str(error.get("message")).lower()


def is_too_long(message: str) -> bool:
    """Recognise vLLM's refusal of a pair with more tokens than the model takes."""
    return "maximum context length" in message


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
