"""Processes that are killed for real, and what the next one finds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run_toy as toy

from jnas.run import loop

HERE = Path(__file__).parent
EPOCHS = 6
SCRIPT = """
import os, signal, sys, time
import jax
import run_toy as toy
from jnas.errors import JnasError
from jnas.run import Interrupted, loop

mode, workdir = sys.argv[1:]

def on_epoch(info):
    if mode == "term" and info.epoch == 2:
        print("ready", flush=True)
        sys.stdin.readline()  # the signal comes now

if mode == "kill-in-save":
    replace = os.replace
    def kill(source, target):
        if os.path.basename(target) == "20":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
    os.replace = kill

try:
    loop(toy.step_fn, toy.init_fn, toy.make_feed(), epochs=6, workdir=workdir,
         steps_per_epoch=toy.STEPS, save_every_seconds=0.0, progress=False,
         on_epoch=on_epoch)
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.signum)
"""


@pytest.fixture(scope="module")
def straight():
    return loop(toy.step_fn, toy.init_fn, toy.make_feed(), **options())


def options():
    return {"epochs": EPOCHS, "steps_per_epoch": toy.STEPS, "progress": False}


def start(tmp_path, mode):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
    return subprocess.Popen(
        [sys.executable, str(script), mode, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def resume(tmp_path, straight):
    result = loop(
        toy.step_fn,
        toy.init_fn,
        toy.make_feed(),
        workdir=tmp_path / "run",
        **options(),
    )
    assert toy.bits(result.state) == toy.bits(straight.state)
    assert toy.timeless(result.history) == toy.timeless(straight.history)
    left = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left <= {str(step) for step in range(37)}  # no half-written folders
    return result


def test_killed_within_a_save(tmp_path, straight):
    with start(tmp_path, "kill-in-save") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    left = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == {"18", "19", ".saving-20"}
    assert resume(tmp_path, straight).resumed_from == 19


def test_killed_at_any_moment(tmp_path, straight):
    folder = tmp_path / "run" / "checkpoints"
    with start(tmp_path, "plain") as process:
        deadline = time.monotonic() + 120
        while not (folder.is_dir() and any(folder.glob("[1-9]*"))):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.communicate()
    assert resume(tmp_path, straight).resumed_from >= 1


def test_sigterm_saves(tmp_path, straight):
    with start(tmp_path, "term") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate("\n", timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert errors.strip().endswith(
        "stopped by SIGTERM at epoch 2/6, step 12; saved; run the same command again "
        "to go on"
    )
    assert resume(tmp_path, straight).resumed_from == 12
