"""Bulk scoring: order, exactly once, bounded memory, and a prompt end when it must end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fault_server import (
    FaultServer,
    answer,
    changed,
    expected_score,
    good,
    half_closed,
    killed,
    reset,
    silent,
    text,
    truncated,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import stored_scores

from helpers.bulk import checkpoint
from helpers.bulk import scoring as bulk
from helpers.bulk.scoring import score_frame, score_pairs
from helpers.client.client import ScoreClient
from helpers.errors import (
    BadRequestError,
    InputError,
    ResponseError,
    ScoreError,
    ServerBusyError,
    ServerFaultError,
    UnreachableError,
)

BAD = answer(400, {"error": {"message": "no"}})


def expected(queries, documents):
    return [expected_score(*pair) for pair in zip(queries, documents, strict=True)]


def texts(count, kind="document"):
    return [f"{kind} {row}" for row in range(count)]


@pytest.fixture(scope="module")
def good_url():
    with FaultServer() as server:
        yield server.url


@settings(max_examples=30)
@given(
    count=st.integers(0, 40),
    batch_size=st.integers(1, 12),
    concurrency=st.integers(1, 6),
    lazy=st.booleans(),
)
def test_scores_come_in_the_order_of_the_pairs(good_url, count, batch_size, concurrency, lazy):
    queries, documents = texts(count, "query"), texts(count)
    with ScoreClient(good_url) as client:
        scores = score_pairs(
            client,
            iter(queries) if lazy else queries,
            iter(documents) if lazy else documents,
            batch_size=batch_size,
            concurrency=concurrency,
            progress=False,
        )
    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.float64
    assert scores.tolist() == expected(queries, documents)


def test_a_slow_batch_does_not_change_the_order(serve, client_of):
    others = threading.Semaphore(0)

    def first_waits(handler, payload):
        for _ in range(5):
            others.acquire()
        good(handler, payload)

    def other(handler, payload):
        good(handler, payload)
        others.release()

    server = serve(first_waits, other)
    scores = score_pairs(client_of(server), texts(8), texts(8), batch_size=1, progress=False)
    assert scores.tolist() == expected(texts(8), texts(8))


@pytest.mark.parametrize("fault", [answer(503, {}), answer(429, {}), reset, half_closed, truncated])
def test_each_pair_counts_once_also_when_requests_are_repeated(serve, client_of, fault):
    server = serve(good, fault, fault, good, fault, good)
    with ScoreClient(server.url) as client:
        scores = score_pairs(client, texts(60), texts(60), batch_size=10, progress=False)
    assert scores.tolist() == expected(texts(60), texts(60))
    assert len(server.payloads) == 6 + 3


def test_memory_is_bounded_for_a_long_generator(serve, client_of):
    count, batch_size, concurrency = 100_000, 1000, 3
    arrived = ahead = 0

    def counted(handler, payload):
        nonlocal arrived
        arrived += len(payload["documents"])
        good(handler, payload)

    def queries():
        nonlocal ahead
        for row in range(count):
            ahead = max(ahead, row + 1 - arrived)
            yield f"query {row}"

    documents = (f"document {row}" for row in range(count))
    scores = score_pairs(
        client_of(serve(counted)),
        queries(),
        documents,
        batch_size=batch_size,
        concurrency=concurrency,
        progress=False,
    )
    assert len(scores) == count
    assert scores[-1] == expected_score(f"query {count - 1}", f"document {count - 1}")
    assert ahead <= 2 * concurrency * batch_size


def test_no_more_requests_are_in_flight_than_asked_for(serve, client_of):
    lock = threading.Lock()
    now, most = 0, 0

    def counted(handler, payload):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        handler.server.released.wait(0.02)
        with lock:
            now -= 1
        good(handler, payload)

    score_pairs(
        client_of(serve(counted)), texts(30), texts(30), batch_size=1, concurrency=3, progress=False
    )
    assert 1 <= most <= 3


def test_options_reach_the_server(serve, client_of):
    server = serve()
    client = client_of(server)
    score_pairs(client, ["q"], ["d"], progress=False, use_activation=False)
    assert server.payloads[0]["use_activation"] is False


def test_sizes_and_options_may_be_numbers_of_numpy(serve, client_of):
    server = serve()
    frame = pd.DataFrame({"query": texts(6, "query"), "document": texts(6)})
    how = {"batch_size": np.int64(4), "concurrency": np.int32(2), "patience": np.float32(1)}
    scored = score_frame(
        client_of(server), frame, **how, truncate_prompt_tokens=np.int64(9), progress=False
    )
    assert scored["score"].tolist() == expected(texts(6, "query"), texts(6))
    assert sorted(len(payload["documents"]) for payload in server.payloads) == [2, 4]
    assert [payload["truncate_prompt_tokens"] for payload in server.payloads] == [9, 9]


@pytest.mark.parametrize(
    "column", [pa.array, pa.chunked_array, deque, lambda rows: dict.fromkeys(rows).keys()]
)
def test_columns_of_any_kind_are_scored(serve, client_of, column):
    documents = column([texts(9)] if column is pa.chunked_array else texts(9))
    scores = score_pairs(client_of(serve()), np.array(texts(9)), documents, progress=False)
    assert scores.tolist() == expected(texts(9), texts(9))


def test_processes_forked_in_the_middle_of_a_run_get_their_own_scores(serve, path):
    """As a data loader with workers forks while its texts are read."""
    children = []
    client = ScoreClient(serve().url, retries=0)

    def forking():
        for row in range(60):
            if row % 10 == 5:
                child = os.fork()
                if not child:
                    signal.alarm(60)
                    right = client.score("q", f"{row}").score == expected_score("q", f"{row}")
                    os._exit(0 if right else 1)
                children.append(child)
            yield f"document {row}"

    scores = score_pairs(
        client, texts(60), forking(), batch_size=4, checkpoint=path, progress=False
    )
    assert scores.tolist() == expected(texts(60), texts(60)) == stored_scores(path)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ended == [0] * 6


def test_the_model_is_asked_for_once_in_all_runs(serve):
    server = serve()
    with ScoreClient(server.url) as client:
        for _ in range(3):
            score_pairs(client, texts(8), texts(8), batch_size=2, progress=False)
    assert server.paths.count("/v1/models") == 1


def test_nothing_to_score_is_no_request(serve, client_of):
    server = serve()
    assert score_pairs(client_of(server), [], [], progress=False).tolist() == []
    assert server.paths == []


# -- when a batch fails -------------------------------------------------------------------------


def test_a_failed_batch_ends_the_run_and_names_its_rows(serve):
    def picky(handler, payload):
        if "document 25" in payload["documents"]:
            handler.send_json(400, {"error": {"message": "I do not like it"}})
        else:
            good(handler, payload)

    server = serve(picky)
    with ScoreClient(server.url) as client, pytest.raises(BadRequestError) as caught:
        score_pairs(client, texts(1000), texts(1000), batch_size=10, progress=False)
    assert str(caught.value).startswith("Rows 20 to 29: ")
    assert "I do not like it" in str(caught.value)
    assert caught.value.rows == range(20, 30)
    assert caught.value.status == 400
    # The two before it, and at most eight that were on their way together with it.
    assert len(server.payloads) <= 2 + 2 * 4


def test_an_error_is_raised_while_other_requests_still_hang(serve):
    server = serve(silent, answer(400, {"error": {"message": "no"}}))
    with ScoreClient(server.url, timeout=600) as client, pytest.raises(BadRequestError):
        score_pairs(client, texts(8), texts(8), batch_size=1, concurrency=4, progress=False)
    assert not server.released.is_set()


def test_an_error_ends_the_pauses_of_the_other_requests(serve):
    waiting = threading.Event()

    def busy(handler, payload):
        handler.send_json(503, {}, Retry_After="25")
        waiting.set()

    def wrong(handler, payload):
        waiting.wait()
        handler.send_json(400, {"error": {"message": "no"}})

    server = serve(busy, wrong)
    with ScoreClient(server.url, timeout=600) as client:
        with pytest.raises(BadRequestError):
            score_pairs(client, texts(2), texts(2), batch_size=1, concurrency=2, progress=False)
        assert workers_left_after(15) == []  # seconds, less than the pause
    assert len(server.payloads) == 2


def test_the_threads_end_with_the_run(serve, client_of):
    score_pairs(client_of(serve()), texts(8), texts(8), batch_size=1, progress=False)
    assert workers_left_after(60) == []


def workers_left_after(seconds):
    """Return the threads of bulk runs that are alive after so many seconds."""
    workers = [thread for thread in threading.enumerate() if "score_pairs" in thread.name]
    for worker in workers:
        worker.join(seconds)
    return [worker for worker in workers if worker.is_alive()]


def test_a_server_that_goes_away_for_good_is_unreachable(serve, client_of):
    server = serve(good, reset)
    with pytest.raises(UnreachableError):
        score_pairs(client_of(server), texts(50), texts(50), batch_size=5, progress=False)


def test_an_error_of_the_generator_passes_through(serve, client_of):
    def queries():
        yield from texts(20)
        raise LookupError("the file ended")

    with pytest.raises(LookupError, match="the file ended"):
        score_pairs(client_of(serve()), queries(), texts(40), batch_size=4, progress=False)


def test_an_interrupt_ends_the_run_while_the_server_hangs(serve):
    def interrupting(handler, payload):
        os.kill(os.getpid(), signal.SIGINT)
        silent(handler, payload)

    server = serve(interrupting, silent)
    with ScoreClient(server.url, timeout=600) as client, pytest.raises(KeyboardInterrupt):
        score_pairs(client, texts(100), texts(100), batch_size=1, progress=False)
    assert not server.released.is_set()
    assert len(server.payloads) <= 4


def test_an_interrupted_script_ends_while_the_server_hangs(serve):
    heard = threading.Event()

    def hanging(handler, payload):
        heard.set()
        silent(handler, payload)

    server = serve(hanging)
    script = (
        "from helpers.bulk import score_pairs; from helpers.client import ScoreClient\n"
        f"client = ScoreClient({server.url!r}, timeout=600)\n"
        "score_pairs(client, ['a'] * 9, ['b'] * 9, batch_size=1, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    try:
        assert heard.wait(100)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert b"KeyboardInterrupt" in errors
    assert not server.released.is_set()


# -- a server with little room ------------------------------------------------------------------


class Queue:
    """Play a server with `--max-num-queued-reqs`: requests beyond so many pairs are refused."""

    def __init__(self, room):
        self.room = room
        self.most = self.refused = 0
        self._pairs = 0
        self._lock = threading.Lock()

    def __call__(self, handler, payload):
        size = len(payload["documents"])
        with self._lock:
            fits = self._pairs + size <= self.room
            self._pairs += size * fits
            self.most = max(self.most, self._pairs)
            self.refused += not fits
        if fits:
            handler.server.released.wait(0.01)
            with self._lock:
                self._pairs -= size
        (good if fits else answer(503, {"error": {"message": "queue is full"}}))(handler, payload)


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("room", [8, 10, 20, 31])
def test_a_queue_that_holds_a_batch_but_not_all_of_them_is_enough(serve, room, retries):
    queue = Queue(room)
    with ScoreClient(serve(queue).url, retries=retries) as client:
        scores = score_pairs(client, texts(300), texts(300), batch_size=8, progress=False)
    assert scores.tolist() == expected(texts(300), texts(300))
    assert queue.refused
    assert queue.most <= room


def test_of_a_full_server_less_is_asked_and_later_more_again(serve, monkeypatch):
    monkeypatch.setattr(bulk, "ANSWERS_BEFORE_MORE", 5)
    queue = Queue(room=8)

    def widened(handler, payload):
        if "document 160" in payload["documents"]:
            queue.room, queue.most = 1000, 0
        queue(handler, payload)

    with ScoreClient(serve(widened).url, retries=0) as client:
        scores = score_pairs(client, texts(800), texts(800), batch_size=8, progress=False)
    assert scores.tolist() == expected(texts(800), texts(800))
    assert queue.most == 4 * 8


@pytest.mark.parametrize("more", [{}, {"patience": 0.05}])
def test_a_batch_that_never_fits_is_told_to_be_made_smaller(serve, meanwhile, more):
    meanwhile()
    server = serve(Queue(room=4))
    with ScoreClient(server.url, retries=0) as client, pytest.raises(ServerBusyError) as caught:
        score_pairs(client, texts(40), texts(40), batch_size=8, progress=False, **more)
    assert str(caught.value).startswith("Row")
    assert "queue is full" in str(caught.value)
    assert "No other request of this run was in flight" in str(caught.value)
    assert "use a smaller batch_size=" in str(caught.value)
    with ScoreClient(server.url, retries=0) as client:
        assert len(score_pairs(client, texts(40), texts(40), batch_size=4, progress=False)) == 40


# -- waiting for a server -----------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch):
    """Give a function: what it is given happens when a run says that it waits. Return the lines."""

    def register(action=lambda: None):
        said = []

        def say(line):
            said.append(line)
            if "Waiting" in line:
                action()

        monkeypatch.setattr(bulk, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(bulk.tqdm, "write", say)
        return said

    return register


def score_patiently(server, count=40, *, patience=600, **more):
    with ScoreClient(server.url, retries=0) as client:
        return score_pairs(
            client, texts(count), texts(count), batch_size=4, patience=patience, **more
        )


def test_a_run_waits_for_a_killed_server_and_goes_on(serve, meanwhile):
    dying = serve(good, good, killed)
    revived = []
    said = meanwhile(lambda: revived.append(serve(port=dying.server_port)))
    scores = score_patiently(dying, concurrency=1)
    assert scores.tolist() == expected(texts(40), texts(40))
    assert len(revived[0].payloads) == 10 - 2
    assert said[0].startswith(f"No score server answers at {dying.url}: ")
    assert said[0].endswith("Waiting up to 600 seconds for the server.")
    assert said[1:] == ["The server answers again."]


@pytest.mark.parametrize("status", [429, 503])
def test_a_run_waits_for_a_server_that_is_full_for_long(serve, meanwhile, status):
    said = meanwhile()
    server = serve(good, *[answer(status, {})] * 15, good)
    assert score_patiently(server).tolist() == expected(texts(40), texts(40))
    assert "no room" in said[0]


@pytest.mark.parametrize(
    "fault", [answer(500, {}), answer(502, {}), truncated, text("Bad gateway")]
)
def test_a_fault_of_a_server_that_is_not_well_is_waited_out(serve, meanwhile, fault):
    def fall_ill(handler, payload):
        handler.server.health = 503
        fault(handler, payload)

    server = serve(good, fall_ill, good)
    said = meanwhile(lambda: setattr(server, "health", 200))
    assert score_patiently(server, concurrency=1).tolist() == expected(texts(40), texts(40))
    assert len(said) == 2


def test_a_server_that_hangs_and_is_not_well_is_waited_for(serve, meanwhile):
    def freeze(handler, payload):
        handler.server.health = 503
        silent(handler, payload)

    server = serve(good, freeze, good)
    said = meanwhile(lambda: setattr(server, "health", 200))
    with ScoreClient(server.url, retries=0, timeout=2) as client:
        scores = score_pairs(client, texts(9), texts(9), batch_size=1, concurrency=1, patience=600)
    assert scores.tolist() == expected(texts(9), texts(9))
    assert "did not answer within 2 seconds" in said[0]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answer(500, {}), ServerFaultError),
        (BAD, BadRequestError),
        (text("<html>"), ResponseError),
        (changed(lambda body: body["data"].pop()), ResponseError),
    ],
)
def test_a_fault_of_the_request_itself_is_not_waited_out(serve, meanwhile, fault, error):
    said = meanwhile()
    with pytest.raises(error):
        score_patiently(serve(good, fault))
    assert said == []


def test_patience_ends_with_the_error_that_it_waited_out(serve, meanwhile):
    meanwhile()
    with pytest.raises(UnreachableError, match="No score server answers") as caught:
        score_patiently(serve(good, killed), patience=0.5)
    assert isinstance(caught.value.rows, range)


def test_patience_counts_from_the_last_answer(serve, meanwhile):
    """A request that fails again and again does not live on the success of others."""
    meanwhile()

    def picky(handler, payload):
        (answer(503, {}) if "document 1" in payload["documents"] else good)(handler, payload)

    with pytest.raises(ServerBusyError, match="Rows 0 to 3: "):
        score_patiently(serve(picky), patience=0.5)


def test_an_interrupt_ends_the_wait(serve, meanwhile):
    meanwhile(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        score_patiently(serve(good, killed))


def test_the_wait_is_silent_without_a_bar(serve, meanwhile):
    said = meanwhile()
    server = serve(good, *[answer(503, {})] * 9, good)
    score_patiently(server, progress=False)
    assert said == []


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "60", True])
def test_patience_without_sense_is_refused(serve, client_of, patience):
    with pytest.raises(InputError, match="patience"):
        score_pairs(client_of(serve()), ["a"], ["b"], patience=patience)


# -- checkpoints --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    return tmp_path / "scores.sqlite"


def score_kept(server, path, count=40, *, model=None, batch_size=4, **more):
    with ScoreClient(server.url, retries=0, model=model) as client:
        return score_pairs(
            client,
            (f"query {row}" for row in range(count)),
            texts(count),
            batch_size=batch_size,
            checkpoint=path,
            **{"patience": 0, "progress": False, **more},
        ).tolist()


def rows_kept(path):
    return len(stored_scores(path))


WHOLE = expected(texts(40, "query"), texts(40))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (BAD, BadRequestError),
        (answer(429, {}), ServerBusyError),
        (half_closed, UnreachableError),
        (truncated, ResponseError),
        (killed, UnreachableError),
        (lambda handler, payload: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt),
    ],
)
def test_a_second_run_sends_only_what_the_first_did_not_keep(serve, path, fault, error):
    with pytest.raises(error):
        score_kept(serve(good, good, good, fault), path, concurrency=1)
    kept = rows_kept(path)
    # An interrupt may come before the last answer was looked at.
    assert kept == 12 or (error is KeyboardInterrupt and kept == 8)
    server = serve()
    assert score_kept(server, path, batch_size=5) == WHOLE
    sent = sorted(row for payload in server.payloads for row in payload["documents"])
    assert sent == sorted(texts(40)[kept:])


def test_a_finished_run_sends_nothing_again(serve, path):
    score_kept(serve(), path)
    server = serve()
    assert score_kept(server, path) == WHOLE
    assert server.payloads == []


def test_a_run_that_grew_scores_what_was_added(serve, path):
    score_kept(serve(), path, count=30)
    server = serve()
    assert score_kept(server, path) == WHOLE
    assert sum(len(payload["documents"]) for payload in server.payloads) == 10


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"use_activation": False}, "use_activation=None, and this run has use_activation=False"),
        ({"model": "b"}, "model='played-model', and this run has model='b'"),
        ({"count": 39}, "40 scores, and only 39 pairs"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_unsent(serve, path, more, said):
    score_kept(serve(), path)
    server = serve()
    with pytest.raises(InputError, match=said):
        score_kept(server, path, **more)
    assert server.payloads == []
    assert rows_kept(path) == 40


def test_names_for_the_log_do_not_make_another_run(serve, path):
    score_kept(serve(), path, user="me", request_id="first", priority=0)
    server = serve()
    score_kept(server, path, user="you", truncation_side=None)
    assert server.payloads == []


def test_a_wrong_text_behind_the_kept_ones_is_still_found_unsent(serve, path, client_of):
    score_kept(serve(), path, count=20)
    server = serve()
    with pytest.raises(InputError, match=r"documents\[30\] is missing"):
        documents = [*texts(30), None]
        score_pairs(client_of(server), texts(31, "query"), documents, checkpoint=path)
    assert server.payloads == []


def test_the_bar_of_a_second_run_starts_where_the_first_ended(serve, path, capsys):
    with pytest.raises(BadRequestError):
        score_kept(serve(good, good, BAD), path, concurrency=1)
    capsys.readouterr()
    score_kept(serve(), path, progress=True)
    shown = capsys.readouterr().err
    assert " 8/40 [" in shown
    assert "40/40" in shown
    assert "pair/s" in shown


def test_with_a_checkpoint_a_run_waits_by_default(serve, path, meanwhile):
    dying = serve(good, good, killed)
    said = meanwhile(lambda: serve(port=dying.server_port))
    assert score_kept(dying, path, patience=None, progress=True, concurrency=1) == WHOLE
    assert "Waiting up to 600 seconds" in said[0]


def test_a_frame_goes_on_too_and_keeps_its_index_and_columns(serve, path):
    frame = pd.DataFrame(
        {"query": texts(40, "query"), "document": texts(40), "grade": range(40)},
        index=range(100, 140),
    )
    server = serve(good, good, BAD)
    with ScoreClient(server.url) as client, pytest.raises(BadRequestError):
        score_frame(client, frame, checkpoint=path, batch_size=4, concurrency=1)
    with ScoreClient(serve().url) as client:
        scored = score_frame(client, frame, checkpoint=path, progress=False)
    pd.testing.assert_frame_equal(scored, frame.assign(score=WHOLE))


@settings(max_examples=15)
@given(
    runs=st.lists(
        st.tuples(
            st.integers(1, 9),  # batch_size
            st.integers(1, 4),  # concurrency
            st.integers(0, 12),  # good answers before the fault
            st.sampled_from([BAD, half_closed, reset, truncated, answer(503, {}), killed]),
        ),
        max_size=4,
    )
)
def test_however_often_a_run_is_stopped_each_row_is_kept_once(tmp_path_factory, runs):
    path = tmp_path_factory.mktemp("runs") / "scores.sqlite"
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(checkpoint, "SAVE_SECONDS", 0.0)
        for batch_size, concurrency, answers, fault in [*runs, (4, 2, 99, BAD)]:
            server = stack.enter_context(FaultServer(*[good] * answers, fault))
            before = rows_kept(path)
            try:
                scores = score_kept(server, path, batch_size=batch_size, concurrency=concurrency)
            except ScoreError:
                scores = None
            sent = [text for payload in server.payloads for text in payload["documents"]]
            # Nothing that was kept is sent again, and nothing is sent twice in one run.
            assert len(sent) == len(set(sent))
            assert set(sent) <= set(texts(40)[before:])
            assert rows_kept(path) >= before
    assert scores == WHOLE
    assert stored_scores(path) == WHOLE


MEASURED = """
import resource, sys
from helpers.bulk import score_pairs
from helpers.client import ScoreClient

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def score(count, path):
    with ScoreClient(sys.argv[1]) as client:
        score_pairs(
            client,
            (f"query {row}" for row in range(count)),
            (f"{row} " * 200 for row in range(count)),
            batch_size=500, concurrency=2, progress=False, checkpoint=path,
        )

