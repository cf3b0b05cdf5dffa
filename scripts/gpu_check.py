"""Hold the commands for many GPUs against vLLM's own GPU build, without a GPU (`make gpu-check`).

Each card is given to the package as PyTorch describes it, and to vLLM as NVIDIA's driver would,
through a stub of that driver (gpu_check_driver.c). What the package decides for the card becomes a
command, and vLLM takes that command through its parser, its model and its engine configuration
(gpu_check_engine.py), up to the first call of CUDA. docs/gpu.md holds the table of the last run.

Needs the environment of the GPU profile: that of .venv, or else one of its own in the user's cache
folder, which the first run builds (4.3 GB of downloads).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

import setup_env
from floors import DRIVER, REPOSITORY, Driver, Refusal, check_room, gpu_obstacles, this_machine
from gpu_check_engine import MARK
from helpers.errors import EngineMissingError
from helpers.server.asked import Asked
from helpers.server.choices import CUDA_CONTEXT, HUB_MODEL
from helpers.server.command import build_command
from helpers.server.machine import GIB, Machine
from helpers.server.model import OFFLINE_MODEL_NAME, offline_model_path
from helpers.server.plan import Plan, decide
from helpers.server.probe import Engine, inherited_environment, read_gpus

HERE = Path(__file__).parent
PAGE = REPOSITORY / "docs" / "gpu.md"
BEGIN, END = "<!-- table of make gpu-check -->", "<!-- end of the table -->"
ENGINE_SECONDS = 600
# What PyTorch 2.13 of the pins is built for, as it says itself; a run asks it again.
BUILT_FOR = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
# A machine that a GPU would be in; GB10 shares its memory.
HOST = Machine("Linux", "x86_64", "AMD", frozenset(), (0, 1), 120 * GIB, 100 * GIB, 100 * GIB)


@dataclass(frozen=True)
class Card:
    """Describe a card as PyTorch does (memory in GiB), and as a table names it.

    Attributes:
        title: In the table.
        name: What NVIDIA calls it.
        capability: Compute capability.
        total: Memory; None where it is the machine's.
        free: Of it, one figure for each card of the kind.
        slice: Whether it is a part of a card (MIG).
    """

    title: str
    name: str
    capability: tuple[int, int]
    total: float | None
    free: tuple[float, ...]
    slice: bool = False

    @property
    def prefix(self) -> str:
        """What the UUID of each begins with; the number of the card ends it."""
        return f"{'MIG' if self.slice else 'GPU'}-{'0' * 7}"

    def told(self, built_for: Sequence[str]) -> dict[str, Any]:
        """Return what the probe of the package would be told by PyTorch."""
        gpus = [
            {
                "index": index,
                "uuid": f"{'0' * 7}{index}",
                "name": f"{self.name} MIG 1g.10gb" if self.slice else self.name,
                "capability": list(self.capability),
                "total": None if self.total is None else int(self.total * GIB),
                "free": int(free * GIB),
            }
            for index, free in enumerate(self.free)
        ]
        return {"gpus": gpus, "fault": "", "built_for": list(built_for)}

    def stub(self) -> dict[str, str]:
        """Return the variables that tell the stub driver of it."""
        major, minor = self.capability
        return {
            "GPU_CHECK_NAME": self.name,
            "GPU_CHECK_UUID": self.prefix,
            "GPU_CHECK_CAPABILITY": f"{major}{minor}",
            "GPU_CHECK_MEMORY": "" if self.total is None else str(int(self.total * GIB)),
            "GPU_CHECK_COUNT": str(len(self.free)),
        }


CARDS = (
    Card("T4", "Tesla T4", (7, 5), 14.56, (14.45,)),
    Card("L4", "NVIDIA L4", (8, 9), 22.03, (21.8,)),
    Card("A10G", "NVIDIA A10G", (8, 6), 21.99, (21.7,)),
    Card("two A10G, the first one full", "NVIDIA A10G", (8, 6), 21.99, (0.4, 21.7)),
    Card("A100, 40 GB", "NVIDIA A100-SXM4-40GB", (8, 0), 39.39, (38.9,)),
    Card("A100, 80 GB", "NVIDIA A100-SXM4-80GB", (8, 0), 79.25, (78.8,)),
    Card("H100", "NVIDIA H100 80GB HBM3", (9, 0), 79.11, (78.6,)),
    Card("H100, a slice of 10 GB", "NVIDIA H100 80GB HBM3", (9, 0), 9.75, (9.7,), slice=True),
    Card("B200", "NVIDIA B200", (10, 0), 178.4, (177.7,)),
    Card("RTX 3060", "NVIDIA GeForce RTX 3060", (8, 6), 11.75, (10.9,)),
    Card("RTX 5090", "NVIDIA GeForce RTX 5090", (12, 0), 31.36, (30.1,)),
    Card("laptop, 6 of 8 GiB free", "NVIDIA GeForce RTX 4060 Laptop GPU", (8, 9), 7.75, (6.0,)),
    Card("GB10 (DGX Spark)", "NVIDIA GB10", (12, 1), None, (90.0,)),
    Card("V100", "Tesla V100-SXM2-16GB", (7, 0), 15.77, (15.6,)),
    Card("P100", "Tesla P100-PCIE-16GB", (6, 0), 15.89, (15.7,)),
)


class Model(NamedTuple):
    """A model to serve: how the table names it, what is asked for, and what vLLM makes of it."""

    title: str
    asked: Asked
    architecture: str
    reads: str  # "encoder_only" or "decoder"


def write_folder(folder: Path, config: Mapping[str, Any], weights: int) -> Path:
    """Write a model that has a configuration, and weights that are nothing but their size."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    described = {"w": {"dtype": "BF16", "shape": [weights // 2], "data_offsets": [0, weights]}}
    header = json.dumps(described).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(np.uint64(len(header)).tobytes() + header)
        file.truncate(8 + len(header) + weights)  # a hole: it takes no room on the disk
    return folder


