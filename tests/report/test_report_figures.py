"""Pictures of several runs: what is drawn is what was given."""

import itertools

import numpy as np
import pytest
import run_folders as make
from matplotlib import colors as mpl_colors
from matplotlib.backends import backend_agg

from jnas import errors, report, spaces
from jnas.report import palette, pictures


def history(space, epochs=5):
    space = spaces.get(space)
    rng = np.random.default_rng(0)
    return [
        {
            "epoch": epoch,
            "probabilities": {
                group.name: rng.dirichlet(
                    np.ones(group.num_operations), group.num_edges
                ).tolist()
                for group in space.groups
            },
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("name", ["nasbench201", "darts", "darts_rnn"])
def test_arch_history_shows_each_edge(name):
    space, rows = spaces.get(name), history(name)
    genotype = space.decode(space.random(0))
    axes = report.plot_arch_history(rows, name, genotype=genotype)
    assert len(axes) == sum(group.num_edges for group in space.groups)
    places = [(g, edge) for g in space.groups for edge in range(g.num_edges)]
    highest = max(
        np.max(table) for row in rows for table in row["probabilities"].values()
    )
    for ax, (group, edge) in zip(axes, places, strict=True):
        (image,) = ax.images
        expected = [row["probabilities"][group.name][edge] for row in rows]
        np.testing.assert_allclose(image.get_array(), np.transpose(expected))
        assert image.get_clim() == (0, highest)  # one scale for all
        assert image.get_extent() == [0.5, 5.5, group.num_operations - 0.5, -0.5]
        source, target = group.edges[edge]
        assert ax.get_title(loc="left") == f"{target}←{source}"
        # what the genotype chose is named and framed
        chosen = {(e.source, e.target): e.operation for e in genotype[group.name].edges}
        operation = chosen.get((source, target), "")
        assert ax.get_title(loc="right") == operation
        frames = [patch.get_y() + 0.5 for patch in ax.patches]
        assert frames == ([group.operations.index(operation)] if operation else [])
        if ax.get_yticklabels():
            ticks = [label.get_text() for label in ax.get_yticklabels()]
            assert tuple(ticks) == group.operations


@pytest.mark.parametrize("name", ["nasbench201", "darts", "darts_rnn"])
def test_arch_history_is_legible(name):
    axes = report.plot_arch_history(history(name), name, genotype=None)
    fig = axes[0].figure
    renderer = backend_agg.FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    boxes = [ax.get_tightbbox(renderer) for ax in fig.axes]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1
        assert box.y0 >= 0 and box.y1 <= fig.bbox.y1
    sizes = [text.get_fontsize() for text in fig.findobj(lambda a: hasattr(a, "_text"))]
    assert min(sizes) >= 6.5
    assert fig.get_size_inches()[0] < 16


def test_gaps_and_long_histories_keep_their_time():
    rows = history("nasbench201", 3)
    rows[2]["epoch"] = 6  # 3, 4 and 5 are missing
    image = report.plot_arch_history(rows, "nasbench201")[0].images[0]
    expected = [rows[i]["probabilities"]["cell"][0] for i in (0, 1, 1, 1, 1, 2)]
    np.testing.assert_allclose(image.get_array(), np.transpose(expected))
    rows[2]["epoch"] = 10**8
    image = report.plot_arch_history(rows, "nasbench201")[0].images[0]
    assert image.get_array().shape[1] <= 2000
    assert image.get_extent()[1] == 10**8 + 0.5


def test_wrong_probabilities_are_told():
    with pytest.raises(errors.JnasError, match="no probabilities"):
        report.plot_arch_history([{"epoch": 1}])
    rows = history("nasbench201", 2)
    with pytest.raises(errors.JnasError, match="expected"):
        report.plot_arch_history(rows, "darts")
    rows[1]["probabilities"] = {"cell": [[1.0]]}
    with pytest.raises(errors.JnasError, match="of epoch 2 have shapes"):
        report.plot_arch_history(rows, "nasbench201")


def lines(panel):
    return [
        (line.get_linewidth(), line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in panel.get_lines()
    ]


def test_several_runs_have_thin_lines_and_a_thick_mean():
    one = [{"epoch": e, "train_loss": float(e)} for e in (1, 2, 3)]
    two = [{"epoch": e, "train_loss": 3.0 * e} for e in (1, 2)]
    (panel,) = report.plot_histories({"": [one, two]})
    thin, other, mean = lines(panel)
    assert thin[1:] == ([1, 2, 3], [1.0, 2.0, 3.0])
    assert other[1:] == ([1, 2], [3.0, 6.0])
    assert mean[1:] == ([1, 2], [2.0, 4.0])  # where both have a value
    assert mean[0] > 2 * max(thin[0], other[0])
    (band,) = panel.collections
    points = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(1, 1), (1, 3), (2, 2), (2, 6)} <= points
    assert panel.get_ylim()[1] >= 6


def test_groups_have_a_colour_and_metrics_a_style():
    def run(value):
        return [{"epoch": 1, "train_loss": value, "val_loss": 2 * value}]

    (panel,) = report.plot_histories({"order 1": [run(1.0), run(2.0)], "b": [run(3.0)]})
    found = panel.get_lines()
    assert len(found) == 8  # train and val: two runs and their mean, and one run
    by_colour = {mpl_colors.to_hex(line.get_color()).upper() for line in found}
    assert by_colour == {color.upper() for color in palette.GROUPS[:2]}
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts == ["order 1", "b", "train", "val"]


def test_stability_and_bits_have_panels():
    rows = [{"epoch": 1, "train_bits": 2.0, "genotype_stability": 0.5, "text": "x"}]
    names = [panel.get_ylabel() for panel in report.plot_histories({"": [rows]})]
    assert names == ["bits per token", "edges as in the end"]


def test_comparison_shows_seeds_mean_and_error():
    values = {"found": [0.9, 0.94], "random": [0.8], "$x$_<y>": [0.5, 0.5, 0.5]}
    ax = report.plot_comparison(values)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == [
        *("found", "random")
    ]
    dots = [line for line in ax.get_lines() if line.get_gid() == "seeds"]
    for line, seeds in zip(dots, values.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.multiply(seeds, 100))
        # equal seeds do not hide each other
        assert len(set(line.get_ydata())) == len(seeds)
    bars = ax.containers
    np.testing.assert_allclose([bar[0].get_xdata()[0] for bar in bars], [92, 80, 50])
    (segments,) = bars[0][2]
    np.testing.assert_allclose(segments.get_segments()[0][:, 0], [90, 94])  # ± 2
    assert not bars[1].has_xerr or not bars[1][2]  # one seed has no error
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is on top
    assert ax.get_xlabel() == "test accuracy, %"
    ax.figure.savefig("/dev/null", format="svg")
    bits = report.plot_comparison({"a": [2.5]}, label="test bits per token")
    assert bits.get_lines()[0].get_xdata()[0] == 2.5
    with pytest.raises(errors.JnasError, match="'a' has no value"):
        report.plot_comparison({"a": []})


def test_plot_arch_returns_axes_and_saves_on_demand(tmp_path):
    rows = history("darts", 1)[0]["probabilities"]
    axes = report.plot_arch(rows, "darts", tmp_path / "arch.png")
    assert [ax.get_title(loc="left") for ax in axes] == ["normal", "reduce"]
    np.testing.assert_allclose(axes[1].images[0].get_array(), rows["reduce"])
    assert (tmp_path / "arch.png").exists()


def test_figures_of_several_runs(tmp_path):
    folders = [make.write_run(tmp_path / n / "run", seed=i) for i, n in enumerate("ab")]
    written = report.write_figures(folders, tmp_path / "out", formats=["svg"])
    names = sorted(path.name for path in written)
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    expected = {"history.svg"}
    for prefix in ("a-run-", "b-run-"):
        expected |= {f"{prefix}{n}.svg" for n in ("cells", "arch", "arch_history")}
        expected.add(f"{prefix}cell.dot")
    assert set(names) == expected
    for run, message in ((folders[0], "unknown picture format"), ("x", "not exist")):
        with pytest.raises(errors.JnasError, match=message):
            report.write_figures(run, tmp_path / "other", formats=["jpg"])
    assert not (tmp_path / "other").exists()
    (tmp_path / "file").touch()
    with pytest.raises(errors.JnasError, match="can't make folder"):
        report.write_figures(folders[0], tmp_path / "file")


def test_thinned_curves_keep_their_last_point(tmp_path):
    make.write_search(tmp_path, make.rows(500, shift=0.5))
    run = report.read(tmp_path)
    (rows,) = pictures.search_histories([run], most=200)[""]
    assert 100 < len(rows) <= 200 and rows[-1]["epoch"] == 500
    (rows,) = pictures.search_histories([run])[""]
    assert len(rows) == 500
