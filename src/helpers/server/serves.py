"""Tell from a model's configuration, before anything is downloaded or started, what /score does.

The rules are those of vLLM 0.32: which task a model gets follows from its architecture, and which
kind of score from the task. Nothing here imports vLLM; the names of the architectures that it has
code for are read from its source, where it is installed.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from helpers.errors import ModelUnavailableError
from helpers.server.command import flag_list
from helpers.server.engine import REPOSITORY, engine_packages, engine_python
from helpers.server.hub import read_card
from helpers.server.model import OFFLINE_MODEL_NAME, is_local, offline_model_path, weights_bytes

TEMPLATES = REPOSITORY / "deploy" / "templates"
# What is in the way of a pair's score, by the end of an architecture's name.
_OTHER_TASKS = {
    "ForTokenClassification": "it labels each token of a text, and gives a pair no score",
    "RewardModel": "it judges answers of a chat model, and gives a pair no score",
    "ForQuestionAnswering": "it marks the answer inside a text, and gives a pair no score",
}
_CLASSIFIERS = ("ForSequenceClassification", "ClassificationModel", "VLForRanking")
_SUFFIXES = (
    *("ForCausalLM", "ForConditionalGeneration", "ForSequenceClassification", "EmbeddingModel"),
    *("ForTokenClassification", "ClassificationModel", "ChatModel", "LMHeadModel", "Model"),
)  # those that vLLM takes for one another when it converts a model
# Rerankers that were published as chat models (their configuration does not say so, their name
# does), and models whose architecture has another name in vLLM. Each: a part of the model's name,
# the architecture in its configuration, and what --hf-overrides is given. From vLLM's manual,
# https://docs.vllm.ai/en/v0.32.0/models/pooling_models/scoring/
_OVERRIDES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(
        (
            "rerank",
            base,
            {
                "architectures": [base.split("For")[0] + "ForSequenceClassification"],
                "classifier_from_token": ["no", "yes"],
                "is_original_qwen3_reranker": True,
            },
        )
        for base in ("Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration")
    ),
    (
        "rerank",
        "Qwen2ForCausalLM",
        {
            "architectures": ["Qwen2ForSequenceClassification"],
            "classifier_from_token": ["0", "1"],
            "method": "from_2_way_softmax",
        },
    ),
    (
        "rerank",
        "GemmaForCausalLM",
        {
            "architectures": ["GemmaForSequenceClassification"],
            "classifier_from_token": ["Yes"],
            "method": "no_post_processing",
        },
    ),
    ("", "NewForSequenceClassification", {"architectures": ["GteNewForSequenceClassification"]}),
    ("", "NewModel", {"architectures": ["GteNewModel"]}),
    ("colbert", "ModernBertModel", {"architectures": ["ColBERTModernBertModel"]}),
    ("colbert", "Lfm2Model", {"architectures": ["ColBERTLfm2Model"]}),
)


@dataclass(frozen=True)
class Serves:
    """Say what vLLM's /score does with a model; shows as a table in a notebook.

    Attributes:
        model: The name or folder that was asked about.
        kind: "cross-encoder", "bi-encoder", "late interaction", "listwise", or "" without a score.
        meaning: What the number is.
        score_range: From where to where it goes.
        why_not: Why there is no /score; "" where there is one.
        template: Which chat template it needs; "" where it needs none.
        flags: For `ScoreServer(model, vllm_flags=...)`: what vLLM has to be told.
        longest: The most tokens that it reads at once, 0 if its configuration does not say.
        memory: Bytes of its weights as they are served; None where nobody says how many there are.
        licence: As its card names it, "" where it does not.
        note: What else to know.
    """

    model: str
    kind: str = ""
    meaning: str = ""
    score_range: str = ""
    why_not: str = ""
    template: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)
    longest: int = 0
    memory: int | None = None
    licence: str = ""
    note: str = ""

    @property
    def has_score(self) -> bool:
        """Whether a server of this model has the route /score."""
        return not self.why_not

    @property
    def command(self) -> str:
        """What to type; `ScoreServer` adds what suits the machine."""
        words = [self.model, "--runner", "pooling", *flag_list(self.flags)]
        return " ".join(["vllm serve", *map(shlex.quote, words)])

    def rows(self) -> list[tuple[str, str]]:
        """Return name and value of what is known, ready to print."""
        memory = "" if self.memory is None else f"{self.memory / 1e6:,.1f} MB"
        rows = [
            ("model", self.model),
            ("/score", "yes" if self.has_score else f"no: {self.why_not}"),
            ("kind", self.kind),
            ("meaning", self.meaning),
            ("range", self.score_range),
            ("template", self.template or "none needed" * self.has_score),
            ("longest", f"{self.longest:,} tokens" * bool(self.longest)),
            ("weights", memory),
            ("licence", self.licence),
            ("note", self.note),
        ]
        return [row for row in rows if row[1]]

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        return "\n".join(f"{name:<9} {value}" for name, value in self.rows())

    def _repr_html_(self) -> str:
        import pandas as pd

        from helpers.tables import SENTENCE_WIDTH, html_table

        return html_table(
            pd.DataFrame(self.rows(), columns=["", "value"]), text_width=SENTENCE_WIDTH
        )


def what_serves(model: str | os.PathLike[str]) -> Serves:
    """Say which score vLLM gives with a model, what it means and what it needs.

    Only small files are read: of a name on the hub the configuration and what its page says, of a
    folder what lies in it. The weights need not be there.

    Args:
        model: A name on the hub, a folder, or "offline-reranker".

    Raises:
        ModelUnavailableError: There is no configuration to read: the folder has none, or the hub
            does not answer or does not give it.
    """
    name = os.fspath(model)
    folder: Path | None = None
    facts: dict[str, Any] = {}
    if name == OFFLINE_MODEL_NAME:
        folder = offline_model_path()
    elif is_local(model):
        folder = Path(name).expanduser()
    else:
        facts = read_card(name, python=engine_python())
        folder = Path(facts["folder"])
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"The configuration of {name} cannot be read: {error}. A model's folder has a "
            "config.json that says what it is."
        ) from None
    serves = judge(name, config, _read(folder / "modules.json"), known=known_architectures())
    memory = facts.get("bytes") or weights_bytes(folder) or None
    licence = facts.get("licence") or _licence(folder)
    return Serves(
        **{
            **{name: getattr(serves, name) for name in serves.__dataclass_fields__},
            "longest": longest(
                config,
                _read(folder / "tokenizer_config.json"),
                _read(folder / "sentence_bert_config.json"),
            ),
            "memory": memory,
            "licence": licence,
        }
    )


def judge(
    name: str, config: Mapping[str, Any], modules: Any = None, *, known: Mapping[str, set[str]]
) -> Serves:
    """Judge a configuration; pure.

    Args:
        name: The model's name, since rerankers made from chat models are told by it alone.
        config: What stands in `config.json`.
        modules: What stands in `modules.json`, which models of Sentence-Transformers have.
        known: The architectures that vLLM has code for, by group; empty if that is not known.
    """
    given = (config.get("architectures") or [""])[0]
    if not given:
        return Serves(name, why_not="its config.json names no architecture")
    flags: dict[str, Any] = {}
    for part, architecture, overrides in _OVERRIDES:
        if architecture == given and part in name.lower():
            flags["hf-overrides"] = overrides
            config = {**config, **overrides}
    if "AutoConfig" in (config.get("auto_map") or {}):
        flags["trust-remote-code"] = True  # even its configuration is read by code of its own
    architecture = config["architectures"][0]
    for suffix, why_not in _OTHER_TASKS.items():
        if architecture.endswith(suffix):
            return Serves(name, why_not=why_not)
    if known and not _has_code(architecture, known):
        why_not = f"the vLLM that is installed has no code for {architecture}"
        return Serves(
            name, why_not=why_not, note="A launch may still serve it by way of Transformers."
        )
    if architecture.endswith(_CLASSIFIERS):
        return _classifier(name, architecture, config, flags)
    if architecture == "JinaForRanking":
        return Serves(
            name,
            "listwise",
            "cosine of the query's and a document's vector, after all were read together",
            "-1 to 1",
            flags=flags,
            note="A score depends on the other documents of the request. Text only.",
        )
    if architecture in known.get("_LATE_INTERACTION_MODELS", ()) or "ColBERT" in architecture:
        return Serves(
            name,
            "late interaction",
            "sum over the query's tokens of the best cosine with a token of the document (MaxSim)",
            "0 to the number of the query's tokens",
            flags=flags,
            note="Scores of two queries are not comparable: a longer query scores higher.",
        )
    note = ""
    if modules is None and architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        note = (
            "It is a chat model. vLLM answers with cosines of vectors that it was never trained "
            "for. If it is a reranker, its card says which --hf-overrides it needs."
        )
    meaning = "cosine of two vectors, made of query and document apart"
    return Serves(name, "bi-encoder", meaning, "-1 to 1", flags=flags, note=note)


def _classifier(
    name: str, architecture: str, config: Mapping[str, Any], flags: dict[str, Any]
) -> Serves:
    labels = _labels(architecture, config)
    if labels != 1:
        return Serves(
            name,
            why_not=f"it has {labels} output labels, and vLLM gives the route only to a classifier "
            "with one",
        )
    settings = config.get("sentence_transformers") or {}
    activation = settings.get(
        "activation_fn", config.get("sbert_ce_default_activation_function") or ""
    )
    raw = activation.endswith("Identity") or config.get("problem_type") == "regression"
    template, note = "", ""
    if "Qwen3" in architecture and "VL" not in architecture:
        path = TEMPLATES / "qwen3_reranker.jinja"
        template = "the text around a pair that it was trained with: " + path.name
        flags = {**flags, "chat-template": str(path)}
    elif architecture.startswith(("Qwen", "Gemma", "Llama")):
        template = "one is needed; vLLM's sources have it under examples/pooling/score/template"
    if "VL" in architecture:
        note = "It also reads images."
    return Serves(
        name,
        "cross-encoder",
        "the model's own judgment of a pair that it read as one text",
        "any number (a logit: its configuration switches the sigmoid off)" if raw else "0 to 1",
        template=template,
        flags=flags,
        note=note,
    )


def _labels(architecture: str, config: Mapping[str, Any]) -> int:
    """Count a classifier's output labels; where none are named, Transformers takes two."""
    if tokens := config.get("classifier_from_token"):
        two_become_one = config.get("is_original_qwen3_reranker") or (
            config.get("method") == "from_2_way_softmax"
        )
        return 1 if two_become_one else len(tokens)
    if architecture == "JinaVLForRanking":
        return 1
    return config.get("num_labels") or len(config.get("id2label") or ()) or 2


