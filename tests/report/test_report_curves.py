"""Curves of a run and heat maps of an architecture."""

import itertools
import math

import numpy as np
import pytest
from matplotlib import figure
from matplotlib.backends import backend_agg

from jnas import errors, report, spaces

ROWS = [
    {
        "epoch": epoch,
        "train_loss": 2.3 * 0.9**epoch,
        "val_loss": 2.4 * 0.9**epoch,
        "train_accuracy": 0.1 * epoch,
        "val_accuracy": 0.09 * epoch,
        "arch_entropy": 2.0 - 0.1 * epoch,
        "skip_share": 0.1,
        "learning_rate": 0.025,
    }
    for epoch in range(6)
]


def test_each_metric_is_a_line_in_its_panel():
    panels = report.plot_history(ROWS)
    names = [panel.get_ylabel() for panel in panels]
    assert names == ["loss", "accuracy", "entropy (of uniform)", "share"]
    assert [len(panel.get_lines()) for panel in panels] == [2, 2, 1, 1]
    line = panels[0].get_lines()[1]
    assert line.get_label() == "val"
    np.testing.assert_array_equal(line.get_xdata(), range(6))
    np.testing.assert_array_equal(line.get_ydata(), [row["val_loss"] for row in ROWS])
    # a metric has the same colour in every panel
    assert panels[1].get_lines()[0].get_color() == (
        panels[0].get_lines()[0].get_color()
    )


def test_values_that_are_absent_or_not_finite_are_left_out():
    rows = [
        {"epoch": 0, "train_loss": 1.0},
        {"epoch": 1, "train_loss": math.nan, "val_loss": 3.0},
        {"epoch": 2, "train_loss": 2.0, "val_loss": None},
    ]
    (panel,) = report.plot_history(rows)
    assert [line.get_xdata().tolist() for line in panel.get_lines()] == [[0, 2], [1]]


def test_history_fits_in_given_axes(tmp_path):
    fig = figure.Figure(figsize=(14, 3))
    ax = fig.add_subplot()
    panels = report.plot_history(ROWS, ax)
    renderer = backend_agg.FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    bounds = [panel.get_tightbbox(renderer) for panel in panels]
    for left, right in itertools.pairwise(bounds):
        assert left.x1 < right.x0
    assert min(box.y0 for box in bounds) >= 0


def test_wrong_histories_are_told():
    with pytest.raises(errors.JnasError, match="row 1 of the history has no 'epoch'"):
        report.plot_history([{"epoch": 0, "train_loss": 1.0}, {"train_loss": 1.0}])
    with pytest.raises(errors.JnasError, match="nothing to draw"):
        report.plot_history([{"epoch": 0, "learning_rate": 1.0}])
    with pytest.raises(errors.JnasError, match="nothing to draw"):
        report.plot_history([])


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_heat_maps_are_written_whole(tmp_path, name, monkeypatch):
    space = spaces.get(name)
    rng = np.random.default_rng(0)
    tables = {
        group.name: rng.dirichlet(np.ones(group.num_operations), group.num_edges)
        for group in space.groups
    }
    figures = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure,
        "savefig",
        lambda self, *args, **kwargs: (
            figures.append(self),
            save(self, *args, **kwargs),
        ),
    )
    report.plot_arch(tables, name, tmp_path / "arch.png")
    assert (tmp_path / "arch.png").stat().st_size > 5_000
    (fig,) = figures
    for group, ax in zip(space.groups, fig.axes, strict=False):
        ticks = [label.get_text() for label in ax.get_xticklabels()]
        assert tuple(ticks) == group.operations
        rows = [label.get_text() for label in ax.get_yticklabels()]
        assert tuple(rows) == group.edge_names
        shown = np.array([float(text.get_text()) for text in ax.texts])
        np.testing.assert_allclose(
            shown.reshape(tables[group.name].shape), tables[group.name], atol=0.0051
        )
    # nothing is cut off at the border
    renderer = backend_agg.FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    for ax in fig.axes:
        box = ax.get_tightbbox(renderer)
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1


def test_wrong_tables_are_told(tmp_path):
    path = tmp_path / "arch.png"
    with pytest.raises(errors.JnasError, match=r"expected \['cell'\]"):
        report.plot_arch({"normal": np.ones((6, 5))}, "nasbench201", path)
    with pytest.raises(errors.JnasError, match=r"\[5, 6\]: expected \[6, 5\]"):
        report.plot_arch({"cell": np.ones((5, 6))}, "nasbench201", path)
    with pytest.raises(errors.JnasError, match="unknown space"):
        report.plot_arch({"cell": np.ones((6, 5))}, "nasbench", path)


def test_stages_are_apart():
    rows = [{**row, "stage": 1 + row["epoch"] // 3} for row in ROWS]
    del rows[3]["val_loss"]  # a stage's first epoch needn't have it
    panel = report.plot_history(rows)[0]
    train, val, line = panel.get_lines()
    np.testing.assert_array_equal(train.get_xdata(), [0, 1, 2, 2.5, 3, 4, 5])
    np.testing.assert_array_equal(val.get_xdata(), [0, 1, 2, 2.5, 4, 5])
    for curve in (train, val):
        assert np.isnan(curve.get_ydata()).tolist().index(True) == 3
    assert line.get_xdata() == [2.5, 2.5] and line.get_linestyle() == ":"
    # one stage, or none: nothing of that
    for same in (ROWS, [{**row, "stage": 1} for row in ROWS]):
        assert len(report.plot_history(same)[0].get_lines()) == 2
