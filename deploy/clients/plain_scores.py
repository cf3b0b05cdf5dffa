"""Score with a vLLM server in plain Python: batches, retries, order, long texts."""

from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter, Retry


class Scores:
    def __init__(self, url, model, key="", batch=32, at_once=4, timeout=60):
        self.url, self.model, self.timeout = url, model, timeout
        self.batch, self.at_once = batch, at_once
        # Scoring changes nothing on the server, so a request may be sent again.
        again = Retry(4, backoff_factor=0.3, status_forcelist=[429, 502, 503], allowed_methods=None)
        self.http = requests.Session()
        self.http.headers.update({"Authorization": f"Bearer {key}"} if key else {})
        for scheme in ("http://", "https://"):
            self.http.mount(scheme, HTTPAdapter(max_retries=again, pool_maxsize=at_once))

    def ask(self, route, **body):
        body = {"model": self.model, **body}
        answer = self.http.post(self.url + route, json=body, timeout=self.timeout)
        answer.raise_for_status()
        return answer.json()

    def score(self, pairs):
        pairs = list(pairs)
        batches = [pairs[at : at + self.batch] for at in range(0, len(pairs), self.batch)]
        with ThreadPoolExecutor(self.at_once) as pool:
            return [score for scores in pool.map(self.score_batch, batches) for score in scores]

    def score_batch(self, pairs):
        queries, documents = zip(*pairs, strict=True)
        data = self.ask("/score", queries=queries, documents=documents)["data"]
        return [entry["score"] for entry in sorted(data, key=lambda entry: entry["index"])]

    def chunks(self, text, size=200, overlap=50):
        tokens = self.ask("/tokenize", prompt=text, add_special_tokens=False)["tokens"]
        starts = range(0, max(len(tokens) - overlap, 1), size - overlap)
        parts = [tokens[start : start + size] for start in starts]
        return [self.ask("/detokenize", tokens=part)["prompt"] for part in parts]

    def score_long(self, query, documents):
        cut = [self.chunks(document) for document in documents]
        scores = iter(self.score((query, chunk) for chunks in cut for chunk in chunks))
        return [max(next(scores) for _ in chunks) for chunks in cut]
