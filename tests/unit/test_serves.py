"""What /score does with a model is told from its configuration, for every kind of model."""

from __future__ import annotations

import json

import pytest

from helpers import ModelUnavailableError
from helpers.server import base_encoder_path, serves, tiny_decoder_path, what_serves
from helpers.server.serves import judge, known_architectures, longest

KNOWN = {
    "_EMBEDDING_MODELS": {"BertModel", "GteNewModel", "ModernBertModel"},
    "_LATE_INTERACTION_MODELS": {"HF_ColBERT", "JinaForRanking", "ColQwen3"},
    "_SEQUENCE_CLASSIFICATION_MODELS": {
        *("BertForSequenceClassification", "XLMRobertaForSequenceClassification"),
        *("GteNewForSequenceClassification", "JinaVLForRanking"),
    },
    "_TEXT_GENERATION_MODELS": {"Qwen3ForCausalLM", "Qwen2ForCausalLM", "GemmaForCausalLM"},
    "_MULTIMODAL_MODELS": {"Qwen3VLForConditionalGeneration"},
}


def of(architecture, name="some/model", modules=None, **config):
    return judge(name, {"architectures": [architecture], **config}, modules, known=KNOWN)


# Which kind


@pytest.mark.parametrize(
    ("architecture", "config", "kind"),
    [
        ("BertForSequenceClassification", {"num_labels": 1}, "cross-encoder"),
        ("BertForSequenceClassification", {"id2label": {"0": "LABEL_0"}}, "cross-encoder"),
        ("JinaVLForRanking", {}, "cross-encoder"),
        ("BertModel", {}, "bi-encoder"),
        ("HF_ColBERT", {}, "late interaction"),
        ("ColQwen3", {}, "late interaction"),
        ("JinaForRanking", {}, "listwise"),
    ],
)
def test_the_kind_of_score_follows_from_the_architecture(architecture, config, kind):
    found = of(architecture, **config)
    assert (found.kind, found.has_score, found.why_not) == (kind, True, "")


@pytest.mark.parametrize(
    ("architecture", "config", "why"),
    [
        ("BertForSequenceClassification", {"id2label": {"0": "no", "1": "yes"}}, "2 output labels"),
        ("XLMRobertaForSequenceClassification", {"num_labels": 5}, "5 output labels"),
        ("BertForSequenceClassification", {}, "2 output labels"),
        ("BertForTokenClassification", {"num_labels": 1}, "labels each token"),
        ("Qwen2ForRewardModel", {}, "judges answers"),
        ("BertForQuestionAnswering", {}, "marks the answer"),
        ("DebertaV2ForSequenceClassification", {"num_labels": 1}, "no code for DebertaV2"),
    ],
)
def test_what_is_in_the_way_of_a_score_is_said(architecture, config, why):
    found = of(architecture, **config)
    assert not found.has_score and why in found.why_not and found.kind == ""


def test_a_configuration_without_an_architecture_says_nothing():
    assert "no architecture" in judge("some/model", {}, known=KNOWN).why_not


def test_where_no_vllm_is_installed_nothing_counts_as_unknown():
    architecture = "DebertaV2ForSequenceClassification"
    config = {"architectures": [architecture], "num_labels": 1}
    assert judge("some/model", config, known={}).has_score
    colbert = {"architectures": ["HF_ColBERT"]}
    assert judge("some/model", colbert, known={}).kind == "late interaction"


# What the number is


@pytest.mark.parametrize(
    "config",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"problem_type": "regression"},
    ],
)
def test_a_sigmoid_that_is_switched_off_is_seen(config):
    assert "logit" in of("BertForSequenceClassification", num_labels=1, **config).score_range


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"sbert_ce_default_activation_function": None},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
    ],
)
def test_a_sigmoid_that_is_left_on_gives_0_to_1(config):
    assert of("BertForSequenceClassification", num_labels=1, **config).score_range == "0 to 1"


@pytest.mark.parametrize(
    ("config", "tokenizer", "sentences", "tokens"),
    [
        ({"max_position_embeddings": 8194}, {"model_max_length": 8192}, None, 8192),
        ({"max_position_embeddings": 512}, {"model_max_length": 1e30}, None, 512),
        ({"text_config": {"max_position_embeddings": 32768}}, None, None, 32768),
        ({"max_position_embeddings": 512}, None, {"max_seq_length": 256}, 256),
        ({}, None, None, 0),
    ],
)
def test_the_longest_text_is_the_one_that_vllm_works_out(config, tokenizer, sentences, tokens):
    assert longest(config, tokenizer, sentences) == tokens


# What vLLM has to be told


