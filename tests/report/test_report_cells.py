"""Drawn cells: legible, complete, written where asked, without global state."""

import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import figure
from matplotlib.backends import backend_agg

from jnas import errors, report, spaces
from jnas.report import layout

NASBENCH201 = (
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|"
    "+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
)


def every_edge(inputs, nodes, operations, concat):
    """A cell in which every node reads every earlier state."""
    names = itertools.cycle(operations)
    edges = [
        spaces.Edge(next(names), source, target)
        for target in range(inputs, inputs + nodes)
        for source in range(target)
    ]
    return spaces.Cell(tuple(edges), tuple(concat))


def genotypes():
    for name in spaces.genotype_names():
        yield pytest.param(spaces.genotype(name), id=name)
    yield pytest.param(spaces.Genotype.parse(NASBENCH201), id="nasbench201")
    dense = every_edge(2, 4, ("none", "dil_conv_5x5", "skip_connect"), range(2, 6))
    yield pytest.param(
        spaces.Genotype("darts", (("normal", dense), ("reduce", dense))), id="dense"
    )
    three = every_edge(3, 3, ("a_rather_long_operation_9x9", "b"), (0, 4))
    yield pytest.param(spaces.Genotype("mine", (("cell", three),)), id="three_inputs")
    same = spaces.Cell((spaces.Edge("x", 0, 1),) * 5, (1,))
    yield pytest.param(spaces.Genotype("mine", (("cell", same),)), id="parallel")
    space = spaces.get("darts")
    for seed in range(5):
        yield pytest.param(space.decode(space.random(seed)), id=f"random{seed}")


def boxes(ax, gid):
    """Bounds of texts as they are rendered."""
    renderer = backend_agg.FigureCanvasAgg(ax.figure).get_renderer()
    ax.figure.draw(renderer)
    return [
        text.get_window_extent(renderer)
        for text in ax.texts
        if gid is None or text.get_gid() == gid
    ]


def assert_legible(ax, cell):
    labels, states = boxes(ax, "edge"), boxes(ax, "state")
    assert len(labels) == len(cell.edges)
    frame = ax.figure.bbox
    for box in boxes(ax, None):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1
    everything = [*labels, *states]
    for one, other in itertools.combinations(everything, 2):
        assert not one.overlaps(other)
    # nor does a label touch the box around a state
    for patch in ax.patches:
        if patch.get_zorder() == 5:
            for label in labels:
                assert not label.overlaps(patch.get_window_extent())


@pytest.mark.parametrize("genotype", list(genotypes()))
def test_labels_do_not_overlap(genotype):
    for name in genotype.names:
        ax = report.plot_cell(genotype, name)
        assert_legible(ax, genotype[name])
        # text shrinks with the axes
        small = figure.Figure(figsize=(4, 1.5)).add_subplot()
        assert report.plot_cell(genotype, name, ax=small) is small
        assert_legible(small, genotype[name])


@pytest.mark.parametrize("genotype", list(genotypes()))
def test_axes_bear_every_label(genotype):
    for name in genotype.names:
        ax = report.plot_cell(genotype, name)
        labels = sorted(t.get_text() for t in ax.texts if t.get_gid() == "edge")
        assert labels == sorted(edge.operation for edge in genotype[name].edges)
        assert name in {text.get_text() for text in ax.texts}


@pytest.mark.parametrize("genotype", list(genotypes()))
def test_edges_start_and_end_at_their_states(genotype):
    for name in genotype.names:
        cell = genotype[name]
        arranged = layout.arrange(cell, label_width=0.7)
        for edge, route in zip(cell.edges, arranged.routes, strict=True):
            source, target = (arranged.states[i] for i in (edge.source, edge.target))
            assert route.start[0] == pytest.approx(source.x + source.width / 2)
            assert route.end[0] == pytest.approx(target.x - target.width / 2)
            assert abs(route.start[1] - source.y) < layout.NODE[1] / 2
            assert abs(route.end[1] - target.y) < layout.NODE[1] / 2
            assert route.bend_out[0] <= route.bend_in[0] + 1e-9
        # two arrows never end in the same point
        assert len({route.end for route in arranged.routes}) == len(cell.edges)


def curve(route):
    """Points along an edge: two cubic curves and the line between them."""
    points = []
    for first, second in (
        (route.start, route.bend_out),
        (route.bend_in, route.end),
    ):
        middle = (first[0] + second[0]) / 2
        knots = [first, (middle, first[1]), (middle, second[1]), second]
        t = np.linspace(0, 1, 50)[:, None]
        weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        points.append(
            sum(w * np.array(knot) for w, knot in zip(weights, knots, strict=True))
        )
    line = np.linspace(route.bend_out, route.bend_in, 200)
    return np.concatenate([points[0], line, points[1]])


