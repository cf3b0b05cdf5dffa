"""Ask a vLLM server for scores and rankings."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from helpers.client import chunks as long_documents
from helpers.client import protocol, refusals
from helpers.client.address import KEY_VARIABLE
from helpers.client.chunks import CHUNK_TOKENS, Chunk, LongScoreResult, TokenizeResult
from helpers.client.dialects import dialect_of
from helpers.client.inputs import as_texts, check_shapes, check_text, to_json, whole_number
from helpers.client.protocol import ScoreOptions
from helpers.client.results import RerankResult, ScoreResult
from helpers.client.transport import Answer, Transport
from helpers.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    InputError,
    NotFoundError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    ServerFaultError,
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

ADVICE: dict[type[ApiError], str] = {
    AuthenticationError: f" Set {KEY_VARIABLE} (or pass api_key=) to the key that the server has.",
    ServerBusyError: " It has no room for the request now: send less at once, or try later.",
    ServerFaultError: " The fault is the server's: look in its log.",
}


class ScoreClient:
    """Send texts to a score server and return its scores, rankings, vectors or tokens.

    Threads can share one client, and so can forked processes: each process makes its own
    connections, and so does a pickled client, which carries its key with it. Close the client, or
    use it in a `with` block.

    Give a text as a `str`, and many texts as a list, any other sequence, an array or a column of
    NumPy, pandas, polars or PyArrow, or a generator. NumPy and pandas numbers are accepted too.

    Every method raises `InputError` before anything is sent, and other kinds of `ScoreError` for
    what happens afterwards.

    The client uses the environment's proxy variables, except for a server on this machine, which no
    proxy could reach.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        dialect: str = "vllm",
    ) -> None:
        """Check the settings; nothing is sent yet.

        Args:
            url: Where the server listens. `http://` is added if it is missing; a route at the end,
                such as `/v1` or `/score`, is dropped.
            model: The name under which the server serves its model. None asks the server, once,
                when the name is first needed.
            api_key: Sent with each request. None takes the variable SCORE_API_KEY, if it is set.
            timeout: Seconds for one whole call, with all its retries and the pauses between them.
            retries: How often a request is sent again after a lost connection or the statuses 429,
                502, 503 and 504. That is safe because scoring changes nothing on the server. The
                pauses double from about 0.25 s; a pause that the server asks for (`Retry-After`)
                comes first.
            dialect: Which kind of server it is: "vllm", "cohere", "jina", "infinity", "tei", "nim".
                All but the first can only `rerank`, and all but "vllm" and "tei" need `model`.
        """
        name = model.strip() if isinstance(model, str) else model
        if name is not None and (not isinstance(name, str) or not name):
            raise InputError(f"model must be a name or None, not {model!r}.")
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        self._transport = Transport(url, key, timeout, retries)
        self._dialect = dialect_of(dialect)
        self._model = "" if name is None and dialect == "tei" else name

    def score(
        self,
        query: str | Sequence[str],
        document: str | Sequence[str],
        **options: Unpack[ScoreOptions],
    ) -> ScoreResult:
        """Score one pair, one query against N documents, or N queries against N documents.

        Args:
            query: One text, or many in one of the forms 1:1, 1:N and N:N.
            document: Likewise.
            **options: `use_activation`, `truncate_prompt_tokens` and the others of `ScoreOptions`.
        """
        payload = self.payload(query, document, **options)
        answer = self._ask("POST", protocol.SCORE_PATH, payload)
        return protocol.score_result(answer, *protocol.pairs_of(payload))

    def score_checked(
        self, queries: list[str], documents: list[str], options: ScoreOptions, stop: threading.Event
    ) -> tuple[float, ...]:
        """Score N pairs of plain texts that were checked already, for bulk scoring.

        Once `stop` is set, a pause before a retry ends, and nothing more is sent.
        """
        payload = protocol.score_payload(self.model, queries, documents, options)
        answer = self._ask("POST", protocol.SCORE_PATH, payload, stop)
        return protocol.score_result(answer, queries, documents).scores

    def rerank(
        self,
        query: str,
        documents: str | Sequence[str],
        *,
        top_n: int | None = None,
        **options: Unpack[ScoreOptions],
    ) -> RerankResult:
        """Return the documents best first, each with its position in the list that was sent.

        Args:
            query: One text.
            documents: The texts; they may repeat.
            top_n: Return only this many of the best; None and 0 return all. Every document is
                scored either way.
            **options: As for `score`.
        """
        text, texts = _one_query(query, "rerank"), as_texts(documents, "document")
        limit = None if top_n is None else whole_number("top_n", top_n, least=0)
        sent = _as_given(documents, texts)
        if self._dialect is not None:
            payload = self._dialect.payload(self.model, text, texts, limit, options)
            answer = self._dialect.answer(self._ask("POST", self._dialect.path, payload), limit)
            return protocol.rerank_result(answer, text, texts, limit)
        payload = protocol.rerank_payload(self.model, text, sent, limit, options)
        answer = self._ask("POST", protocol.RERANK_PATH, payload)
        return protocol.rerank_result(answer, text, texts, limit)

    def embed(
        self, documents: str | Sequence[str], *, truncate_prompt_tokens: int | None = None
    ) -> np.ndarray:
        """Return one vector for each text, from a server that serves a bi-encoder.

        Args:
            documents: N texts; queries as well, since a bi-encoder reads both in the same way.
            truncate_prompt_tokens: Cut each text to this many tokens; -1 means as many as the model
                takes. Without it, a longer text is an error.

        Returns:
            float32 of shape (N, size of a vector), in the order of the texts. Where the model gives
            vectors of length 1, as most do, their products are cosine similarities.
        """
        texts = as_texts(documents, "document")
        sent = _as_given(documents, texts)
        payload = protocol.embed_payload(self.model, sent, truncate_prompt_tokens)
        return protocol.embed_result(self._ask("POST", protocol.EMBED_PATH, payload), len(texts))

    def score_long(
        self,
        query: str,
        document: str | Sequence[Chunk],
        *,
        aggregate: str = "max",
        chunk_tokens: int = CHUNK_TOKENS,
        overlap_tokens: int | None = None,
        use_activation: bool | None = None,
    ) -> LongScoreResult:
        """Score a document of any length: in chunks, all in one request, and one score of them.

        Args:
            query: One text.
            document: One text, or its chunks as `chunks` returns them: for several queries, cut the
                document once.
            aggregate: "max" (the score of the best part), "mean" (of all parts together) or
                "first" (of the beginning alone, for comparison).
            chunk_tokens: How a text is cut, as for `chunks`.
            overlap_tokens: Likewise.
            use_activation: As for `score`.

        Raises:
            InputError: Also if query and chunk together are longer than the model takes.
        """
        long_documents.check_aggregate(aggregate)
        text = _one_query(query, "score_long")
        if isinstance(document, str):
            document = self.chunks(
                document, chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens
            )
        chunks = long_documents.check_chunks(document)
        try:
            scored = self.score(
                text, [chunk.text for chunk in chunks], use_activation=use_activation
            )
        except BadRequestError as error:
            if not refusals.is_too_long(str(error)):
                raise
            longest = max(len(chunk.tokens) for chunk in chunks)
            raise InputError(
                f"The query and a chunk of {longest} tokens are longer together than the model "
                "takes: cut with a smaller chunk_tokens=, or shorten the query."
            ) from None
        return LongScoreResult(
            text, chunks, scored.scores, aggregate, scored.model, scored.prompt_tokens
        )

    def chunks(
        self, document: str, *, chunk_tokens: int = CHUNK_TOKENS, overlap_tokens: int | None = None
    ) -> tuple[Chunk, ...]:
        """Cut a document between words into chunks, by the tokens that the server counts.

        Costs some 7 requests a chunk, which need no model.

        Args:
            document: One text. If it fits, it comes back as one chunk.
            chunk_tokens: The most tokens of a chunk; query and chunk together must fit the model.
            overlap_tokens: The most tokens that a chunk shares with the one before it; None takes a
                quarter of a chunk.
        """
        return long_documents.cut(
            document,
            lambda text: len(self.tokenize(text)),
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
        )

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> TokenizeResult:
        """Return the tokens that the server's model makes of a text; `len` counts them.

        Args:
            text: One text.
            add_special_tokens: Add those that the model wants around a single text.
        """
        checked = check_text(text, "text")
        payload = protocol.tokenize_payload(self.model, checked, add_special_tokens)
        return protocol.tokenize_result(self._ask("POST", protocol.TOKENIZE_PATH, payload), checked)

    def payload(
        self,
        query: str | Sequence[str],
        document: str | Sequence[str],
        **options: Unpack[ScoreOptions],
    ) -> dict[str, Any]:
        """Return the JSON body that `score` sends, to look at it or to send it by hand."""
        queries, documents = as_texts(query, "query"), as_texts(document, "document")
        check_shapes(len(queries), len(documents))
        sent = _as_given(query, queries), _as_given(document, documents)
        return protocol.score_payload(self.model, *sent, options)

    def models(self) -> list[str]:
        """Return the names under which the server serves its model."""
        return protocol.served_models(self._ask("GET", protocol.MODELS_PATH))

    def version(self) -> str:
        """Return the version of vLLM that the server runs."""
        return protocol.server_version(self._ask("GET", protocol.VERSION_PATH))

    def health(self) -> bool:
        """Tell whether the server answers and its engine is alive; never raises, never retries."""
        answer = self._transport.send_once("GET", protocol.HEALTH_PATH, HEALTH_SECONDS)
        return answer.error is None and answer.status == 200

    @property
    def url(self) -> str:
        """Return the root address of the server, without a slash at its end."""
        return self._transport.url

    @property
    def model(self) -> str:
        """Return the model's name; the first time this may ask the server."""
        with self._transport.here.lock:
            if self._model is None:
                names = self.models()
                if not names:
                    raise ResponseError(f"The server at {self.url} serves no model.")
                self._model = names[0]
            return self._model

    def close(self) -> None:
        """Close this process's connections; a request that waits for its next try ends."""
        self._transport.close()

    def __enter__(self) -> ScoreClient:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # Never the key.
        return f"ScoreClient({self.url!r}, model={self._model!r})"

    def _ask(
        self,
        method: str,
        path: str,
        payload: dict[str, Any] | None = None,
        stop: threading.Event | None = None,
    ) -> Any:
        """Return the JSON of an answer, or raise what came instead."""
        if self._dialect is not None and path != self._dialect.path:
            raise InputError(
                f"Only a vLLM server has {path}. This one can be asked to rerank, "
                "with the name of its model as model=."
            )
        body = None if payload is None else to_json(payload).encode()
        answer = self._transport.send(method, path, body, stop=stop)
        if answer.error is not None:
            raise answer.error
        if answer.status != 200:
            raise self._api_error(path, answer, payload or {})
        return protocol.parse_json(answer.content)

    def _api_error(self, path: str, answer: Answer, payload: dict[str, Any]) -> ApiError:
        body = refusals.error_body(answer.content)
        kind = api_error_type(answer.status)
        said = refusals.error_sentence(body) or "(no text)"
        advice = ADVICE.get(kind, "")
        if 300 <= answer.status < 400:
            advice = " It points to another address: give that one to the client as url=."
        elif refusals.is_too_long(said):
            advice = " Or let the server cut it: truncate_prompt_tokens=-1."
            advice = protocol.longest_text(payload) + advice
        message = f"{self.url} answered {answer.status}: {said}{advice}"
        if kind is NotFoundError:
            message = self._not_found(path, body)
        error = kind(message, status=answer.status, body=body, url=self.url + path)
        if isinstance(error, NotFoundError):
            error.unknown_model = refusals.is_unknown_model(body)
        return error

    def _not_found(self, path: str, body: dict[str, Any] | str) -> str:
        unknown_model = refusals.is_unknown_model(body)
        if path not in MODELS_WITH and not unknown_model:
            return f"The server at {self.url} has no route {path}. Is this a vLLM server?"
        try:
            names = protocol.shorten_list([repr(name) for name in self.models()])
            served = f"It serves: {names or 'nothing'}."
        except ScoreError:
            served = "It does not tell which models it serves."
        if unknown_model:
            return (
                f"The server at {self.url} knows no model {self._model!r}. {served} "
                "Give one of these names as model=, or none at all."
            )
        return (
            f"The server at {self.url} has no route {path}. {served} vLLM has this route only "
            f"for a model that {MODELS_WITH[path]}."
        )


def _one_query(query: object, method: str) -> str:
    queries = as_texts(query, "query")
    if not isinstance(query, str):
        raise InputError(
            f"{method} takes one query as a text (str), and got a {type(query).__name__} of "
            f"{len(queries)}: call it once for each."
        )
    return queries[0]


def _as_given(given: object, texts: list[str]) -> str | list[str]:
    """Let a single text travel as a text, not as a list of one."""
    return texts[0] if isinstance(given, str) else texts
