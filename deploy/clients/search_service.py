"""Answer searches in a deadline: reranked if the score server is quick, else as they were found.

    SCORE_SERVER_URL=http://127.0.0.1:8000 SCORE_MODEL=offline-reranker RERANK_SECONDS=0.5 \\
      uvicorn search_service:app --host 127.0.0.1 --port 8080
"""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

SECONDS = float(os.environ.get("RERANK_SECONDS", "0.5"))
KEY = os.environ.get("SCORE_API_KEY", "")


class Found(BaseModel):
    query: str
    documents: list[str]  # in the order of the first stage
    top_n: int = 3


@asynccontextmanager
async def connections(app):
    # One client for all requests: it keeps its connections open.
    app.state.scores = httpx.AsyncClient(
        base_url=os.environ["SCORE_SERVER_URL"],
        headers={"Authorization": f"Bearer {KEY}"} if KEY else {},
        limits=httpx.Limits(max_connections=16),
        timeout=SECONDS,
        trust_env=False,
    )
    async with app.state.scores:
        yield


app = FastAPI(lifespan=connections)


async def order_of(found):
    body = {"model": os.environ["SCORE_MODEL"], "query": found.query, "documents": found.documents}
    answer = await app.state.scores.post("/v1/rerank", json=body)
    answer.raise_for_status()
    return [result["index"] for result in answer.json()["results"]]


@app.post("/search")
async def search(found: Found):
    why = ""
    try:
        # httpx's timeout is for each step of a request; this one is for the whole of it.
        order = await asyncio.wait_for(order_of(found), SECONDS)
    except (httpx.HTTPError, TimeoutError, KeyError, ValueError) as error:
        order, why = list(range(len(found.documents))), type(error).__name__
    return {"order": order[: found.top_n], "reranked": not why, "why": why}
