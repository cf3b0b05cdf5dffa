"""Records on disk, and which processes they let us touch."""

import dataclasses
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from helpers.errors import ScoreError
from helpers.server import left_elsewhere, processes, records, stop_all
from helpers.server.records import Record

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
# A first process that starts another one, which ignores SIGTERM.
PAIR = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
child += "print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
time.sleep(600)
"""
# The first of its threads ends alone, as in a large process that is on its way out.
LEAVING = f"""
import ctypes, os, threading, time
threading.Thread(target=lambda: (time.sleep(1.5), os._exit(0))).start()
print("up", flush=True)
time.sleep(0.5)
ctypes.CDLL(None).syscall({93 if platform.machine() == "aarch64" else 60}, 0)
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    yield tmp_path
    records.sweep()


def launch(code=SLEEP, key="k"):
    """Start a process as a server is started, and record it once its log has a line."""
    log_path = records.new_log_path(key)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=log, stderr=log, start_new_session=True
        )
    while not log_path.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    record = Record(
        key=key,
        pid=process.pid,
        started=processes.start_ticks(process.pid),
        port=8000,
        model="m",
        command="vllm serve m",
        log_path=str(log_path),
    )
    records.save(record)
    return record, process


def test_a_record_comes_back_as_it_was_saved():
    record, _ = launch()
    assert records.load("k") == record
    assert records.load_all() == [record]
    assert record.is_alive()
    assert record.url == "http://127.0.0.1:8000"


def test_a_missing_broken_or_foreign_record_counts_as_none(state):
    assert records.load("k") is None
    record, _ = launch()
    (path,) = (state / "servers").iterdir()
    whole = path.read_text()
    for text in (
        "",
        whole[:-20],
        "[]",
        '{"key": "k"}',
        whole.replace('"version": 2', '"version": 9'),
        whole.replace('"pid"', '"number"'),
    ):
        path.write_text(text)
        assert records.load("k") is None
    path.write_text(whole)
    path.rename(path.with_name(path.name.replace("k-", "other-")))
    assert records.load_all() == []
    assert record.end() == [record.pid]


def test_a_record_that_the_system_does_not_let_us_read_is_not_taken_for_none(state):
    record, _ = launch()
    (path,) = (state / "servers").iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(ScoreError, match=r"cannot be read.*python -m helpers stop"):
        records.load("k")
    assert records.load_all() == []
    assert stop_all() == [record.pid]
    path.rmdir()


def test_saving_leaves_no_draft_behind(state):
    record, _ = launch()
    records.save(dataclasses.replace(record, ready=True))
    assert records.load("k").ready
    assert len(list((state / "servers").iterdir())) == 1


def test_a_dead_process_is_not_alive_even_as_a_zombie():
    record, process = launch()
    os.kill(process.pid, signal.SIGKILL)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    assert not record.is_alive()
    process.wait()
    assert not record.is_alive()


@pytest.mark.parametrize("change", [{"started": 5}, {"boot": "another"}, {"place": "elsewhere"}])
def test_a_process_that_differs_from_its_record_is_not_trusted(change):
    record, _ = launch()
    other = dataclasses.replace(record, **change)
    assert not other.is_alive()
    if "started" not in change:
        assert other.members() == [], "their numbers mean nothing here"


def test_a_clock_that_is_set_changes_nothing(monkeypatch):
    record, _ = launch()
    # What psutil adds to the ticks of a process moves with the clock, in a new kernel as well.
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert record.is_alive()


def test_the_server_of_another_machine_is_neither_used_nor_ended_nor_forgotten(state, capsys):
    record, _ = launch()
    records.forget(record)
    theirs = dataclasses.replace(record, place="node7 pid:[1] 0", ready=True)
    records.save(theirs)
    log = Path(record.log_path)
    theirs_log = log.with_name("k-0000dead-1.log")
    log.rename(theirs_log)
    os.utime(theirs_log, (1, 1))
    theirs = dataclasses.replace(theirs, log_path=str(theirs_log))
    records.save(theirs)
    for _ in range(30):
        records.new_log_path("x")
    assert records.load("k") is None, "a server of our own gets a record of its own"
    assert theirs.is_elsewhere and theirs.end() == []
    assert records.load_all() == [theirs]
    assert theirs_log.is_file()
    assert left_elsewhere() == ["m on node7"]


