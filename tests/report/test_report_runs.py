"""Reading the folders of runs: all kinds, incomplete ones, damaged ones."""

import json

import pytest
import run_folders as make

from jnas import errors, report, spaces
from jnas.report import spread


def test_folder_of_the_command(tmp_path):
    table = [make.network("found", [0.9, 0.8]), make.network("all skip", [0.5, 0.6])]
    run = report.read(make.write_run(tmp_path, seed=3, table=table, notes=["a note"]))
    for seed in (0, 1):
        make.write_seed(tmp_path / "retrain" / "all-skip", seed)
    run = report.read(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert (run.epochs, run.seed, run.seconds, run.finished) == (4, 3, 15.0, True)
    assert run.genotype == spaces.Genotype.parse(make.CELL)
    assert run.space == spaces.nasbench201()
    assert run.notes == ("a note",)
    assert run.environment["device"] == "cpu: cpu"
    assert run.config["order"] == 1 and run.config["search.method"] == "darts"
    found, skip = run.networks
    assert found.label == "found" and found.accuracies == (0.9, 0.8)
    assert (found.parameters, found.multiply_adds) == (43010, 340810)
    # the table and the folder of one network belong together
    assert skip.accuracies == (0.5, 0.6) and sorted(skip.histories) == [0, 1]
    assert skip.histories[1][2]["train_loss"] == pytest.approx(1 / 3 + 1)


def test_bare_folder_of_a_search(tmp_path):
    make.write_search(tmp_path, make.rows(), seed=7)
    run = report.read(tmp_path)
    assert (run.seed, run.epochs, run.finished, run.seconds) == (7, 4, True, 8.0)
    assert run.genotype == spaces.Genotype.parse(make.CELL)
    assert run.space.name == "nasbench201" and run.networks == ()


@pytest.mark.parametrize("place", [".", "..", "seed1"])
def test_bare_folder_of_a_retraining(tmp_path, place):
    folder = tmp_path / "mine"
    make.write_seed(folder, 0, accuracy=0.75)
    make.write_seed(folder, 1, accuracy=0.25)
    make.write_seed(folder, 10)  # still in training
    run = report.read(folder / place)
    (network,) = run.networks
    assert network.label == "mine"
    assert network.genotype == make.CELL and run.genotype is not None
    assert (network.parameters, network.multiply_adds) == (1234, 5678)
    assert run.history == () and run.seed is None
    if place == "seed1":
        assert network.accuracies == (0.25,) and list(network.histories) == [1]
        return
    assert network.seeds == (0, 1) and network.accuracies == (0.75, 0.25)
    assert network.seconds == (4.5, 4.5)
    assert list(network.histories) == [0, 1, 10]
    assert not run.finished
    make.write_seed(folder, 10, accuracy=0.5)
    assert report.read(folder / place).finished


def test_run_that_is_going_on(tmp_path):
    make.write_search(tmp_path / "search", make.rows()[:2], epochs=4)
    config = {"format": 1, "jnas": "0.1.0", "command": "search", "arguments": {"a": 1}}
    make.write_json(tmp_path / "config.json", config)
    whole = (tmp_path / "search" / "metrics.jsonl").read_text()
    (tmp_path / "search" / "metrics.jsonl").write_text(whole + '{"epoch": 3, "ste')
    run = report.read(tmp_path)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert not run.finished and run.epochs == 4
    assert run.genotype == spaces.Genotype.parse(make.OTHER)
    assert run.environment == {"jnas": "0.1.0"} and run.config["a"] == 1
    # nothing but the configuration yet
    (tmp_path / "search" / "metrics.jsonl").unlink()
    assert report.read(tmp_path).history == ()


def test_text_runs_have_bits(tmp_path):
    row = make.network("found", [0.1, 0.2], bits=[2.5, 2.7])
    make.write_run(tmp_path, table=[row])
    (network,) = report.read(tmp_path).networks
    assert network.bits == network.values == (2.5, 2.7)
    make.write_seed(tmp_path / "x", 0, accuracy=0.1, bits=3.5)
    assert report.read(tmp_path / "x").networks[0].bits == (3.5,)


def test_rows_without_probabilities_and_unknown_spaces(tmp_path):
    content = make.rows()
    for row in content:
        del row["probabilities"]
    make.write_search(tmp_path / "old", content)
    assert report.read(tmp_path / "old").probabilities is None
    make.write_search(tmp_path / "own", make.rows(), space="mine")
    own = tmp_path / "own"
    assert report.read(own).space is None
    assert len(report.plot_arch_history(report.read(own).history)) == 6
    # what the search writes beside it names edges and operations
    group = spaces.nasbench201().group("cell")
    told = {"name": "cell", "operations": [f"my{i}" for i in range(5)]}
    told |= {"edges": group.edges, "inputs": 1, "concat": [3]}
    space = {"format": 1, "name": "mine", "groups": [told]}
    make.write_json(own / "space.json", space)
    assert report.read(own).space.group("cell").operations[4] == "my4"
    # but not where it does not fit
    told["operations"] = ["a", "b"]
    make.write_json(own / "space.json", space)
    assert report.read(own).space is None


def test_genotypes_that_cannot_be_read_are_shown_as_text(tmp_path):
    make.write_run(tmp_path, table=[])
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["genotype"] = "<b>new</b> form"
    del summary["genotype_json"]
    make.write_json(tmp_path / "summary.json", summary)
    (tmp_path / "genotype.json").unlink()
    run = report.read(tmp_path)
    assert run.genotype is None and run.genotype_text == "<b>new</b> form"
    assert "can't be drawn" in run.problems[0]


def damaged(name, text):
    def damage(folder):
        (folder / name).write_text(text)

    return damage


def changed(**values):
    def damage(folder):
        path = folder / "summary.json"
        make.write_json(path, {**json.loads(path.read_text()), **values})

    return damage


def row_changed(**values):
    def damage(folder):
        content = make.rows()
        content[1] |= values
        make.write_rows(folder / "search" / "metrics.jsonl", content)

    return damage


BAD = {
    "summary not JSON": (damaged("summary.json", "{"), "summary.json is not JSON"),
    "summary a list": (damaged("summary.json", "[]"), "must be a JSON object"),
    "deep summary": (damaged("summary.json", "[" * 99_999), "nested too deeply"),
    "newer summary": (changed(format=2), "format must be 1, got 2: update jnas"),
    "odd format": (changed(format="x"), "format must be 1, got 'x'"),
    "table no list": (changed(table="x"), "table must be a list"),
    "table row": (changed(table=[{"label": "a"}]), "must be a list of finite"),
    "unequal table": (
        changed(table=[make.network("a", [0.5]) | {"seeds": [0, 1]}]),
        "one accuracy",
    ),
    "accuracy no number": (
        changed(table=[make.network("a", ["x"])]),
        "must be a list of finite numbers",
    ),
    "notes no texts": (changed(notes=[1]), "must be a list of texts"),
    "config not JSON": (damaged("config.json", "x"), "config.json is not JSON"),
    "torn line inside": (
        damaged("search/metrics.jsonl", '{"epoch": 1}\n{"ep\n{"epoch": 3}\n'),
        "line 2 is not JSON",
    ),
    "row no object": (damaged("search/metrics.jsonl", "3\n"), "must be a JSON object"),
    "no epoch": (row_changed(epoch="x"), "line 2 has no epoch"),
    "epoch twice": (row_changed(epoch=1), "epoch 1 after epoch 1"),
    "huge epoch": (row_changed(epoch=10**30), "line 2 has no epoch"),
    "probabilities": (row_changed(probabilities=3), "must be an object by group"),
    "ragged": (row_changed(probabilities={"cell": [[1.0], [1.0, 2.0]]}), "one length"),
    "other shapes": (row_changed(probabilities={"cell": [[1.0]]}), "other shapes"),
    "NaN inside": (
        row_changed(probabilities={"cell": [[float("nan")]]}),
        "finite numbers",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_damaged_folders_are_told_in_one_line(tmp_path, name):
    damage, message = BAD[name]
    make.write_run(tmp_path, table=[])
    report.read(tmp_path)
    damage(tmp_path)
    with pytest.raises(errors.JnasError, match=message) as caught:
        report.read(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_folders_that_are_no_runs_are_told(tmp_path):
    with pytest.raises(errors.JnasError, match="does not exist"):
        report.read(tmp_path / "absent")
    with pytest.raises(errors.JnasError, match="holds no run"):
        report.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(errors.JnasError, match="is a file"):
        report.read(tmp_path / "file")


def test_runs_of_one_setting_belong_together(tmp_path):
    runs = [
        report.read(make.write_run(tmp_path / name, seed=seed, order=order))
        for name, seed, order in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1))
    ]
    assert spread.settings(runs) == [("order=1", (0, 2)), ("order=2", (1,))]
    assert spread.settings(runs[::2]) == [("", (0, 1))]
    assert spread.differing(runs) == ["order", "seed"]
    assert spread.names(runs) == ["a", "b", "c"]
    make.write_run(tmp_path / "x" / "a")
    both = [runs[0], report.read(tmp_path / "x" / "a")]
    assert spread.names(both) == [f"{tmp_path.name}/a", "x/a"]
    with pytest.raises(errors.JnasError, match="is given 2 times"):
        spread.names([runs[0], runs[0]])


def test_how_stable_a_genotype_was():
    history = make.rows(5)  # OTHER for three epochs, then CELL: 5 of 6 edges are equal
    assert spread.stability(history) == pytest.approx([5 / 6] * 3 + [1.0] * 2)
    assert spread.last_change(history) == 4
    history[2]["genotype"] = "?"
    assert spread.last_change(history) is None
    one, other = (spaces.Genotype.parse(text) for text in (make.CELL, make.OTHER))
    # the pairs of three: 1, 5/6, 5/6
    assert spread.agreement([one, one, other]) == pytest.approx((1 + 5 / 3) / 3)
    assert spread.agreement([one]) is None
