"""A checkpoint under what can happen to it: interrupts, kills, torn and foreign files."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import stored_scores

from helpers.bulk import checkpoint
from helpers.bulk.checkpoint import Checkpoint
from helpers.errors import InputError, ScoreError

SETTINGS = {"model": "m", "use_activation": False}
PAIRS = [(f"query {row}", f"document {row}") for row in range(9)]
SCORES = [row / 7 for row in range(9)]


@pytest.fixture(autouse=True)
def saves_at_once(monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.sqlite"


def run(path, *, pairs=PAIRS, settings=SETTINGS, stop=None, step=2):
    """Score what is left, up to row `stop`; return all scores and how many were there before."""
    with Checkpoint(path, settings) as kept:
        scores = kept.resume(iter(pairs))
        before = len(scores)
        for start in range(before, len(pairs) if stop is None else stop, step):
            batch = pairs[start : start + step]
            scores.extend(SCORES[start : start + len(batch)])
            kept.keep(batch)
        return list(scores), before


# -- what it keeps ------------------------------------------------------------------------------


def test_a_second_run_goes_on_where_the_first_stopped(path):
    assert run(path, stop=4) == (SCORES[:4], 0)
    assert run(path, step=3) == (SCORES, 4)
    assert run(path) == (SCORES, 9)


def test_it_is_an_sqlite_file_of_the_scores_in_order(path):
    run(path)
    assert stored_scores(path) == SCORES


def test_a_save_writes_what_is_new_and_not_what_is_there(path):
    run(path, stop=4, step=4)
    run(path, step=5)
    with closing(sqlite3.connect(path)) as database:
        saves = database.execute("SELECT start, length(scores) FROM saves").fetchall()
    assert saves == [(0, 4 * 8), (4, 5 * 8)]


def test_nothing_is_left_beside_it(path):
    run(path)
    assert list(path.parent.iterdir()) == [path]


def test_between_two_saves_some_time_passes_and_the_end_saves_the_rest(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 3600.0)
    with Checkpoint(path, SETTINGS) as kept:
        scores = kept.resume(iter(PAIRS))
        for row in (0, 1, 2):
            scores.append(SCORES[row])
            kept.keep([PAIRS[row]])
        assert len(stored_scores(path)) == 1
    assert len(stored_scores(path)) == 3


def test_pairs_may_be_added_behind_those_of_the_first_run(path):
    run(path, pairs=PAIRS[:5])
    assert run(path) == (SCORES, 5)


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    run(link)
    assert link.is_symlink()
    assert run(path) == (SCORES, 9)


def test_the_home_folder_may_be_written_as_a_tilde(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    run("~/scores.sqlite")
    assert path.is_file()


@pytest.mark.parametrize("name", ["a b", ":memory:", "file:x?mode=memory", "100%.q?", "ö 東京.db"])
def test_a_file_may_have_any_name(tmp_path, name):
    run(tmp_path / name, stop=4)
    assert run(tmp_path / name) == (SCORES, 4)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_settings_may_hold_numbers_of_numpy(path):
    run(path, stop=4, settings={"model": "m", "truncate_prompt_tokens": np.int64(8)})
    assert run(path, settings={"model": "m", "truncate_prompt_tokens": 8}) == (SCORES, 4)


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=4))
def test_no_two_lists_of_pairs_have_the_same_bytes(pairs):
    """The digest is one of bytes, and a text may not slip from one cell into the next."""
    stream = b"".join(map(checkpoint._bytes_of, pairs)).decode()
    read = []
    while stream:
        query, document, stream = stream.split(" ", 2)
        lengths = int(query), int(document)
        read.append((stream[: lengths[0]], stream[lengths[0] : sum(lengths)]))
        stream = stream[sum(lengths) :]
    assert read == pairs


# -- interrupts and kills -----------------------------------------------------------------------


@contextmanager
def interrupted_before_line(number):
    """Interrupt this thread before the so many-th line that runs in `checkpoint`; yield the count.

    The interpreter runs signal handlers between lines, so this is where a Ctrl-C arrives.
    """
    count = [0]

    def trace(frame, event, argument):
        if frame.f_code.co_filename != checkpoint.__file__:
            return None
        if event == "line":
            count[0] += 1
            if count[0] == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def test_an_interrupt_at_any_line_spoils_nothing(path):
    for number in range(1, 10_000):
        path.unlink(missing_ok=True)
        run(path, stop=2)
        try:
            with interrupted_before_line(number) as lines:
                run(path)
        except KeyboardInterrupt:
            assert len(stored_scores(path)) >= 2
            scores, before = run(path)
            assert scores == SCORES
            assert before >= 2
        else:
            break
    assert lines[0] == number - 1 > 50


KILLED = """
import os, signal, sys, traceback
sys.path.insert(0, sys.argv[1])
from test_checkpoint import SCORES, checkpoint, run

