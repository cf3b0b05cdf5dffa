"""What the makers of rerank servers publish about a request and its answer, as JSON Schemas.

Written down in November 2026 from
  cohere    the OpenAPI document at https://docs.cohere.com/reference/rerank (v2)
  jina      the OpenAPI document of https://api.jina.ai, RankAPIInput and RankingOutput
  tei       docs/openapi.json of huggingface/text-embeddings-inference, RerankRequest and Rank
  nim       https://docs.nvidia.com/nim/nemo-retriever/text-reranking/2.3/using-reranking.html

A request may hold nothing else: Jina and NIM refuse other fields, the others ignore them without a
word. Infinity is not here: `tests/server/test_infinity.py` asks a real one.
"""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, YES_NO, NUMBER = ({"type": t} for t in ("string", "integer", "boolean", "number"))
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
TEXT_OBJECT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": TEXT},
    "additionalProperties": False,
}


def _request(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


def _results(name: str, score: str) -> dict[str, Any]:
    one = {
        "type": "object",
        "required": ["index", score],
        "properties": {"index": WHOLE, score: NUMBER},
    }
    results = {"type": "array", "items": one}
    return (
        {"type": "object", "required": [name], "properties": {name: results}} if name else results
    )


_PLAIN = {"model": TEXT, "query": TEXT, "documents": TEXTS}
ROUTES = {"cohere": "/v2/rerank", "jina": "/v1/rerank", "tei": "/rerank", "nim": "/v1/ranking"}
REQUESTS = {
    "cohere": _request(_PLAIN, top_n=WHOLE, max_tokens_per_doc=WHOLE, priority=WHOLE),
    "jina": _request(_PLAIN, top_n=WHOLE, return_documents=YES_NO),
    "tei": _request(
        {"query": TEXT, "texts": TEXTS},
        raw_scores=YES_NO,
        return_text=YES_NO,
        truncate={"type": ["boolean", "null"]},
        truncation_direction={"enum": ["Left", "Right"]},
    ),
    "nim": _request(
        {
            "model": TEXT,
            "query": TEXT_OBJECT,
            "passages": {"type": "array", "items": TEXT_OBJECT, "minItems": 1},
        },
        truncate={"enum": ["NONE", "END"]},
    ),
}
_JINA_ANSWER = _results("results", "relevance_score")
ANSWERS = {
    "cohere": _results("results", "relevance_score"),
    "jina": {
        **_JINA_ANSWER,
        "required": ["model", "results", "usage"],
        "properties": {
            **_JINA_ANSWER["properties"],
            "model": TEXT,
            "usage": {
                "type": "object",
                "required": ["total_tokens"],
                "properties": {"total_tokens": WHOLE},
            },
        },
    },
    "tei": _results("", "score"),
    "nim": _results("rankings", "logit"),
}
