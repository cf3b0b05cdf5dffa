"""Check texts and shapes before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from helpers.errors import InputError

PLURALS = {"query": "queries", "document": "documents"}


def check_text(value: object, name: str) -> str:
    """Return the value as a plain `str`, or say under its name why it is no text.

    >>> check_text("Paris", "document")
    'Paris'
    >>> check_text(None, "documents[2]")
    Traceback (most recent call last):
        ...
    helpers.errors.InputError: documents[2] is missing (None): expected a text (str).
    """
    if not isinstance(value, str):
        raise InputError(f"{name} {_what_it_is(value)}")
    text = str.__str__(value)  # JSON needs the text of a subclass (numpy.str_, an Enum), not it
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is not valid Unicode: character {error.start} is half of a surrogate pair. "
            "Read the file with its true encoding, or drop it with "
            'text.encode("utf-8", "ignore").decode().'
        ) from None
    return text


def as_texts(value: object, name: str) -> list[str]:
    """Turn a text, or a list, tuple, array or Series of texts, into a list of plain texts.

    name: "query" or "document", for the message of an `InputError`.

    >>> as_texts("Paris.", "document"), as_texts(("Paris.", "Lyon."), "document")
    (['Paris.'], ['Paris.', 'Lyon.'])
    """
    if isinstance(value, str):
        return [check_text(value, name)]
    plural = PLURALS[name]
    items = value.tolist() if hasattr(value, "tolist") else value
    binary = isinstance(items, (bytes, bytearray, memoryview))
    if not isinstance(items, Sequence) or isinstance(items, str) or binary:
        return [check_text(items, name)]
    if not items:
        raise InputError(f"{plural} is empty: at least one text is needed.")
    return [check_text(item, f"{plural}[{position}]") for position, item in enumerate(items)]


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number from 1 up."""
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a whole number from 1 up, and is {value!r}.")


def check_shapes(queries: int, documents: int) -> None:
    """Refuse numbers of queries and documents that the score API can not pair.

    >>> check_shapes(3, 2)
    Traceback (most recent call last):
        ...
    helpers.errors.InputError: 3 queries and 2 documents can not be paired: send one query with \
any number of documents, or lists of equal length.
    """
    if queries in (1, documents):
        return
    message = (
        f"{queries} queries and {documents} document{'s' * (documents != 1)} can not be paired: "
        "send one query with any number of documents, or lists of equal length."
    )
    if documents == 1:
        message += f" To score {queries} queries against one document, repeat the document."
    raise InputError(message)


def _what_it_is(value: object) -> str:
    """Finish the sentence "documents[2] ..." for a value that is no text."""
    kind = type(value).__name__
    expected = "expected a text (str)"
    if value is None or kind in ("NAType", "NaTType"):
        return f"is missing ({value}): {expected}."
    if isinstance(value, float) and math.isnan(value):
        return f"is missing (nan): {expected}."
    if isinstance(value, (bool, int, float)):
        return f"is a number ({kind}): {expected}; str(...) makes one of it."
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'is {kind}: {expected}; .decode("utf-8") makes one of it.'
    if kind == "DataFrame":
        return "is a DataFrame: give one of its columns, or use score_frame for all of it."
    if isinstance(value, (Mapping, Set)):
        return f"is a {kind}, which is no list: {expected} or a list of texts."
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        return f"is a {kind}: {expected}; lists can not be nested."
    if hasattr(value, "__iter__"):
        return f"is a {kind}: make a list of it with list(...), or use score_pairs."
    return f"is a {kind}: {expected} or a list of texts."
