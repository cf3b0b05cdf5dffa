"""The int8 form says what the model in float32 says, as nearly as 8 bits can."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.server.model import base_encoder_path, check_model_folder, merge
from helpers.server.quantize import (
    quantize_folder,
    quantize_rows,
    sample_tokens,
    shift,
    what_is_read,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Give the folder of a small cross-encoder in float32: what ships, whole."""
    from helpers.server.model import TRAINED

    folder = tmp_path_factory.mktemp("float32")
    merge(base_encoder_path(), TRAINED, folder)
    return folder


@pytest.fixture(scope="module")
def int8(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    quantize_folder(model, folder)
    return folder


@pytest.fixture
def loaded(model):
    """Give the tensors, the configuration and one pair of texts."""
    config = json.loads((model / "config.json").read_text())
    return load_file(model / "model.safetensors"), config, next(sample_tokens(model))


def test_rounding_keeps_what_a_layer_makes_of_what_it_reads():
    rng = np.random.default_rng(0)
    # What a layer reads is correlated, and some features are larger than others.
    mix = rng.normal(size=(96, 96)) * np.geomspace(1, 0.01, 96)
    read = (rng.normal(size=(4000, 96)) @ mix).astype(np.float32)
    weight = rng.normal(size=(64, 96)).astype(np.float32)
    numbers, scale = quantize_rows(weight, read.T @ read / len(read))
    assert numbers.dtype == np.int8 and numbers.shape == weight.shape and scale.shape == (64, 1)
    assert np.abs(numbers.astype(int)).max() == 127

    def error(rounded):
        return np.square(read @ (rounded - weight).T).mean()

    assert error(numbers * scale) < 0.5 * error(np.rint(weight / scale) * scale)


def test_features_that_are_never_read_do_no_harm():
    weight = np.random.default_rng(0).normal(size=(8, 200)).astype(np.float32)
    moments = np.zeros((200, 200), np.float32)
    moments[0, 0] = 1
    numbers, scale = quantize_rows(weight, moments)
    assert np.abs(numbers * scale - weight).max() <= 0.51 * scale.max()
    zeros, _ = quantize_rows(np.zeros((2, 200), np.float32), moments)
    assert not zeros.any()


def test_the_pass_through_the_model_is_that_of_transformers(model, loaded):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    tensors, config, (ids, segments) = loaded
    ours = dict(what_is_read(tensors, config, ids, segments))
    theirs = {}

    def remember(name):
        def hook(module, read):
            theirs[name] = read[0][0].numpy()

        return hook

    reference = AutoModelForSequenceClassification.from_pretrained(model).eval()
    for name, module in reference.named_modules():
        if name in ours or name.endswith(".self.query"):
            module.register_forward_pre_hook(remember(name.removesuffix(".query")))
    with torch.inference_mode():
        reference(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([segments]))
    assert len(ours) == 4 * config["num_hidden_layers"]
    for name, read in ours.items():
        np.testing.assert_allclose(read, theirs[name], atol=0.02)


def test_a_shift_changes_what_is_read_by_the_mean_and_nothing_else(loaded):
    tensors, config, (ids, segments) = loaded
    before = dict(what_is_read(tensors, config, ids, segments))
    means = {name: read.mean(axis=0) for name, read in before.items()}
    for layer in range(config["num_hidden_layers"]):
        shifted = shift(tensors, layer, means)
        assert len(shifted) == 3
    after = dict(what_is_read(tensors, config, ids, segments))
    for name, read in before.items():
        behind_activation = name.endswith(f"{name.split('.')[3]}.output.dense")
        expected = read if behind_activation else read - means[name]
        np.testing.assert_allclose(after[name], expected, atol=2e-4)


def test_texts_of_all_kinds_are_looked_at(model):
    pairs = list(sample_tokens(model))
    assert sum(len(ids) for ids, _ in pairs) > 4 * 1536, "many more tokens than features"
    assert all(len(ids) == len(segments) <= 128 for ids, segments in pairs)


def test_every_dense_layer_of_the_encoder_is_int8_and_the_head_is_not(model, int8):
    check_model_folder(int8)
    whole, small = load_file(model / "model.safetensors"), load_file(int8 / "model.safetensors")
    rounded = [name for name, tensor in small.items() if tensor.dtype == np.int8]
    assert len(rounded) == 6 * 6 and all(small[f"{name}_scale"].shape[1] == 1 for name in rounded)
    assert set(small) == set(whole) | {f"{name}_scale" for name in rounded}
    assert small["classifier.weight"].dtype == np.float32
    assert small["bert.pooler.dense.weight"].dtype == np.float32
    scheme = json.loads((int8 / "config.json").read_text())["quantization_config"]
    assert scheme["config_groups"]["group_0"]["input_activations"]["symmetric"] is False
    size = (int8 / "model.safetensors").stat().st_size
    assert size < 0.7 * (model / "model.safetensors").stat().st_size


def test_the_scores_of_the_rounded_weights_are_close(model, int8):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    reference = AutoModelForSequenceClassification.from_pretrained(model).eval()
    rounded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tensors = load_file(int8 / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_scale")]:
        weight = name.removesuffix("_scale")
        tensors[weight] = tensors[weight].astype(np.float32) * tensors.pop(name)
    rounded.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})

    def scores(of, ids, segments):
        with torch.inference_mode():
            pair = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([segments])}
            return torch.sigmoid(of(**pair).logits).item()

    pairs = list(sample_tokens(model))
    off = [abs(scores(reference, *pair) - scores(rounded, *pair)) for pair in pairs]
    assert max(off) < 0.02 and np.mean(off) < 0.004
