"""What compiles in whole runs, counted: every program, the small ones, too."""

import os
import subprocess
import sys

import jax
import pytest

import jnas
from jnas.cli import shared

EVENT = "/jax/core/compile/backend_compile_duration"  # out of the cache, too
CELL = "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|"
STEP, COPY = "jit(dispatch)", "jit(stage)"
EPOCHS, BATCH = 3, 240


@pytest.fixture
def compiled():
    """Names of the programs that were compiled, in order."""
    names: list[str] = []

    def listen(event, duration, **about):
        if event == EVENT:
            names.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def composed(data, name="darts"):
    return jnas.presets.get(name)(
        jnas.spaces.nasbench201(),
        channels=4,
        cells_per_stage=1,
        epochs=EPOCHS,
        steps_per_epoch=-(-len(data.train) // BATCH),
    )


def run(search, data, workdir, **options):
    return jnas.run.search(
        search,
        data,
        epochs=EPOCHS,
        batch_size=BATCH,
        workdir=workdir,
        diagnose_every=1,
        progress=False,
        **options,
    )


class StoppedError(Exception):
    pass


def test_a_search_compiles_in_its_first_epoch_only(compiled, tmp_path):
    data = jnas.data.load("digits")
    search = composed(data)
    first: list[str] = []

    def on_epoch(info):
        if info.epoch == 1:
            first.extend(compiled)
            compiled.clear()

    run(search, data, tmp_path / "a", on_epoch=on_epoch)
    # With the diagnosis of both epochs, the last row, the derivation and the report.
    assert first.count(STEP) == 1 and "jit(lambda_max)" in first
    assert compiled == []

    run(search, data, tmp_path / "b", seed=1)
    assert compiled == []

    def stop(info):
        if info.epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(search, data, tmp_path / "c", seed=2, on_epoch=stop)
    assert compiled == []
    result = run(search, data, tmp_path / "c", seed=2)
    assert result.resumed_from is not None
    # Once, for each shape: copies of what the checkpoint holds.
    assert set(compiled) <= {COPY}


@pytest.mark.slow
def test_a_warm_up_compiles_its_two_kinds_of_step_once_each(compiled, tmp_path):
    data = jnas.data.load("digits")
    search = composed(data, "pc_darts")
    assert 0 < search.arch_from < EPOCHS * search.config["steps_per_epoch"]
    run(search, data, tmp_path / "a")
    assert compiled.count(STEP) == 2
    compiled.clear()
    run(search, data, tmp_path / "b", seed=1)
    assert compiled == []


@pytest.mark.slow
def test_retraining_compiles_for_its_first_seed_only(compiled):
    data = jnas.data.load("digits")
    options = {"epochs": 2, "channels": 4, "cells_per_stage": 1, "progress": False}
    jnas.run.retrain(CELL, data, seeds=(0, 1), **options)
    for name in (STEP, "jit(_score)"):
        assert compiled.count(name) == 1
    compiled.clear()
    jnas.run.retrain(CELL, data, seeds=(2,), **options)
    # Another call makes another network, whose programs are found in the cache on disk.
    assert compiled.count(STEP) == 1


@pytest.mark.slow
def test_commands_compile_nothing_again_in_another_process(tmp_path):
    """All that another seed needs is in the cache; and both record the dtype."""
    cache = tmp_path / "jnas" / "xla"

    def kept(command):
        # Small programs, too, so that no time decides what is kept.
        environment = os.environ | {
            "XDG_CACHE_HOME": str(tmp_path),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": os.path.dirname(os.path.dirname(jnas.__file__)),
        }
        command = [sys.executable, "-m", "jnas", *command.split()]
        command += ["--channels", "2", "--dtype", "bfloat16"]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
        return {path.name for path in cache.glob("*-cache")}

    search = "search --epochs 2 --retrain-epochs 0 --seed {0} --workdir {0}"
    first = kept(search.format(0))
    assert sum(name.startswith("jit_dispatch-") for name in first) == 1
    assert kept(search.format(1)) == first
    retrain = f"retrain {CELL} --epochs 1 --seeds {{0}} --workdir r{{0}}"
    second = kept(retrain.format(1))
    assert sum(name.startswith("jit_dispatch-") for name in second) == 2
    assert kept(retrain.format(2)) == second
    for place in ("0", "0/search", "r1", "r1/seed0"):
        text = (tmp_path / place / "config.json").read_text()
        assert '"dtype": "bfloat16"' in text and '"dtype": "float32"' not in text


def test_a_cache_that_cannot_be_written_costs_one_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.jax_compilation_cache_dir
    shared.use_cache()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "can't keep compiled programs" in told
    assert "Not a directory" in told and "XDG_CACHE_HOME" in told
    assert jax.config.jax_compilation_cache_dir == before