checkpoint.SAVE_SECONDS = 0.0
path = sys.argv[2]

def in_child(action):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

def killed_before_line(number):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        # All that touches the disk; elsewhere a kill is no other than between two saves.
        if frame.f_code.co_qualname not in ("Checkpoint.save", "Checkpoint._transaction"):
            return None
        lines += event == "line"
        if lines == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    run(path, stop=6)

def goes_on(least):
    scores, before = run(path)
    assert scores == SCORES, scores
    assert before >= least, before

for number in range(1, 10_000):
    in_child(lambda: run(path, stop=2))
    ended = in_child(lambda: killed_before_line(number))
    assert ended in (0, -signal.SIGKILL), ended
    assert in_child(lambda: goes_on(2)) == 0
    os.unlink(path)
    if ended == 0:
        print("killed at", number, "lines")
        break
"""


def test_a_kill_at_any_line_of_a_save_spoils_nothing(path):
    here = str(path.parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(__file__).rpartition("/")[0], str(path)],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[2]) > 30


HALF_WAY = """
import os, signal, sqlite3, sys
sys.path.insert(0, sys.argv[1])
from test_checkpoint import SETTINGS, Checkpoint

class Dying(sqlite3.Connection):
    def execute(self, command, *values):
        if command == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(command, *values)

connect = sqlite3.connect
sqlite3.connect = lambda *given, **more: connect(*given, factory=Dying, **more)
pairs = [("query", f"document {row}") for row in range(1_000_000)]
with Checkpoint(sys.argv[2], SETTINGS) as kept:
    scores = kept.resume(iter(()) if len(sys.argv) == 3 else iter([("query 0", "document 0")]))
    scores.extend([0.5] * len(pairs))  # too much for SQLite's memory: the file itself is changed
    kept.keep(pairs)
"""


@pytest.mark.parametrize("kept", [0, 1])
def test_a_save_that_was_killed_half_way_is_undone(path, kept):
    if kept:
        run(path, pairs=PAIRS[:1])
    here = str(__file__).rpartition("/")[0]
    arguments = [here, str(path), *["kept"] * kept]
    done = subprocess.run([sys.executable, "-c", HALF_WAY, *arguments], timeout=300)
    assert done.returncode == -9
    assert path.stat().st_size > 1_000_000  # what was not certain is in the file
    assert run(path) == (SCORES, kept)
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_is_a_checkpoint_of_nothing(path):
    path.touch()
    assert run(path) == (SCORES, 0)


def test_a_process_forked_in_the_middle_of_a_run_leaves_the_checkpoint_alone(path):
    with Checkpoint(path, SETTINGS) as kept:
        scores = kept.resume(iter(PAIRS))
        for row, pair in enumerate(PAIRS):
            scores.append(SCORES[row])
            kept.keep([pair])
            assert not [name for name in open_files() if name.startswith(str(path))]
    assert run(path) == (SCORES, 9)


EXITING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_checkpoint import PAIRS, SCORES, SETTINGS, Checkpoint, checkpoint

checkpoint.SAVE_SECONDS = 3600.0
with Checkpoint(sys.argv[2], SETTINGS) as kept:
    scores = kept.resume(iter(PAIRS))
    for row, pair in enumerate(PAIRS):
        scores.append(SCORES[row])
        kept.keep([pair])
        if row == 4:
            child = os.fork()
            if not child:
                sys.exit()  # so the block of the parent ends in the child too
            os.waitpid(child, 0)
            kept.save()
"""


def test_a_forked_process_that_ends_like_its_parent_saves_nothing(path):
    here = str(__file__).rpartition("/")[0]
    subprocess.run([sys.executable, "-c", EXITING, here, str(path)], check=True, timeout=300)
    assert stored_scores(path) == SCORES


