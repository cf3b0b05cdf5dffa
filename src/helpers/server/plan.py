"""Plan a launch: look at what is there, and decide everything that a launch needs.

Nothing here builds, downloads, starts or writes anything; `choices` knows what suits which machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.errors import EngineMissingError, ModelUnavailableError
from helpers.server.asked import Asked
from helpers.server.choices import (
    HUB_MODEL,
    KNOWN_SIZES,
    Choice,
    Choices,
    ModelSize,
    choose_cpus,
    choose_device,
    choose_dtype,
    choose_eager,
    choose_gpu,
    choose_memory,
    choose_model,
    or_asked,
    spreads,
)
from helpers.server.engine import REPOSITORY, can_build_engine
from helpers.server.machine import Machine, ask_driver, look_at_machine
from helpers.server.model import (
    OFFLINE_MODEL_NAME,
    hub_state,
    weights_bytes,
)
from helpers.server.probe import Engine, find_engine, find_preloads

FULL_WIDTH = ("float32", "float")  # the precisions of four bytes a number
OLDEST_CAPABILITY = (7, 5)  # the first that the GPU build of the pins has code for
_ON = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for a yes in its variables


@dataclass(frozen=True)
class Plan:
    """Hold everything that is decided before a launch.

    Attributes:
        engine: The vLLM that serves.
        choices: What was chosen, and why.
        model: What vLLM is given: a folder, or a name on the hub.
        served_name: What clients ask for.
        env: What to set in the server's environment besides what every server gets.
    """

    engine: Engine
    choices: Choices
    model: str
    served_name: str
    env: Mapping[str, str | None]


def make_plan(
    asked: Asked,
    environment: Mapping[str, str],
    *,
    for_launch: bool = False,
    folder: Path | None = None,
) -> Plan:
    """Look at the machine, the engine and the hub's cache, and decide.

    Where the launch would build the engine, the plan is for what would be built, and says so.

    Args:
        asked: What the caller wants.
        environment: What the server will get of variables before the plan adds its own.
        for_launch: Look at what is free now, and ask the hub whether it has what would be chosen.
            Otherwise the network is left alone, and what an engine said before is good enough.
        folder: Where a model of the hub is on this disk, if that is known.

    Raises:
        EngineMissingError: There is no vLLM and none would be built, or it is a GPU build and no
            GPU answers.
    """
    try:
        engine, to_build = find_engine(asked.interpreter, environment, fresh=for_launch), False
    except EngineMissingError:
        if for_launch or asked.python or not can_build_engine():
            raise
        engine, to_build = _engine_to_build(), True
    if not engine.cpu_build and not engine.gpus and (said := ask_driver().fault):
        # A mismatch, a hang or a missing permission, which CUDA tells of in fewer words.
        engine = replace(engine, gpu_fault=f"{engine.gpu_fault}; {said}")
    hub = ""
    if not engine.cpu_build and asked.model is None:
        may_ask = environment.get("HF_HUB_OFFLINE", "").strip().upper() not in _ON
        quiet = {**environment, "HF_HUB_OFFLINE": "1"}
        hub = hub_state(HUB_MODEL, environment if for_launch else quiet, python=engine.python)
        if may_ask and not for_launch and hub != "cached":
            hub = ""
    preloads = find_preloads() if engine.cpu_build else ()
    plan = decide(asked, look_at_machine(), engine, hub=hub, folder=folder, preloads=preloads)
    if to_build:
        device = plan.choices.device
        later = f"{device.reason} The start first builds that vLLM, beside this kernel."
        plan = replace(plan, choices=replace(plan.choices, device=Choice(device.value, later)))
    return plan


def decide(
    asked: Asked,
    machine: Machine,
    engine: Engine,
    *,
    hub: str = "",
    folder: Path | None = None,
    preloads: tuple[str, ...] = (),
) -> Plan:
    """Decide everything about a launch, from what `make_plan` saw.

    The GPUs that count are the engine's; `hub` is what `hub_state` says of HUB_MODEL, "" if it was
    not asked.

    Raises:
        EngineMissingError: The engine is a GPU build, and no GPU answers.
    """
    gpu = None if engine.cpu_build else choose_gpu(engine, asked.flags)
    machine = replace(machine, gpus=(gpu,) if gpu else ())
    device = choose_device(machine, cpu_build=engine.cpu_build)
    named = None if asked.model is None else str(asked.model)
    model = choose_model(machine, device.value, hub=hub, asked=named, source=asked.source)
    offline = replace(asked, model=OFFLINE_MODEL_NAME) if model.value is None else asked
    given = offline.given or str(model.value)
    served = OFFLINE_MODEL_NAME if model.value is None else model.value
    dtype = or_asked(asked.dtype, choose_dtype(machine, device.value))
    size = read_size(folder or Path(given)) or KNOWN_SIZES.get(served)
    if asked.precision == "int8":
        served += "-int8"  # other scores than the model's own, so another name
    if size is not None and dtype.value in FULL_WIDTH:
        size = replace(size, weights=2 * size.weights, cache=2 * size.cache)
    memory, length = choose_memory(
        machine,
        size,
        share=asked.gpu_memory_utilization if gpu else None,
        length=asked.max_model_len,
    )
    names = asked.flags.get("served-model-name") or served
    env = dict(asked.env)
    if gpu and gpu.uuid and len(engine.gpus) > 1 and not spreads(asked.flags):
        # By a name that no order of the GPUs can change.
        env["CUDA_VISIBLE_DEVICES"] = gpu.uuid
        device = Choice("gpu", f"{device.reason} It is the emptiest of {len(engine.gpus)}.")
    return Plan(
        engine=engine,
        choices=Choices(
            device=device,
            model=model,
            dtype=dtype,
            cpus=Choice((), "The GPU computes.") if gpu else choose_cpus(machine, asked.threads),
            memory=memory,
            length=length,
            eager=or_asked(asked.enforce_eager, choose_eager(device.value)),
            preload=Choice(
                () if gpu else preloads,
                "Present on this machine, and vLLM recommends them on a CPU.",
            ),
        ),
        model=given,
        served_name=names if isinstance(names, str) else str(next(iter(names))),
        env=env,
    )


def read_size(folder: Path) -> ModelSize | None:
    """Read what a model takes from its folder, None where there is no whole model.

    The cache of a decoder has a key and a value, of two bytes a number, in each layer for each of
    its key-value heads. Encoders are told by having no such heads in their configuration.
    """
    try:
        weights = weights_bytes(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config = config.get("text_config") or config
        heads = 0 if config.get("is_causal") is False else config.get("num_key_value_heads") or 0
        each = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        cache = 2 * 2 * config["num_hidden_layers"] * heads * each
        return ModelSize(weights, cache, config.get("max_position_embeddings") or 0)
    except (ModelUnavailableError, OSError, ValueError, LookupError, TypeError, AttributeError):
        # The check before the launch says what is wrong with it.
        return None


def _engine_to_build() -> Engine:
    """Return what the set-up would make, as far as can be told before."""
    gpus = tuple(gpu for gpu in ask_driver().gpus if gpu.capability >= OLDEST_CAPABILITY)
    folder = REPOSITORY / ".venv" / "bin"
    return Engine(
        python=str(folder / "python"),
        version="to be built",
        cpu_build=not gpus,
        has_command=True,
        script=folder / "vllm",
        gpus=gpus,
    )
