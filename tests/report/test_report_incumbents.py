"""The picture of incumbents shows what it is given."""

import numpy as np
import pytest

from jnas.errors import JnasError
from jnas.report import plot_incumbents
from jnas.report.incumbents import Panel


def test_curves_bands_and_the_best():
    x = np.arange(1, 11)
    mean = np.linspace(80, 90, 10)
    mean[0] = np.nan  # nothing succeeded yet
    curves = {f"method {i}": (x, mean + i, np.full(10, 0.5)) for i in range(9)}
    figure = plot_incumbents([Panel("evaluations", "accuracy, %", curves, 99.0)], "t")
    (ax,) = figure.axes
    assert len(ax.lines) == 10  # and the best there is
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), mean + 2)
    looks = {(line.get_color(), str(line.get_linestyle())) for line in ax.lines[:9]}
    assert len(looks) == 9
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(90.5)
    assert "99.00" in ax.texts[0].get_text()
    low, high = ax.get_ylim()
    assert 80 < low < 90 and high > 99
    assert ax.get_xlabel() == "evaluations" and ax.get_ylabel() == "accuracy, %"


def test_nothing_but_failures_can_be_drawn():
    nan = np.full(3, np.nan)
    curve = (np.arange(3), nan, nan)
    assert plot_incumbents([Panel("a", "b", {"c": curve})]).axes


def test_nothing_to_draw():
    with pytest.raises(JnasError, match="no curves"):
        plot_incumbents([])