@pytest.mark.parametrize("genotype", list(genotypes()))
def test_no_edge_runs_through_the_label_of_another(genotype):
    # half a width and half a height of text, in inches
    half = np.array([0.35, 0.055])
    for name in genotype.names:
        arranged = layout.arrange(genotype[name], label_width=2 * half[0])
        everything = [*arranged.routes, *arranged.outputs]
        for index, route in enumerate(arranged.routes):
            for other, course in enumerate(map(curve, everything)):
                inside = np.all(np.abs(course - np.array(route.label)) < half, axis=1)
                assert other == index or not inside.any()


def test_states_are_named_as_in_papers():
    def names(genotype, group):
        return layout.state_names(genotype[group])[0]

    darts = spaces.genotype("DARTS_V2")
    assert names(darts, "normal") == [
        *("c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "c_{k}")
    ]
    nasbench201 = spaces.Genotype.parse(NASBENCH201)
    assert names(nasbench201, "cell") == ["in", "1", "2", "out"]


def test_absent_edges_are_dashed_and_families_share_a_colour():
    ax = report.plot_cell(NASBENCH201, "cell")
    arrows = [patch for patch in ax.patches if patch.get_zorder() == 2]
    operations = [e.operation for e in spaces.Genotype.parse(NASBENCH201)["cell"].edges]
    for patch, operation in zip(arrows, operations, strict=True):
        assert (patch.get_linestyle() != "-") == (operation == "none"), operation
    colors = dict(zip(operations, [p.get_edgecolor() for p in arrows], strict=True))
    assert colors["nor_conv_3x3"] == colors["nor_conv_1x1"]
    assert len(set(colors.values())) == 4


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_are_written(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    report.draw("NASNet", first)
    report.draw(spaces.genotype("NASNet"), str(second))
    assert first.stat().st_size > 5_000
    assert first.read_bytes() == second.read_bytes()


def test_wrong_paths_and_cells_are_told(tmp_path):
    with pytest.raises(errors.JnasError, match="unknown picture format"):
        report.draw("DARTS_V2", tmp_path / "cells.jpg")
    with pytest.raises(errors.JnasError, match="does not exist"):
        report.draw("DARTS_V2", tmp_path / "absent" / "cells.png")
    with pytest.raises(errors.JnasError, match="unknown cell 'normals'"):
        report.plot_cell("DARTS_V2", "normals")


def test_probabilities_stand_beside_operations():
    table = np.zeros((14, 8))
    space = spaces.get("darts").group("normal")
    row = space.edges.index((2, 5))
    table[row, space.operations.index("dil_conv_3x3")] = 0.75
    for probabilities in (table, {"normal": table}):
        ax = report.plot_cell("DARTS_V2", "normal", arch_probabilities=probabilities)
        texts = {text.get_text() for text in ax.texts}
        assert {"dil_conv_3x3 0.75", "sep_conv_3x3 0.00"} <= texts
        assert_legible(ax, spaces.genotype("DARTS_V2")["normal"])
    for probabilities, message in (
        (table.T, r"shape \[8, 14\]: expected \[14, 8\]"),
        ({"reduce": table}, "unknown group"),
    ):
        with pytest.raises(errors.JnasError, match=message):
            report.plot_cell("DARTS_V2", "normal", arch_probabilities=probabilities)
    with pytest.raises(errors.JnasError, match="not in space 'darts'"):
        report.plot_cell("NASNet", "reduce", arch_probabilities=table)


@pytest.mark.parametrize("genotype", list(genotypes()))
def test_dot_has_each_edge_once(genotype):
    for name in genotype.names:
        cell = genotype[name]
        lines = report.to_dot(genotype, name).splitlines()
        assert lines[0] == f'digraph "{name}" {{'
        assert lines[-1] == "}"
        arrows = [line.split(", color")[0] for line in lines if "[label" in line]
        arrows = [line.strip() for line in arrows if "->" in line]
        assert arrows == [
            f's{e.source} -> s{e.target} [label="{e.operation}"' for e in cell.edges
        ]


def test_dot_text_is_quoted():
    cell = spaces.Cell((spaces.Edge('a "b" \\', 0, 1),), (1,))
    text = report.to_dot(spaces.Genotype("mine", (("cell", cell),)), "cell")
    assert r'label="a \"b\" \\"' in text


def test_neither_pyplot_nor_early_matplotlib(tmp_path):
    program = (
        "import sys, pathlib; from jnas import report; "
        "early = 'matplotlib' in sys.modules; "
        f"report.draw('DARTS_V2', pathlib.Path({str(tmp_path)!r}) / 'a.png'); "
        "report.plot_history([{'epoch': 0, 'train_loss': 1.0}]); "
        "sys.exit(early or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_published_pictures_have_a_handy_size():
    for name in spaces.genotype_names():
        for group in spaces.genotype(name).names:
            width, height = report.plot_cell(name, group).figure.get_size_inches()
            widest = 16 if group == "recurrent" else 11  # a chain of up to 11 nodes
            assert width < widest and height < 5, pathlib.Path(name, group)
