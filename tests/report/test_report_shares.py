"""Shares of what has nothing to learn: rows to lines, and where a page has them."""

import json

import pytest

from jnas import report
from jnas.errors import JnasError
from jnas.report import shares, side_by_side
from jnas.report.runs import read
from jnas.spaces import darts, nasbench201

SPACE = nasbench201()
NONE, SKIP, CONV, POOL = 0, 1, 3, 4


def row(epoch, genes, **parts):
    return {
        "epoch": epoch,
        "step": epoch,
        "genotype": str(SPACE.decode(genes)),
        "shares": {"cell": parts},
    }


ROWS = [
    row(1, [SKIP, CONV, CONV, CONV, CONV, CONV], skip=0.2, pool=0.2, none=0.2),
    row(2, [SKIP, SKIP, SKIP, POOL, CONV, NONE], skip=0.5, pool=0.1, none=0.3),
]


def test_lines_by_cell_kind_and_what_they_are_of():
    lines = shares.series([{"epoch": 0}, *ROWS])["cell"]
    assert lines["skip", "mixture"] == [(1, 0.2), (2, 0.5)]
    assert lines["skip", "derived"] == [(1, 1 / 6), (2, 0.5)]
    assert lines["pool", "derived"] == [(1, 0.0), (2, 1 / 6)]
    assert lines["none", "derived"] == [(1, 0.0), (2, 1 / 6)]


def test_a_panel_for_each_cell():
    own = {"skip": 0.25, "pool": 0.5}
    genotype = str(darts().decode(darts().random(0)))
    rows = [
        {"epoch": e, "genotype": genotype, "shares": {"normal": own, "reduce": own}}
        for e in (1, 2, 3)
    ]
    panels = report.plot_shares(rows)
    assert [panel.get_title(loc="left") for panel in panels] == ["normal", "reduce"]
    solid = [line for line in panels[1].get_lines() if line.get_linestyle() == "-"]
    assert [line.get_ydata()[0] for line in solid] == [0.25, 0.5]
    assert len(panels[0].get_lines()) == 4  # and the derived ones
    with pytest.raises(JnasError, match="ax is for one cell, got 2"):
        report.plot_shares(rows, panels[0])
    with pytest.raises(JnasError, match="no shares"):
        report.plot_shares([{"epoch": 1}])


def folder(path, rows, seed):
    path.mkdir()
    inner = {"search": {"method": "sdarts_rs"}}
    config = {"config": inner, "seed": seed, "epochs": 2}
    (path / "config.json").write_text(json.dumps(config))
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (path / "metrics.jsonl").write_text(text)
    return path


def test_the_page_has_them_and_the_verdicts_side_by_side(tmp_path):
    healthy = [row(e, [CONV] * 6, skip=0.1, pool=0.1, none=0.1) for e in (1, 2)]
    runs = [folder(tmp_path / "a", ROWS, 0), folder(tmp_path / "b", healthy, 1)]
    page = report.write_html(runs, tmp_path / "report.html").read_text()
    assert "What has nothing to learn" in page
    table = side_by_side.runs([read(run) for run in runs], ["a", "b"])
    (line,) = [part for part in table.split("<tr") if ">verdict<" in part]
    assert "collapsed" in line and "healthy" in line
    # What the search already does is not advised.
    alone = report.write_html(runs[:1], tmp_path / "one.html").read_text()
    assert "r_darts_l2" in alone and "(sdarts_rs)" not in alone
    written = report.write_figures(runs, tmp_path / "figures", formats=("png",))
    assert {"a-shares.png", "b-shares.png"} <= {path.name for path in written}
