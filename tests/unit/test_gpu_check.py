"""`make gpu-check` without its GPU environment: what it asks, and that it sees what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_setup import CAPABLE, SmallRepository

import floors
import gpu_check
import setup_env
from gpu_check import BEGIN, CARDS, END, HEAD, PAGE, Card, Model
from helpers.errors import EngineMissingError
from helpers.server.machine import GIB

OLD = ("V100", "P100")
FIT = [card for card in CARDS if card.title not in OLD]
BY_TITLE = {card.title: card for card in CARDS}
every_fit_card = pytest.mark.parametrize("card", FIT, ids=lambda card: card.title)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ...]:
    return gpu_check.make_models(tmp_path_factory.mktemp("models"))


def settled_as_decided(card: Card, model: Model) -> dict:
    """What vLLM answers where it does what it is told."""
    chosen = gpu_check.plan_for(card, model, sys.executable).choices
    decodes = model.reads == "decoder"
    return {
        "card": card.name,
        "capability": list(card.capability),
        "architecture": model.architecture,
        "reads": model.reads,
        "attention": "TRITON_ATTN" if card.capability < (8, 0) else "FLASH_ATTN",
        "dtype": "float16" if chosen.dtype.value == "half" else "bfloat16",
        "share": chosen.memory.value,
        "length": chosen.length.value or (40_960 if decodes else 512),
        "cache": 28 * 8 * 128 * 4 if decodes else 0,
    }


def faults(card: Card, model: Model, /, **changed) -> list[str]:
    plan = gpu_check.plan_for(card, model, sys.executable)
    return gpu_check.faults_of(card, plan, model, settled_as_decided(card, model) | changed)


@every_fit_card
def test_every_card_is_given_settings_that_suit_it(card: Card, models) -> None:
    assert gpu_check.refusals(card) == []
    for model in models:
        assert faults(card, model) == []


@pytest.mark.parametrize("title", OLD)
def test_a_card_that_is_too_old_is_refused_before_and_after_a_download(title: str, models) -> None:
    card = BY_TITLE[title]
    assert "compute capability 7.5" in " ".join(gpu_check.refusals(card))
    for model in models:
        with pytest.raises(EngineMissingError, match=r"has code for 7\.5"):
            gpu_check.plan_for(card, model, sys.executable)


def test_of_two_cards_the_full_one_is_left_alone(models) -> None:
    card = BY_TITLE["two A10G, the first one full"]
    plan = gpu_check.plan_for(card, models[0], sys.executable)
    assert plan.env["CUDA_VISIBLE_DEVICES"] == "GPU-00000001"


def test_a_decoder_gets_shorter_pairs_where_its_cache_does_not_fit(models) -> None:
    lengths = {
        card.title: gpu_check.plan_for(card, models[2], sys.executable).choices.length.value
        for card in FIT
    }
    assert [title for title, length in lengths.items() if length] == ["laptop, 6 of 8 GiB free"]
    assert 8_000 < lengths["laptop, 6 of 8 GiB free"] < 40_960


@pytest.mark.parametrize(
    ("title", "changed", "words"),
    [
        ("L4", {"share": 0.92}, "share is 0.92"),
        ("L4", {"card": "Tesla T4"}, "card is 'Tesla T4'"),
        ("L4", {"reads": "encoder_only"}, "reads is 'encoder_only'"),
        ("L4", {"architecture": "Qwen3ForCausalLM"}, "architecture is"),
        ("L4", {"length": 2_000_000}, "cache of one pair"),
        ("T4", {"dtype": "bfloat16"}, "no bfloat16"),
        ("T4", {"attention": "FLASH_ATTN"}, "FlashAttention begins with"),
        ("laptop, 6 of 8 GiB free", {"length": 40_960}, "length is 40960"),
    ],
)
def test_what_vllm_settles_on_differently_is_found(title, changed, words, models) -> None:
    assert words in "; ".join(faults(BY_TITLE[title], models[2], **changed))


def test_a_share_that_is_not_free_is_found(models) -> None:
    card = BY_TITLE["L4"]
    plan = gpu_check.plan_for(card, models[0], sys.executable)
    fuller = Card(card.title, card.name, card.capability, card.total, (2.0,))
    (fault,) = gpu_check.faults_of(fuller, plan, models[0], settled_as_decided(card, models[0]))
    assert "are free" in fault


def test_the_command_that_is_checked_is_the_one_that_a_launch_runs(models) -> None:
    card = BY_TITLE["T4"]
    plan = gpu_check.plan_for(card, models[0], sys.executable)
    arguments, environment = gpu_check.arguments_of(plan, models[0])
    assert arguments[0] == "BAAI/bge-reranker-v2-m3"
    assert arguments[arguments.index("--dtype") + 1] == "half"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_the_weights_of_the_models_take_no_room(models) -> None:
    weights = Path(models[2].asked.model) / "model.safetensors"
    seen = weights.stat()
    assert seen.st_size > GIB and 512 * seen.st_blocks < 1_000_000


# The stub driver, asked as vLLM asks: through ctypes, in a process of its own.
ASK = """
import ctypes, os
nvml = ctypes.CDLL("libnvidia-ml.so.1")
nvml.nvmlInitWithFlags(0)
count, card, text = ctypes.c_uint(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
assert nvml.nvmlDeviceGetHandleByUUID(os.environ["WANTED"].encode(), ctypes.byref(card)) == 0
major, minor, index = ctypes.c_int(), ctypes.c_int(), ctypes.c_uint()
nvml.nvmlDeviceGetCudaComputeCapability(card, ctypes.byref(major), ctypes.byref(minor))
nvml.nvmlDeviceGetIndex(card, ctypes.byref(index))
nvml.nvmlDeviceGetName(card, text, 96)
memory = (ctypes.c_ulonglong * 3)()
code = nvml.nvmlDeviceGetMemoryInfo(card, memory)
cuda = ctypes.CDLL("libcuda.so.1").cuInit(0)
print(count.value, index.value, major.value, minor.value, end=" ")
print(code, memory[0], cuda, text.value.decode())
"""


@pytest.mark.parametrize("title", ["two A10G, the first one full", "GB10 (DGX Spark)"])
def test_the_stub_driver_says_what_a_card_is(title: str, tmp_path: Path) -> None:
    try:
        stub = gpu_check.build_driver(tmp_path / "driver")
    except SystemExit as missing:
        pytest.skip(str(missing))
    card = BY_TITLE[title]
    last = len(card.free) - 1
    given = card.stub() | {"LD_LIBRARY_PATH": str(stub), "WANTED": f"{card.prefix}{last}"}
    said = subprocess.run(
        [sys.executable, "-c", ASK], env=given, capture_output=True, text=True, check=True
    ).stdout.strip()
    memory = "3 0" if card.total is None else f"0 {int(card.total * GIB)}"
    major, minor = card.capability
    assert said == f"{len(card.free)} {last} {major} {minor} {memory} 100 {card.name}"


# The environment.


def test_an_environment_that_the_pins_made_is_used_again(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_check.platformdirs, "user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(setup_env.Environment, "python_runs", lambda _: True)
    monkeypatch.setattr(setup_env.Environment, "read_stamp", lambda self: stamps[self.folder])
    own = gpu_check.OwnEnvironment(tmp_path / "gpu-check")
    pins = setup_env.pins(own.pin_file("gpu"))
    here = floors.REPOSITORY / ".venv"
    stamps = {here: {"profile": "cpu"}, own.folder: {"key": pins}}
    assert gpu_check.gpu_python() == str(own.python)
    stamps[here] = {"profile": "gpu"}
    assert gpu_check.gpu_python() == str(here / "bin" / "python")


def test_where_there_is_none_it_is_built_from_the_pins_beside_the_repository(
    monkeypatch, tmp_path: Path, capsys
) -> None:
    small = SmallRepository(tmp_path)
    pins = [small.base[0], "torch===2.13.0", "alpha==1"]
    (small.folder / "requirements" / "gpu.txt").write_text("\n".join(pins))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(small.wheels))
    monkeypatch.setattr(gpu_check, "REPOSITORY", small.folder)
    monkeypatch.setattr(gpu_check, "this_machine", lambda: CAPABLE._replace(free_disk=10**11))
    monkeypatch.setattr(gpu_check.platformdirs, "user_cache_path", lambda *_, **__: tmp_path)
    built = Path(gpu_check.gpu_python())
    assert built == tmp_path / "gpu-check" / "bin" / "python"
    (packages,) = built.parents[1].glob("lib/python*/site-packages")
    assert (packages / "alpha.py").is_file()
    assert "cuda = '13.0'" in (packages / "torch" / "version.py").read_text()
    assert not (small.folder / ".venv").exists()
    assert "4.3 GB" in capsys.readouterr().out
    log = built.parents[1] / "setup.log"
    before = log.read_text()
    assert gpu_check.gpu_python() == str(built)
    assert log.read_text() == before, "a second call asks pip for nothing"


def test_without_room_nothing_is_downloaded(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_check.platformdirs, "user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(setup_env.Environment, "read_stamp", lambda _: {})
    full = floors.this_machine()._replace(free_disk=10**9)
    monkeypatch.setattr(gpu_check, "this_machine", lambda: full)
    with pytest.raises(floors.Refusal, match="18 GB"):
        gpu_check.gpu_python()
    assert not list(tmp_path.iterdir())


# The page.


def test_the_table_in_docs_is_what_is_decided_today(models) -> None:
    table = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
    assert tuple(lines[0]) == HEAD
    stored = {(cells[0], cells[1]): cells for cells in lines[2:]}
    for card in CARDS:
        if card.title in OLD:
            assert any(key[0] == card.title and "refused" in key[1] for key in stored)
            continue
        for model in models:
            chosen = gpu_check.plan_for(card, model, sys.executable).choices
            cells = stored[card.title, model.title]
            assert float(cells[4]) == chosen.memory.value, cells
            if chosen.length.value:
                assert int(cells[6].replace(",", "")) == chosen.length.value
            assert (cells[3] == "float16") or card.capability >= (8, 0)


def test_the_page_names_the_vllm_that_was_asked() -> None:
    pinned = setup_env.pin_for("vllm", floors.REPOSITORY / "requirements" / "gpu.txt")
    assert re.search(rf"vLLM {re.escape(pinned.split('==')[1])}\b", PAGE.read_text("utf-8"))
