"""Rerank with servers other than vLLM, whose requests and answers use other names.

Sources, read in November 2026: the code of Cohere's SDK 5.21 for `/v2/rerank` and that of Infinity
0.0.78 for its `/rerank`; what their makers publish about Jina's `/v1/rerank`, the `/rerank` of Text
Embeddings Inference (TEI), and `/v1/ranking` of NVIDIA's reranking NIM 2.3. The tests ask a real
Infinity, and hold the others against the published schemas and against what LiteLLM sends to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.client.protocol import given_options
from helpers.errors import InputError

LOGITS, WHOLE = ("use_activation", False), ("truncate_prompt_tokens", -1)


@dataclass(frozen=True)
class Dialect:
    """How one kind of server spells a rerank request and its answer.

    Attributes:
        path: The route.
        documents: The field of the request that holds the documents.
        results: The field of the answer that holds the results; "" where the answer is their list.
        score: The field of a result that holds its score.
        in_objects: Whether each text is wrapped as `{"text": ...}`.
        names_model: Whether a request names the model.
        has_top_n: Whether the server can leave out all but the best; else we do.
        options: What stands for an option of ours with a certain value. Others are refused.
    """

    path: str = "/rerank"
    documents: str = "documents"
    results: str = "results"
    score: str = "relevance_score"
    in_objects: bool = False
    names_model: bool = True
    has_top_n: bool = True
    options: Mapping[tuple[str, Any], Mapping[str, Any]] = field(default_factory=dict)

    def payload(
        self,
        model: str,
        query: str,
        documents: list[str],
        top_n: int | None,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the JSON body of a rerank request.

        Raises:
            InputError: This kind of server has nothing that stands for an option.
        """
        texts: list[Any] = [{"text": text} for text in [query, *documents]]
        texts = texts if self.in_objects else [query, *documents]
        body: dict[str, Any] = {"model": model} if self.names_model else {}
        body |= {"query": texts[0], self.documents: texts[1:]}
        if self.has_top_n and top_n:
            body["top_n"] = top_n
        for option in given_options(options).items():
            if option not in self.options:
                raise InputError(f"This kind of server has nothing like {option[0]}={option[1]!r}.")
            body |= self.options[option]
        return body

    def answer(self, answer: Any, top_n: int | None) -> Any:
        """Return an answer with vLLM's names; one of another shape comes back as it is."""
        results = answer.get(self.results) if isinstance(answer, dict) else answer
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            return answer
        renamed = [
            {"index": one.get("index"), "relevance_score": one.get(self.score)} for one in results
        ]
        if not self.has_top_n and top_n:
            # Both servers of this kind put the best first.
            renamed = renamed[:top_n]
        return {**(answer if isinstance(answer, dict) else {}), "results": renamed}


DIALECTS = {
    "cohere": Dialect("/v2/rerank"),
    "jina": Dialect("/v1/rerank"),
    "infinity": Dialect(options={LOGITS: {"raw_scores": True}, WHOLE: {}}),
    "tei": Dialect(
        documents="texts",
        results="",
        score="score",
        names_model=False,
        has_top_n=False,
        options={LOGITS: {"raw_scores": True}, WHOLE: {"truncate": True}},
    ),
    "nim": Dialect(
        "/v1/ranking",
        documents="passages",
        results="rankings",
        score="logit",
        in_objects=True,
        has_top_n=False,
        options={LOGITS: {}, WHOLE: {"truncate": "END"}},
    ),
}


def dialect_of(name: str) -> Dialect | None:
    """Return a dialect by its name; None for vLLM's own.

    Raises:
        InputError: Nobody here speaks it.
    """
    if name == "vllm":
        return None
    if name not in DIALECTS:
        known = ", ".join(["vllm", *DIALECTS])
        raise InputError(f"There is no dialect {name!r}. The dialects: {known}.")
    return DIALECTS[name]
