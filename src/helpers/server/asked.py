"""Hold what was asked for of a server: it names the record by which the server is found again.

What was chosen never does. Choices rest on how much memory is free, which changes by the minute,
and which a running server changes most.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helpers.errors import InputError
from helpers.server import records
from helpers.server.engine import engine_python
from helpers.server.model import OFFLINE_MODEL_NAME, is_local, offline_model_folder
from helpers.server.probe import inherited_environment

# What tells one server from another although nobody passes it as an argument.
_VARIABLES = ("CUDA_VISIBLE_DEVICES",)


@dataclass(frozen=True)
class Asked:
    """What a caller wants of a server; None leaves it to the plan.

    Attributes are the arguments of `ScoreServer`, cleaned, and `source`: who named the model.
    """

    model: str | Path | None = None
    source: str = "You"
    python: str | None = None
    dtype: str | None = None
    precision: str | None = None
    threads: int | None = None
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    enforce_eager: bool | None = None
    api_key: str | None = field(default=None, repr=False)
    flags: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a precision that there is no model of."""
        if self.precision is None:
            return
        if self.model not in (None, OFFLINE_MODEL_NAME):
            raise InputError(
                f"precision= chooses a form of the offline reranker, and {self.source} asked for "
                f"{str(self.model)!r}. Leave it out, or serve "
                f'ScoreServer("{OFFLINE_MODEL_NAME}", precision={self.precision!r}).'
            )
        offline_model_folder(precision=self.precision)  # knows which there are
        object.__setattr__(self, "model", OFFLINE_MODEL_NAME)

    @property
    def given(self) -> str | None:
        """What vLLM is given to serve, where the caller names it: a folder, or a hub's name."""
        if self.model == OFFLINE_MODEL_NAME:
            precision = self.precision
            folder = offline_model_folder(precision=precision) if precision else None
            return str(folder or offline_model_folder())
        if self.model is not None and is_local(self.model):
            return str(Path(self.model).expanduser().absolute())
        return None if self.model is None else str(self.model)

    @property
    def interpreter(self) -> str:
        """The interpreter that was named, or else the one whose vLLM serves."""
        return self.python or engine_python()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the server gets, before a plan adds its own."""
        return inherited_environment(self.interpreter, self.env)

    @property
    def key(self) -> str:
        """The name of the record."""
        environment = self.environment
        return records.key_of(
            {
                **asdict(self),
                # An update may bring another offline reranker, which is another model.
                "model": self.given or f"chosen, or {offline_model_folder()}",
                "source": None,
                "python": _environment_of(self.interpreter),
                "api_key": hashlib.sha256((self.api_key or "").encode()).hexdigest(),
                "env": {**self.env, **{name: environment.get(name) for name in _VARIABLES}},
            }
        )


def _environment_of(python: str) -> list[str]:
    """Return the same for `python` and `python3` of one environment, and for no two environments.

    Both name one file in the end, and so do those of every environment made from it: hence the
    folder as well.
    """
    path = Path(shutil.which(python) or python).absolute()
    return [str(path.parent), str(path.resolve())]
