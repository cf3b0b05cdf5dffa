"""What the tests of the server share: models, interpreters, and the check that nothing is left."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

# So that a test can `from launching import ...` whatever import mode pytest runs in.
sys.path.insert(0, str(Path(__file__).parent))

from helpers.server import processes, records
from helpers.server.model import base_encoder_path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a state folder of its own; afterwards no process and no record may be left in it."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SCORE_STATE_DIR", str(folder))
    monkeypatch.delenv("SCORE_MODEL", raising=False)
    yield folder
    kept = records.load_all()
    logs = list((folder / "logs").glob("*.log"))
    running = [session for log in logs for session in processes.sessions_of(log)]
    records.sweep()
    assert not running, f"sessions left: {running}"
    assert not kept, f"records left: {kept}"


@pytest.fixture(scope="session")
def kills_wanted(request: pytest.FixtureRequest) -> None:
    """Skip what uses or kills Ray and kernels, unless it was asked for."""
    # Ray starts within 30 seconds or not at all, which a busy machine does not promise.
    if not request.config.getoption("--kills"):
        pytest.skip("takes minutes and an idle machine: --kills")


@pytest.fixture(scope="session")
def scoring_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a small model with one label, whole and local."""
    return make_classifier(tmp_path_factory.mktemp("one_label"), labels=1)


@pytest.fixture(scope="session")
def two_label_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a classifier with two labels, for which vLLM has no score route."""
    return make_classifier(tmp_path_factory.mktemp("two_labels"), labels=2)


def make_classifier(folder: Path, *, labels: int) -> str:
    """Put an untrained head with so many labels on the packaged encoder."""
    base = base_encoder_path()
    weights = {
        f"bert.{name}": tensor
        for name, tensor in load_file(base / "model.safetensors").items()
        if name != "embeddings.position_ids"
    }
    rng = np.random.default_rng(0)
    weights["classifier.weight"] = rng.normal(0, 0.02, (labels, 384)).astype(np.float32)
    weights["classifier.bias"] = np.zeros(labels, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    names = [f"LABEL_{number}" for number in range(labels)]
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return str(folder)


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], str]:
    """Give a function that makes an interpreter: this Python, with shell lines before a launch."""

    def make(lines: str) -> str:
        path = tmp_path / "python"
        path.write_text(
            # With -c it is asked what vLLM it has.
            f'#!/bin/sh\nif [ "$1" != "-c" ]; then\n{lines}\nfi\nexec "{sys.executable}" "$@"\n'
        )
        path.chmod(0o755)
        return str(path)

    return make
