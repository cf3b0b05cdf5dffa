"""nbval sees through what differs between machines, and through nothing else."""

import importlib.util
import re
from pathlib import Path

import pytest
from nbformat import from_dict
from nbval.plugin import get_sanitize_patterns

REPOSITORY = Path(__file__).resolve().parents[2]
SANITIZE = REPOSITORY / "tests" / "notebooks" / "sanitize.cfg"


@pytest.fixture(scope="module")
def tolerance():
    spec = importlib.util.spec_from_file_location("tolerance", REPOSITORY / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sanitized(text):
    for pattern, replacement in get_sanitize_patterns(SANITIZE.read_text("utf-8")):
        text = re.sub(pattern, replacement, text)
    return text


def test_no_rule_of_the_sanitize_file_is_dropped():
    text = SANITIZE.read_text("utf-8")
    assert len(get_sanitize_patterns(text)) == len(re.findall("^regex:", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("at http://127.0.0.1:8000/score", "at http://127.0.0.1:43117/score"),
        ("vllm serve x --port 8000", "vllm serve x --port 8001"),
        ("process 4711", "process 12"),
        ("'id': 'score-9f86d081884c7d65',", "'id': 'score-2c26b46b68ffc68f',"),
        ("'id': 'rerank-9f86d081-884c-7d65',", "'id': 'rerank-2c26b46b-68ff-c68f',"),
        ("'created': 1763880000,", "'created': 1795413111,"),
        ("vLLM 0.32.0 and NumPy 2.3.5", "vLLM 0.26.0+cpu and NumPy 1.26.4"),
        ("ready after 21.3 s", "ready after 40 s"),
        ("745 pairs/s", "1,203.5 pairs/s"),
        ("~/.cache/vllm-score-notebooks/a.log", "/srv/people/anna/state/logs/b.log"),
        ("model .venv/lib/model", "model /srv/clone/.venv/lib/model"),
    ],
)
def test_what_differs_between_two_runs_is_replaced(stored, fresh):
    assert sanitized(stored) == sanitized(fresh)


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("0.98 Paris", "0.12 Paris"),
        ("{'prompt_tokens': 17}", "{'prompt_tokens': 18}"),
        ("POST /v1/score", "POST /v1/rerank"),
        ("'index': 0", "'index': 1"),
        ("3 shared: Tokyo", "2 shared: Tokyo"),
        ("<td>a</td>", "<td>b</td>"),
    ],
)
def test_what_a_lesson_shows_is_not_replaced(stored, fresh):
    assert sanitized(stored) != sanitized(fresh)


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("0.98 Paris\n0.13 Brasilia", "0.97 Paris\n0.15 Brasilia"),
        ("{'score': 0.9978124499320984}", "{'score': 0.9961}"),
        ("[1.0, 0.0]", "[0.99, 0.01]"),
        ("score  4.61", "score  4.55"),
        ("  0.995", "   0.990"),
        ("   0.00", "  -0.01"),
        ("<td>0.9981</td>", "<td>0.9975</td>"),
        ("1e-05 or 1.2e-05", "1e-05 or 3.1e-05"),
    ],
)
def test_a_score_may_differ_as_much_as_two_processors_do(tolerance, stored, fresh):
    assert tolerance.align(stored, fresh) == stored


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("0.98 Paris", "0.90 Paris"),
        ("0.98 Paris\n0.13 Brasilia", "0.13 Brasilia\n0.98 Paris"),
        ("0.98 Paris", "0.98 Lyon"),
        ("17 tokens", "18 tokens"),
        ("vLLM 0.32.0", "vLLM 0.31.0"),
        ("http://127.0.0.1:8000", "http://127.0.0.2:8000"),
        ("0.98", "0.98 0.97"),
    ],
)
def test_a_larger_difference_and_any_other_text_stay_as_they_are(tolerance, stored, fresh):
    assert tolerance.align(stored, fresh) == fresh


def test_every_kind_of_output_is_aligned_and_the_fresh_one_is_not_touched(tolerance):
    stored = [
        {"output_type": "stream", "name": "stdout", "text": "0.98"},
        {"output_type": "execute_result", "data": {"text/html": "<b>0.50</b>"}},
    ]
    fresh = [
        {"output_type": "stream", "name": "stdout", "text": "0.97"},
        {"output_type": "execute_result", "data": {"text/html": "<b>0.51</b>"}},
    ]
    kept = from_dict(fresh)
    assert tolerance.with_close_numbers_of(from_dict(stored), kept) == stored
    assert kept == fresh
