"""The choices for machines of many kinds, and the reasons given."""

import dataclasses

import pytest

from helpers.server import plan as choices
from helpers.server.machine import GIB, Gpu, Machine
from helpers.server.plan import HUB_MODEL, HUB_MODEL_WEIGHTS, Choice, Choices

CPU_BF16 = Machine(
    "Linux", "x86_64", "AMD", frozenset({"avx2", "avx512_bf16"}), (0, 1), 16 * GIB, 8 * GIB, GIB
)
CPU_AMX = dataclasses.replace(CPU_BF16, cpu_flags=frozenset({"avx2", "amx_bf16"}))
CPU_OLD = dataclasses.replace(CPU_BF16, cpu_flags=frozenset({"avx2"}))
ARM = dataclasses.replace(CPU_BF16, architecture="aarch64", cpu_flags=frozenset({"asimd"}))
ARM_BF16 = dataclasses.replace(ARM, cpu_flags=frozenset({"asimd", "bf16"}))
H100 = dataclasses.replace(CPU_BF16, gpus=(Gpu(0, "H100", (9, 0), 80 * GIB, 79 * GIB),))
T4 = dataclasses.replace(CPU_OLD, gpus=(Gpu(0, "Tesla T4", (7, 5), 15 * GIB, 14 * GIB),))
FULL = dataclasses.replace(CPU_OLD, gpus=(Gpu(0, "Tesla T4", (7, 5), 15 * GIB, 2 * GIB),))


@pytest.mark.parametrize(
    ("machine", "cpu_build", "device"),
    [(CPU_BF16, True, "cpu"), (H100, False, "gpu"), (H100, True, "cpu"), (CPU_OLD, False, "cpu")],
)
def test_the_gpu_is_used_where_there_is_one_and_vllm_can(machine, cpu_build, device):
    assert choices.choose_device(machine, cpu_build=cpu_build).value == device


@pytest.mark.parametrize(
    ("machine", "device", "dtype"),
    [
        (H100, "gpu", "auto"),
        (T4, "gpu", "half"),
        (CPU_BF16, "cpu", "bfloat16"),
        (CPU_AMX, "cpu", "bfloat16"),
        (CPU_OLD, "cpu", "float32"),
        (ARM, "cpu", "float32"),
        (ARM_BF16, "cpu", "bfloat16"),
        (T4, "cpu", "float32"),
    ],
)
def test_the_precision_is_what_the_processor_computes_by_itself(machine, device, dtype):
    assert choices.choose_dtype(machine, device).value == dtype


def test_a_gpu_with_room_and_a_hub_serves_the_large_reranker():
    for hub in ("cached", "reachable"):
        assert choices.choose_model(H100, "gpu", hub=hub).value == HUB_MODEL
        assert choices.choose_model(T4, "gpu", hub=hub).value == HUB_MODEL


@pytest.mark.parametrize(
    ("machine", "device", "hub"),
    [
        (H100, "gpu", "offline"),
        (H100, "gpu", "missing"),
        (FULL, "gpu", "cached"),
        (CPU_BF16, "cpu", "cached"),
    ],
)
def test_everywhere_else_the_offline_reranker_serves(machine, device, hub):
    assert choices.choose_model(machine, device, hub=hub).value is None


def test_a_small_model_takes_a_small_share_of_the_gpu():
    share = choices.choose_memory(H100, "gpu", weights=HUB_MODEL_WEIGHTS).value
    assert 0.03 < share < 0.1
    assert choices.choose_memory(T4, "gpu", weights=HUB_MODEL_WEIGHTS).value < 0.4


@pytest.mark.parametrize("weights", [None, 50_000_000, HUB_MODEL_WEIGHTS, 20 * GIB])
def test_no_share_is_larger_than_what_is_free(weights):
    for machine in (H100, T4, FULL):
        gpu = machine.gpu
        share = choices.choose_memory(machine, "gpu", weights=weights).value
        assert 0 < share * gpu.memory_total <= gpu.memory_free


def test_a_gpu_without_room_says_so():
    assert (
        "2.0 GiB are free" in choices.choose_memory(FULL, "gpu", weights=HUB_MODEL_WEIGHTS).reason
    )
    assert "2.0 GiB are free" in choices.choose_model(FULL, "gpu", hub="cached").reason


def test_a_cpu_gets_every_core_and_the_smallest_cache():
    assert choices.choose_cpus(CPU_BF16, "cpu").value == (0, 1)
    assert choices.choose_memory(CPU_BF16, "cpu").value == 1
    assert choices.choose_eager("cpu").value is True


def test_a_gpu_compiles_and_needs_no_cpu_threads():
    assert choices.choose_eager("gpu").value is False
    assert choices.choose_cpus(H100, "gpu").value == ()
    assert choices.choose_preload("gpu", ("/lib/libtcmalloc.so.4",)).value == ()


def test_the_offline_reranker_can_be_asked_for_on_a_gpu():
    choice = choices.choose_model(H100, "gpu", hub="cached", asked="offline-reranker")
    assert choice.value is None


def test_what_is_asked_for_wins():
    assert choices.choose_model(H100, "gpu", hub="cached", asked="a/b").value == "a/b"
    assert choices.choose_dtype(T4, "gpu", "float32").value == "float32"
    assert choices.choose_cpus(CPU_BF16, "cpu", 1).value == (0,)
    assert choices.choose_memory(FULL, "gpu", asked=0.8).value == 0.8
    assert choices.choose_eager("cpu", False).value is False


def test_every_choice_has_a_reason_that_a_notebook_shows():
    made = Choices(
        device=choices.choose_device(CPU_BF16, cpu_build=True),
        model=choices.choose_model(CPU_BF16, "cpu", hub="offline"),
        dtype=choices.choose_dtype(CPU_BF16, "cpu"),
        cpus=choices.choose_cpus(CPU_BF16, "cpu"),
        memory=choices.choose_memory(CPU_BF16, "cpu"),
        eager=choices.choose_eager("cpu"),
        preload=Choice(("/a/<b>.so",), "Present."),
    )
    rows = made.rows()
    assert [name for name, _, _ in rows] == [field.name for field in dataclasses.fields(Choices)]
    assert all(reason.endswith(".") for _, _, reason in rows)
    assert dict((name, value) for name, value, _ in rows)["model"] == "offline reranker"
    assert "/a/&lt;b&gt;.so" in made._repr_html_()
