"""The chat template builds, to the letter, the text that Qwen3-Reranker was trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

PATH = Path(__file__).resolve().parents[2] / "deploy" / "templates" / "qwen3_reranker.jinja"
# As Transformers fills templates, and vLLM with it.
ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
DEFAULT = "Given a web search query, retrieve relevant passages that answer the query"


def fill(source, query="Who?", document="Me.", **values):
    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    return ENVIRONMENT.from_string(source).render(messages=messages, **values)


def expected(query="Who?", document="Me.", instruction=DEFAULT):
    # From the card of Qwen/Qwen3-Reranker-0.6B.
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        f"<|im_start|>user\n<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_the_text_is_that_of_the_training():
    assert fill(PATH.read_text("utf-8")) == expected()


def test_a_request_may_bring_its_instruction():
    source = PATH.read_text("utf-8")
    assert fill(source, instruction="Find animals") == expected(instruction="Find animals")
    assert fill(source, instruction="") == expected()


@pytest.mark.parametrize(
    "text", ["", "  \n two\n\nlines \n", "{{ 1 + 1 }}", "<b>&amp;</b>", "ß 巴"]
)
def test_texts_go_in_as_they_are(text):
    source = PATH.read_text("utf-8")
    assert fill(source, query=text, document=text) == expected(query=text, document=text)


@pytest.mark.parametrize("edit", [str.rstrip, lambda text: text + "\n\n"], ids=["cut", "added"])
def test_an_editor_that_changes_the_end_of_the_file_changes_nothing(edit):
    assert fill(edit(PATH.read_text("utf-8"))) == expected()