def open_files():
    """Return what this process has open, which is what a fork would carry over."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the listing's own
    return names


def test_two_runs_that_begin_on_one_file_at_once_do_not_mix(path):
    another = pytest.raises(ScoreError, match="Another run is using the checkpoint")
    with another, Checkpoint(path, SETTINGS) as first, Checkpoint(path, SETTINGS) as second:
        for kept in (first, second):
            kept.resume(iter(PAIRS))
        for kept, rows in ((first, range(0, 3)), (second, range(0, 2))):
            kept._scores.extend(SCORES[row] for row in rows)
            kept.keep([PAIRS[row] for row in rows])
    assert run(path) == (SCORES, 3)


def test_a_file_that_another_program_is_writing_is_in_use(path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *given, **more: connect(*given, timeout=0.1, **more)
    )
    run(path, stop=4)
    with closing(connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(ScoreError, match="Another run is using the checkpoint"):
            run(path)
    assert run(path) == (SCORES, 4)


def test_a_file_that_was_removed_in_the_middle_of_a_run_is_written_anew(path):
    with Checkpoint(path, SETTINGS) as kept:
        scores = kept.resume(iter(PAIRS))
        for row in (0, 1, 2):
            scores.append(SCORES[row])
            kept.keep([PAIRS[row]])
            if row == 1:
                path.unlink()
    assert stored_scores(path) == SCORES[:3]


def test_a_second_run_on_the_same_file_ends_the_first_and_the_file_stays_whole(path):
    another = pytest.raises(ScoreError, match="Another run is using the checkpoint")
    with another, Checkpoint(path, SETTINGS) as first:
        scores = first.resume(iter(PAIRS))
        run(path, stop=6)
        scores.append(SCORES[0])
        first.keep(PAIRS[:1])
    assert run(path) == (SCORES, 6)


# -- a disk that fails --------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size):
    """Let the system refuse to make files larger than this, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_run_and_leaves_what_was_there(path):
    run(path, stop=4)
    with files_of_at_most(100), pytest.raises(ScoreError, match="cannot be written: disk I/O"):
        run(path)
    assert list(path.parent.iterdir()) == [path]
    assert run(path) == (SCORES, 4)


def test_a_file_that_can_not_be_written_ends_the_run_at_its_first_batch(path):
    with pytest.raises(ScoreError, match="cannot be written: unable to open"):
        run(path.with_name("s" * 250))


# -- files that are not this run's --------------------------------------------------------------


def assert_refused(path, said, **changes):
    before = path.read_bytes()
    with pytest.raises(InputError, match=said) as caught:
        run(path, **changes)
    assert str(path) in str(caught.value)
    assert "delete it to begin anew" in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("another", "document 0"), *PAIRS[1:]], "9 scores of other texts"),
        ([*PAIRS[:8], ("query 8", "another")], "9 scores of other texts"),
        ([PAIRS[1], PAIRS[0], *PAIRS[2:]], "9 scores of other texts, or in another order"),
        (PAIRS[:8], "9 scores, and only 8 pairs"),
    ],
)
def test_scores_of_other_texts_are_refused(path, pairs, said):
    run(path)
    assert_refused(path, said, pairs=pairs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**SETTINGS, "model": "n"}, "made with model='m', and this run has model='n'"),
        ({"model": "m"}, "use_activation=False, and this run has use_activation=None"),
        ({**SETTINGS, "instruction": "rank"}, "instruction=None, and .* instruction='rank'"),
    ],
)
def test_scores_of_another_model_or_with_other_options_are_refused(path, settings, said):
    run(path)
    assert_refused(path, said, settings=settings)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_torn_file_is_refused(path, share):
    run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(path, "cannot be used: ")


def test_a_damaged_file_is_refused_or_still_right(path):
    run(path)
    whole = path.read_bytes()
    refused = 0
    # Most of the file is empty space between the tables' first pages and their rows.
    places = [place for place, byte in enumerate(whole) if byte]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            scores, _ = run(path)
        except InputError:
            refused += 1
        else:
            assert scores == SCORES
    assert refused > len(places) / 2


def test_a_file_of_somebody_else_is_refused(path):
    path.write_text("query,document\n")
    assert_refused(path, "cannot be used: file is not a database")
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE mine (a)")
    assert_refused(path, "cannot be used: no such table: meta")


def test_a_parquet_file_of_an_earlier_version_is_refused_as_such(path):
    pd.DataFrame({"score": SCORES}).to_parquet(path)
    assert_refused(path, "an earlier version of this package wrote it, as Parquet")


def test_a_file_of_another_version_is_refused(path):
    run(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE meta SET version = 1")
    assert_refused(path, "another version")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (5, "path of a file, not 5"),
        (True, "path of a file, not True"),
        ("", "path of a file, not ''"),
        ("/", "is a folder"),
        ("no-such-folder/scores.sqlite", "a folder that does not exist"),
        ("a\x00b", "null byte"),
        ("s" * 5000, "too long"),
    ],
)
def test_what_is_no_path_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Checkpoint(wrong, SETTINGS)


@pytest.mark.parametrize("option", [{1, 2}, float("nan"), {("a", "b"): 1}, b"text"])
def test_an_option_that_can_not_be_stored_is_refused(path, option):
    with pytest.raises(InputError, match="cannot be written as JSON"):
        Checkpoint(path, {"model": "m", "instruction": option})
