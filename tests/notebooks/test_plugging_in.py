"""What notebook 17 stores: a row for each client, and a reason for each part of the command."""

from __future__ import annotations

import ast
import re

import pytest

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


def test_every_part_of_the_printed_command_is_explained(notebook) -> None:
    command = output_of(notebook, "print(server.command)")
    words = re.findall(r"(--[a-z-]+)|(?<![\w-])([A-Z][A-Z_0-9]+)=", command)
    assert len(words) > 5
    prose = "\n".join(part.source for part in notebook.prose)
    assert {flag or name for flag, name in words if f"`{flag or name}" not in prose} == set()


def environment_of(name: str) -> str:
    return "cohere7" if name == "Cohere SDK 7" else "clients"
