"""The offline reranker is the encoder plus the adapter, merged once and kept."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import ScoreError
from helpers.server.model import ADAPTER, base_encoder_path, merge, offline_model_path


@pytest.fixture
def own_state(monkeypatch, tmp_path):
    """A state folder of the test's own."""
    monkeypatch.setenv("SCORE_STATE_DIR", str(tmp_path))
    return tmp_path


def test_the_merge_gives_the_weights_that_peft_gives(tmp_path):
    torch = pytest.importorskip("torch")
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    merge(base_encoder_path(), ADAPTER, tmp_path)
    ours = load_file(tmp_path / "model.safetensors")

    plain = AutoModelForSequenceClassification.from_pretrained(base_encoder_path(), num_labels=1)
    theirs = PeftModel.from_pretrained(plain, ADAPTER).merge_and_unload().state_dict()

    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor.float(), rtol=0, atol=1e-5)


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


def test_another_adapter_gets_a_folder_of_its_own(own_state, tmp_path):
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(ADAPTER / "adapter_model.safetensors")
    tensors["base_model.model.classifier.bias"] = tensors["base_model.model.classifier.bias"] + 1
    save_file(tensors, other / "adapter_model.safetensors")
    (other / "adapter_config.json").write_bytes((ADAPTER / "adapter_config.json").read_bytes())
    assert offline_model_path(other) != offline_model_path()


def test_a_missing_adapter_is_named(own_state, tmp_path):
    with pytest.raises(ScoreError, match=r"adapter_model\.safetensors is missing"):
        offline_model_path(tmp_path / "nothing")
