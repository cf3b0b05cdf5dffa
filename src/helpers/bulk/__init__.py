"""Score many pairs: in batches, in order, and on from where an earlier run ended.

What needs Ray is imported when it is asked for: Ray is an optional extra.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from helpers.bulk.scoring import Batch, batched, in_order, pair_up, score_frame, score_pairs

if TYPE_CHECKING:
    from helpers.bulk.parquet import score_parquet, start_ray

__all__ = [
    "Batch",
    "batched",
    "in_order",
    "pair_up",
    "score_frame",
    "score_pairs",
    "score_parquet",
    "start_ray",
]

_MODULE_OF = {"score_parquet": "parquet", "start_ray": "parquet"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