@pytest.mark.parametrize(
    ("name", "architecture", "tokens"),
    [
        ("Qwen/Qwen3-Reranker-0.6B", "Qwen3ForCausalLM", ["no", "yes"]),
        ("mixedbread-ai/mxbai-rerank-base-v2", "Qwen2ForCausalLM", ["0", "1"]),
        ("BAAI/bge-reranker-v2-gemma", "GemmaForCausalLM", ["Yes"]),
        ("Qwen/Qwen3-VL-Reranker-2B", "Qwen3VLForConditionalGeneration", ["no", "yes"]),
    ],
)
def test_a_reranker_that_was_published_as_a_chat_model_gets_its_overrides(
    name, architecture, tokens
):
    found = of(architecture, name)
    overrides = found.flags["hf-overrides"]
    assert overrides["classifier_from_token"] == tokens
    assert overrides["architectures"][0].endswith("ForSequenceClassification")
    assert (found.kind, found.has_score) == ("cross-encoder", True)
    assert found.template


def test_a_chat_model_that_is_no_reranker_gets_a_warning_and_no_overrides():
    found = of("Qwen3ForCausalLM", "Qwen/Qwen3-0.6B")
    assert (found.kind, found.flags) == ("bi-encoder", {})
    assert "never trained" in found.note
    trained = of("Qwen3ForCausalLM", "Qwen/Qwen3-Embedding-0.6B", modules=[{"idx": 0}])
    assert (trained.kind, trained.note) == ("bi-encoder", "")


def test_only_a_qwen3_reranker_gets_our_template():
    found = of("Qwen3ForCausalLM", "Qwen/Qwen3-Reranker-0.6B")
    assert found.flags["chat-template"].endswith("qwen3_reranker.jinja")
    converted = of("Qwen3ForSequenceClassification", "tomaarsen/Qwen3-seq-cls", num_labels=1)
    assert set(converted.flags) == {"chat-template"}
    assert "chat-template" not in of("Qwen2ForCausalLM", "mxbai-rerank-base-v2").flags


def test_a_model_that_brings_code_of_its_own_has_to_be_trusted():
    found = of("NewForSequenceClassification", num_labels=1, auto_map={"AutoConfig": "x.Y"})
    assert found.flags == {
        "hf-overrides": {"architectures": ["GteNewForSequenceClassification"]},
        "trust-remote-code": True,
    }
    vllms_own = of("BertModel", auto_map={"AutoModel": "x.Y"})
    assert vllms_own.flags == {}, "vLLM has the code of the model, and the configuration is usual"


def test_the_command_can_be_pasted_into_a_shell():
    command = of("Qwen3ForCausalLM", "Qwen/Qwen3-Reranker-0.6B").command
    assert command.startswith("vllm serve Qwen/Qwen3-Reranker-0.6B --runner pooling")
    assert """--hf-overrides '{"architectures": ["Qwen3ForSequenceClassification"]""" in command


# Folders


def test_a_folder_needs_no_weights(tmp_path):
    config = {"architectures": ["BertForSequenceClassification"], "num_labels": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = what_serves(tmp_path)
    assert (found.kind, found.memory, found.licence) == ("cross-encoder", None, "")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_without_a_whole_configuration_is_named(tmp_path, content):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        what_serves(tmp_path)


def test_the_models_of_this_machine_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    offline, encoder = what_serves("offline-reranker"), what_serves(base_encoder_path())
    decoder = what_serves(tiny_decoder_path())
    kinds = [found.kind for found in (offline, encoder, decoder)]
    assert kinds == ["cross-encoder", "bi-encoder", "cross-encoder"]
    assert (offline.longest, encoder.longest) == (512, 256)
    assert encoder.licence == "apache-2.0"
    assert 40e6 < offline.memory < 50e6
    assert "offline-reranker" in repr(offline) and "<table" in offline._repr_html_()


def test_a_model_on_the_hub_is_read_from_what_the_hub_gives(tmp_path, monkeypatch):
    config = {"architectures": ["XLMRobertaForSequenceClassification"], "num_labels": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    card = {"folder": str(tmp_path), "licence": "apache-2.0", "bytes": 1_136_000_000}
    monkeypatch.setattr(serves, "read_card", lambda name, **_: card)
    found = what_serves("BAAI/bge-reranker-v2-m3")
    assert (found.licence, found.memory) == ("apache-2.0", 1_136_000_000)


def test_the_architectures_of_the_installed_vllm_are_read_without_importing_it():
    known = known_architectures()
    if not known:
        pytest.skip("no vLLM is installed here")
    assert "BertForSequenceClassification" in known["_SEQUENCE_CLASSIFICATION_MODELS"]
    assert "HF_ColBERT" in known["_LATE_INTERACTION_MODELS"]
