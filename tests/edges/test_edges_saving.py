"""Runs whose folder is damaged, full, read-only or in use: told, and nothing lost.

Each case spoils a stopped run, sees one clear line, takes the damage back (what a user
does with a backup, or with more space) and sees the run end in the bits of one that
was never disturbed.
"""

import json
import os
import shutil
import subprocess
import sys

import jax
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import Interrupted, loop
from jnas.run.workdir import claim

EPOCHS = 4


def run(folder, **options):
    options = {"steps_per_epoch": toy.STEPS, "progress": False, **options}
    return loop(
        toy.step_fn,
        toy.init_fn,
        toy.make_feed(),
        epochs=EPOCHS,
        workdir=folder,
        config={"of": "toy"},
        **options,
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return run(tmp_path_factory.mktemp("straight"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped in its third epoch, with checkpoints 6 and 12."""

    def stop(info):
        if info.epoch == 3:
            raise Interrupted(15, "here", saved=False)

    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted):
        run(folder, on_epoch=stop)
    assert sorted(os.listdir(folder / "checkpoints")) == ["12", "6"]
    return folder


def _biggest(folder):
    files = [p for p in (folder / "checkpoints" / "12").rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def _cut(folder):
    path = _biggest(folder)
    path.write_bytes(path.read_bytes()[:20])


def _flip(folder):
    path = _biggest(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit(name, **changes):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _foreign(folder):
    """The checkpoint of a training of something else."""

    def step_fn(state, train_batch, val_batch):
        return {"other": state["other"] + 1}, {"train_loss": state["other"]}

    loop(
        step_fn,
        lambda key: {"other": jax.numpy.zeros(())},
        toy.make_feed(),
        epochs=2,
        steps_per_epoch=toy.STEPS,
        workdir=folder / "elsewhere",
        progress=False,
    )
    shutil.rmtree(folder / "checkpoints" / "12")
    os.replace(folder / "elsewhere/checkpoints/12", folder / "checkpoints/12")


def _write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _remove(name):
    def remove(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def _file_for_folder(folder):
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").write_bytes(b"")


DAMAGES = {
    "checkpoint cut": (_cut, "checkpoint 6 is intact"),
    "checkpoint flipped": (_flip, "checksum of the file"),
    "checkpoint foreign": (_foreign, "its arrays differ"),
    "checkpoint emptied": (
        lambda f: [p.unlink() for p in (f / "checkpoints/12").glob("*") if p.is_file()],
        "it has no jnas.json",
    ),
    "checkpoint of a newer version": (
        _edit("checkpoints/12/jnas.json", format=9),
        "checksum of jnas.json",
    ),
    "checkpoints a file": (_file_for_folder, "checkpoints"),
    "config cut": (_write("config.json", b'{"form'), "config.json can't be read"),
    "config newer": (_edit("config.json", format=2), "format: got 1, expected 2"),
    "config other": (_edit("config.json", seed=5), "seed: got 0, expected 5"),
    "config gone": (_remove("config.json"), "no config.json"),
    "config no object": (_write("config.json", b"[]"), "config.json can't be read"),
    "metrics foreign": (_write("metrics.jsonl", b"hello\n{}\n"), "line 1 is not a row"),
    "metrics binary": (_write("metrics.jsonl", b"\x00\xff\n" * 9), "line 1 is not"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_told_and_what_was_saved_goes_on(case, stopped, straight, tmp_path):
    spoil, message = DAMAGES[case]
    folder, backup = tmp_path / "run", tmp_path / "backup"
    for copy in (folder, backup):
        shutil.copytree(stopped, copy)
    spoil(folder)
    spoiled = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(JnasError) as error:
        run(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    # The evidence is untouched (but for the note of who holds the folder) ...
    for path, content in spoiled.items():
        assert path.name == ".lock" or path.read_bytes() == content, path
    # ... and the backup goes on.
    result = run(backup)
    assert toy.bits(result.state) == toy.bits(straight.state)
    assert toy.timeless(result.history) == toy.timeless(straight.history)


def test_the_advice_for_a_damaged_checkpoint_works(stopped, straight, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    _cut(tmp_path / "run")
    with pytest.raises(JnasError, match=r"remove the folder\(s\) 12 there"):
        run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/12")
    result = run(tmp_path / "run")
    assert result.resumed_from == 6
    assert toy.bits(result.state) == toy.bits(straight.state)


def test_two_processes(stopped, straight, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    with (
        claim(tmp_path / "run"),
        pytest.raises(
            JnasError, match=rf"in use by another run \(process {os.getpid()}"
        ),
    ):
        run(tmp_path / "run")
    result = run(tmp_path / "run")
    assert toy.bits(result.state) == toy.bits(straight.state)


# A process that may write files of so many bytes only, as on a disk that is full.
_FULL = """
import resource, signal, sys
sys.path[:0] = {paths!r}
import test_edges_saving as edges
from jnas.errors import JnasError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    edges.run({folder!r}, save_every_seconds={seconds})
except JnasError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes there")
@pytest.mark.parametrize(
    ("limit", "seconds", "message"),
    [(900, 0, "can't write a checkpoint in"), (300, 1e9, "metrics.jsonl")],
)
def test_full_disk(limit, seconds, message, stopped, straight, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    here = os.path.dirname(__file__)
    paths = [here, f"{here}/..", f"{here}/../.."]
    code = _FULL.format(paths=paths, limit=limit, folder=str(folder), seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stdout and done.stdout.count("\n") == 1, done.stdout
    result = run(folder)
    assert result.resumed_from >= 12
    assert toy.bits(result.state) == toy.bits(straight.state)
    assert toy.timeless(result.history) == toy.timeless(straight.history)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(stopped, straight, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    folders = [p for p in (tmp_path / "run").rglob("*") if p.is_dir()]
    for path in (tmp_path / "run", *folders):
        path.chmod(0o500)
    with pytest.raises(JnasError, match="can't"):
        run(tmp_path / "run")
    for path in (tmp_path / "run", *folders):
        path.chmod(0o700)
    result = run(tmp_path / "run")
    assert toy.bits(result.state) == toy.bits(straight.state)