score(10_000, sys.argv[2])
before = peak()
score(100_000, sys.argv[3])
print((peak() - before) / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_pairs(serve, tmp_path):
    """100,000 pairs of 1 kB: all of them at once would be 100 MB and more."""

    def forgetful(handler, payload):
        handler.server.payloads.clear()
        good(handler, payload)

    paths = [str(tmp_path / name) for name in ("warm.sqlite", "long.sqlite")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, serve(forgetful).url, *paths],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40  # MB
    assert rows_kept(tmp_path / "long.sqlite") == 100_000


# -- what is refused before anything is sent ----------------------------------------------------


@pytest.mark.parametrize(
    ("queries", "documents", "said"),
    [
        (["a"] * 3, ["b"] * 2, "3 queries and 2 documents"),
        ("abc", ["a", "b", "c"], "queries is of type str: expected many texts"),
        (["a"], b"b", "documents is of type bytes: expected many texts"),
        (None, ["a"], "queries is missing (None): expected many texts"),
        (["a"], 5, "documents is of type int"),
        ({"a": 1}, ["a"], "queries is of type dict"),
        (["a"], {"a"}, "documents is of type set"),
        (pd.DataFrame({"a": ["b"]}), ["a"], "queries is a pandas DataFrame: give one of its col"),
        (texts(100), [*texts(99), None], "documents[99] is missing"),
        (texts(2), [["a"], "b"], "documents[0] is of type list"),
        (texts(2), pd.Series(["a", 5], index=["x", "y"]), "documents[1] is of type int"),
        (texts(2), np.array([1.5, 2.5]), "documents[0] is of type float"),
        (texts(2), ["a", b"b"], "documents[1] is of type bytes"),
        (texts(2), ["a", "half \ud800"], "documents[1] is not valid Unicode: character 5"),
    ],
)
def test_columns_that_do_not_fit_are_refused_unsent(serve, client_of, queries, documents, said):
    server = serve()
    with pytest.raises(InputError) as caught:
        score_pairs(client_of(server), queries, documents, progress=False)
    assert said in str(caught.value)
    assert server.paths == []


@pytest.mark.parametrize(
    ("queries", "documents", "said"),
    [
        (10, 7, "documents ended after 7 while the queries went on"),
        (7, 10, "queries ended after 7 while the documents went on"),
    ],
)
def test_generators_of_different_lengths_are_told_apart(serve, client_of, queries, documents, said):
    with pytest.raises(InputError, match=said):
        score_pairs(client_of(serve()), iter(texts(queries)), iter(texts(documents)), batch_size=3)


def test_a_wrong_text_in_a_generator_is_named_by_its_row(serve, client_of):
    documents = (text if text != "document 11" else None for text in texts(20))
    with pytest.raises(InputError, match=r"documents\[11\] is missing"):
        score_pairs(client_of(serve()), texts(20), documents, batch_size=3, progress=False)


@pytest.mark.parametrize("setting", ["batch_size", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True, None])
def test_counts_without_sense_are_refused_by_name(serve, client_of, setting, value):
    with pytest.raises(InputError, match=setting):
        score_pairs(client_of(serve()), ["a"], ["b"], **{setting: value})


def test_the_bar_counts_pairs_and_can_be_switched_off(serve, client_of, capsys):
    client = client_of(serve())
    score_pairs(client, texts(10), texts(10), batch_size=3)
    assert "10/10" in capsys.readouterr().err
    score_pairs(client, texts(10), texts(10), batch_size=3, progress=False)
    assert capsys.readouterr().err == ""


# -- frames -------------------------------------------------------------------------------------


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"question": texts(5, "query"), "passage": texts(5), "grade": range(5)},
        index=pd.Index(["e", "b", "b", "a", "z"], name="label"),
    )


