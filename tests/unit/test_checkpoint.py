"""A checkpoint under what can happen to it: interrupts, kills, torn and foreign files."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.bulk import checkpoint
from helpers.bulk.checkpoint import Checkpoint
from helpers.errors import InputError, ScoreError

SETTINGS = {"model": "m", "use_activation": False}
PAIRS = [(f"query {row}", f"document {row}") for row in range(9)]
SCORES = [row / 7 for row in range(9)]


@pytest.fixture(autouse=True)
def saves_at_once(monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", math.inf)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.parquet"


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


def test_it_is_a_parquet_file_of_the_scores_in_order(path):
    run(path)
    stored = pd.read_parquet(path)
    assert list(stored.columns) == ["score"]
    assert stored["score"].dtype == np.float64
    assert stored["score"].tolist() == SCORES


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
        assert pq.read_metadata(path).num_rows == 1
    assert pq.read_metadata(path).num_rows == 3


def test_pairs_may_be_added_behind_those_of_the_first_run(path):
    run(path, pairs=PAIRS[:5])
    assert run(path) == (SCORES, 5)


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.parquet"
    link.symlink_to(path)
    run(link)
    assert link.is_symlink()
    assert run(path) == (SCORES, 9)


def test_the_home_folder_may_be_written_as_a_tilde(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    run("~/scores.parquet")
    assert path.is_file()


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
            assert pq.read_metadata(path).num_rows >= 2
            scores, before = run(path)
            assert scores == SCORES
            assert before >= 2
        else:
            break
    assert lines[0] == number - 1 > 50


KILLED = """
import math, os, signal, sys, traceback
sys.path.insert(0, sys.argv[1])
from test_checkpoint import SCORES, checkpoint, run

checkpoint.SAVE_SECONDS, checkpoint.SAVE_SHARE = 0.0, math.inf
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
        if frame.f_code.co_qualname not in ("Checkpoint.save", "Checkpoint._write"):
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


def test_half_a_file_that_a_killed_save_left_beside_it_is_removed(path):
    run(path, stop=4)
    path.with_name(f".{path.name}.0a1b2c3d.draft").write_bytes(path.read_bytes()[:100])
    assert run(path) == (SCORES, 4)
    assert list(path.parent.iterdir()) == [path]


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
    with files_of_at_most(100), pytest.raises(ScoreError, match="can not be written") as caught:
        run(path)
    assert "File too large" in str(caught.value)
    assert list(path.parent.iterdir()) == [path]
    assert run(path) == (SCORES, 4)


def test_a_file_that_can_not_be_written_ends_the_run_at_its_first_batch(path):
    with pytest.raises(ScoreError, match="can not be written: File name too long"):
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


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_torn_file_is_refused(path, share):
    run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(path, "can not be read")


def test_a_damaged_file_is_refused_or_still_right(path):
    run(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            scores, _ = run(path)
        except InputError:
            refused += 1
        else:
            assert scores == SCORES
    assert refused > len(whole) / 2


def test_a_file_of_somebody_else_is_refused(path):
    path.write_text("query,document\n")
    assert_refused(path, "can not be read")
    pd.DataFrame({"score": SCORES}).to_parquet(path)
    assert_refused(path, "of another origin")
    pq.write_table(pa.table({"score": ["a", "b"]}), path)
    assert_refused(path, "of another origin")


def test_a_file_of_another_version_is_refused(path):
    run(path)
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"vllm-score-notebooks"])
    changed = {b"vllm-score-notebooks": json.dumps({**about, "version": 0})}
    pq.write_table(table.replace_schema_metadata(changed), path)
    assert_refused(path, "another version")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (5, "path of a file, and is 5"),
        (True, "path of a file, and is True"),
        ("", "path of a file, and is ''"),
        ("/", "is a folder"),
        ("no-such-folder/scores.parquet", "a folder that does not exist"),
        ("a\x00b", "null byte"),
        ("s" * 5000, "too long"),
    ],
)
def test_what_is_no_path_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Checkpoint(wrong, SETTINGS)


@pytest.mark.parametrize("option", [{1, 2}, float("nan"), {("a", "b"): 1}, b"text"])
def test_an_option_that_can_not_be_stored_is_refused(path, option):
    with pytest.raises(InputError, match="can not be written as JSON"):
        Checkpoint(path, {"model": "m", "instruction": option})
