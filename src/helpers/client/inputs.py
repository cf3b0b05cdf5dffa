"""Check texts, shapes and numbers where they come in, before anything is sent.

What is wrong is an `InputError`, whose message says what was expected.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

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


def as_texts(value: Any, name: str) -> list[str]:
    """Turn a text, or what `column_of` takes, into a list of plain texts.

    Args:
        value: At least one text.
        name: "query" or "document", for messages.

    >>> as_texts("Paris.", "document"), as_texts(("Paris.", "Lyon."), "document")
    (['Paris.'], ['Paris.', 'Lyon.'])
    """
    value = _plain(value)
    if isinstance(value, str) or not _holds_items(value):
        return [check_text(value, name)]
    texts = list(column_of(value, PLURALS[name]))
    if not texts:
        raise InputError(f"{PLURALS[name]} is empty: at least one text is needed.")
    return texts


def column_of(value: Any, name: str) -> list[str] | Iterator[str]:
    """Return many texts, each of them checked.

    Args:
        value: A list, tuple or other sequence; an array or a column of NumPy, pandas, polars or
            PyArrow; or what can be read only once, such as a generator.
        name: "queries" or "documents", for messages.

    Returns:
        A list, checked now; or an iterator, which checks each text as it comes, for what can be
        read only once.

    Raises:
        InputError: It holds something else; the message names the first place.
    """
    value = _plain(value)
    if not _holds_items(value):
        raise InputError(f"{name} {_what_it_is(value, 'many texts, in a list or a generator')}")
    texts = (check_text(item, f"{name}[{row}]") for row, item in enumerate(value))
    # A length alone does not say that it can be read twice: a bar around a generator has one.
    return list(texts) if isinstance(value, Sequence) else texts


def check_shapes(queries: int, documents: int) -> None:
    """Refuse numbers of queries and documents that the score API cannot pair.

    >>> check_shapes(3, 2)
    Traceback (most recent call last):
        ...
    helpers.errors.InputError: 3 queries and 2 documents cannot be paired: send one query with \
any number of documents, or lists of equal length.
    """
    if queries in (1, documents):
        return
    message = (
        f"{queries} queries and {documents} document{'s' * (documents != 1)} cannot be paired: "
        "send one query with any number of documents, or lists of equal length."
    )
    if documents == 1:
        message += f" To score {queries} queries against one document, repeat the document."
    raise InputError(message)


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number of the span, which may be one of NumPy or pandas, as an `int`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        span = f"from {least} up" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be a whole number {span}, not {value!r}.")
    return number


def positive_number(name: str, value: Any, unit: str = "seconds", *, zero: bool = False) -> float:
    """Return a finite number above 0, which may be one of NumPy or pandas, as a `float`."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        span = "from 0 up" if zero else "above 0"
        raise InputError(f"{name} must be a number of {unit} {span}, not {value!r}.")
    return number


def to_json(value: object) -> str:
    """Return a value as JSON; numbers and arrays of NumPy are written as those of Python."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_python_of)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"An option cannot be written as JSON: {error}.") from None


def type_name(value: object) -> str:
    """Return the name of a value's type; for a table with its package, as several have one."""
    package = f"{type(value).__module__.partition('.')[0]} " if _is_table(value) else ""
    return package + type(value).__name__


def _plain(value: Any) -> Any:
    """Return what an array or a column holds, as a list of Python's own objects."""
    if not _is_table(value):
        for method in ("tolist", "to_list", "to_pylist"):  # NumPy and pandas, polars, PyArrow
            if hasattr(value, method):
                return getattr(value, method)()
    return value


def _holds_items(value: object) -> bool:
    """Tell whether there are other values in this one, in an order."""
    others = (str, bytes, bytearray, memoryview, Mapping, set, frozenset)
    return isinstance(value, Iterable) and not isinstance(value, others) and not _is_table(value)


def _is_table(value: object) -> bool:
    """Recognise a table of pandas, polars or PyArrow without importing the three."""
    return hasattr(type(value), "columns")


def _python_of(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a {type_name(value)} is neither a text, a number, a list nor a dict")


def _what_it_is(value: object, expected: str = "a text (str)") -> str:
    """Finish the sentence "documents[2] ..." for a value that is not what was expected."""
    kind = type_name(value)
    nan = isinstance(value, float) and math.isnan(value)
    if value is None or nan or kind in ("NAType", "NaTType"):
        return f"is missing ({value}): expected {expected}."
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'is of type {kind}: expected {expected}; .decode("utf-8") makes a text of it.'
    if _is_table(value):
        return f"is a {kind}: give one of its columns, or use score_frame for all of it."
    return f"is of type {kind}: expected {expected}."
