"""Start, find, watch and stop a score server; say what a machine can do.

Each name is imported when it is asked for, so that the machine check works where a package that
only another one needs is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.server.balancer import Balancer, VllmRouter
    from helpers.server.check import check_machine
    from helpers.server.engine import engine_python
    from helpers.server.model import OFFLINE_MODEL_NAME, base_encoder_path, offline_model_path
    from helpers.server.probe import inherited_environment
    from helpers.server.proxy import ReverseProxy
    from helpers.server.server import ScoreServer, left_elsewhere, stop_all
    from helpers.server.serves import Serves, what_serves
    from helpers.server.side import side_environment
    from helpers.server.tiny_decoder import tiny_decoder_path

__all__ = [
    "OFFLINE_MODEL_NAME",
    "Balancer",
    "ReverseProxy",
    "ScoreServer",
    "Serves",
    "VllmRouter",
    "base_encoder_path",
    "check_machine",
    "engine_python",
    "inherited_environment",
    "left_elsewhere",
    "offline_model_path",
    "side_environment",
    "stop_all",
    "tiny_decoder_path",
    "what_serves",
]

_MODULE_OF = {
    "Balancer": "balancer",
    "OFFLINE_MODEL_NAME": "model",
    "ReverseProxy": "proxy",
    "ScoreServer": "server",
    "Serves": "serves",
    "VllmRouter": "balancer",
    "base_encoder_path": "model",
    "check_machine": "check",
    "engine_python": "engine",
    "inherited_environment": "probe",
    "left_elsewhere": "server",
    "offline_model_path": "model",
    "side_environment": "side",
    "stop_all": "server",
    "tiny_decoder_path": "tiny_decoder",
    "what_serves": "serves",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
