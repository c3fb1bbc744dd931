"""Pictures and texts that tell what a search found and how it went.

matplotlib is imported when the first picture is drawn, and its pyplot never.
"""

from jnas.report.cells import draw, plot_cell
from jnas.report.curves import plot_arch, plot_history
from jnas.report.dot import to_dot

__all__ = ["draw", "plot_arch", "plot_cell", "plot_history", "to_dot"]
