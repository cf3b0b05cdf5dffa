"""Show scores, searches and servers: charts, tables and widgets."""

from helpers.tables import show_table
from helpers.views.calibration_plots import (
    difference_chart,
    pair_chart,
    precision_recall_chart,
    reliability_chart,
    sigmoid_chart,
)
from helpers.views.charts import BAR, bar_chart, heat_map
from helpers.views.dashboard import Dashboard
from helpers.views.measurement_plots import cost_chart, interval_chart, load_chart
from helpers.views.score_tables import HeatTable
from helpers.views.widgets import Playground, QueryComparison, ScoreTable

__all__ = [
    "BAR",
    "Dashboard",
    "HeatTable",
    "Playground",
    "QueryComparison",
    "ScoreTable",
    "bar_chart",
    "cost_chart",
    "difference_chart",
    "heat_map",
    "interval_chart",
    "load_chart",
    "pair_chart",
    "precision_recall_chart",
    "reliability_chart",
    "show_table",
    "sigmoid_chart",
]