def make_models(folder: Path) -> tuple[Model, ...]:
    """Write the models of the check, whose sizes and shapes are those of the real ones."""
    encoder = {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "model_type": "xlm-roberta",
        **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
        **{"intermediate_size": 4096, "vocab_size": 250_002, "max_position_embeddings": 8194},
        **{"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        **{"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "torch_dtype": "float32"},
        "position_embedding_type": "absolute",  # then vLLM heeds the tokenizer's limit
    }
    decoder = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **{"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16},
        **{"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072},
        **{"vocab_size": 151_669, "max_position_embeddings": 40_960, "rope_theta": 1_000_000},
        **{"tie_word_embeddings": True, "torch_dtype": "bfloat16", "eos_token_id": 151_645},
    }
    # In the hub's cache, where vLLM looks for it by its name.
    entry = folder / "hub" / f"models--{HUB_MODEL.replace('/', '--')}"
    write_folder(entry / "snapshots" / "0", encoder, 2 * 1_136_000_000)
    limits = {"model_max_length": 8192}
    (entry / "snapshots" / "0" / "tokenizer_config.json").write_text(json.dumps(limits))
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("0")
    overrides = {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    }
    qwen = write_folder(folder / "Qwen3-Reranker-0.6B", decoder, 1_192_000_000)
    asks = Asked(qwen, flags={"hf-overrides": overrides})
    return (
        Model("bge-reranker-v2-m3", Asked(), encoder["architectures"][0], "encoder_only"),
        Model(
            "offline reranker",
            Asked(OFFLINE_MODEL_NAME),
            "BertForSequenceClassification",
            "encoder_only",
        ),
        Model("Qwen3-Reranker-0.6B", asks, overrides["architectures"][0], "decoder"),
    )


def plan_for(card: Card, model: Model, python: str, built_for: Sequence[str] = BUILT_FOR) -> Plan:
    """Decide for a card as a launch would.

    Raises:
        EngineMissingError: The card is one that vLLM's GPU build has no code for.
    """
    gpus, fault = read_gpus(card.told(built_for))
    script = Path(python).with_name("vllm")
    engine = Engine(python, "0.32.0", False, True, script, gpus, fault)
    return decide(model.asked, HOST, engine, hub="cached")


def arguments_of(plan: Plan, model: Model) -> tuple[list[str], Mapping[str, str]]:
    """Return what follows `vllm serve`, and the environment of the command."""
    command = build_command(
        plan.engine,
        plan.choices,
        model=plan.model,
        served_name=plan.served_name,
        port=8000,
        max_model_len=plan.choices.length.value,
        flags=model.asked.flags,
        env=plan.env,
    )
    return list(command.argv[command.argv.index("serve") + 1 :]), command.environment


def refusals(card: Card) -> list[str]:
    """Return why the set-up would not give a machine with this card the GPU profile."""
    machine = this_machine()._replace(architecture="x86_64", compiler=True, python_header=True)
    driver = Driver(DRIVER, (card.capability,) * len(card.free), "")
    return [why for why, _ in gpu_obstacles(machine, driver)]


def faults_of(card: Card, plan: Plan, model: Model, settled: Mapping[str, Any]) -> list[str]:
    """Compare what vLLM has settled on with what was decided for a card."""
    chosen = plan.choices
    index = next(i for i, free in enumerate(card.free) if free == max(card.free))
    total = card.total or HOST.memory_total / GIB
    room = card.free[index] - CUDA_CONTEXT / GIB
    expected = {
        "card": card.name,
        "capability": list(card.capability),
        "architecture": model.architecture,
        "reads": model.reads,
        "share": chosen.memory.value,
        "dtype": "float16" if chosen.dtype.value == "half" else settled["dtype"],
        "length": chosen.length.value or settled["length"],
    }
    faults = [
        f"{name} is {settled[name]!r} and should be {value!r}"
        for name, value in expected.items()
        if settled[name] != value
    ]
    if chosen.memory.value * total > room:
        faults.append(f"{chosen.memory.value * total:.1f} GiB are asked for, {room:.1f} are free")
    if settled["dtype"] == "bfloat16" and card.capability < (8, 0):
        faults.append("this card has no bfloat16")
    if settled["attention"] == "FLASH_ATTN" and card.capability < (8, 0):
        faults.append("FlashAttention begins with capability 8.0")
    cache = settled["cache"] * settled["length"] / GIB
    if cache > chosen.memory.value * total:
        faults.append(f"the cache of one pair takes {cache:.1f} GiB, more than the share")
    if len(card.free) > 1 and plan.env.get("CUDA_VISIBLE_DEVICES") != f"{card.prefix}{index}":
        faults.append(f"the emptiest card is number {index}, and it was not chosen")
    return faults


def build_driver(folder: Path) -> Path:
    """Compile the stub driver, and return the folder that holds it."""
    compiler = next(filter(shutil.which, [os.environ.get("CC", "cc"), "gcc", "clang"]), None)
    if compiler is None:
        raise SystemExit("gpu-check compiles a stub of NVIDIA's driver: install gcc or clang.")
    folder.mkdir()
    library = folder / "libnvidia-ml.so.1"
    source = str(HERE / "gpu_check_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), source], check=True)
    shutil.copy(library, folder / "libcuda.so.1")
    return folder


def ask_engine(python: str, stub: Path, variables: Mapping[str, str], question: object) -> Any:
    """Run the other half of the check under the GPU build, and return its answer."""
    given = {**inherited_environment(python), **variables, "HF_HUB_OFFLINE": "1"}
    given["LD_LIBRARY_PATH"] = str(stub)
    arguments = ["code"] if question is None else []
    done = subprocess.run(
        [python, str(HERE / "gpu_check_engine.py"), *arguments],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env=given,
        timeout=ENGINE_SECONDS,
    )
    answer = re.search(rf"(?m)^{MARK}(.*)$", done.stdout)
    if done.returncode or not answer:
        raise SystemExit(f"vLLM's GPU build did not take it:\n{done.stdout}{done.stderr}"[-4000:])
    return json.loads(answer[1])


class OwnEnvironment(setup_env.Environment):
    """An environment of the GPU profile outside the repository."""

    def __init__(self, folder: Path) -> None:
        super().__init__(REPOSITORY)
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.stamp = folder / "setup-stamp.json"
        self.log = folder / "setup.log"


def gpu_python() -> str:
    """Return the interpreter of a GPU build: that of .venv, or of an environment made for this."""
    here = setup_env.Environment(REPOSITORY)
    if here.read_stamp().get("profile") == "gpu" and here.python_runs():
        return str(here.python)
    folder = platformdirs.user_cache_path("vllm-score-notebooks", appauthor=False) / "gpu-check"
    own = OwnEnvironment(folder)
    pin_file = own.pin_file("gpu")
    key = setup_env.pins(pin_file)
    if own.read_stamp().get("key") != key or not own.python_runs():
        check_room(this_machine(), "gpu", own.size() if folder.exists() else 0)
        print(f"Building vLLM's GPU environment in {folder}: 4.3 GB of downloads.", flush=True)
        setup_env.create(own)
        setup_env.install(own, [setup_env.pin_for("torch", pin_file)])
        setup_env.check_torch(own, "gpu")
        setup_env.install_pins(own, pin_file)
        own.write_stamp(key, "gpu", [])
    return str(own.python)


def row_of(cells: Sequence[object]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


HEAD = ("card", "model", "attention", "dtype", "share", "GiB", "longest pair")


def check_card(
    card: Card, models: Sequence[Model], python: str, stub: Path, home: Path, code: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Check one card; return its rows of the table, and what is wrong."""
    why = refusals(card)
    try:
        plans = [plan_for(card, model, python, code) for model in models]
    except EngineMissingError as error:
        row = row_of([card.title, "refused: no code for it", *[""] * 5])
        faults = [] if why else ["the set-up would download the GPU build for it"]
        return [row], faults + ([] if "PROFILE=cpu" in str(error) else ["no way out is named"])
    faults = [f"the set-up refuses it: {text}" for text in why]
    commands = [arguments_of(plan, model) for plan, model in zip(plans, models, strict=True)]
    variables = {**commands[0][1], **card.stub(), "HF_HOME": str(home)}
    if card.slice:
        variables["CUDA_VISIBLE_DEVICES"] = f"{card.prefix}0"
    answers = ask_engine(python, stub, variables, [arguments for arguments, _ in commands])
    rows = []
    for model, plan, settled in zip(models, plans, answers, strict=True):
        faults += [f"{model.title}: {text}" for text in faults_of(card, plan, model, settled)]
        share = settled["share"]
        claimed = share * (card.total or HOST.memory_total / GIB)
        cells = [card.title, model.title, settled["attention"], settled["dtype"]]
        rows.append(row_of([*cells, f"{share:g}", f"{claimed:.1f}", f"{settled['length']:,}"]))
    return rows, faults


def main() -> None:
    """Check the cards, print the table, and end with status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="an interpreter with vLLM's GPU build")
    parser.add_argument("--card", action="append", help="one of the table's, default: all")
    parser.add_argument("--write", action="store_true", help="put the table into docs/gpu.md")
    options = parser.parse_args()
    cards = [card for card in CARDS if not options.card or card.title in options.card]
    try:
        python = options.python or gpu_python()
    except Refusal as refusal:
        raise SystemExit(str(refusal)) from None
    lines, wrong = [row_of(HEAD), row_of(["---"] * len(HEAD))], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stub, models = build_driver(folder / "driver"), make_models(folder)
        offline_model_path()
        code = ask_engine(python, stub, {}, None)
        print(f"torch with CUDA {code['cuda']}, built for {', '.join(code['built_for'])}")
        print("\n".join(lines), flush=True)
        for card in cards:
            rows, faults = check_card(card, models, python, stub, folder, code["built_for"])
            print("\n".join([*rows, *(f"WRONG: {text}" for text in faults)]), flush=True)
            lines += rows
            wrong += faults
    if options.write and not wrong and len(cards) == len(CARDS):
        page = PAGE.read_text("utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after, "utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
