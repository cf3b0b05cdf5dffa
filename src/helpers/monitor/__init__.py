"""Count what a server does, and load it to see what it can do."""

from helpers.monitor.load import Load, measure_load
from helpers.monitor.metrics import Metrics, Work, read_metrics

__all__ = [
    "Load",
    "Metrics",
    "Work",
    "measure_load",
    "read_metrics",
]
