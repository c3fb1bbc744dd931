"""`jnas discrete` as a user meets it: output, files, resume, bad input."""

import json

import numpy as np
import pytest

from jnas import cli, tabular


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("COLUMNS", "160")
    if "data_folder" not in request.fixturenames:  # which reads it
        monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "empty"))


SMALL = ["--seeds", "6", "--evaluations", "12"]


def test_without_the_large_table_the_shipped_one_is_searched(tmp_path, capsys):
    command = ["discrete", "--strategy", "random_search", "regularized_evolution"]
    assert cli.main([*command, *SMALL]) == 0
    out = capsys.readouterr().out
    for word in ("cells125", "jnas tables list", "random_search", "±", "best there is"):
        assert word in out
    folder = tmp_path / "runs" / "discrete-cells125"
    assert (folder / "incumbents.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((folder / "summary.json").read_text())
    table = tabular.cells125()
    dataset = table.datasets[0]
    for row in summary["strategies"]:
        lines = (folder / row["strategy"] / "trials.jsonl").read_text().splitlines()
        trials = [json.loads(line) for line in lines]
        assert len(trials) == 6 * 12 and row["seeds"] == 6
        best = []
        for seed in range(6):
            own = [t for t in trials if t["seed"] == seed]
            assert [t["id"] for t in own] == list(range(12))
            best.append(max(own, key=lambda t: t["score"]))
        np.testing.assert_allclose(
            row["signal"]["mean"], np.mean([t["score"] for t in best])
        )
        genes = np.array([t["genes"] for t in best])
        told = np.asarray(table.values(genes, dataset, "test"))
        np.testing.assert_allclose(row["report"]["mean"], told.mean(), rtol=1e-6)
        champion = max(best, key=lambda t: t["score"])
        assert row["best"]["genes"] == champion["genes"]
        assert str(table.space.decode(champion["genes"])) == row["best"]["candidate"]
    assert "jax" in summary["environment"]


def test_goes_on_where_it_was_stopped(tmp_path, capsys):
    command = ["discrete", "--objective", "cells125", *SMALL, "--workdir"]
    assert cli.main([*command, "whole"]) == 0
    assert cli.main([*command, "part"]) == 0
    log = "regularized_evolution/trials.jsonl"
    whole = (tmp_path / "whole" / log).read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "part" / log).write_text("".join(lines[:30]) + lines[30][:9])
    (tmp_path / "part" / "summary.json").unlink()
    assert cli.main([*command, "part"]) == 0
    assert (tmp_path / "part" / log).read_text() == whole
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text())
        for name in ("whole", "part")
    ]
    assert summaries[0] == summaries[1]
    capsys.readouterr()
    assert cli.main([*command, "part", "--set", "population=5"]) == 2
    assert "another setting" in capsys.readouterr().err
    assert (tmp_path / "part" / log).read_text() == whole


