"""What removals cost, drawn over the weights; files that are damaged."""

import json

import pytest

from jnas import report
from jnas.errors import JnasError
from jnas.report import strengths
from jnas.report.runs import read
from jnas.spaces import nasbench201

NONE = [None] * 5
RECORD = {
    "magnitude": [[0.1, 0.5, 0.2, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4, 0.0], NONE],
    "strength": [[0.0, 0.01, 0.03, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4, None], NONE],
    "chosen": [3, 3, -1],
    "kept": [True] * 3,
}


def test_agreement_counts_edges_and_ranks():
    same, decided, correlation = strengths.agreement(RECORD)
    assert (same, decided) == (1, 2)
    # By hand: ranks (1 4 3 2 0) and (.5 2 3 4 .5) of the first; 1 for the second.
    a, b = [1, 4, 3, 2, 0], [0.5, 2, 3, 4, 0.5]
    cov = sum((x - 2) * (y - 2) for x, y in zip(a, b, strict=True))
    norm = (sum((x - 2) ** 2 for x in a) * sum((y - 2) ** 2 for y in b)) ** 0.5
    assert correlation == pytest.approx((cov / norm + 1) / 2, abs=1e-6)


def test_points_are_what_was_measured_and_filled_where_chosen():
    axes = report.plot_strengths(RECORD, nasbench201().groups[0].operations)
    points = [line for line in axes.get_lines() if line.get_marker() in ("o", "s")]
    assert len(points) == 5 + 4
    filled = [p.get_xdata() for p in points if p.get_markerfacecolor() != "none"]
    assert [float(x[0]) for x in filled] == [0.15, 0.4]
    with pytest.raises(JnasError, match="nothing was measured"):
        report.plot_strengths({"magnitude": [NONE], "strength": [NONE], "chosen": [0]})


def folder(path, told):
    path.mkdir()
    config = {"epochs": 2, "seed": 0, "config": {"search": {"method": "darts_pt"}}}
    (path / "config.json").write_text(json.dumps(config))
    cell = str(nasbench201().decode([3] * 6))
    rows = [{"epoch": e, "step": e, "seconds": 1.0, "genotype": cell} for e in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (path / "regularizer.json").write_text(json.dumps({"format": 1, **told}))
    return path


def test_a_report_shows_it(tmp_path):
    run = folder(tmp_path / "run", {"strengths": {"cell": RECORD}})
    assert read(run).strengths == {"cell": RECORD}
    text = report.write_html(run, tmp_path / "report.html").read_text()
    assert "Weights and what removals cost" in text
    assert "the largest weight was chosen on 1 of 2 edges" in text
    other = folder(tmp_path / "other", {"frozen": {}})
    assert read(other).strengths is None
    text = report.write_html(other, tmp_path / "other.html").read_text()
    assert "removals" not in text


@pytest.mark.parametrize(
    "bad",
    [[], {"cell": 1}, {"cell": {**RECORD, "chosen": [1]}},
     {"cell": {**RECORD, "magnitude": [["x"] * 5] * 3}},
     {"cell": {**RECORD, "magnitude": [[0.1] * 4, *RECORD["magnitude"][1:]]}}],
)  # fmt: skip
def test_a_damaged_record_is_told_and_the_rest_is_shown(tmp_path, bad):
    run = read(folder(tmp_path / "run", {"strengths": bad}))
    assert run.strengths is None and run.genotype is not None
    assert "can't be drawn" in run.problems[0]
