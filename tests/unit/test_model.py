"""Whole and broken model folders, and the offline reranker's, made once and kept."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers import ScoreError
from helpers.errors import InputError, ModelUnavailableError
from helpers.server.model import (
    base_encoder_path,
    check_model_folder,
    is_local,
    merge,
    offline_model_folder,
    offline_model_path,
    weights_bytes,
)

# Any model


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
    with pytest.raises(ModelUnavailableError, match="cut short or damaged"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_half_a_json_file_is_seen(folder, name):
    (folder / name).write_text('{"half": ')
    with pytest.raises(ModelUnavailableError, match=f"{name} cannot be read"):
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


def test_the_size_of_numbers_that_are_smaller_already_is_theirs(folder):
    tensors = {"a": np.zeros(8, np.int8), "b": np.zeros(8, np.float16), "c": np.zeros(8, np.int32)}
    save_file(tensors, folder / "model.safetensors")
    assert weights_bytes(folder) == 8 + 16 + 32


def test_paths_and_names_on_the_hub_are_told_apart(folder, monkeypatch):
    assert is_local(str(folder)) and is_local("/no/such") and is_local("./x") and is_local("~/x")
    assert not is_local("BAAI/bge-reranker-v2-m3") and not is_local("gpt2")
    monkeypatch.chdir(folder.parent)
    assert is_local(folder.name)


@pytest.mark.parametrize(
    "name",
    [Path("models/my-rerankr"), "models/my-rerankr/", "models/my reranker v2", "a/b/c", "a\\b", ""],
)
def test_what_cannot_be_a_name_on_the_hub_is_a_path(name):
    assert is_local(name)


def test_a_mistyped_path_into_a_folder_that_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_local("models/my-rerankr")
    (tmp_path / "models").mkdir()
    assert is_local("models/my-rerankr")


@pytest.mark.parametrize("name", ["s3://bucket/model", "gs://bucket/model"])
def test_an_object_store_is_no_folder(name):
    assert not is_local(name)


# The offline reranker


@pytest.fixture
def own_state(monkeypatch, tmp_path):
    """A state folder of the test's own."""
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    return tmp_path


def trained_in(folder: Path, bias: float) -> Path:
    """Write trained weights that are a head alone."""
    folder.mkdir()
    head = {
        "classifier.weight": np.ones((1, 384), np.float16),
        "classifier.bias": np.full(1, bias, np.float16),
    }
    save_file(head, folder / "weights.safetensors")
    return folder


def test_whole_tensors_take_the_place_of_the_encoders(tmp_path):
    trained = tmp_path / "trained"
    trained.mkdir()
    base = load_file(base_encoder_path() / "model.safetensors")
    layer = "encoder.layer.5.output.dense.weight"
    whole = {
        f"bert.{layer}": (2 * base[layer]).astype(np.float16),
        "bert.pooler.dense.weight": np.ones((384, 384), np.float16),
        "bert.pooler.dense.bias": np.ones(384, np.float16),
        "classifier.weight": np.ones((1, 384), np.float16),
        "classifier.bias": np.ones(1, np.float16),
    }
    save_file(whole, trained / "weights.safetensors")
    merge(base_encoder_path(), trained, tmp_path)
    merged = load_file(tmp_path / "model.safetensors")
    assert all(tensor.dtype == np.float32 for tensor in merged.values())
    np.testing.assert_array_equal(merged[f"bert.{layer}"], whole[f"bert.{layer}"])
    name = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(merged[f"bert.{name}"], base[name])
    check_model_folder(tmp_path)


def test_a_matrix_that_was_not_shipped_of_a_further_layer_is_zero(tmp_path):
    trained = tmp_path / "trained"
    trained.mkdir()
    query = "bert.encoder.layer.6.attention.self.query."
    save_file({f"{query}bias": np.ones(384, np.float16)}, trained / "weights.safetensors")
    merge(base_encoder_path(), trained, tmp_path)
    merged = load_file(tmp_path / "model.safetensors")
    assert merged[f"{query}bias"].all()
    assert merged[f"{query}weight"].shape == (384, 384)
    assert not merged[f"{query}weight"].any()
    # Only matrices are left out: whoever loads the model is to notice that a norm is missing.
    assert "bert.encoder.layer.6.output.LayerNorm.weight" not in merged
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 7


def test_what_ships_becomes_a_whole_model(own_state):
    folder = offline_model_path()
    check_model_folder(folder)
    names = set(load_file(folder / "model.safetensors"))
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= names


def test_the_folder_is_named_without_being_made(own_state):
    assert offline_model_folder() == offline_model_folder(precision="float32")
    assert offline_model_folder(precision="int8") != offline_model_folder()
    assert list(own_state.iterdir()) == []
    assert offline_model_path() == offline_model_folder()


def test_a_precision_that_nobody_knows_is_refused(own_state):
    with pytest.raises(InputError, match="float32, int8"):
        offline_model_path(precision="int4")


def test_the_int8_form_lies_beside_the_other_and_is_kept(own_state):
    folder = offline_model_path(precision="int8")
    check_model_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert offline_model_path(precision="int8") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert {path.name for path in (own_state / "models").iterdir()} == {
        folder.name,
        offline_model_folder().name,
    }


def test_a_second_call_finds_the_merged_folder(own_state):
    folder = offline_model_path()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert offline_model_path() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_two_kernels_that_merge_at_once_agree_and_leave_no_draft(own_state):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: offline_model_path(), range(4)))
    assert len(folders) == 1
    assert [p.name for p in (own_state / "models").iterdir()] == [folders.pop().name]


def test_another_training_gets_a_folder_of_its_own(own_state, tmp_path):
    one, other = trained_in(tmp_path / "one", 0.0), trained_in(tmp_path / "other", 1.0)
    assert len({offline_model_path(one), offline_model_path(other), offline_model_path()}) == 3


def test_what_is_not_there_is_named(own_state, tmp_path):
    with pytest.raises(ScoreError, match=r"holds no weights\.safetensors"):
        offline_model_path(tmp_path / "nothing")
