"""Read the files that readers copy, for the tests that look at them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def read_yaml(name: str) -> dict:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def read_unit() -> dict[str, dict[str, list[str]]]:
    """Return section, setting and values of the unit; a setting may stand there several times."""
    text = (DEPLOY / "systemd" / "vllm-score.service").read_text("utf-8")
    sections: dict[str, dict[str, list[str]]] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            settings = sections.setdefault(line.strip("[]"), {})
            continue
        name, equals, value = line.partition("=")
        assert equals and re.fullmatch(r"[A-Z]\w+", name), f"no setting: {line}"
        settings.setdefault(name, []).append(value)
    return sections
