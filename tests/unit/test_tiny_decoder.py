"""The tiny decoder is a whole model, always the same, and reads one token a byte."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.server import tiny_decoder_path
from helpers.server.model import check_model_folder


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path / "state"))


def test_it_is_whole_and_made_once():
    folder = tiny_decoder_path()
    check_model_folder(folder)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert tiny_decoder_path() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_two_makings_are_equal_byte_by_byte(tmp_path, monkeypatch):
    first = tiny_decoder_path()
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path / "another"))
    second = tiny_decoder_path()
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def test_kernels_that_make_it_at_once_agree_and_leave_no_draft():
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: tiny_decoder_path(), range(4)))
    assert [path.name for path in folders.pop().parent.iterdir()] == [tiny_decoder_path().name]
    assert not folders


@pytest.mark.parametrize(
    ("text", "count"),
    [("Paris", 5), ("Größe\n\n", 9), ("<think>\n\n</think>\n\n", 6), ("yes", 1), ("yesterday", 9)],
)
def test_a_token_is_a_byte_or_a_marker_and_nothing_is_lost(text, count):
    tokenizers = pytest.importorskip("tokenizers")
    path = tiny_decoder_path() / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    ids = tokenizer.encode(text).ids
    assert len(ids) == count
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_loads_it():
    transformers = pytest.importorskip("transformers")
    folder = tiny_decoder_path()
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert model.num_parameters() < 300_000
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(["no", "yes"]) == [261, 262]
