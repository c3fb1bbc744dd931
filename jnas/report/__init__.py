"""Pictures and texts that tell what a search found and how it went.

matplotlib is imported when the first picture is drawn, and its pyplot never.
"""

from jnas.report import collapse
from jnas.report.cells import draw, plot_cell
from jnas.report.comparison import plot_comparison
from jnas.report.curves import plot_histories, plot_history
from jnas.report.dot import to_dot
from jnas.report.heatmaps import plot_arch, plot_arch_history
from jnas.report.html import write_html
from jnas.report.incumbents import plot_incumbents
from jnas.report.pictures import write_figures
from jnas.report.runs import Run, read
from jnas.report.shares import plot_shares
from jnas.report.strengths import plot_strengths

__all__ = [
    "Run",
    "collapse",
    "draw",
    "plot_arch",
    "plot_arch_history",
    "plot_cell",
    "plot_comparison",
    "plot_histories",
    "plot_history",
    "plot_incumbents",
    "plot_shares",
    "plot_strengths",
    "read",
    "to_dot",
    "write_figures",
    "write_html",
]
