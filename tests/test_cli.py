"""The command line as a user meets it: output, exit status, files, bad input."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jnas import cli
from jnas.cli import search

ROOT = os.path.dirname(os.path.dirname(__file__))


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    """Each command in a folder of its own, and the tests' own compilation cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def toy(tmp_path):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 20).astype(np.int64)
    image = rng.integers(0, 60, (60, 8, 8)).astype(np.uint8)
    for i, k in enumerate(label):
        image[i, 2 * k + 1] += 180
    np.savez(tmp_path / "toy.npz", image=image, label=label)
    return str(tmp_path / "toy.npz")


SMALL = ["--epochs", "2", "--channels", "2", "--batch-size", "8"]


def test_search_runs_compares_and_resumes(toy, tmp_path, capsys):
    arguments = ["search", "--data", toy, *SMALL, "--retrain-epochs", "2"]
    arguments += ["--retrain-seeds", "2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    for word in ("found", "random", "all skip", "test accuracy", "±", "summary.json"):
        assert word in out
    workdir = tmp_path / "runs" / "darts-nasbench201-toy-seed0"
    summary = json.loads((workdir / "summary.json").read_text())
    assert [row["label"] for row in summary["table"]] == ["found", "random", "all skip"]
    for row in summary["table"]:
        assert len(row["test_accuracies"]) == 2 and len(row["seconds"]) == 2
        mean = np.mean(row["test_accuracies"])
        np.testing.assert_allclose(row["test_accuracy_mean"], mean)
    assert summary["config"]["epochs"] == 2 and "jax" in summary["environment"]
    assert summary["config"]["search"]["method"] == "darts"
    for name in ("cells.png", "history.png", "arch.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "found" in (workdir / "report.html").read_text()
    # The configuration is complete: from it alone the same search comes out.
    config = str(workdir / "config.json")
    assert cli.main(["search", "--config", config, "--workdir", "again"]) == 0
    for name in ("genotype.json", "config.json"):
        assert (tmp_path / "again" / name).read_text() == (workdir / name).read_text()
    twin = json.loads((tmp_path / "again" / "summary.json").read_text())
    accuracies = [row["test_accuracies"] for row in summary["table"]]
    assert [row["test_accuracies"] for row in twin["table"]] == accuracies
    capsys.readouterr()
    # The found genotype's file is an argument of `retrain`, and the same command
    # again shows the same result at once.
    assert cli.main(arguments) == 0
    again = json.loads((workdir / "summary.json").read_text())
    assert again["table"] == summary["table"]
    genotype = str(workdir / "genotype.json")
    assert cli.main(["retrain", genotype, "--data", toy, "--seeds", "1", *SMALL]) == 0
    assert "given" in capsys.readouterr().out


def test_text_search_runs_and_compares(tmp_path, capsys, monkeypatch):
    from jnas import spaces
    from jnas.spaces import registry

    # DARTS' cell with one node instead of eight, which compiles in seconds.
    operations = spaces.darts_rnn().groups[0].operations
    group = spaces.Group("recurrent", operations, ((0, 1),), 1, (1,))
    space = spaces.Space("one_rnn", (group,), keep=1, never=("none",))
    factories = {**registry._FACTORIES, "one_rnn": lambda: space}
    monkeypatch.setattr(registry, "_FACTORIES", factories)
    (tmp_path / "poem.txt").write_text("to be, or not to be:\nthat is it\n" * 60)
    small = ["--data", "poem.txt", "--width", "4", "--bptt", "5", "--batch-size", "8"]
    arguments = ["search", "--method", "darts_rnn", "--space", "one_rnn", *small]
    arguments += ["--epochs", "1", "--retrain-epochs", "1", "--retrain-seeds", "2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    for word in ("recurrent", "random", "all identity", "test bits", "±", "tokens"):
        assert word in out
    workdir = tmp_path / "runs" / "darts_rnn-one_rnn-poem-seed0"
    summary = json.loads((workdir / "summary.json").read_text())
    labels = [row["label"] for row in summary["table"]]
    assert labels == ["found", "random", "all identity"]
    assert all(len(row["test_bits"]) == 2 for row in summary["table"])
    for name in ("cells.png", "history.png", "arch.png"):
        assert (workdir / name).read_bytes().startswith(b"\x89PNG")
    assert "found" in (workdir / "report.html").read_text()
    # The configuration is complete: from it alone the same search comes out.
    config = str(workdir / "config.json")
    assert cli.main(["search", "--config", config, "--workdir", "again"]) == 0
    for name in ("genotype.json", "config.json"):
        assert (tmp_path / "again" / name).read_text() == (workdir / name).read_text()
    twin = json.loads((tmp_path / "again" / "summary.json").read_text())
    accuracies = [row["test_accuracies"] for row in summary["table"]]
    assert [row["test_accuracies"] for row in twin["table"]] == accuracies
    capsys.readouterr()
    retrain = ["retrain", "DARTS_RNN_V2", *small, "--epochs", "1", "--seeds", "1"]
    assert cli.main(retrain) == 0
    assert "test bits" in capsys.readouterr().out


def test_collapse_is_said(toy, capsys, monkeypatch):
    import jnas

    space = jnas.spaces.nasbench201()
    # A search that derives the all-skip cell, and has hardly begun.
    skips = space.decode([1] * 6)
    selector = jnas.select.Selector(lambda arch, mixture, **context: skips)
    monkeypatch.setattr("jnas.select.argmax", lambda: selector)
    arguments = ["search", "--data", toy, *SMALL, "--retrain-epochs", "0"]
    assert cli.main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "skip_connect on 6 of 6 edges (cell)" in out
    assert out.count("undecided: ") == 1


def test_skipped_arch_steps_are_said():
    from jnas.report.collapse import Verdict

    class Found:
        verdict = Verdict("healthy", "no sign of collapse")
        history = ({"arch_skipped": 0.5}, {"arch_skipped": 0.0})

    (note,) = search._notes(Found)
    assert note.startswith("skipped: 25.0% of the arch steps")
    Found.history = ({"arch_skipped": 0.0},)
    assert not search._notes(Found)


def test_list_names_everything(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for word in (
        "darts",
        "nasbench201",
        "DARTS_V2",
        "digits",
        "fashion_mnist",
        "darts_rnn",
        "DARTS_RNN_V2",
        "tinyshakespeare",
        "wikitext2",
    ):
        assert word in out


def test_help_is_quick_and_names_the_defaults():
    run = subprocess.run(
        [sys.executable, "-m", "jnas", "search", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=60,
    )
    assert run.returncode == 0
    for word in ("--method", "--retrain-epochs", "digits", "(default: 50)"):
        assert word in run.stdout


def _write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def _images(n=60, side=8, dtype=np.uint8):
    return (np.arange(n * side * side) % 251).reshape(n, side, side).astype(dtype)


def _labels(n=60, k=3):
    return (np.arange(n) % k).astype(np.int64)


BAD = {
    "space": (["--space", "nasbench"], "did you mean 'nasbench201'"),
    "method": (["--method", "dart"], "did you mean 'darts'"),
    "data": (["--data", "digit"], "did you mean 'digits'"),
    "no file": (["--data", "absent.npz"], "absent.npz"),
    "epochs": (["--epochs", "0"], "--epochs must be at least 1, got 0"),
    "batch": (["--batch-size", "-1"], "--batch-size must be at least 1"),
    "huge batch": (["--batch-size", "100000"], "batch_size must be at most"),
    "cells": (["--cells", "8"], "use --cells-per-stage"),
    "stages": (["--space", "darts", "--cells-per-stage", "1"], "use --cells"),
    "few cells": (["--space", "darts", "--cells", "2"], "cells must be at least 3"),
    "rate": (["--learning-rate", "-1"], "learning_rate must be positive"),
    "arch rate": (["--arch-learning-rate", "0"], "arch_learning_rate must be positi"),
    "text space": (["--space", "darts_rnn"], "for text use --method darts_rnn"),
    "text method": (["--method", "darts_rnn"], "--method darts_rnn is for text"),
    "text data": (["--data", "words:x.txt"], "there is no file x.txt"),
    "width": (["--width", "0"], "--width must be at least 1"),
    "order": (["--order", "3"], "order must be 1 or 2"),
    "second": (["--order", "2", "--second-order", "fd"], "must be one of exact"),
    "seeds": (["--retrain-seeds", "0"], "--retrain-seeds must be at least 1"),
    "dtype": (["--dtype", "bf16"], "Expected one of ('float32', 'bfloat16')"),
    "retrain": (["--retrain-epochs", "-2"], "--retrain-epochs must be >= 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_end_with_one_line_and_status_2(case, capsys):
    arguments, message = BAD[case]
    assert cli.main(["search", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jnas: ") and captured.err.count("\n") == 1
    assert message in captured.err


BAD_FILES = {
    "float images": (
        {"image": _images(dtype=np.float32), "label": _labels()}, "uint8"),
    "small images": ({"image": _images(side=4), "label": _labels()}, "8"),
    "odd size": ({"image": _images(side=9), "label": _labels()}, "multiples of 4"),
    "rank": ({"image": np.zeros((60, 64), np.uint8), "label": _labels()}, "image"),
    "lengths": ({"image": _images(50), "label": _labels(60)}, "60"),
    "labels": ({"image": _images(), "label": _labels() - 1}, "label"),
    "gap": ({"image": _images(), "label": _labels() * 2}, "class"),
    "float labels": ({"image": _images(), "label": _labels() * 0.5}, "label"),
    "keys": ({"pictures": _images(), "label": _labels()}, "image"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_data_files_end_with_one_line_and_status_2(case, tmp_path, capsys):
    arrays, message = BAD_FILES[case]
    path = _write(tmp_path / "bad.npz", **arrays)
    assert cli.main(["search", "--data", path, *SMALL]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err, captured.err


def test_truncated_and_foreign_files(tmp_path, toy, capsys):
    whole = pathlib.Path(toy).read_bytes()
    for name, content in (
        ("cut.npz", whole[: len(whole) // 2]),
        ("text.npz", b"hello"),
    ):
        (tmp_path / name).write_bytes(content)
        assert cli.main(["search", "--data", name, *SMALL]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_damaged_runs_say_so_and_lose_nothing(toy, tmp_path, capsys):
    arguments = ["search", "--data", toy, *SMALL, "--retrain-epochs", "0"]
    arguments += ["--workdir", "w"]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    # Another configuration in the same folder.
    assert cli.main([*arguments, "--seed", "1"]) == 2
    error = capsys.readouterr().err
    assert "seed" in error and error.count("\n") == 1
    # A truncated checkpoint.
    checkpoints = sorted(
        (tmp_path / "w/search/checkpoints").iterdir(), key=lambda p: int(p.name)
    )
    files = [p for p in checkpoints[-1].rglob("*") if p.is_file() and p.stat().st_size]
    biggest = max(files, key=lambda p: p.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[:10])
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert checkpoints[-1].name in error and error.count("\n") == 1
    assert biggest.exists()
    # A file where the folder should be.
    (tmp_path / "file").write_text("")
    assert cli.main([*arguments[:-1], "file"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ("DARTS_V3", "DARTS_V"),
        ("|nor_conv_3x3~0|", "wrong node count"),
        ("Genotype(normal=__import__('os'))", ""),
    ],
)
def test_bad_genotypes(genotype, message, capsys):
    assert cli.main(["retrain", genotype]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