def test_a_frame_comes_back_with_its_scores_and_nothing_else_changed(serve, client_of, frame):
    before = frame.copy(deep=True)
    names = {"query": "question", "document": "passage", "score": "relevance"}
    scored = score_frame(client_of(serve()), frame, **names, batch_size=2, progress=False)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(scored[before.columns], before)
    assert list(scored.columns) == [*before.columns, "relevance"]
    assert scored["relevance"].dtype == np.float64
    assert scored["relevance"].tolist() == expected(texts(5, "query"), texts(5))


def test_what_is_done_to_the_scored_frame_does_not_touch_the_first(serve, client_of, frame):
    frame.columns = ["query", "document", "grade"]
    scored = score_frame(client_of(serve()), frame, progress=False)
    scored.loc["e", "grade"] = 99
    assert frame.loc["e", "grade"] == 0


def test_an_older_score_is_replaced_in_the_copy_only(serve, client_of):
    frame = pd.DataFrame({"query": ["a"], "document": ["b"], "score": [5.0]})
    scored = score_frame(client_of(serve()), frame, progress=False)
    assert scored["score"].tolist() == expected(["a"], ["b"])
    assert frame["score"].tolist() == [5.0]


def test_an_empty_frame_needs_no_server():
    frame = pd.DataFrame({"query": [], "document": []}, dtype=str)
    scored = score_frame(ScoreClient("http://127.0.0.1:9"), frame, progress=False)
    assert scored["score"].dtype == np.float64
    assert len(scored) == 0


