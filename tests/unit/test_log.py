"""What is read from vLLM's log: the stage, the cause, the lines worth showing."""

import pytest

from helpers.errors import (
    EngineMissingError,
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


def test_a_port_that_was_lost_is_recognised():
    assert launch_log.PORT_TAKEN.search("OSError: [Errno 98] Address already in use")


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old\n" * 1000 + "new\n")
    assert launch_log.read(path, limit=6) == "d\nnew\n"
    assert launch_log.read(tmp_path / "none.log") == ""
