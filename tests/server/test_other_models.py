"""Other kinds of models on /score, served for real: late interaction, a decoder, LoRA, int8."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import numpy as np
import pytest
import requests
from safetensors.numpy import save_file

from helpers import NotFoundError, ScoreClient, ScoreServer, corpus
from helpers.server import base_encoder_path, tiny_decoder, tiny_decoder_path, what_serves

QUESTION = "What is the capital of France?"
PARIS, WHALES = "The capital of France is Paris.", "Whales are mammals."
# bfloat16 keeps eight bits, and what else is in a batch changes the rounding.
CLOSE = 0.01


def longest_of(server: ScoreServer) -> int:
    """Return the most tokens that a server takes, as it says itself."""
    model, *_adapters = requests.get(f"{server.url}/v1/models", timeout=60).json()["data"]
    return model["max_model_len"]


@pytest.fixture(scope="module")
def token_server():
    """Give a server of the packaged encoder that scores by MaxSim."""
    flags = {"served-model-name": "tokens", "pooler-config": {"task": "token_embed"}}
    with ScoreServer(base_encoder_path(), port=8210, vllm_flags=flags) as server:
        yield server


@pytest.fixture(scope="module")
def decoder_server(tmp_path_factory):
    """Give a server of the tiny decoder with an adapter, and else as `what_serves` says."""
    flags = {
        **what_serves(tiny_decoder_path()).flags,
        "served-model-name": "decoder",
        "enable-lora": True,
        "lora-modules": f"legal={make_adapter(tmp_path_factory.mktemp('adapter'))}",
    }
    with ScoreServer(tiny_decoder_path(), port=8211, vllm_flags=flags) as server:
        yield server


def make_adapter(folder: Path, rank: int = 8) -> Path:
    """Put an adapter with random weights into a folder, in the form that PEFT writes."""
    rng = np.random.default_rng(1)
    sizes = {"q_proj": tiny_decoder.HEADS, "v_proj": tiny_decoder.KEY_HEADS}
    weights = {}
    for layer in range(tiny_decoder.LAYERS):
        for name, heads in sizes.items():
            path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            shapes = {"A": (rank, tiny_decoder.WIDTH), "B": (heads * tiny_decoder.HEAD, rank)}
            for half, shape in shapes.items():
                random = rng.normal(0, 0.3, shape).astype(np.float32)
                weights[f"{path}.lora_{half}.weight"] = random
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(sizes)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def fill():
    """Give a function that fills the template by hand."""
    source = Path(what_serves(tiny_decoder_path()).flags["chat-template"]).read_text("utf-8")
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    def make(document, **values):
        texts = [{"role": "query", "content": QUESTION}, {"role": "document", "content": document}]
        return template.render(messages=texts, **values)

    return make


def classify(server: ScoreServer, text: str) -> tuple[float, int]:
    payload = {"model": "decoder", "input": text}
    answer = requests.post(f"{server.url}/classify", json=payload, timeout=60).json()
    return answer["data"][0]["probs"][0], answer["usage"]["prompt_tokens"]


def test_late_interaction_adds_up_the_best_cosine_of_each_token_of_the_query(token_server):
    payload = {"model": "tokens", "input": [QUESTION, PARIS, WHALES]}
    data = requests.post(f"{token_server.url}/pooling", json=payload, timeout=60).json()["data"]
    query, *documents = (np.array(entry["data"]) for entry in data)
    by_hand = [(query @ document.T).max(axis=1).sum() for document in documents]
    with token_server.client() as client:
        scores = client.score(QUESTION, [PARIS, WHALES]).scores
    assert scores == pytest.approx(by_hand, rel=0.02)
    assert len(query) * 1.01 > scores[0] > scores[1] + 1


def test_the_length_that_is_foretold_is_the_servers(token_server, decoder_server):
    assert longest_of(token_server) == what_serves(base_encoder_path()).longest
    assert longest_of(decoder_server) == what_serves(tiny_decoder_path()).longest


def test_the_server_reads_the_text_that_the_template_makes(decoder_server, fill):
    with decoder_server.client() as client:
        for document in (PARIS, WHALES):
            score, tokens = classify(decoder_server, fill(document))
            result = client.score(QUESTION, document)
            assert result.score == pytest.approx(score, abs=CLOSE)
            assert result.prompt_tokens == tokens


def test_an_instruction_reaches_the_model(decoder_server, fill):
    with decoder_server.client() as client:
        task = "Find the sentence about an animal"
        asked = client.score(QUESTION, PARIS, instruction=task)
        assert asked.score == pytest.approx(
            classify(decoder_server, fill(PARIS, instruction=task))[0], abs=CLOSE
        )
        assert asked.prompt_tokens != client.score(QUESTION, PARIS).prompt_tokens


def test_a_lost_newline_is_another_text(decoder_server, fill):
    score, tokens = classify(decoder_server, fill(PARIS))
    cut, fewer = classify(decoder_server, fill(PARIS)[:-1])
    assert fewer == tokens - 1
    assert cut != score


def test_an_adapter_is_chosen_by_the_model_field_of_a_request(decoder_server):
    def score(model: str) -> float:
        with ScoreClient(decoder_server.url, model=model) as client:
            return client.score(QUESTION, PARIS).score

    with decoder_server.client() as client:
        assert client.models() == ["decoder", "legal"]
    base = score("decoder")
    assert abs(score("legal") - base) > 0.05
    assert score("decoder") == pytest.approx(base, abs=CLOSE)
    with pytest.raises(NotFoundError, match="illegal"):
        score("illegal")


def test_the_int8_form_is_served_beside_the_other_and_ranks_alike(client):
    passages = corpus.passages(subject="geography")["text"].tolist()[:40]
    with (
        ScoreServer("offline-reranker", precision="int8", port=8212) as server,
        server.client() as small,
    ):
        assert small.models() == ["offline-reranker-int8"]
        scores = np.array(small.score(QUESTION, [PARIS, WHALES, *passages]).scores)
    assert scores[0] > scores[1]
    if client.model == "offline-reranker":
        plain = np.array(client.score(QUESTION, [PARIS, WHALES, *passages]).scores)
        assert np.abs(scores - plain).max() < 0.1
        assert np.abs(scores - plain).mean() < 0.02
