"""Checkpoints: exact bits back, and no way to go on from damaged ones."""

import logging
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import run_toy as toy

from jnas.errors import JnasError
from jnas.run import checkpoint


def template(tree):
    return jax.eval_shape(lambda: tree)


def make(folder, *steps, keep=9):
    """Saves toy states at some steps."""
    checkpoints = checkpoint.Checkpoints(folder, keep=keep)
    for step in steps:
        state = jax.jit(toy.init_fn)(jax.random.key(step))
        checkpoints.save(step, state, {"train_loss": jnp.float32(0.1)}, seconds=0.5)
    checkpoints.wait()
    return checkpoints, template(toy.init_fn(jax.random.key(0)))


def contents(folder):
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_round_trip_keeps_every_bit(tmp_path):
    nans = np.array([0x7FC12345, 0xFFC00001], np.uint32).view(np.float32)
    state = {
        "toy": toy.init_fn(jax.random.key(1)),
        "nans": jnp.asarray(nans),
        "minus": jnp.full((3,), -0.0),
        "scalar": jnp.float16(1.5),
        "flags": jnp.array([True, False]),
        "bytes": jnp.arange(5, dtype=jnp.uint8),
        "small": jnp.ones((2,), jnp.float8_e4m3fn),
        "keys": jax.random.split(jax.random.key(2, impl="rbg"), 4),
        "a.b": jnp.ones(1),
        "a": {"b": (jnp.zeros(1), None, {})},
    }
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=2)
    sums = {"train_loss": jnp.float32(0.1)}
    checkpoints.save(5, state, sums, seconds=0.1, stopped=False)
    checkpoints.wait()
    saved = checkpoints.latest(template(state))
    assert saved.step == 5
    assert saved.extra == {"seconds": 0.1, "stopped": False}
    assert toy.bits(saved.sums) == toy.bits(sums)
    assert toy.bits(saved.state) == toy.bits(state)
    assert saved.state["keys"].dtype == state["keys"].dtype


def test_orbax_opens_it_under_readable_names(tmp_path):
    make(tmp_path, 3)
    from orbax.checkpoint import v1 as ocp

    leaves = ocp.load(str(tmp_path / "3"))["leaves"]
    assert leaves["state.weights.w"].shape == (3,)
    assert "sums.train_loss" in leaves


def test_buffers_may_be_donated_while_it_saves(tmp_path):
    state = {"x": jnp.arange(100_000.0)}
    expected = toy.bits(state)
    checkpoints = checkpoint.Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state, {})
    step = jax.jit(lambda s: {"x": s["x"] * 0 - 1}, donate_argnums=0)
    for _ in range(20):
        state = step(state)
    checkpoints.wait()
    saved = checkpoints.load(1, template(state))
    assert toy.bits(saved.state) == expected
    step(saved.state)  # a restored state can be donated, too
    assert toy.bits(checkpoints.load(1, template(state)).state) == expected


def test_keeps_the_latest_and_ignores_other_entries(tmp_path):
    for name in ("notes.txt", "7"):
        (tmp_path / name).write_text("mine")
    for name in ("best", ".saving-9", ".deleting-1", "007"):
        (tmp_path / name).mkdir()
    checkpoints, shape = make(tmp_path, 2, 4, 10, keep=2)
    assert checkpoints.steps() == [4, 10]
    assert checkpoints.latest(shape).step == 10
    checkpoints.clear()
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"notes.txt", "7", "best", "007", "4", "10"}


def truncate(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def lose_data(folder):
    for path in folder.rglob("d"):
        shutil.rmtree(path)


def foreign(folder):
    from orbax.checkpoint import v1 as ocp

    shutil.rmtree(folder)
    ocp.save(str(folder), {"x": np.ones(3)})


def renamed(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "4", folder)


@pytest.mark.parametrize("damage", [truncate, empty, lose_data, foreign, renamed])
def test_damaged(tmp_path, damage):
    checkpoints, shape = make(tmp_path, 4, 10)
    damage(tmp_path / "10")
    before = contents(tmp_path)
    with pytest.raises(JnasError) as caught:
        checkpoints.latest(shape)
    text = str(caught.value)
    assert "\n" not in text
    assert f"checkpoint {tmp_path / '10'} is damaged or not of this run (" in text
    assert text.endswith(
        "; the earlier checkpoint 4 is intact: remove the folder(s) 10 there to go on "
        "from it"
    )
    assert contents(tmp_path) == before
    shutil.rmtree(tmp_path / "10")
    assert checkpoints.latest(shape).step == 4


def test_all_damaged(tmp_path):
    checkpoints, shape = make(tmp_path / "checkpoints", 4, 10)
    empty(tmp_path / "checkpoints" / "4")
    truncate(tmp_path / "checkpoints" / "10")
    with pytest.raises(JnasError, match=f"no earlier one is intact: delete {tmp_path}"):
        checkpoints.latest(shape)


def test_a_flipped_bit_in_any_file_is_found(tmp_path):
    checkpoints, shape = make(tmp_path, 4)
    whole = contents(tmp_path / "4")
    assert len(whole) > 5
    for path, data in whole.items():
        if data:
            middle = len(data) // 2
            path.write_bytes(
                data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            )
            with pytest.raises(JnasError, match=r"damaged .*(checksum|codec|JSON|:)"):
                checkpoints.latest(shape)
            path.write_bytes(data)
    assert checkpoints.latest(shape).step == 4


def test_an_edited_description_is_found(tmp_path):
    checkpoints, shape = make(tmp_path, 4)
    path = tmp_path / "4" / "jnas.json"
    path.write_text(path.read_text().replace('"seconds": 0.5', '"seconds": 0.6'))
    with pytest.raises(JnasError, match=r"the checksum of jnas\.json does not match"):
        checkpoints.latest(shape)


def test_other_state(tmp_path):
    checkpoints, shape = make(tmp_path, 4)
    for other in (
        shape._replace(half=jax.ShapeDtypeStruct((2,), "float32")),
        shape._replace(half=jax.ShapeDtypeStruct((3,), "bfloat16")),
        shape._replace(weights={"w": shape.weights["w"]}),
        shape._replace(key=jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))),
    ):
        with pytest.raises(JnasError, match="damaged or not of this run"):
            checkpoints.latest(other)
    assert checkpoints.latest(shape).step == 4


def test_a_save_that_fails_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    checkpoints = checkpoint.Checkpoints(tmp_path / "file", keep=2)
    checkpoints.save(1, {"x": jnp.ones(2)}, {})
    with pytest.raises(JnasError, match=r"can't write a checkpoint in .*file"):
        checkpoints.wait()
    checkpoints.wait()  # told once


def test_orbax_is_quiet(tmp_path, caplog, capfd):
    with caplog.at_level(logging.DEBUG, logger="absl"):
        checkpoints, shape = make(tmp_path, 4)
        checkpoints.latest(shape)
        logging.getLogger("absl").info("of another library")
    texts = [r.getMessage() for r in caplog.records if r.name == "absl"]
    assert texts == ["of another library"]
    assert "orbax" not in capfd.readouterr().err.lower()
