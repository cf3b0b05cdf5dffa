"""What is decided for machines of many kinds, from answers as CUDA gives them, and the reasons."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from machines import (
    A10G,
    A100_40,
    ARM,
    ARM_BF16,
    BRIMFUL,
    CPU_AMX,
    CPU_BF16,
    CPU_ENGINE,
    CPU_OLD,
    FULL_T4,
    H100,
    L4,
    LAPTOP,
    ROOMY,
    RTX_3060,
    T4,
    engine,
    gpu,
)
from safetensors.numpy import save_file

from helpers.errors import EngineMissingError
from helpers.server import choices, plan
from helpers.server.asked import Asked
from helpers.server.choices import HUB_MODEL, KNOWN_SIZES, Choice, Choices, ModelSize
from helpers.server.machine import GIB, Driver
from helpers.server.plan import decide, make_plan, read_size
from helpers.server.probe import inherited_environment

QWEN = ModelSize(1_192_000_000, 28 * 8 * 128 * 4, 40_960)  # Qwen3-Reranker-0.6B


def on(*gpus, asked=None, **facts):
    return decide(asked or Asked(), CPU_OLD, engine(*gpus), **facts)


def sizes_of(card):
    """Total and free bytes; GB10 shares the machine's memory, of which half counts as free."""
    return (card.memory_total or CPU_OLD.memory_total, card.memory_free or CPU_OLD.memory_free / 2)


@pytest.mark.parametrize("card", ROOMY, ids=lambda card: card.name)
def test_a_gpu_with_room_serves_the_large_reranker_with_a_share_that_is_free(card):
    made = on(card, hub="reachable")
    chosen = made.choices
    assert (chosen.device.value, made.model) == ("gpu", HUB_MODEL)
    assert chosen.dtype.value == ("half" if card.capability < (8, 0) else "auto")
    total, free = sizes_of(card)
    claimed = chosen.memory.value * total
    assert 2.2 * GIB < claimed < max(3.2 * GIB, 0.011 * total + 2.3 * GIB)
    assert claimed <= free - 0.6 * GIB, "CUDA's own part is left free"
    assert chosen.length.value is None and chosen.eager.value is False
    assert chosen.cpus.value == () and made.env == {}


@pytest.mark.parametrize("card", [FULL_T4, BRIMFUL], ids=["2 GiB free", "0.5 GiB free"])
def test_a_gpu_without_room_serves_the_offline_reranker_with_what_is_left(card):
    made = on(card, hub="cached")
    assert made.served_name == "offline-reranker"
    assert "are free" in made.choices.model.reason
    claimed = made.choices.memory.value * card.memory_total
    assert claimed <= max(card.memory_free - 0.6 * GIB, card.memory_total / 1000)
    assert "Only" in made.choices.memory.reason or card is FULL_T4


def test_a_t4_with_two_gib_free_asks_for_what_the_offline_reranker_needs():
    assert on(FULL_T4, hub="cached").choices.memory.value * FULL_T4.memory_total < 1.4 * GIB


@pytest.mark.parametrize("hub", ["offline", "missing", "gated", "unknown"])
def test_a_hub_that_does_not_give_the_large_reranker_leaves_the_offline_one(hub):
    assert on(H100, hub=hub).served_name == "offline-reranker"


@pytest.mark.parametrize(("name", "number"), [("Tesla P100-PCIE-16GB", "6.0"), ("V100", "7.0")])
def test_a_gpu_that_is_too_old_is_refused_with_what_cuda_says(name, number):
    fault = f"{name} has compute capability {number}, and this vLLM has code for 7.5 and newer"
    with pytest.raises(EngineMissingError, match=rf"{number}.*PROFILE=cpu make setup"):
        decide(Asked(), CPU_BF16, engine(fault=fault))


@pytest.mark.parametrize(
    "fault",
    [
        "The NVIDIA driver on your system is too old (found version 12040)",
        "Found no NVIDIA driver on your system",
        "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch",
        "CUDA shows no GPU; CUDA_VISIBLE_DEVICES is ''",
    ],
)
def test_a_gpu_build_never_gets_the_settings_of_a_cpu(fault):
    with pytest.raises(EngineMissingError) as caught:
        decide(Asked("offline-reranker"), CPU_BF16, engine(fault=fault))
    assert fault in str(caught.value) and "PROFILE=cpu" in str(caught.value)


