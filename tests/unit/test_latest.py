"""The newest request wins, typing is waited for, and whatever goes wrong becomes a message."""

import threading
from dataclasses import replace

import pytest

from helpers import InputError, RequestTimeoutError, UnreachableError
from helpers.client import ScoreResult
from helpers.views.latest import LatestRequest, Phase, State, message_of, moves

PATIENCE = 30  # seconds; only a test that fails waits so long


def scored(query: str, documents: list[str]) -> ScoreResult:
    """Score documents by their length: what a number means is of no matter here."""
    scores = tuple(float(len(document)) for document in documents)
    return ScoreResult((query,) * len(documents), tuple(documents), scores, "length", 10)


class Held:
    """A scoring function that comes back only when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.began = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, query: str, documents: list[str]) -> ScoreResult:
        self.asked.append(query)
        self.began.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        return scored(query, documents)


def test_an_answer_goes_through_waiting_and_running_to_done():
    states: list[State] = []
    request = LatestRequest(scored, states.append, pause=0)
    request.ask("a query", ["one", "three"])
    state = request.wait(PATIENCE)
    assert [shown.phase for shown in states] == [Phase.WAITING, Phase.RUNNING, Phase.DONE]
    assert state.result.scores == (3.0, 5.0)
    assert state.message == "2 documents scored by length (10 tokens)"


def test_asking_returns_while_the_answer_is_still_on_its_way():
    held = Held()
    request = LatestRequest(held, pause=0)
    request.ask("a query", ["one"])
    assert held.began.acquire(timeout=PATIENCE)
    assert request.state.phase is Phase.RUNNING and request.state.busy
    held.go_on.release()
    assert request.wait(PATIENCE).phase is Phase.DONE


def test_what_is_typed_in_one_go_is_sent_once():
    asked = []
    request = LatestRequest(lambda q, d: asked.append(q) or scored(q, d), pause=1)
    for query in ("P", "Pa", "Par", "Paris"):
        request.ask(query, ["one"])
    request.wait(PATIENCE)
    assert asked == ["Paris"]


def test_a_late_answer_to_an_older_request_is_never_shown():
    held = Held()
    shown: list[State] = []
    request = LatestRequest(held, shown.append, pause=0)
    request.ask("old", ["one"])
    assert held.began.acquire(timeout=PATIENCE)
    request.ask("newer", ["one"])
    request.ask("newest", ["one"])
    held.go_on.release(2)
    state = request.wait(PATIENCE)
    assert held.asked == ["old", "newest"]
    assert state.result.queries == ("newest",)
    assert all(s.result is None or s.result.queries == ("newest",) for s in shown)


def test_a_late_error_of_an_older_request_is_never_shown():
    held = Held()

    def fails_if_old(query, documents):
        result = held(query, documents)
        if query == "old":
            raise UnreachableError("The line broke.")
        return result

    phases = []
    request = LatestRequest(fails_if_old, lambda state: phases.append(state.phase), pause=0)
    request.ask("old", ["one"])
    assert held.began.acquire(timeout=PATIENCE)
    request.ask("new", ["one"])
    held.go_on.release(2)
    assert request.wait(PATIENCE).phase is Phase.DONE
    assert Phase.FAILED not in phases


def test_a_request_that_was_replaced_ends_between_two_batches():
    held = Held()
    request = LatestRequest(held, pause=0, batch_size=1)
    request.ask("old", ["one", "two", "three"])
    assert held.began.acquire(timeout=PATIENCE)
    request.ask("", [])
    held.go_on.release(3)
    request.wait(PATIENCE)
    assert held.asked == ["old"]


def test_a_long_list_is_scored_in_batches_and_the_progress_says_how_far_it_is():
    progress = []
    request = LatestRequest(
        scored, lambda state: progress.append((state.scored, state.total)), pause=0, batch_size=2
    )
    texts = ["a" * length for length in (5, 1, 4, 2, 3)]
    result = request.ask_and_wait("a query", texts).result
    assert result.documents == tuple(texts) and result.scores == (5.0, 1.0, 4.0, 2.0, 3.0)
    assert result.prompt_tokens == 30
    assert progress == [(0, 5), (2, 5), (4, 5), (0, 0)]


def test_an_error_becomes_a_message_and_the_last_answer_stays():
    broken = threading.Event()

    def score(query, documents):
        if broken.is_set():
            raise UnreachableError("No server listens at 127.0.0.1:9.")
        return scored(query, documents)

    request = LatestRequest(score, pause=0)
    before = request.ask_and_wait("first", ["one"]).result
    broken.set()
    request.ask("second", ["one"])
    state = request.wait(PATIENCE)
    assert state.phase is Phase.FAILED and not state.busy
    assert state.message == "No server listens at 127.0.0.1:9."
    assert state.result is before


def test_the_same_texts_can_be_asked_again_after_a_failure():
    tries = []

    def fails_once(query, documents):
        tries.append(query)
        if len(tries) == 1:
            raise UnreachableError("gone")
        return scored(query, documents)

    request = LatestRequest(fails_once, pause=0)
    assert request.ask_and_wait("a query", ["one"]).phase is Phase.FAILED
    request.ask("a query", ["one"])
    assert request.wait(PATIENCE).phase is Phase.DONE


def test_a_result_of_several_batches_without_a_count_of_tokens_has_none():
    def uncounted(query, documents):
        return replace(scored(query, documents), prompt_tokens=None)

    state = LatestRequest(uncounted, batch_size=1).ask_and_wait("a query", ["one", "three"])
    assert state.result.prompt_tokens is None
    assert state.message == "2 documents scored by length (? tokens)"


def test_only_the_batches_of_one_call_keep_its_raw_answer():
    def raw(query, documents):
        return replace(scored(query, documents), raw={"id": query})

    for size, kept in ((2, {"id": "a query"}), (1, {})):
        request = LatestRequest(raw, batch_size=size)
        assert request.ask_and_wait("a query", ["one", "two"]).result.raw == kept


def test_an_error_of_ours_speaks_for_itself_and_any_other_is_named():
    assert message_of(InputError("A document is None.")) == "A document is None."
    assert message_of(KeyError("scores")) == "KeyError: 'scores'"


def test_an_error_of_an_unknown_kind_is_named_without_a_traceback():
    def wrong(query, documents):
        return {}["scores"]

    state = LatestRequest(wrong).ask_and_wait("a query", ["one"])
    assert state.phase is Phase.FAILED
    assert state.message == "KeyError: 'scores'"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned a NoneType. Give it client.score"),
        (scored("a query", ["one", "two"]), "1 document came back with 2 scores"),
    ],
)
def test_a_function_that_gives_no_fitting_result_is_told_what_is_expected(answer, words):
    state = LatestRequest(lambda query, documents: answer).ask_and_wait("a query", ["one"])
    assert state.phase is Phase.FAILED
    assert words in state.message


@pytest.mark.parametrize(
    ("query", "documents", "message"),
    [
        ("  ", ["one"], "Type a query."),
        ("a query", [" ", ""], "Type at least one document, one a line."),
    ],
)
def test_empty_fields_are_not_sent_and_clear_the_old_answer(query, documents, message):
    request = LatestRequest(scored, pause=0)
    request.ask_and_wait("a query", ["one"])
    request.ask(query, documents)
    assert request.wait(PATIENCE) == State(Phase.EMPTY, message)


def test_blanks_around_texts_and_empty_lines_ask_nothing_new():
    asked = []
    request = LatestRequest(lambda q, d: asked.append(q) or scored(q, d), pause=0)
    request.ask_and_wait("a query", ["one", "two"])
    request.ask(" a query ", ["one ", "", "two"])
    assert request.wait(PATIENCE).phase is Phase.DONE
    assert asked == ["a query"]
    request.ask("a query", ["one", "two"], again=True)
    request.wait(PATIENCE)
    assert asked == ["a query"] * 2


def test_waiting_for_a_server_that_hangs_ends_with_an_error():
    held = Held()
    request = LatestRequest(held, pause=0)
    request.ask("a query", ["one"])
    with pytest.raises(RequestTimeoutError, match=r"After 0.05 s"):
        request.wait(0.05)
    held.go_on.release()
    request.wait(PATIENCE)


def test_a_view_that_fails_to_draw_does_not_stop_the_requests_after_it():
    def show(state):
        if state.phase is Phase.RUNNING and not shown:
            shown.append(state)
            raise ZeroDivisionError("the drawing has a bug")

    shown = []
    request = LatestRequest(scored, show, pause=0)
    request.ask("a query", ["one"])
    assert request.wait(PATIENCE).phase is Phase.FAILED
    request.ask("another", ["one"])
    assert request.wait(PATIENCE).phase is Phase.DONE


def test_moves_count_the_places_that_a_document_climbed():
    before = ScoreResult(("q",) * 3, ("a", "b", "c"), (0.9, 0.5, 0.1), "m", 1)
    after = ScoreResult(("q",) * 3, ("c", "a", "new"), (0.9, 0.5, 0.1), "m", 1)
    assert moves(before, after) == {"c": 2, "a": -1}
