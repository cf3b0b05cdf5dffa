"""The commands that notebook 16 prints hold the flags that `what_serves` gives for such a model."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from helpers.server.serves import judge
from notebook_rules import Notebook, notebook_paths

# What the published configurations say, as far as `what_serves` looks at it.
CONFIGURATIONS = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": {"architectures": ["BertForSequenceClassification"]},
    "Alibaba-NLP/gte-reranker-modernbert-base": {
        "architectures": ["ModernBertForSequenceClassification"]
    },
    "Alibaba-NLP/gte-multilingual-reranker-base": {
        "architectures": ["NewForSequenceClassification"],
        "auto_map": {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig"},
    },
    "BAAI/bge-reranker-v2-m3": {"architectures": ["XLMRobertaForSequenceClassification"]},
    "answerdotai/answerai-colbert-small-v1": {"architectures": ["HF_ColBERT"]},
    "Qwen/Qwen3-Embedding-0.6B": {"architectures": ["Qwen3ForCausalLM"]},
    "Qwen/Qwen3-Reranker-0.6B": {"architectures": ["Qwen3ForCausalLM"]},
    "jinaai/jina-reranker-m0": {"architectures": ["JinaVLForRanking"]},
    "jinaai/jina-reranker-v3": {"architectures": ["JinaForRanking"]},
}


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    """Give the words behind the name of each model, from every command of the notebook."""
    (path,) = [path for path in notebook_paths() if path.name.startswith("16_")]
    prose = "\n".join(part.source for part in Notebook.read(path).prose)
    blocks = re.findall(r"```console\n(.*?)```", prose, re.DOTALL)
    found = re.findall(r"`(vllm serve [^`]+)` \|$", prose, re.MULTILINE)
    words = [shlex.split(command.replace("\\\n", " ")) for command in (*blocks, *found)]
    assert all(start[:2] == ["vllm", "serve"] for start in words)
    return {name: set(flags) for _, _, name, *flags in words}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_command_has_the_flags_that_the_configuration_asks_for(name, commands) -> None:
    config = {"num_labels": 1, **CONFIGURATIONS[name]}
    flags = dict(judge(name, config, [{"idx": 0}], known={}).flags)
    wanted = {"--trust-remote-code"} if flags.pop("trust-remote-code", False) else set()
    if overrides := flags.pop("hf-overrides", None):
        wanted |= {"--hf_overrides", json.dumps(overrides)}
    if template := flags.pop("chat-template", ""):
        wanted |= {"--chat-template", template[template.index("deploy/templates/") :]}
    assert not flags, "a flag that this test does not know"
    optional = {"--runner", "pooling", "--max-model-len", "8192", "--quantization", "fp8"}
    assert commands[name] - optional == wanted