def test_a_missing_column_names_those_that_exist(frame):
    with pytest.raises(InputError) as caught:
        score_frame(ScoreClient("http://127.0.0.1:9"), frame, query="question")
    assert "no column 'document'" in str(caught.value)
    assert "'question', 'passage', 'grade'" in str(caught.value)


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA])
def test_empty_cells_are_named_by_their_labels(frame, nothing):
    frame["passage"] = frame["passage"].astype(object)
    frame.iloc[[3, 4], 1] = nothing
    with pytest.raises(InputError) as caught:
        score_frame(ScoreClient("http://127.0.0.1:9"), frame, query="question", document="passage")
    assert "'passage' holds no text in 2 of 5 rows, 2 of them empty" in str(caught.value)
    assert "'a', 'z'" in str(caught.value)


def test_of_many_bad_rows_the_first_are_named_and_the_rest_counted():
    frame = pd.DataFrame({"query": ["a"] * 100, "document": ["b"] * 50 + [None] * 40 + [7] * 10})
    with pytest.raises(InputError) as caught:
        score_frame(ScoreClient("http://127.0.0.1:9"), frame)
    assert "in 50 of 100 rows, 40 of them empty (None or NaN)" in str(caught.value)
    assert "labelled 50, 51, 52, 53, 54, 55, 56, 57 and 42 more" in str(caught.value)


