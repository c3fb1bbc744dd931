"""The folder of a run: who may use it, and for what."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import loop, metrics, workdir


def run(folder, **options):
    options = {"epochs": 2, "steps_per_epoch": toy.STEPS, "progress": False, **options}
    init_fn = options.pop("init_fn", toy.init_fn)
    feed = options.pop("feed", toy.make_feed())
    return loop(toy.step_fn, init_fn, feed, workdir=folder, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    run(folder, config={"lr": 0.1, "net": {"cells": 8, "ops": ("a", "b")}})
    return folder


def test_config_says_what_the_run_is(done):
    config = json.loads((done / "config.json").read_text())
    assert config["config"] == {"lr": 0.1, "net": {"cells": 8, "ops": ["a", "b"]}}
    assert (config["format"], config["seed"], config["chunk"]) == (1, 0, 1)
    assert config["feed"].endswith("(2 arrays, 128 numbers)")
    names = {p.name for p in done.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "checkpoints", ".lock"}


SAME = {"config": {"net": {"ops": ["a", "b"], "cells": 8}, "lr": 0.1}}


def test_the_same_config_goes_on(done):
    assert run(done, **SAME).resumed_from == 12


FEED = toy.make_feed()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, r"\(epochs: got 3, expected 2\)"),
        ({"seed": 1}, r"\(seed: got 1, expected 0\)"),
        ({"chunk": 2}, r"\(chunk: got 2, expected 1\)"),
        ({"steps_per_epoch": 3}, r"\(steps_per_epoch: got 3, expected 6\)"),
        (
            {"config": {"net": {"cells": 9}, "new": 1}},
            r"\(config.net.cells: got 9, expected 8; config.new: got 1, expected "
            r"nothing; config.lr: got nothing, expected 0.1; config.net.ops: got "
            r'nothing, expected \["a", "b"\]\)',
        ),
        (
            {"feed": toy.Feed(FEED.inputs[:32, :3], np.zeros((32,), np.int32))},
            r'\(feed: got "sha256:.* numbers\)", expected "sha256:.* numbers\)"\)',
        ),
        (
            {"init_fn": lambda key: toy.init_fn(key)._replace(half=key)},
            r'\(state: got "sha256',
        ),
    ],
)
def test_another_run_is_refused(done, change, message):
    with pytest.raises(JnasError, match=message) as caught:
        run(done, **{**SAME, **change})
    assert str(caught.value).endswith(
        "give the settings it was started with, choose another workdir, or delete it "
        "to start again"
    )
    assert run(done, **SAME).step == 12


def test_config_must_be_json(tmp_path):
    with pytest.raises(JnasError, match=r"config\.config\.net must be a number"):
        run(tmp_path, config={"net": object()})
    assert not (tmp_path / "config.json").exists()


def test_unreadable_config(tmp_path):
    (tmp_path / "config.json").write_text('{"format": 1, ')
    with pytest.raises(JnasError, match=r"config\.json can't be read"):
        run(tmp_path)


def test_checkpoints_without_config(tmp_path):
    run(tmp_path, epochs=1)
    (tmp_path / "config.json").unlink()
    with pytest.raises(JnasError, match=r"checkpoints but no config\.json"):
        run(tmp_path, epochs=1)


def test_workdir_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(JnasError, match="must be a folder, got a file"):
        run(path)
    with pytest.raises(JnasError, match="can't be written"):
        run(path / "below")


def test_workdir_without_permission(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(JnasError, match=r"can't be written \(Permission denied\)"):
        run(tmp_path / "new")


def test_two_runs_in_one_folder(tmp_path):
    script = (
        "import pathlib, sys\n"
        "from jnas.run import workdir\n"
        f"with workdir.claim(pathlib.Path({str(tmp_path)!r})):\n"
        "    print('claimed', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout.readline() == "claimed\n"
            message = rf"in use by another run \(process {other.pid}\): wait for it"
            with pytest.raises(JnasError, match=message):
                run(tmp_path)
        finally:
            other.kill()
    assert run(tmp_path).step == 12  # the lock died with its holder


def test_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), workdir.claim(tmp_path):
        raise RuntimeError
    with workdir.claim(tmp_path):
        pass


def test_torn_last_line_is_dropped(tmp_path):
    first = run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"epoch": 3, "st\xc3')
    assert run(tmp_path).history == first.history
    assert path.read_bytes() == whole


def test_bad_row_is_named(tmp_path):
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text("[1]\n" + path.read_text())
    with pytest.raises(JnasError, match=r"metrics\.jsonl, line 1 is not a row"):
        run(tmp_path)


def test_rows_after_the_restored_step_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"epoch": e, "step": 6 * e, "seconds": 0.1} for e in (1, 2, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert metrics.Rows(path, upto=12).history == rows[:2]
    assert metrics.read_rows(path) == rows[:2]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