def longest(config: Mapping[str, Any], tokenizer: Any = None, sentences: Any = None) -> int:
    """Return the most tokens of a text as vLLM works them out, 0 if the files do not say.

    Args:
        config: What stands in `config.json`.
        tokenizer: What stands in `tokenizer_config.json`.
        sentences: What stands in `sentence_bert_config.json`, which comes before the others.
    """
    if own := (sentences or {}).get("max_seq_length"):
        return int(own)
    inner = config.get("text_config") or config
    stated = [inner.get("max_position_embeddings"), (tokenizer or {}).get("model_max_length")]
    # Tokenizers without a limit state a number with 30 digits.
    return min((int(n) for n in stated if n and n < 1e9), default=0)


def known_architectures() -> dict[str, set[str]]:
    """Return the architectures that the installed vLLM has code for, by the names of its tables.

    They are read from the source of its registry: importing it takes many seconds.
    """
    spec = importlib.util.find_spec("vllm") or PathFinder.find_spec("vllm", engine_packages())
    folders = (spec.submodule_search_locations or ()) if spec else ()
    for folder in folders:
        registry = Path(folder) / "model_executor" / "models" / "registry.py"
        if registry.is_file():
            return dict(_tables(ast.parse(registry.read_text("utf-8"))))
    return {}


def _tables(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if (
                name.endswith("_MODELS") and "PREVIOUSLY" not in name and "OOT" not in name
            ):
                yield name, {str(key.value) for key in keys if isinstance(key, ast.Constant)}


def _has_code(architecture: str, known: Mapping[str, set[str]]) -> bool:
    every = set().union(*known.values())
    forms = {architecture}
    for suffix in _SUFFIXES:
        if architecture.endswith(suffix):
            forms |= {architecture.removesuffix(suffix) + other for other in _SUFFIXES}
    return bool(forms & every)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _licence(folder: Path) -> str:
    """Return what the front matter of a card names as licence."""
    try:
        lines = (folder / "README.md").read_text("utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2] for line in lines[:50] if line.startswith("license:"))
    return next(found, "").strip()
