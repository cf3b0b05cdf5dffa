"""The bar that names the stages."""

import pytest

from helpers.server.progress import StageProgress

STAGES = ("imports", "weights", "ready")


def test_the_bar_names_the_stage_and_reaches_the_end(capsys):
    with StageProgress(STAGES, title="Starting") as progress:
        progress.reach("imports")
        progress.reach("weights")
        progress.reach("ready")
    shown = capsys.readouterr().err
    assert [name for name in STAGES if f"Starting: {name}" in shown] == list(STAGES)


def test_the_bar_never_goes_back(capsys):
    with StageProgress(STAGES) as progress:
        progress.reach("weights")
        progress.reach("imports")
        assert "weights" in progress._bar.desc


def test_a_stage_that_does_not_exist_is_an_error():
    with StageProgress(STAGES) as progress, pytest.raises(ValueError):
        progress.reach("no such stage")


def test_a_file_gets_one_line_a_stage_and_not_one_a_second(capsys):
    with StageProgress(STAGES) as progress:
        for _ in range(50):
            progress.reach("weights")
    assert capsys.readouterr().err.count("weights") <= 3


def test_lines_are_printed_beside_the_bar(capsys):
    with StageProgress(STAGES) as progress:
        progress.say("$ vllm serve")
    assert "$ vllm serve\n" in capsys.readouterr().out
