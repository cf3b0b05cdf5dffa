"""The dashboard: what it makes of snapshots, without a kernel and without a server."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from helpers.errors import UnreachableError
from helpers.monitor.metrics import Metrics
from helpers.views import dashboard
from helpers.views.dashboard import LOOKS_KEPT, Dashboard, Pulse

START = Metrics(10.0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0, 0)
NEXT = Metrics(12.0, 3, 96, 7680, 8, 24.0, 12.0, 9.6, 2, 31)
AFTER = replace(NEXT, at=13.0, pairs=108, steps=9, waiting=0)


def reader(*snapshots):
    """Give a function that returns one snapshot after the other, or raises it."""
    rest = iter(snapshots)

    def read():
        snapshot = next(rest)
        if isinstance(snapshot, Exception):
            raise snapshot
        return snapshot

    return read


class Shown:
    """Stand for the place in a notebook where something is displayed: keep what it showed."""

    def __init__(self):
        self.handles = 0
        self.pages: list[str] = []
        self.ended = threading.Event()

    def display(self, view, *, display_id):
        assert display_id
        self.handles += 1
        self.update(view)
        return self

    def update(self, view):
        self.pages.append(view._repr_html_())
        if view.pulse.looks:
            self.ended.set()


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """Give the place where dashboards are displayed."""
    place = Shown()
    monkeypatch.setattr(dashboard, "display", place.display)
    return place


def test_the_first_look_has_nothing_to_compare_with():
    pulse = Pulse(reader(START))
    assert pulse.look() is None
    assert not pulse.looks
    assert pulse.to_frame().empty


def test_each_later_look_tells_what_happened_since_the_one_before():
    pulse = Pulse(reader(START, NEXT, AFTER))
    pulse.look()
    look = pulse.look()
    assert look == {
        "at": 2,
        "running": 2,
        "waiting": 31,
        "pairs_per_second": 48,
        "tokens_per_second": 3840,
        "pairs_per_step": 12,
    }
    look = pulse.look()
    assert (look["at"], look["waiting"], look["pairs_per_second"]) == (3, 0, 12)
    assert pulse.to_frame().pairs_per_second.tolist() == [48, 12]


def test_a_server_that_was_started_anew_is_looked_at_as_a_new_one():
    pulse = Pulse(reader(START, NEXT, replace(START, at=20.0), replace(NEXT, at=22.0)))
    looks = [pulse.look() for _ in range(4)]
    assert looks[2] is None
    assert looks[3]["at"] == 2
    assert list(pulse.looks) == [looks[3]]


def test_only_the_newest_looks_are_kept():
    snapshots = [replace(START, at=float(second)) for second in range(LOOKS_KEPT + 6)]
    pulse = Pulse(reader(*snapshots))
    for _ in snapshots:
        pulse.look()
    assert len(pulse.looks) == LOOKS_KEPT
    assert pulse.looks[-1]["at"] == LOOKS_KEPT + 5


def test_the_view_shows_numbers_of_the_newest_look_and_a_bar_for_each():
    view = Dashboard(reader(START, NEXT, AFTER))
    assert repr(view) == "nothing seen yet"
    for _ in range(3):
        assert view.refresh()
    assert repr(view) == "12 pairs/s, 0 tokens/s, 12.0 pairs a step, 2 running, 0 waiting"
    shown = view._repr_html_()
    assert "up to 48" in shown
    assert "up to 31" in shown
    assert shown.count("inline-block") == 4


def test_what_is_shown_last_is_what_stays_in_the_notebook(shown):
    view = Dashboard(reader(START, NEXT, UnreachableError("No server answers.")))
    with view.live(every=0):
        assert shown.ended.wait(30)
    assert shown.handles == 1
    assert shown.pages[-1] == view._repr_html_()
    assert "up to 48" in shown.pages[-1] and "No server answers." in shown.pages[-1]
    assert shown.pages[0] == "<p>nothing seen yet</p>"


def test_a_step_less_look_shows_a_dash():
    view = Dashboard(reader(START, replace(START, at=11.0)))
    view.refresh()
    view.refresh()
    assert repr(view) == "0 pairs/s, 0 tokens/s, – pairs a step, 0 running, 0 waiting"


def test_a_server_that_is_gone_is_a_message_and_the_looks_stay():
    view = Dashboard(reader(START, NEXT, UnreachableError("No <server> answers.")))
    view.refresh()
    view.refresh()
    assert not view.refresh()
    assert repr(view) == "No <server> answers."
    assert "No &lt;server&gt; answers." in view._repr_html_()
    assert "up to 48" in view._repr_html_()


def test_it_looks_while_the_block_runs_and_no_longer():
    looked = threading.Semaphore(0)
    count = 0

    def read():
        nonlocal count
        count += 1
        looked.release()
        return replace(START, at=float(count))

    view = Dashboard(read)
    with view.live(every=0.001):
        for _ in range(5):
            assert looked.acquire(timeout=30)
    assert len(view.pulse.looks) == count - 1 >= 4
    assert not [thread for thread in threading.enumerate() if thread.name == "dashboard"]


def test_an_error_of_the_block_comes_through_and_ends_the_looking():
    view = Dashboard(lambda: START)
    with pytest.raises(KeyError), view.live(every=0.001):
        raise KeyError("block")
    assert not [thread for thread in threading.enumerate() if thread.name == "dashboard"]


def test_a_server_that_goes_away_ends_the_looking_and_not_the_block():
    seen = threading.Event()

    def read():
        seen.set()
        raise UnreachableError("No server answers.")

    view = Dashboard(read)
    with view.live(every=0.001):
        assert seen.wait(30)
    assert repr(view) == "No server answers."