def test_cells_that_are_no_text_are_named_by_their_labels(frame):
    with pytest.raises(
        InputError, match=r"'grade' holds no text in 5 of 5 rows, 0 of.*'e', 'b', 'b'"
    ):
        score_frame(ScoreClient("http://127.0.0.1:9"), frame, query="question", document="grade")


def test_two_columns_of_one_name_are_refused(frame):
    frame.columns = ["query", "document", "document"]
    with pytest.raises(InputError, match="2 columns 'document'"):
        score_frame(ScoreClient("http://127.0.0.1:9"), frame)


def test_scores_may_not_replace_the_texts(frame):
    frame.columns = ["query", "document", "grade"]
    with pytest.raises(InputError, match="replace the texts"):
        score_frame(ScoreClient("http://127.0.0.1:9"), frame, score="query")


def test_what_is_no_frame_is_refused():
    with pytest.raises(InputError, match="DataFrame"):
        score_frame(ScoreClient("http://127.0.0.1:9"), {"query": ["a"], "document": ["b"]})
    with pytest.raises(
        InputError, match=r"a pandas DataFrame, not a pyarrow Table: call its .to_p"
    ):
        score_frame(ScoreClient("http://127.0.0.1:9"), pa.table({"query": ["a"]}))


def test_a_busy_server_names_the_rows_it_had_no_room_for(serve, client_of, frame):
    frame.columns = ["query", "document", "grade"]
    with pytest.raises(ServerBusyError, match="Rows 0 to 4: "):
        score_frame(client_of(serve(answer(503, {}))), frame, progress=False)