def test_several_objectives_and_budget(tmp_path, capsys):
    command = ["discrete", "--objective", "cells125", "--strategy", "nsga2", *SMALL]
    more = ["--minimize", "params", "--budget", "1e9", "--set", "population=4"]
    assert cli.main([*command, *more]) == 0
    assert "1e+09" in capsys.readouterr().out
    folder = tmp_path / "runs" / "discrete-cells125"
    (row,) = json.loads((folder / "summary.json").read_text())["strategies"]
    assert row["report_in_budget"] == row["report"]
    lines = (folder / "nsga2" / "trials.jsonl").read_text().splitlines()
    scores = [json.loads(line)["score"] for line in lines]
    front = [point["scores"] for point in row["front"]]
    assert front == sorted(front, reverse=True) and front
    for point in front:
        better = [s for s in scores if s[0] >= point[0] and s[1] >= point[1]]
        assert all(s == point for s in better)
    for a in scores:
        assert any(p[0] >= a[0] and p[1] >= a[1] for p in front)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "hill"], "unknown strategy 'hill'"),
        (["--objective", "nasbench"], "unknown objective 'nasbench'"),
        (["--dataset", "svhn"], "svhn"),
        (["--signal", "vall"], "vall"),
        (["--minimize", "size"], "size"),
        (["--minimize", "params"], "needs one score"),
        (["--report", "tests"], "tests"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--evaluations", "0"], "--evaluations must be at least 1"),
        (["--set", "population"], "NAME=VALUE"),
        (["--set", "size=3"], "no such option"),
        (["--set", "population=many"], "population must be an integer"),
        (["--strategy", "random_search", "random_search"], "twice"),
        (["--noise", "loud"], "loud"),
        (["--strategy", "nsga2"], "such as --minimize flops"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--budget", "nan"], "--budget must be a positive number"),
        (["--budget", "-5"], "--budget must be a positive number"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys, tmp_path):
    assert cli.main(["discrete", "--objective", "cells125", *SMALL, *options]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("jnas: ")
    assert not (tmp_path / "runs").exists()


def test_a_refused_command_leaves_the_configuration(tmp_path, capsys):
    command = ["discrete", "--objective", "cells125", "--workdir", "w"]
    assert cli.main([*command, *SMALL]) == 0
    before = (tmp_path / "w" / "config.json").read_text()
    assert cli.main([*command, "--seeds", "6", "--evaluations", "13"]) == 2
    assert "evaluations 12 there, 13 now" in capsys.readouterr().err
    assert (tmp_path / "w" / "config.json").read_text() == before


def test_one_seed_is_told_without_deviations(tmp_path, capsys):
    command = ["discrete", "--objective", "cells125", "--workdir", "w", "--seeds", "1"]
    command += ["--evaluations", "5", "--report", "flops", "--budget", "1e-3"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "±" not in out and "deviation" not in out
    within = next(line for line in out.splitlines() if "in 0.001 s" in line)
    assert within.count("none") == 2

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    text = (tmp_path / "w" / "summary.json").read_text()
    summary = json.loads(text, parse_constant=refuse)
    row = summary["strategies"][0]
    assert row["signal"]["std"] is None and row["signal_in_budget"]["mean"] is None
    assert row["without_score"] == 0 and "without score" not in out
    # The most multiply-adds are not the best.
    assert summary["best_report"] is None and summary["best_signal"] > 80


def test_as_many_scores_as_objectives(tmp_path):
    command = ["discrete", "--objective", "cells125", "--strategy", "nsga2", *SMALL]
    more = ["--minimize", "params", "flops", "--set", "population=4"]
    assert cli.main([*command, *more, "--workdir", "w"]) == 0
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert summary["strategies"][0]["config"]["scores"] == 3
    assert all(len(row["scores"]) == 3 for row in summary["strategies"][0]["front"])


@pytest.mark.parametrize("columns", [80, 120])
def test_the_printed_table_fits(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    command = ["discrete", "--objective", "cells125", "--budget", "20", *SMALL]
    assert cli.main(command) == 0
    rows = [r for r in capsys.readouterr().out.splitlines() if r[:1] in "│┃┏"]
    assert all(len(row) <= columns for row in rows)
    # Nothing is folded: a line for the heads, the strategy, its budget and the best.
    assert len([row for row in rows if row[0] in "│┃"]) == 4
    assert not any("…" in row for row in rows)


def test_a_part_of_a_table_is_told(data_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JNAS_DATA", str(data_folder))
    command = ["discrete", "--objective", "nasbench101", "--strategy", "random_search"]
    assert cli.main([*command, *SMALL, "--workdir", "w"]) == 0
    out = capsys.readouterr().out
    assert "20,001 of the 423,624 cells" in out and "without score" in out
    lines = (tmp_path / "w" / "random_search" / "trials.jsonl").read_text().splitlines()
    missing = [json.loads(line)["score"] is None for line in lines]
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    share = summary["strategies"][0]["without_score"]
    assert 0.5 < share < 1 and share == np.mean(missing)


def test_a_population_that_never_learns_is_told(capsys):
    command = ["discrete", "--objective", "cells125", *SMALL, "--set"]
    assert cli.main([*command, "population=12"]) == 0
    assert "first 12 candidates at random" in capsys.readouterr().out
    assert cli.main([*command, "population=11", "--workdir", "other"]) == 0
    assert "at random" not in capsys.readouterr().out


def test_the_large_table_is_asked_for_by_name(capsys):
    """With options of its own the shipped table would be another experiment."""
    assert cli.main(["discrete", "--signal", "val_12", *SMALL]) == 2
    assert "jnas tables convert nasbench201" in capsys.readouterr().err


def test_the_real_table(data_folder, monkeypatch, capsys):
    monkeypatch.setenv("JNAS_DATA", str(data_folder))
    command = ["discrete", "--strategy", "regularized_evolution", *SMALL]
    assert cli.main([*command, "--objective", "nasbench201"]) == 0
    out = capsys.readouterr().out
    assert "nasbench201/cifar10/val_12" in out and "94.37" in out


def test_training_and_a_supernet_as_objectives(tmp_path, capsys):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 20).astype(np.int64)
    image = rng.integers(0, 60, (60, 8, 8)).astype(np.uint8)
    for i, k in enumerate(label):
        image[i, 2 * k + 1] += 180
    np.savez(tmp_path / "toy.npz", image=image, label=label)
    command = ["discrete", "--strategy", "random_search", "--evaluations", "3"]
    own = ["--objective", "training", "--data", "toy.npz", "--epochs", "1"]
    own += ["--channels", "2", "--program", "supernet"]
    assert cli.main([*command, *own, "--workdir", "large"]) == 2
    said = capsys.readouterr()
    assert "3 of 3 trials" in said.out and "use a smaller batch" in said.out
    assert "no trial of random_search gave a score" in said.err
    own += ["--batch-size", "8"]
    assert cli.main([*command, *own]) == 0
    assert "training: validation accuracy, %; 1 seed of 3" in capsys.readouterr().out
    folder = tmp_path / "runs" / "discrete-training" / "random_search"
    log = (folder / "seed0" / "trials.jsonl").read_text()
    rows = [json.loads(line) for line in log.splitlines()]
    told = [row for row in rows if row["event"] == "tell"]
    assert len(told) == 3 and all(0 <= row["score"] <= 100 for row in told)
    # Again, from the configuration: nothing is trained anew.
    assert cli.main(["discrete", "--config", "runs/discrete-training"]) == 0
    assert (folder / "seed0" / "trials.jsonl").read_text() == log
    capsys.readouterr()
    search = ["search", "--data", "toy.npz", "--method", "spos", "--epochs", "1"]
    search += ["--channels", "2", "--batch-size", "8", "--retrain-epochs", "0"]
    assert cli.main([*search, "--workdir", "spos"]) == 0
    own = ["--objective", "supernet", "--search", "spos"]
    assert cli.main([*command, *own]) == 0
    assert "multiply-adds" in capsys.readouterr().out
    (tmp_path / "spos" / "genotype.json").unlink()
    assert cli.main([*command, *own, "--workdir", "other"]) == 2
    assert "is not finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "supernet"], "needs --search"),
        (["--objective", "training", "--signal", "val"], "--signal is for tables"),
        (["--objective", "supernet", "--workers", "2"], "--workers is for training"),
        (["--objective", "training", "--workers", "2", "--dask", "x"], "or --dask out"),
        (["--objective", "training", "--data", "no.npz"], "no.npz"),
        (["--objective", "training", "--space", "darts_rnn"], "darts_rnn"),
    ],
)
def test_options_of_other_objectives_are_refused(options, message, capsys):
    assert cli.main(["discrete", *options]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
