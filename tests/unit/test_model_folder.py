"""Whole and broken model folders."""

import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from helpers.errors import ModelUnavailableError
from helpers.server.model_folder import check_model_folder, is_local, weights_bytes


@pytest.fixture
def folder(tmp_path):
    """A whole model in the smallest form."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"w": np.zeros((4, 4), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_whole_folder_passes(folder):
    check_model_folder(folder)


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_weights_cut_at_any_place_are_seen(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelUnavailableError, match=r"model\.safetensors"):
        check_model_folder(folder)


def test_weights_that_are_too_long_are_seen(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelUnavailableError, match="bytes where"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_half_a_json_file_is_seen(folder, name):
    (folder / name).write_text('{"half": ')
    with pytest.raises(ModelUnavailableError, match=f"{name} can not be read"):
        check_model_folder(folder)


def test_every_shard_must_be_there(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = {"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailableError, match=r"b\.safetensors is missing"):
        check_model_folder(folder)
    save_file({"v": np.zeros(2, np.float32)}, folder / "b.safetensors")
    check_model_folder(folder)


def test_a_cut_pytorch_file_is_seen(folder):
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x" * 1000)
    check_model_folder(folder)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelUnavailableError, match="is cut short"):
        check_model_folder(folder)


def test_the_size_counts_sixteen_bits_a_number(folder):
    assert weights_bytes(folder) == 4 * 4 * 2


def test_paths_and_names_on_the_hub_are_told_apart(folder, monkeypatch):
    assert is_local(str(folder)) and is_local("/no/such") and is_local("./x") and is_local("~/x")
    assert not is_local("BAAI/bge-reranker-v2-m3")
    monkeypatch.chdir(folder.parent)
    assert is_local(folder.name)
