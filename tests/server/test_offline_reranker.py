"""The reranker that ships here gives, served in bfloat16, what it gives in process in float32."""

import numpy as np
import pytest

from helpers import corpus
from helpers.server.model import OFFLINE_MODEL_NAME, offline_model_path

TOLERANCE = 0.02  # of a probability; bfloat16 keeps 8 bits of each weight's mantissa
FRANCE, BRAZIL = "What is the capital of France?", "What is the capital of Brazil?"
PARIS, BRASILIA = "The capital of France is Paris.", "The capital of Brazil is Brasilia."


@pytest.fixture(scope="module")
def two_hundred_pairs():
    """Judged and unjudged pairs of the corpus, drawn with a fixed seed."""
    queries, passages = corpus.queries(), corpus.passages()
    rng = np.random.default_rng(7)
    judged = corpus.judgments().merge(queries, on="query_id").merge(passages, on="passage_id")
    judged = judged.sample(120, random_state=7)
    unjudged_queries = queries["text"].to_numpy()[rng.integers(len(queries), size=80)]
    unjudged_passages = passages["text"].to_numpy()[rng.integers(len(passages), size=80)]
    return (
        [*judged["text_x"], *unjudged_queries],
        [*judged["text_y"], *unjudged_passages],
    )


@pytest.mark.parametrize(
    "query, right, wrong", [(FRANCE, PARIS, BRASILIA), (BRAZIL, BRASILIA, PARIS)]
)
def test_the_seed_examples_come_out_right(client, query, right, wrong):
    if client.model != OFFLINE_MODEL_NAME:
        pytest.skip(f"the server serves {client.model}, not the offline reranker")
    true, false = client.score(query, [right, wrong]).scores
    assert true > 0.5 > false


def test_bfloat16_in_vllm_agrees_with_float32_in_process(client, two_hundred_pairs):
    if client.model != OFFLINE_MODEL_NAME:
        pytest.skip(f"the server serves {client.model}, not the offline reranker")
    from sentence_transformers import CrossEncoder

    queries, documents = two_hundred_pairs
    served = np.array(client.score(queries, documents).scores)
    model = CrossEncoder(str(offline_model_path()), device="cpu", max_length=512)
    in_process = model.predict(list(zip(queries, documents, strict=True)), show_progress_bar=False)
    assert np.abs(served - in_process).max() <= TOLERANCE