def test_of_several_gpus_the_emptiest_is_taken_and_named_by_what_no_order_changes():
    cards = [gpu("H100", (9, 0), 79, free, index) for index, free in enumerate((0.5, 40, 78, 78))]
    assert on(*cards).env == {"CUDA_VISIBLE_DEVICES": "GPU-h100-2"}
    mixed = on(dataclasses.replace(T4, index=0), dataclasses.replace(A100_40, index=1))
    assert mixed.env["CUDA_VISIBLE_DEVICES"] == A100_40.uuid
    assert mixed.choices.dtype.value == "auto", "for the card that computes"


def test_what_is_set_for_the_server_is_kept_beside_the_chosen_gpu():
    asked = Asked(env={"CUDA_VISIBLE_DEVICES": "1,2", "A": None})
    cards = [gpu("A10G", (8, 6), 22, free, index) for index, free in enumerate((3, 20))]
    assert on(*cards, asked=asked).env == {"CUDA_VISIBLE_DEVICES": "GPU-a10g-1", "A": None}
    assert on(cards[0], asked=asked).env == dict(asked.env), "one card needs no name"


@pytest.mark.parametrize("flag", ["tensor-parallel-size", "-tp", "data-parallel-size"])
def test_a_model_spread_over_gpus_keeps_them_all_and_fits_into_the_fullest(flag):
    cards = [gpu("A10G", (8, 6), 22, free, index) for index, free in enumerate((20, 2))]
    made = on(*cards, asked=Asked("offline-reranker", flags={flag: 2}))
    assert made.env == {}
    assert made.choices.memory.value * 22 <= 2


def test_a_decoder_gets_room_for_its_cache_or_shorter_pairs():
    def room(card, **asked):
        machine = dataclasses.replace(CPU_OLD, gpus=(card,))
        return choices.choose_memory(machine, QWEN, **asked)

    memory, length = room(H100)
    assert memory.value * 79.11 > 4.38 + 1.3 and length.value is None
    memory, length = room(LAPTOP)
    assert 2_000 < length.value < 40_960 and "max_model_len=" in length.reason
    claimed = memory.value * LAPTOP.memory_total
    assert length.value * QWEN.cache + QWEN.weights < claimed <= LAPTOP.memory_free - 0.6 * GIB
    assert room(LAPTOP, length=512)[1].value == 512
    assert room(LAPTOP, length=512)[0].value < memory.value, "what is not needed is not taken"
    assert room(LAPTOP, share=0.9) == (
        Choice(0.9, "You asked for it."),
        Choice(None, "As many tokens as the model was made for."),
    )


def test_a_decoder_on_a_cpu_gets_a_cache_of_whole_gib():
    memory, length = choices.choose_memory(CPU_BF16, QWEN)
    assert (memory.value, length.value) == (5, None)
    tight = dataclasses.replace(CPU_BF16, memory_free=6 * GIB)
    memory, length = choices.choose_memory(tight, QWEN)
    assert memory.value == 1 and length.value * QWEN.cache <= GIB
    assert length.value == 9_216 and "max_model_len=" in length.reason


def test_a_model_of_unknown_size_is_told_which_arguments_there_are():
    memory = on(RTX_3060, asked=Asked("some/decoder")).choices.memory
    assert memory.value == 0.5
    assert "gpu_memory_utilization=" in memory.reason and "max_model_len=" in memory.reason


