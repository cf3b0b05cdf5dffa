"""What notebook 17 stores: a row for each client, and a reason for each part of the command."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from helpers.server.choices import Choice, Choices
from helpers.server.command import build_command
from helpers.server.probe import Engine
from notebook_rules import Notebook, notebook_paths

ROUTES = {
    "Cohere SDK 5": "/v2/rerank",
    "Cohere SDK 7": "/v2/rerank",
    "LlamaIndex": "/v2/rerank",
    "Haystack": "/v1/rerank",
    "LiteLLM": "/v1/rerank",
    "LiteLLM, bare address": "/rerank",
    "rerankers": "/v1/rerank",
    "OpenAI client": "/v1/rerank",
    "curl": "/v1/rerank",
    "LangChain, cured": "/v2/rerank",
}
REFUSED = {
    "Cohere SDK 5, wrong address": ("/v1/v2/rerank", 404, "NotFoundError"),
    "LangChain": ("/v2/rerank", 400, "BadRequestError"),
}


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    (path,) = [path for path in notebook_paths() if path.name.startswith("17_")]
    return Notebook.read(path)


def output_of(notebook: Notebook, start: str) -> str:
    (cell,) = [cell for cell in notebook.code if cell.source.startswith(start)]
    return "".join(output.get("text", "") for output in cell.outputs)


def test_each_client_has_a_stored_output_with_its_route_and_the_same_ranking(notebook) -> None:
    expected = None
    for name, route in ROUTES.items():
        start = "try:\n    said" if name == "curl" else f"%%tool {environment_of(name)} {name}\n"
        said = output_of(notebook, start)
        assert f"POST {route} with" in said and "answered 200" in said, name
        ranking = ast.literal_eval(said.partition("ranking: ")[2])
        expected = expected or ranking
        assert ranking == expected, name
    assert sorted(expected) == list(range(len(expected)))


@pytest.mark.parametrize("name", REFUSED)
def test_the_two_that_fail_do_so_for_the_stated_reason(name, notebook) -> None:
    route, status, error = REFUSED[name]
    said = output_of(notebook, f"%%tool {environment_of(name)} {name}\n")
    assert f"POST {route} with" in said
    assert f"answered {status}" in said and error in said


def test_each_row_of_the_table_is_what_an_executed_cell_has_printed(notebook) -> None:
    (cell,) = [cell for cell in notebook.code if "show_table(table.assign(" in cell.source]
    (output,) = cell.outputs
    head, *lines = output["data"]["text/plain"].splitlines()
    ends = [found.end() for found in re.finditer(r"\S+(?: \S+)*\s*", head)]
    columns = list(zip([0, *ends], ends, strict=False))
    table = [[line[start:end].strip() for start, end in columns[:-1]] for line in lines]
    status = {line[0]: line[-1] for line in table}
    assert {row[0]: row[2] for row in table} == {
        **ROUTES,
        **{name: route for name, (route, _, _) in REFUSED.items()},
    }
    assert status.keys() == ROUTES.keys() | REFUSED.keys()
    cells = [cell for cell in notebook.code if cell.source.startswith("%%tool ")]
    named = {cell.source.splitlines()[0].partition(" ")[2].partition(" ")[2] for cell in cells}
    assert named | {"curl"} == status.keys()
    assert all(cell.execution_count for cell in cells)


def test_the_reranker_gains_in_the_pipeline_and_the_vectors_alone_are_good(notebook) -> None:
    """What the text says of the two counts of hit@3 is true of the stored ones."""
    pipeline = output_of(notebook, 'for name, hits in [("BM25 alone"')
    alone, reranked = (int(hits) for hits in re.findall(r"\((\d+) of 48\)", pipeline))
    assert reranked > alone
    gained, lost = map(int, re.findall(r"\d+", output_of(notebook, "better = sum(")))
    assert gained - lost == reranked - alone
    database = output_of(notebook, "ordered = [rerank(")
    alone, reranked = (int(hits) for hits in re.findall(r"hit@3 (\d+) of 48", database))
    assert alone > 0.85 * 48 and reranked > 0


def test_the_service_under_load_did_what_the_text_says(notebook) -> None:
    (cell,) = [cell for cell in notebook.code if "show_table(pd.DataFrame(states" in cell.source]
    (output,) = cell.outputs
    lines = output["data"]["text/plain"].splitlines()[1:]
    rows = {name: line for name, *line in (line.split() for line in lines)}
    assert rows["healthy"][2:] == ["100%"]
    assert rows["slow"][2:] == ["0%", "TimeoutError"]
    assert rows["gone"][2:] == ["0%", "ConnectError"]
    assert 1 <= float(rows["slow"][0]) <= float(rows["slow"][1]) < 1.5
    assert float(rows["gone"][1]) < 0.5


def test_every_part_of_the_printed_command_is_explained(notebook) -> None:
    command = output_of(notebook, "print(server.command)")
    assert len(parts_of(command)) > 5
    assert unexplained(command, notebook) == set()


@pytest.mark.parametrize(
    ("cpu", "flags"),
    [(True, {}), (True, {"tensor-parallel-size": 2}), (False, {})],
    ids=["processor", "two workers", "graphics card"],
)
def test_so_is_every_part_that_another_machine_would_add(cpu, flags, notebook) -> None:
    engine = Engine("/env/bin/python", "0.32.0", cpu, True, Path("/env/bin/vllm"))
    values = {
        "device": "cpu" if cpu else "gpu",
        "dtype": "float16",
        "cpus": (0, 1),
        "memory": 1 if cpu else 0.5,
        "eager": True,
        "preload": ("/lib/libtcmalloc.so",),
    }
    made = {name: Choice(value, "Because.") for name, value in values.items()}
    command = build_command(
        engine,
        Choices(model=Choice("m", "Because."), **made),
        model="/models/m",
        served_name="reranker",
        port=8123,
        max_model_len=512,
        api_key="secret",
        flags=flags,
        env={} if cpu else {"CUDA_VISIBLE_DEVICES": "GPU-1"},
    )
    assert "VLLM_API_KEY" in parts_of(command.text)
    assert unexplained(command.text, notebook) - {f"--{flag}" for flag in flags} == set()


def parts_of(command: str) -> set[str]:
    """Return the flags of a command and the variables in front of it."""
    return {
        flag or name
        for flag, name in re.findall(r"(--[a-z-]+)|(?<![\w-])([A-Z][A-Z_0-9]+)=", command)
    }


def unexplained(command: str, notebook: Notebook) -> set[str]:
    """Return the parts that have no row in the table with what they do and who keeps them."""
    (table,) = (part.source for part in notebook.prose if "| part | what it does |" in part.source)
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    explained = {
        word.split()[0]
        for part, *told in rows
        for word in re.findall(r"`([^`]+)`", part)
        if len(told) == 2 and all(text.strip() for text in told)
    }
    return parts_of(command) - explained


def environment_of(name: str) -> str:
    return "cohere7" if name == "Cohere SDK 7" else "clients"
