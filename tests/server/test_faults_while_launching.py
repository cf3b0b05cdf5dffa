"""Faults of a launch under way: each raises its own error, soon, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launching import INTERRUPTIBLE, StartInThread, only_record, wait_for

from helpers.errors import (
    LaunchError,
    LaunchTimeoutError,
    NotAScoringModelError,
    OutOfMemoryError,
    ServerDiedError,
    UnknownFlagError,
)
from helpers.server import records
from helpers.server.server import ScoreServer, stop_all


def test_a_flag_that_vllm_does_not_know_is_shown(state, scoring_model):
    with pytest.raises(UnknownFlagError) as caught:
        ScoreServer(scoring_model, vllm_flags={"no-such-flag": 3}).start()
    assert "--no-such-flag" in caught.value.log_tail
    assert "--no-such-flag 3" in caught.value.command
    assert caught.value.log_path.is_file()


def test_too_little_memory_for_the_libraries_is_said(state, scoring_model, interpreter):
    # 300 MB of address space: PyTorch's largest library alone does not fit.
    python = interpreter("ulimit -v 300000")
    with pytest.raises(OutOfMemoryError, match="too little memory"):
        ScoreServer(scoring_model, python=python).start()


def test_a_share_of_memory_that_is_not_free_is_said(state, scoring_model):
    # All of the memory, of which the system and these tests hold some.
    whole = {"gpu-memory-utilization": 1.0}
    server = ScoreServer(scoring_model, vllm_flags=whole, env={"VLLM_CPU_KVCACHE_SPACE": None})
    with pytest.raises(OutOfMemoryError, match="too little memory") as caught:
        server.start()
    assert "less than desired CPU memory" in caught.value.log_tail.splitlines()[0]


def test_a_model_with_two_labels_is_said_to_have_no_score_route(state, two_label_model):
    with pytest.raises(NotAScoringModelError, match="exactly one output label"):
        ScoreServer(two_label_model).start()


def test_an_engine_killed_while_it_starts_ends_the_launch(state, scoring_model):
    start = StartInThread(ScoreServer(scoring_model))
    engine = wait_for(find_engine)
    engine.kill()
    error = start.outcome()
    assert isinstance(error, ServerDiedError)
    assert error.log_tail


def find_engine():
    record = only_record()
    members = record.members() if record else []
    return next((m for m in members if "EngineCore" in " ".join(m.cmdline())), None)


def test_a_server_killed_while_it_imports_ends_the_launch(state, scoring_model):
    start = StartInThread(ScoreServer(scoring_model))
    os.kill(wait_for(only_record).pid, signal.SIGKILL)
    error = start.outcome()
    assert isinstance(error, ServerDiedError)
    assert "at the stage 'imports' (SIGKILL)" in str(error)


def test_a_server_that_shows_no_sign_of_life_is_ended(state, scoring_model):
    start = StartInThread(ScoreServer(scoring_model, stall_timeout=5))
    os.kill(wait_for(only_record).pid, signal.SIGSTOP)
    error = start.outcome()
    assert isinstance(error, LaunchTimeoutError)
    assert "no sign of life for 5 seconds, at the stage 'imports'" in str(error)


def test_a_hang_at_a_later_stage_names_that_stage(state, scoring_model, interpreter):
    # vLLM cannot be made to hang between two stages on purpose, so a script stands for it.
    python = interpreter('echo "Starting to load model x..."\nsleep 600')
    with pytest.raises(LaunchTimeoutError, match="at the stage 'weights'") as caught:
        ScoreServer(scoring_model, python=python, stall_timeout=2).start()
    assert "Starting to load model" in caught.value.log_tail


def test_a_launch_that_takes_too_long_is_ended(state, scoring_model, interpreter):
    python = interpreter("while :; do :; done")
    with pytest.raises(LaunchTimeoutError, match="not ready within 4 seconds"):
        ScoreServer(scoring_model, python=python, start_timeout=4).start()


def test_a_launch_that_is_stopped_from_elsewhere_ends(state, scoring_model):
    start = StartInThread(ScoreServer(scoring_model))
    record = wait_for(only_record)
    assert record.pid in stop_all()
    assert isinstance(start.outcome(), ServerDiedError)


def test_an_interrupted_start_ends_what_it_launched(state, scoring_model):
    code = f"from helpers.server import ScoreServer; ScoreServer({scoring_model!r}).start()"
    code = INTERRUPTIBLE + code
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as kernel:
        wait_for(only_record)
        os.killpg(kernel.pid, signal.SIGINT)
        _, stderr = kernel.communicate(timeout=120)
    assert "KeyboardInterrupt" in stderr
    assert records.load_all() == []


def test_ports_that_are_always_lost_to_others_end_the_launch(state, scoring_model, interpreter):
    python = interpreter('echo "OSError: [Errno 98] Address already in use" >&2\nexit 1')
    with pytest.raises(ServerDiedError, match=r"took the server.s port 3 times"):
        ScoreServer(scoring_model, python=python).start()


def test_a_cache_that_is_too_small_names_the_length_to_ask_for(state, scoring_model, interpreter):
    # No decoder is packaged here, so a script says what vLLM says of one.
    said = (
        "ValueError: To serve at least one request with the models max seq len (40960), (4.38 GiB "
        "KV cache is needed, which is larger than the available KV cache memory (1.0 GiB). Based "
        "on the available memory, the estimated maximum model length is 9344."
    )
    python = interpreter(f"echo '{said}'\nexit 1")
    with pytest.raises(OutOfMemoryError, match=r"max_model_len=") as caught:
        ScoreServer(scoring_model, python=python).start()
    assert "9344" in str(caught.value) and "End other programs" not in str(caught.value)


def test_a_log_that_is_deleted_during_the_launch_is_an_error_of_the_launch(state, scoring_model):
    start = StartInThread(ScoreServer(scoring_model))
    Path(wait_for(only_record).log_path).unlink()
    error = start.outcome()
    assert isinstance(error, LaunchError) and "log went away" in str(error)


def test_every_error_of_a_launch_is_one_kind():
    for kind in (UnknownFlagError, OutOfMemoryError, NotAScoringModelError, ServerDiedError):
        assert issubclass(kind, LaunchError)