def test_stopping_on_another_machine_leaves_a_server_alone_and_says_so(state):
    record, _ = launch()
    if shutil.which("unshare") is None:
        pytest.skip("unshare, which plays another machine here, is not installed")
    other = ["unshare", "--user", "--map-root-user", "--uts", "--pid", "--fork", "--mount-proc"]
    stop = f"hostname node7; exec {sys.executable} -m helpers stop"
    done = subprocess.run([*other, "sh", "-c", stop], capture_output=True, text=True)
    if "unshare" in done.stderr:
        pytest.skip(f"this machine does not let us play another one: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "No server was running." in done.stdout and "Left alone: m on" in done.stdout
    assert records.load("k") == record and record.is_alive()


def test_the_record_of_an_earlier_run_of_this_machine_goes(state):
    record, _ = launch()
    records.save(dataclasses.replace(record, boot="before"))
    assert record.pid in stop_all(), "by its log, since its number may be anybody's"
    assert records.load_all() == []


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_cannot_be_written_to_is_named_with_the_variable(monkeypatch, named):
    folder = "/proc/nowhere" if named else "/sys/.cache"
    monkeypatch.setenv("SCORE_STATE_DIR", "/proc/nowhere")
    if not named:
        monkeypatch.delenv("SCORE_STATE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", "/sys")
    with pytest.raises(ScoreError, match=rf"{folder}.*SCORE_STATE_DIR"):
        records.new_log_path("k")
    assert records.load_all() == [] and records.load("k") is None, "reading needs no folder"
    assert stop_all() == []


def test_the_state_folder_may_be_written_with_a_tilde_and_spaces(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCORE_STATE_DIR", " ~/my state (v1.0) = x\n")
    assert records.state_dir(make=False) == tmp_path / "my state (v1.0) = x"
    assert not records.state_dir(make=False).exists()
    assert records.state_dir().is_dir()


def test_ending_reaches_every_member_also_one_that_ignores_the_signal():
    record, _ = launch(PAIR)
    assert len(record.members()) == 2
    ended = processes.end(record.pid, Path(record.log_path), grace=1)
    assert len(ended) == 2 and record.members() == []


def test_ending_waits_until_all_threads_are_gone_and_with_them_what_they_have_open():
    record, process = launch(LEAVING)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    assert record.members() == [], "nothing of it can be seen any more"
    assert process.poll() is None, "and yet it is there"
    record.end()
    assert process.poll() == 0


def test_what_the_first_process_leaves_behind_is_still_found(monkeypatch):
    monkeypatch.setattr(processes, "end", partial(processes.end, grace=1.0))
    record, process = launch(PAIR)
    process.kill()
    process.wait()
    (orphan,) = record.members()
    os.kill(orphan.pid, signal.SIGSTOP)
    assert record.end() == [orphan.pid]
    assert records.load_all() == []


def test_a_process_that_does_not_write_to_the_log_is_never_touched():
    record, _ = launch()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        lying = dataclasses.replace(record, pid=stranger.pid)
        assert lying.members() == []
        assert lying.end() == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_reader_of_the_log_in_another_session_is_never_touched():
    record, _ = launch()
    with (
        open(record.log_path, "ab") as log,
        subprocess.Popen(["sleep", "600"], stdout=log, start_new_session=True) as other,
    ):
        assert [member.pid for member in record.members()] == [record.pid]
        record.end()
        assert other.poll() is None
        other.kill()


def test_forgetting_leaves_the_record_of_a_later_launch():
    old, _ = launch()
    new, _ = launch()
    records.forget(old)
    assert records.load("k") == new
    records.forget(new)
    assert records.load("k") is None


def test_a_server_whose_record_was_lost_is_swept_up(state):
    record, process = launch()
    records.forget(record)
    assert records.sweep() == [record.pid]
    assert process.wait(60) == -signal.SIGTERM


def test_old_logs_are_dropped_and_logs_in_use_are_kept(state):
    record, _ = launch()
    os.utime(record.log_path, (1, 1))
    for _ in range(30):
        records.new_log_path("x")
    logs = list((state / "logs").glob("*.log"))
    assert len(logs) <= 23
    assert record.log_path in map(str, logs)


def test_equal_configurations_have_equal_keys():
    one = records.key_of({"model": "m", "flags": {"a": 1, "b": 2}})
    assert one == records.key_of({"flags": {"b": 2, "a": 1}, "model": "m"})
    assert one != records.key_of({"model": "m", "flags": {"a": 1}})


def test_the_lock_is_free_again_when_its_holder_is_killed(state):
    code = (
        "import time; from helpers.server import records; "
        "lock = records.start_lock('k'); lock.acquire(); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            lock = records.start_lock("k")
            with pytest.raises(TimeoutError):
                lock.acquire(timeout=0.1)
        finally:
            holder.kill()
        lock.acquire(timeout=60)
        lock.release()
