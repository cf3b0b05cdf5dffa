"""Ask a vLLM server for scores and rankings."""

from __future__ import annotations

import copy
import json
import operator
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from helpers.client import chunks as long_documents
from helpers.client import protocol
from helpers.client.chunks import Chunk, LongScoreResult, TokenizeResult
from helpers.client.inputs import as_texts, check_shapes, check_text
from helpers.client.results import RerankResult, ScoreResult
from helpers.client.transport import KEY_VARIABLE, Answer, Transport
from helpers.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    InputError,
    NotFoundError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    api_error_type,
)

# A health check answers at once or not at all: vLLM gives it without scoring anything.
HEALTH_SECONDS = 5.0
# Which models have a route that not every server has.
MODELS_WITH = {
    protocol.SCORE_PATH: "scores (one output label), such as a reranker",
    protocol.RERANK_PATH: "scores (one output label), such as a reranker",
    protocol.EMBED_PATH: "embeds, such as a bi-encoder; a reranker is none",
}


class ScoreClient:
    """Send pairs of texts to a score server and return what it makes of them.

    url: where the server listens; `http://` is added if it is missing, a trailing `/` or `/v1`
        is dropped.
    model: the name under which the server serves its model. None asks the server, once, when
        the name is first needed.
    api_key: sent with each request. None takes the variable SCORE_API_KEY, if it is set.
    timeout: seconds for one whole call, with all its retries and the pauses between them.
    retries: how often a request is sent again after a lost connection or the statuses 429, 502,
        503 and 504. That is safe because scoring changes nothing on the server. The pauses double
        from about 0.25 s; a pause that the server asks for (`Retry-After`) comes first.

    Several threads may use one client. Close it, or use it in a `with` block.

    Proxy variables of the environment are honoured, except for a server on this machine: no
    proxy could reach it.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
    ) -> None:
        """Check the settings; nothing is sent yet."""
        if model is not None and (not isinstance(model, str) or not model):
            raise InputError(f"model must be a name or None, and is {model!r}.")
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        self._transport = Transport(url, key, timeout, retries)
        self._model = model
        self._model_lock = threading.Lock()

    def score(
        self,
        query: str | list[str],
        document: str | list[str],
        *,
        use_activation: bool | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: str | None = None,
        max_tokens_per_query: int | None = None,
        max_tokens_per_doc: int | None = None,
        instruction: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        priority: int | None = None,
        request_id: str | None = None,
        user: str | None = None,
    ) -> ScoreResult:
        """Score one pair, one query against N documents, or N queries against N documents.

        query, document: a text or a list of texts, in one of the forms 1:1, 1:N and N:N.
        use_activation: False returns the model's raw logits; None leaves the model's default,
            for a cross-encoder the sigmoid, hence scores from 0 to 1.
        truncate_prompt_tokens: cut each pair to so many tokens; -1 means as many as the model
            takes. Without it a longer pair is an error.
        truncation_side: "right" keeps the beginning of a cut pair, "left" its end.
        max_tokens_per_query, max_tokens_per_doc: cut the query or the document alone.
        instruction, chat_template_kwargs: for models whose chat template builds the pair.
        priority: lower is served earlier, if the server schedules by priority.
        request_id, user: names for the server's log.

        An option that is None is not sent, so the server's own default holds.

        Raises `InputError` before anything is sent, and other kinds of `ScoreError` for what
        happens afterwards.
        """
        queries, documents = _texts(query, document)
        options = {
            "use_activation": use_activation,
            "truncate_prompt_tokens": truncate_prompt_tokens,
            "truncation_side": truncation_side,
            "max_tokens_per_query": max_tokens_per_query,
            "max_tokens_per_doc": max_tokens_per_doc,
            "instruction": instruction,
            "chat_template_kwargs": chat_template_kwargs,
            "priority": priority,
            "request_id": request_id,
            "user": user,
        }
        sent = (_as_given(query, queries), _as_given(document, documents))
        payload = protocol.score_payload(self.model, *sent, options)
        answer = self._ask("POST", protocol.SCORE_PATH, payload)
        return protocol.score_result(answer, queries * (len(documents) // len(queries)), documents)

    def rerank(
        self,
        query: str,
        documents: str | list[str],
        *,
        top_n: int | None = None,
        use_activation: bool | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: str | None = None,
        max_tokens_per_query: int | None = None,
        max_tokens_per_doc: int | None = None,
        instruction: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        priority: int | None = None,
        request_id: str | None = None,
        user: str | None = None,
    ) -> RerankResult:
        """Return the documents best first, each with its position in the list that was sent.

        query: one text. documents: a text or a list of texts; they may repeat.
        top_n: return only so many of the best; None and 0 return all. Every document is scored
            all the same.
        The other options are those of `score`.

        Raises `InputError` before anything is sent, and other kinds of `ScoreError` for what
        happens afterwards.
        """
        texts = as_texts(documents, "document")
        options = {
            "top_n": _top_n(top_n),
            "use_activation": use_activation,
            "truncate_prompt_tokens": truncate_prompt_tokens,
            "truncation_side": truncation_side,
            "max_tokens_per_query": max_tokens_per_query,
            "max_tokens_per_doc": max_tokens_per_doc,
            "instruction": instruction,
            "chat_template_kwargs": chat_template_kwargs,
            "priority": priority,
            "request_id": request_id,
            "user": user,
        }
        text = _one_query(query, "rerank")
        payload = protocol.rerank_payload(self.model, text, _as_given(documents, texts), options)
        answer = self._ask("POST", protocol.RERANK_PATH, payload)
        return protocol.rerank_result(answer, text, texts, options["top_n"])

    def embed(
        self,
        documents: str | list[str],
        *,
        truncate_prompt_tokens: int | None = None,
    ) -> np.ndarray:
        """Return one vector for each text, from a server that serves a bi-encoder.

        documents: a text or a list of N texts; queries as well, since a bi-encoder reads both in
            the same way.
        truncate_prompt_tokens: cut each text to so many tokens; -1 means as many as the model
            takes. Without it a longer text is an error.

        Returns float32 of shape (N, size of a vector), in the order of the texts. Where the model
        gives vectors of length 1, as most do, their products are cosine similarities.

        Raises `InputError` before anything is sent, and other kinds of `ScoreError` for what
        happens afterwards.
        """
        texts = as_texts(documents, "document")
        options = {"truncate_prompt_tokens": truncate_prompt_tokens}
        payload = protocol.embed_payload(self.model, _as_given(documents, texts), options)
        return protocol.embed_result(self._ask("POST", protocol.EMBED_PATH, payload), len(texts))

    def score_long(
        self,
        query: str,
        document: str | Sequence[Chunk],
        *,
        aggregate: str = "max",
        chunk_tokens: int = long_documents.CHUNK_TOKENS,
        overlap_tokens: int | None = None,
        use_activation: bool | None = None,
    ) -> LongScoreResult:
        """Score a document of any length: in chunks, all in one request, and one score of them.

        query: one text. document: one text, or its chunks as `chunks` returns them; whoever has
            several queries for a document cuts it once.
        aggregate: "max" (what is the best part worth?), "mean" (how much of it fits?) or "first"
            (what the beginning alone is worth, for comparison).
        chunk_tokens, overlap_tokens: how a text is cut, as for `chunks`.
        use_activation: as for `score`.

        Raises `InputError` also if query and chunk together are longer than the model takes, and
        other kinds of `ScoreError` as `score` does.
        """
        long_documents.check_aggregate(aggregate)
        text = _one_query(query, "score_long")
        if isinstance(document, str):
            sizes = {"chunk_tokens": chunk_tokens, "overlap_tokens": overlap_tokens}
            document = self.chunks(document, **sizes)
        chunks = long_documents.check_chunks(document)
        try:
            scored = self.score(
                text, [chunk.text for chunk in chunks], use_activation=use_activation
            )
        except BadRequestError as error:
            if not protocol.is_too_long(str(error)):
                raise
            longest = max(len(chunk.tokens) for chunk in chunks)
            raise InputError(
                f"The query and a chunk of {longest} tokens are longer together than the model "
                "takes: cut with a smaller chunk_tokens=, or shorten the query."
            ) from None
        return LongScoreResult(
            query=text,
            chunks=chunks,
            scores=scored.scores,
            aggregate=aggregate,
            model=scored.model,
            prompt_tokens=scored.prompt_tokens,
        )

    def chunks(
        self,
        document: str,
        *,
        chunk_tokens: int = long_documents.CHUNK_TOKENS,
        overlap_tokens: int | None = None,
    ) -> tuple[Chunk, ...]:
        """Cut a document between words into chunks, by the tokens that the server counts.

        chunk_tokens: the most tokens of a chunk; query and chunk together must fit the model.
        overlap_tokens: the most tokens that a chunk shares with the one before it; None takes a
            quarter of a chunk.

        A document that fits comes back as one chunk. Costs some 7 requests a chunk, which need
        no model. Raises `InputError` before anything is sent, and other kinds of `ScoreError`.
        """
        return long_documents.cut(
            document,
            lambda text: len(self.tokenize(text)),
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
        )

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> TokenizeResult:
        """Return the tokens that the server's model makes of a text; `len` counts them.

        add_special_tokens: add those that the model wants around a single text.
        """
        checked = check_text(text, "text")
        payload = protocol.tokenize_payload(
            self.model, checked, add_special_tokens=add_special_tokens
        )
        return protocol.tokenize_result(self._ask("POST", protocol.TOKENIZE_PATH, payload), checked)

    def payload(
        self, query: str | list[str], document: str | list[str], **options: Any
    ) -> dict[str, Any]:
        """Return the JSON body that `score` would send, to look at it or to send it by hand."""
        queries, documents = _texts(query, document)
        sent = (_as_given(query, queries), _as_given(document, documents))
        return protocol.score_payload(self.model, *sent, options)

    def models(self) -> list[str]:
        """Return the names under which the server serves its model."""
        return protocol.served_models(self._ask("GET", protocol.MODELS_PATH))

    def version(self) -> str:
        """Return the version of vLLM that the server runs."""
        return protocol.server_version(self._ask("GET", protocol.VERSION_PATH))

    def health(self) -> bool:
        """Tell whether the server answers and its engine is alive; never raises, never retries."""
        answer = self._transport.once("GET", protocol.HEALTH_PATH, HEALTH_SECONDS)
        return answer.fault is None and answer.status == 200

    @property
    def url(self) -> str:
        """Return the root address of the server, without a slash at its end."""
        return self._transport.url

    @property
    def model(self) -> str:
        """Return the model's name; the first time this may ask the server."""
        with self._model_lock:
            if self._model is None:
                names = self.models()
                if not names:
                    raise ResponseError(f"The server at {self.url} serves no model.")
                self._model = names[0]
            return self._model

    def close(self) -> None:
        """Close the connections; a request that waits for its next try ends with an error."""
        self._transport.close()

    def stopped_by(self, stop: threading.Event) -> ScoreClient:
        """Return a twin that shares the connections and sends nothing once the event is set.

        For a caller with many requests in flight, who has to end them all when one fails.
        """
        twin = copy.copy(self)
        twin._transport = self._transport.stopped_by(stop)
        return twin

    def __enter__(self) -> ScoreClient:
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def __repr__(self) -> str:
        """Show the address and the model, never the key."""
        return f"ScoreClient({self.url!r}, model={self._model!r})"

    def _ask(self, method: str, path: str, payload: dict[str, Any] | None = None) -> Any:
        answer = self._transport.persist(method, path, _encoded(payload))
        if answer.fault is not None:
            raise answer.fault
        if answer.status != 200:
            raise self._api_error(path, answer)
        return protocol.parse_json(answer.content)

    def _api_error(self, path: str, answer: Answer) -> ApiError:
        body = protocol.error_body(answer.content)
        kind = api_error_type(answer.status)
        said = protocol.error_sentence(body) or "(no text)"
        message = f"{self.url} answered {answer.status}: {said}"
        if kind is AuthenticationError:
            message += (
                f" Set {KEY_VARIABLE} (or pass api_key=) to the key that the server was started "
                "with."
            )
        elif kind is NotFoundError:
            message = self._not_found(path, body)
        elif kind is ServerBusyError:
            message += " It has no room for the request now: send less at once, or try later."
        elif answer.status >= 500:
            message += " The fault is the server's: look in its log."
        elif 300 <= answer.status < 400:
            message += " It points to another address: give that one to the client as url=."
        elif protocol.is_too_long(said):
            message += " Or let the server cut it: truncate_prompt_tokens=-1."
        return kind(message, status=answer.status, body=body, url=self.url + path)

    def _not_found(self, path: str, body: dict[str, Any] | str) -> str:
        if path not in MODELS_WITH and not protocol.is_unknown_model(body):
            return f"The server at {self.url} has no route {path}. Is this a vLLM server?"
        try:
            names = protocol.shorten_list([repr(name) for name in self.models()])
            served = f"It serves: {names or 'nothing'}."
        except ScoreError:
            served = "It does not tell which models it serves."
        if protocol.is_unknown_model(body):
            return (
                f"The server at {self.url} knows no model {self._model!r}. {served} "
                "Give one of these names as model=, or none at all."
            )
        return (
            f"The server at {self.url} has no route {path}. {served} vLLM has this route only "
            f"for a model that {MODELS_WITH[path]}."
        )


def _texts(query: object, document: object) -> tuple[list[str], list[str]]:
    queries, documents = as_texts(query, "query"), as_texts(document, "document")
    check_shapes(len(queries), len(documents))
    return queries, documents


def _one_query(query: object, method: str) -> str:
    queries = as_texts(query, "query")
    if not isinstance(query, str):
        raise InputError(
            f"{method} takes one query as a text (str), and got a {type(query).__name__} of "
            f"{len(queries)}: call it once for each."
        )
    return queries[0]


def _top_n(value: object) -> int | None:
    """Return the number as a plain int, which JSON needs; numpy's integers are none."""
    if value is None:
        return None
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise InputError(
            f"top_n must be a whole number from 0 up, or None, and is {value!r}. None and 0 "
            "return all documents."
        )
    return number


def _as_given(given: object, texts: list[str]) -> str | list[str]:
    """Let a single text travel as a text, not as a list of one."""
    return texts[0] if isinstance(given, str) else texts


def _encoded(payload: dict[str, Any] | None) -> bytes | None:
    if payload is None:
        return None
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"An option can not be written as JSON: {error}.") from None
