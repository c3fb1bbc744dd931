"""The HTML report: sections, numbers, escaping, one file and nothing else."""

import html.parser
import json
import os
import re
import time

import pytest
import run_folders as make

from jnas import cli, errors, report


class Page(html.parser.HTMLParser):
    """Collects what the tests ask for: ids, tables, texts, attributes."""

    VOID = ("meta", "br", "img", "link", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.attributes, self.open = [], [], [], []
        self.tables, self.texts, self.labels = [], [], []
        self.classes = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        self.labels += [value for name, value in attrs if name == "aria-label"]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
            self.classes.append(dict(attrs).get("class"))
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style",):
            self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return "\n".join(self.texts)

    def table(self, corner):
        return next(table for table in self.tables if table[0][0] == corner)

    def row(self, corner, name):
        tables = [table for table in self.tables if table[0][0] == corner]
        return next(row[1:] for table in tables for row in table if row[0] == name)


def written(runs, path, **options):
    assert report.write_html(runs, path, **options) == path
    return Page(path.read_text(encoding="utf-8"))


TABLE = [
    make.network("found", [0.90, 0.94]),  # 0.92 ± 0.02
    make.network("random", [0.80, 0.84]),  # 0.82 ± 0.02
]


def test_a_run_is_told_whole(tmp_path):
    make.write_run(tmp_path / "run", table=TABLE, notes=["undecided: so it is"])
    seed = tmp_path / "run" / "retrain" / "found" / "seed0"
    make.write_seed(seed.parent, 0)
    (seed / "weights.npz").touch()
    page = written(tmp_path / "run", tmp_path / "report.html")
    sections = ["summary", "genotype", "comparison", "search", "probabilities"]
    sections += ["retraining", "configuration", "versions", "commands"]
    assert [name for name in page.ids if name in sections] == sections
    assert "runs" not in page.ids
    assert len(set(page.ids)) == len(page.ids)
    # links lead to what is there
    targets = [v[1:] for n, v in page.attributes if n == "href" and v[0] == "#"]
    targets += [v[1:] for n, v in page.attributes if n == "xlink:href" and v[0] == "#"]
    assert set(targets) <= set(page.ids) and len(targets) > 9
    content = (tmp_path / "report.html").read_text()
    clips = set(re.findall(r"url\(#([^)]*)\)", content))
    assert clips and clips <= set(page.ids)
    assert page.row("network", "found") == [
        *("92.00% ± 2.00%", "2", "43,010", "340,810", "20 s")
    ]
    assert page.row("network", "random")[0] == "82.00% ± 2.00%"
    # hypot(.02, .02) = .0283, and .10 is more than twice that
    line = "found is 10.00 points better than random (standard error of the "
    assert line + "difference 2.83, seeds 2 and 2)." in page.text
    assert "undecided: so it is" in page.text
    assert "The derived genotype last changed at epoch 3 of 4." in page.text
    assert make.CELL in page.texts
    assert page.row("setting", "learning_rate") == ["default"]
    assert any(["search.method", "darts"] in table for table in page.tables)
    assert page.row("", "device") == ["cpu: cpu"]
    assert f"jnas export {tmp_path}/run --as linen" in page.texts
    assert f"jnas evaluate {seed}" in page.texts
    # pictures: the cell, 6 edges, the end of the probabilities, panels, comparison
    maps = [label for label in page.labels if label.startswith("cell, edge")]
    assert maps == [
        f"cell, edge {edge}" for edge in ("1←0", "2←0", "2←1", "3←0", "3←1", "3←2")
    ]
    for name in ("loss", "accuracy", "entropy", "share", "stability"):
        assert f"search: {name} over the epochs" in page.labels
    assert "test accuracy" in page.labels
    assert "retraining: loss over the epochs" in page.labels


def test_the_file_needs_nothing_else(tmp_path):
    make.write_run(tmp_path / "run", table=TABLE)
    path = tmp_path / "report.html"
    page = written([tmp_path / "run"], path)
    assert path.stat().st_size < 500_000
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert value.startswith(("#", "data:")), (name, value)
        assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", path.read_text())
    # the same run makes the same file
    first = path.read_bytes()
    report.write_html([tmp_path / "run"], path)
    assert path.read_bytes() == first


def test_a_usual_run_is_told_quickly(tmp_path):
    content = make.rows(50, space="darts", genotype="DARTS_V2")
    for row in content:
        row["genotype"] = "DARTS_V2"
    make.write_search(tmp_path, content, space="darts")
    start = time.process_time()
    page = written(tmp_path, tmp_path / "report.html")
    assert time.process_time() - start < 10  # about 2 s alone on a machine
    assert sum(", edge " in label for label in page.labels) == 28
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


HOSTILE = '<script>alert("x")</script> & $\\frac{1}{0$ \x00\x1b "\' ]]> --> \udc80'


def test_hostile_texts_stay_texts(tmp_path):
    folder = tmp_path / "a$b$<i>&'c"
    table = [make.network(HOSTILE, [0.5, 0.6], genotype=HOSTILE)]
    more = {"data": HOSTILE, "<b>name</b>": HOSTILE}
    make.write_run(folder, table=table, notes=[HOSTILE], **more)
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {"genotype": HOSTILE, "environment": {HOSTILE: HOSTILE}}
    summary.pop("genotype_json")
    make.write_json(folder / "summary.json", summary)
    (folder / "genotype.json").unlink()
    group = {"name": "$<g>", "operations": [f"$<o>{i}$" for i in range(5)]}
    group |= {"edges": [[0, 1]], "inputs": 1, "concat": [1]}
    content = make.rows()
    for row in content:
        row["probabilities"] = {"$<g>": [[0.2] * 5]}
        row[f"{HOSTILE}_loss"] = 1.0
    make.write_search(folder / "search", content, space=HOSTILE)
    space = {"format": 1, "name": "<s>", "groups": [group]}
    make.write_json(folder / "search" / "space.json", space)
    page = written([folder], tmp_path / "report.html", title=HOSTILE)
    shown = HOSTILE.replace("\x00", "�").replace("\x1b", "�").replace("\udc80", "�")
    assert not {"script", "i", "g>", "o"} & set(page.tags)
    assert shown in page.texts  # notes, genotype
    assert page.row("network", shown)[0] == "55.00% ± 5.00%"
    assert page.row("setting", "<b>name</b>") == [shown]
    assert any("$<o>3$" in text for text in page.texts)  # in a picture
    assert "can't be drawn" in page.text


def test_mean_and_spread_over_runs(tmp_path):
    folders = []
    for seed, values, cell in (
        (0, [0.90, 0.94], make.CELL),  # 0.92
        (1, [0.86, 0.86], make.CELL),  # 0.86
        (2, [0.70, 0.82], make.OTHER),  # 0.76
    ):
        table = [make.network("found", values, genotype=cell), TABLE[1]]
        folder = tmp_path / f"run{seed}"
        make.write_run(folder, seed=seed, shift=0.1 * seed, table=table, genotype=cell)
        folders.append(folder)
    page = written(folders, tmp_path / "report.html")
    assert page.table("quantity")[0][1:] == [
        *("run0", "run1", "run2", "all: mean ± deviation")
    ]
    # mean 2.54 / 3, deviation sqrt((.0733^2 + .0133^2 + .0867^2) / 2) = 0.0808
    assert page.row("quantity", "found: test accuracy") == [
        *("92.00%", "86.00%", "76.00%", "84.67% ± 8.08%")
    ]
    assert page.row("quantity", "random: test accuracy")[3] == "82.00% ± 0.00%"
    assert page.row("quantity", "validation accuracy")[3] == "50.00% ± 10.00%"
    assert page.row("quantity", "search seconds") == ["12", "13", "14", "13 ± 1"]
    # the pairs have 1, 5/6 and 5/6 of their edges in common: 8/9
    assert "3 runs found 2 different genotypes; two of them have 89%" in page.text
    assert page.row("edge", "cell 3←2") == [
        *("avg_pool_3x3", "avg_pool_3x3", "nor_conv_1x1")
    ]
    assert "found 84.67% ± 8.08%, random 82.00% ± 0.00% (mean ± standard" in page.text
    # settings: what differs comes first and is marked
    settings = page.table("setting")
    assert settings[1] == ["seed", "0", "1", "2"]
    assert page.classes.count("differs") == 2  # the edge and the seed


def test_runs_of_different_settings_are_not_averaged(tmp_path):
    for order in (1, 2):
        make.write_run(tmp_path / f"o{order}", table=TABLE, order=order)
    folders = [tmp_path / "o1", tmp_path / "o2"]
    page = written(folders, tmp_path / "report.html")
    assert page.table("quantity")[0][1:] == ["o1 (order=1)", "o2 (order=2)"]
    assert not any("mean ± deviation" in cell for cell in page.table("quantity")[0])
    assert page.table("setting")[1] == ["order", "1", "2"]


def test_incomplete_runs_and_retrainings(tmp_path):
    make.write_search(tmp_path / "going" / "search", make.rows()[:1], epochs=50)
    page = written(tmp_path / "going", tmp_path / "a.html")
    assert "in progress or stopped: epoch 1 of 50" in page.text
    assert "comparison" not in page.ids and "probabilities" in page.ids
    make.write_json(
        tmp_path / "begun" / "config.json",
        {"format": 1, "command": "search", "arguments": {"epochs": 3}},
    )
    page = written(tmp_path / "begun", tmp_path / "b.html")
    assert "search" not in page.ids and "configuration" in page.ids
    make.write_seed(tmp_path / "trained", 0, accuracy=0.5)
    make.write_seed(tmp_path / "trained", 1, accuracy=0.6)
    page = written(tmp_path / "trained", tmp_path / "c.html")
    assert page.row("network", "trained") == [
        *("55.00% ± 5.00%", "2", "1,234", "5,678", "9 s")
    ]
    assert page.row("", "jax") == ["9.9"]
    row = make.network("found", [0.1, 0.2], bits=[2.5, 2.7])
    other = make.network("random", [0.3, 0.3], bits=[3.0, 3.2])
    make.write_run(tmp_path / "text", table=[row, other])
    page = written(tmp_path / "text", tmp_path / "d.html")
    assert "found is 0.5000 bits better than random (standard error" in page.text
    assert "test bits per token, lower is better" in page.labels
    assert page.table("network")[0][1] == "test bits per token"
    assert page.row("network", "found")[0] == "2.6000 ± 0.1000"


def test_nothing_else_is_overwritten(tmp_path):
    make.write_run(tmp_path / "run", table=TABLE)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    mine = tmp_path / "mine.html"
    mine.write_text("<html>my own page</html>")
    for path, message in (
        (mine, "is no report of jnas"),
        (tmp_path / "run" / "summary.json", "is no report of jnas"),
        (tmp_path / "run", "is a folder"),
        (tmp_path / "no" / "report.html", "does not exist"),
    ):
        with pytest.raises(errors.JnasError, match=message):
            report.write_html([tmp_path / "run"], path)
    with pytest.raises(errors.JnasError, match="no run is given"):
        report.write_html([], tmp_path / "x.html")
    assert mine.read_text() == "<html>my own page</html>"
    report.write_html([tmp_path / "run"], tmp_path / "run" / "report.html")
    report.write_html([tmp_path / "run"], tmp_path / "run" / "report.html")
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert set(after) - set(before) == {mine, tmp_path / "run" / "report.html"}
    assert all(after[p] == content for p, content in before.items())


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    make.write_run(tmp_path / "run", table=TABLE)
    path = tmp_path / "report.html"
    report.write_html([tmp_path / "run"], path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(errors.JnasError, match="No space left"):
        report.write_html([tmp_path / "run"], path, title="other")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "run"]


def test_command(tmp_path, capsys):
    run = make.write_run(tmp_path / "run", table=TABLE)
    assert cli.main(["report", str(run), "--figures", str(tmp_path / "pictures")]) == 0
    assert "wrote" in capsys.readouterr().out
    assert Page((run / "report.html").read_text()).row("network", "found")
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    stems = ("cells", "arch", "arch_history", "history", "comparison")
    assert names == {"cell.dot"} | {f"{s}.{f}" for s in stems for f in ("png", "svg")}
    dot = (tmp_path / "pictures" / "cell.dot").read_text()
    assert dot == report.to_dot(make.CELL, "cell")
    assert dot.count('label="none"') == dot.count("style=dashed") == 2
    assert cli.main(["report", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli.main(["report"]) == 2