def write_model(folder: Path, **config) -> Path:
    folder.mkdir()
    save_file({"w": np.zeros((10, 10), np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_what_a_model_takes_is_read_from_its_folder(tmp_path):
    shape = {"num_hidden_layers": 28, "num_attention_heads": 16, "hidden_size": 1024}
    heads = {**shape, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960}
    assert read_size(write_model(tmp_path / "encoder", **shape)) == ModelSize(200)
    decoder = ModelSize(200, 114_688, 40_960)
    assert read_size(write_model(tmp_path / "decoder", **heads)) == decoder
    assert read_size(write_model(tmp_path / "nested", text_config=heads)) == decoder
    assert read_size(write_model(tmp_path / "both", **heads, is_causal=False)).cache == 0
    assert read_size(tmp_path / "none") is None
    (tmp_path / "decoder" / "config.json").write_text("[1]")
    assert read_size(tmp_path / "decoder") is None


def test_the_folder_of_a_hub_model_decides_about_its_memory(tmp_path):
    heads = {"num_hidden_layers": 28, "num_key_value_heads": 8, "head_dim": 128}
    folder = write_model(tmp_path / "m", **heads, max_position_embeddings=40_960)
    made = on(A10G, asked=Asked("some/decoder"), folder=folder)
    assert made.choices.memory.value * 21.99 > 4.38
    assert made.model == "some/decoder"


def test_full_precision_takes_twice_the_memory():
    half, full = (on(L4, asked=Asked(HUB_MODEL, dtype=name)) for name in ("half", "float32"))
    assert full.choices.memory.value > half.choices.memory.value


@pytest.mark.parametrize(
    ("machine", "dtype"),
    [
        (CPU_BF16, "bfloat16"),
        (CPU_AMX, "bfloat16"),
        (CPU_OLD, "float32"),
        (ARM, "float32"),
        (ARM_BF16, "bfloat16"),
    ],
)
def test_on_a_cpu_the_precision_is_what_it_computes_by_itself(machine, dtype):
    made = decide(Asked(), machine, CPU_ENGINE)
    assert made.choices.dtype.value == dtype
    assert made.choices.device.reason == "This vLLM is a CPU build."
    assert made.choices.cpus.value == (0, 1)
    assert (made.choices.memory.value, made.choices.eager.value) == (1, True)
    assert made.served_name == "offline-reranker"


def test_a_gpu_beside_a_cpu_build_is_named():
    machine = dataclasses.replace(CPU_BF16, gpus=(T4,))
    assert "Tesla T4" in choices.choose_device(machine, cpu_build=True).reason


def test_what_is_asked_for_wins():
    asked = Asked("a/b", dtype="float32", gpu_memory_utilization=0.8, enforce_eager=True)
    chosen = on(FULL_T4, asked=asked).choices
    values = (chosen.model, chosen.dtype, chosen.memory, chosen.eager)
    assert [choice.value for choice in values] == ["a/b", "float32", 0.8, True]
    assert {choice.reason for choice in values[1:]} == {"You asked for it."}
    cpu = decide(Asked(threads=1, max_model_len=64, enforce_eager=False), CPU_BF16, CPU_ENGINE)
    assert cpu.choices.cpus.value == (0,)
    assert cpu.choices.length.value == 64
    assert cpu.choices.eager.value is False


def test_the_offline_reranker_can_be_asked_for_on_a_gpu():
    made = on(H100, asked=Asked("offline-reranker"), hub="cached")
    assert made.served_name == "offline-reranker" and made.choices.model.value is None
    assert Path(made.model).name.startswith("offline-reranker-")


def test_a_folder_is_served_by_its_whole_path_under_the_name_that_was_given(tmp_path):
    made = decide(Asked(tmp_path), CPU_BF16, CPU_ENGINE)
    assert (made.model, made.served_name) == (str(tmp_path), str(tmp_path))
    assert decide(Asked("~/m"), CPU_BF16, CPU_ENGINE).model == str(Path("~/m").expanduser())
    assert decide(Asked("~/m"), CPU_BF16, CPU_ENGINE).served_name == "~/m"


@pytest.mark.parametrize(
    ("names", "first"), [("judge", "judge"), (["a", "b"], "a"), (("x",), "x"), (None, "some/m")]
)
def test_the_first_of_several_served_names_is_the_name(names, first):
    asked = Asked("some/m", flags={"served-model-name": names})
    assert decide(asked, CPU_BF16, CPU_ENGINE).served_name == first


def test_every_choice_has_a_reason_that_a_notebook_shows():
    made = decide(Asked(max_model_len=64), CPU_BF16, CPU_ENGINE, preloads=("/a/<b>.so",)).choices
    rows = made.rows()
    assert [name for name, _, _ in rows] == [field.name for field in dataclasses.fields(Choices)]
    assert all(reason.endswith(".") for _, _, reason in rows)
    assert ("model", "offline reranker") in [row[:2] for row in rows]
    assert "/a/&lt;b&gt;.so" in made._repr_html_()


def test_choices_come_back_from_a_record_as_they_were():
    made = on(LAPTOP, hub="cached").choices
    assert Choices.from_json(json.loads(json.dumps(dataclasses.asdict(made)))) == made
    made = decide(Asked(), CPU_BF16, CPU_ENGINE, preloads=("/a.so",)).choices
    assert Choices.from_json(json.loads(json.dumps(dataclasses.asdict(made)))) == made


def test_the_sizes_that_are_known_before_a_download_are_those_of_the_models():
    assert KNOWN_SIZES[HUB_MODEL].weights == pytest.approx(2 * 568e6, rel=0.01)
    assert KNOWN_SIZES["offline-reranker"].weights == pytest.approx(2 * 22.7e6, rel=0.02)


# Looking before deciding.


@pytest.fixture
def no_engine(monkeypatch):
    """A kernel without vLLM in a clone, where the first start builds one."""

    def missing(*_, **__):
        raise EngineMissingError("The interpreter has no vLLM.")

    monkeypatch.setattr(plan, "find_engine", missing)
    monkeypatch.setattr(plan, "can_build_engine", lambda: True)


@pytest.mark.parametrize(
    ("gpus", "device"),
    [((), "cpu"), ((T4,), "gpu"), ((gpu("Tesla P100", (6, 0), 16, 15),), "cpu")],
)
def test_where_an_engine_would_be_built_the_plan_is_for_that_one(
    no_engine, monkeypatch, gpus, device
):
    monkeypatch.setattr(plan, "ask_driver", lambda: Driver("580.82.07", gpus))
    made = make_plan(Asked(), inherited_environment(sys.executable))
    assert made.choices.device.value == device
    assert "first builds that vLLM" in made.choices.device.reason
    assert Path(made.engine.python).parts[-3:] == (".venv", "bin", "python")


def test_a_launch_and_a_named_interpreter_need_an_engine_that_is_there(no_engine):
    environment = inherited_environment(sys.executable)
    with pytest.raises(EngineMissingError):
        make_plan(Asked(), environment, for_launch=True)
    with pytest.raises(EngineMissingError):
        make_plan(Asked(python="/some/python"), environment)


@pytest.mark.parametrize(
    ("for_launch", "set_by_user", "answer", "model"),
    [
        (False, None, "offline", HUB_MODEL),  # it was not allowed to ask: the launch will
        (False, "1", "offline", None),
        (False, None, "cached", HUB_MODEL),
        (True, None, "reachable", HUB_MODEL),
        (True, None, "unknown", None),  # it does not answer
        (False, None, "unknown", HUB_MODEL),
        (True, "1", "offline", None),
    ],
)
def test_only_a_launch_asks_the_hub(monkeypatch, for_launch, set_by_user, answer, model):
    asked_with = []

    def hub_state(name, environment, *, python):
        asked_with.append(environment.get("HF_HUB_OFFLINE"))
        return answer

    monkeypatch.setattr(plan, "find_engine", lambda *_, **__: engine(H100))
    monkeypatch.setattr(plan, "hub_state", hub_state)
    environment = {} if set_by_user is None else {"HF_HUB_OFFLINE": set_by_user}
    made = make_plan(Asked(), environment, for_launch=for_launch)
    assert made.choices.model.value == model
    assert asked_with == [set_by_user if for_launch else "1"]


def test_the_engine_is_asked_with_what_the_server_will_get(monkeypatch):
    seen = []

    def find_engine(python, environment, *, fresh):
        seen.append((python, environment, fresh))
        return engine(H100)

    monkeypatch.setattr(plan, "find_engine", find_engine)
    asked = Asked("a/b", python="/env/bin/python", env={"CUDA_VISIBLE_DEVICES": "1"})
    make_plan(asked, asked.environment)
    make_plan(asked, asked.environment, for_launch=True)
    assert [(python, fresh) for python, _, fresh in seen] == [
        ("/env/bin/python", False),
        ("/env/bin/python", True),
    ]
    assert seen[0][1]["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    "said",
    [
        "nvidia-smi says: Failed to initialize NVML: Driver/library version mismatch",
        "nvidia-smi did not answer within 20 seconds",
        "nvidia-smi says: Failed to initialize NVML: Insufficient Permissions",
    ],
)
def test_where_cuda_finds_no_gpu_the_driver_is_asked_why(monkeypatch, said):
    broken = engine(fault="Found no NVIDIA driver on your system")
    monkeypatch.setattr(plan, "find_engine", lambda *_, **__: broken)
    monkeypatch.setattr(plan, "hub_state", lambda *_, **__: "cached")
    monkeypatch.setattr(plan, "ask_driver", lambda: Driver(fault=said))
    with pytest.raises(EngineMissingError) as caught:
        make_plan(Asked(), inherited_environment(sys.executable))
    assert said in str(caught.value) and "Found no NVIDIA driver" in str(caught.value)
