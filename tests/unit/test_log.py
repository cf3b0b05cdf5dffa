"""What is read from vLLM's log: the stage, the cause, the lines worth showing."""

import pytest

from helpers.errors import (
    EngineMissingError,
    LaunchError,
    ModelUnavailableError,
    NotAScoringModelError,
    OutOfMemoryError,
    ServerDiedError,
    UnknownFlagError,
)
from helpers.server import log as launch_log

API = "(APIServer pid=84) INFO 11-23 06:45:57 "
WORKER = "(Worker pid=93) INFO 11-23 06:46:27 "
# In the order of a launch of vLLM 0.32, shortened.
LAUNCH = [
    ("imports", "W1123 06:45:56.882000 84 torch/_library/triton.py:53] Triton not available"),
    ("engine", API + "[api_utils.py:286] non-default args: {'dtype': 'bfloat16'}"),
    ("engine", API + "[model.py:733] Resolved architecture: BertForSequenceClassification"),
    ("weights", WORKER + "[cpu_model_runner.py:68] Starting to load model /m..."),
    ("weights", "Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]"),
    ("warm-up", WORKER + "[default_loader.py:501] Loading weights took 0.25 seconds"),
    (
        "warm-up",
        WORKER + "[core.py:402] init engine (profile, create kv cache, warmup) took 0.02 s",
    ),
    ("first score", API + "[entry.py:140] Starting vLLM server on http://127.0.0.1:8900"),
    ("first score", "INFO:     Application startup complete."),
]
CRASH = """\
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99] EngineCore failed to start.
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99]   File "/env/vllm/v1/engine/core.py", line 9
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99]     engine_core = EngineCoreProc(*args)
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99]                   ^^^^^^^^^^^^^^^^^^^^^
(EngineCore pid=9) ERROR 11-23 07:00:00 [core.py:99] ValueError: the true cause
\x1b[0;36m(APIServer pid=84)\x1b[0;0m Traceback (most recent call last):
(APIServer pid=84)   File "/env/vllm/entry.py", line 7, in <module>
(APIServer pid=84)     sys.exit(main())
(APIServer pid=84) RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_each_line_of_a_launch_moves_to_its_stage():
    for number, (stage, _) in enumerate(LAUNCH):
        text = "\n".join(line for _, line in LAUNCH[: number + 1])
        assert launch_log.stage(text) == stage


def test_an_empty_log_is_at_the_first_stage():
    assert launch_log.stage("") == "imports"
    assert set(stage for stage, _ in LAUNCH) | {"ready"} == set(launch_log.STAGES)


# vLLM ends some of its lines with a carriage return too.
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_cause_of_a_crash_comes_first_and_stack_frames_not_at_all(end):
    tail = launch_log.tail(CRASH.replace("\n", end))
    assert tail.splitlines()[0] == "ValueError: the true cause"
    for noise in ("File", "^^^", "Traceback", "\x1b", "pid=", "07:00:00", "sys.exit", "Proc("):
        assert noise not in tail


def test_the_tail_is_as_long_as_asked_for():
    text = "\n".join(f"line {number}" for number in range(100))
    assert launch_log.tail(text, 3) == "line 97\nline 98\nline 99"
    assert launch_log.tail("", 3) == ""


def test_progress_bars_and_lists_of_routes_are_left_out():
    text = "Loading: 50%|##   | 1/2 [00:00<00:00, 4.1it/s]\r\n" + API + "[a.py:1] Route: /x\nkept\n"
    assert launch_log.clean(text) == ["kept"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("vllm: error: unrecognized arguments: --no-such-flag 3", UnknownFlagError),
        ("vllm serve: error: argument --dtype: invalid choice: 'x'", UnknownFlagError),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", OutOfMemoryError),
        ("ValueError: Free memory on device (1/15 GiB) on startup is less than desired GPU memory "
         "utilization (0.9, 13 GiB)", OutOfMemoryError),
        ("ValueError: Available memory on node 0 (9/16 GiB) on kv cache allocation is less than "
         "requested memory for kv (97 GiB)", OutOfMemoryError),
        ("ImportError: libtorch.so: failed to map segment from shared object", OutOfMemoryError),
        ("/env/bin/python: No module named vllm.entrypoints", EngineMissingError),
        ("ModuleNotFoundError: No module named 'vllm'", EngineMissingError),
        ("SafetensorError: Error while deserializing header", ModelUnavailableError),
        ("OSError: x/y is not a local folder and is not a valid model identifier listed on",
         ModelUnavailableError),
        ("ValueError: The model does not support Score API", NotAScoringModelError),
        ("RuntimeError: something else", ServerDiedError),
    ],
)  # fmt: skip
def test_a_cause_in_the_log_decides_the_kind_of_error(line, kind):
    assert launch_log.diagnose(line, exit_code=1, oom_killed=False)[0] is kind


def test_a_kill_by_the_kernel_is_a_lack_of_memory():
    kind, message = launch_log.diagnose("", exit_code=-9, oom_killed=True)
    assert kind is OutOfMemoryError and "ran out of memory" in message
    kind, message = launch_log.diagnose("", exit_code=-9, oom_killed=False)
    assert kind is ServerDiedError and "(SIGKILL)" in message and "'imports'" in message


# What vLLM 0.32, PyTorch 2.13 and Triton 3.7 write on machines whose GPU cannot be used.
@pytest.mark.parametrize(
    ("lines", "kind", "advice"),
    [
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please "
         "update your GPU driver by downloading and installing a new version from the URL: "
         "http://www.nvidia.com/Download/index.aspx", LaunchError, "driver 580 or newer"),
        ("RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
         "functions before calling NumCudaDevices() that might have already set an error? Error "
         "803: system has unsupported display driver / cuda driver combination", LaunchError,
         "driver 580"),
        ("RuntimeError: CUDA driver error: CUDA driver version is insufficient for CUDA runtime "
         "version", LaunchError, "driver 580"),
        ("torch.AcceleratorError: CUDA error: no kernel image is available for execution on the "
         "device\nCUDA kernel errors might be asynchronously reported at some other API call",
         LaunchError, "capability 7.5"),
        ("torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
         LaunchError, "holds the GPU alone"),
        ("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", LaunchError,
         "holds the GPU alone"),
        ("RuntimeError: Failed to infer device type, please set the environment variable "
         "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
         LaunchError, "no working NVIDIA driver"),
        ("WARNING 11-26 04:00:00 [interface.py:257] Failed to import from vllm._C: "
         "ModuleNotFoundError(\"No module named 'vllm._C'\")\n"
         "RuntimeError: Failed to infer device type", LaunchError, "no working NVIDIA driver"),
        ("RuntimeError: Found no NVIDIA driver on your system. Please check that you have an "
         "NVIDIA GPU and installed a driver from http://www.nvidia.com", LaunchError,
         "PROFILE=cpu make setup"),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
         LaunchError, "no working NVIDIA driver"),
        ("RuntimeError: Failed to find C compiler. Please specify via CC environment variable or "
         "set triton.knobs.build.impl.", LaunchError, "apt-get install gcc"),
        ("/tmp/tmpv1/cuda_utils.c:9:10: fatal error: Python.h: No such file or directory\n"
         "subprocess.CalledProcessError: Command '['/usr/bin/gcc', '/tmp/tmpv1/cuda_utils.c', "
         "'-O3']' returned non-zero exit status 1.", LaunchError, "python3-dev"),
        ("ValueError: To serve at least one request with the model's max seq len (40960), (4.38 "
         "GiB KV cache is needed, which is larger than the available KV cache memory (1.0 GiB). "
         "The estimated maximum model length is 9344.", OutOfMemoryError,
         "max_model_len="),
        ("ValueError: No available memory for the cache blocks. Try increasing "
         "`gpu_memory_utilization` when initializing the engine.", OutOfMemoryError,
         "max_model_len="),
    ],
)  # fmt: skip
@pytest.mark.parametrize("process", ["", "(EngineCore pid=9) ERROR 11-26 04:00:00 [core.py:99] "])
def test_what_a_gpu_lacks_is_told_with_what_to_do(lines, kind, advice, process):
    echo = "RuntimeError: Engine core initialization failed. See root cause above."
    text = "".join(f"{process}{line}\n" for line in [*lines.split("\n"), echo])
    found, message = launch_log.diagnose(text, exit_code=1, oom_killed=False)
    assert found is kind and advice in message
    assert launch_log.tail(text).splitlines()[0].split()[-1] in lines


def test_warnings_of_a_build_for_the_cpu_are_no_cause():
    text = (
        "WARNING [interface.py:257] Failed to import from vllm._C: No module named 'vllm._C'\n"
        "INFO [__init__.py:36] No module named 'vllm_omni'\nRuntimeError: something else\n"
    )
    assert launch_log.diagnose(text, exit_code=1, oom_killed=False)[0] is ServerDiedError


def test_a_port_that_was_lost_is_told_from_one_that_was_replaced():
    lost = "Traceback (most recent call last):\nOSError: [Errno 98] Address already in use\n"
    assert launch_log.lost_its_port(lost)
    assert launch_log.lost_its_port(f"(APIServer pid=3) {lost}")
    # vLLM's own group of processes looks for another port, and then something else goes wrong.
    retried = "DistNetworkError: address already in use. Retrying\nValueError: the true cause\n"
    assert not launch_log.lost_its_port(retried)
    assert not launch_log.lost_its_port(f"{lost}ValueError: the true cause\n")
    assert launch_log.diagnose(retried, exit_code=1, oom_killed=False)[0] is ServerDiedError
    assert not launch_log.lost_its_port("")


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old\n" * 1000 + "new\n")
    assert launch_log.read(path, limit=6) == "d\nnew\n"
    assert launch_log.read(tmp_path / "none.log") == ""
