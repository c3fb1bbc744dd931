"""``jnas export``: what it reads, writes and refuses."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.exporting import load_source

import jnas
from jnas import cli, run

TEXT = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
SIZE = {"channels": 2, "cells_per_stage": 1, "num_classes": 3}


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A retraining's folder with the weights of seed 0, and images of one channel."""
    folder = tmp_path_factory.mktemp("retrained")
    network = jnas.networks.build(TEXT, **SIZE)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    variables = network.init(jax.random.key(0), images)
    (folder / "seed0").mkdir()
    run.save_weights(folder / "seed0" / "weights.npz", network, variables)
    (folder / "genotype.json").write_text(network.genotype.to_json())
    config = {"config": {"network": network.config}}
    (folder / "seed0" / "config.json").write_text(json.dumps(config))
    logits, _ = network.apply(*variables, images, train=False)
    return folder, images, logits


def said(capsys, *arguments, status=0):
    assert cli.main(["export", *map(str, arguments)]) == status
    out, err = capsys.readouterr()
    return err if status else out


@pytest.mark.parametrize("style", ["linen", "nnx"])
def test_a_trained_network(style, trained, tmp_path, capsys):
    folder, images, logits = trained
    file = tmp_path / "out" / "net.py"
    said(capsys, folder / "seed0", "--as", style, "--output", file)
    module = load_source(file.read_text(), tmp_path)
    weights = file.with_suffix(".npz")
    with jax.numpy_rank_promotion("allow"):
        if style == "linen":
            got = module.Network().apply(module.load(weights), images)
        else:
            from flax import nnx

            # Also the module's own initial values.
            model = module.Network(rngs=nnx.Rngs(0))
            before = model(images)
            assert float(jnp.abs(before).max()) > 0
            module.load(model, weights)
            model.eval()
            got = model(images)
    np.testing.assert_allclose(got, logits, rtol=1e-5, atol=1e-5)


def test_the_sizes_of_a_run(trained, tmp_path, capsys):
    folder = trained[0]
    assert "    channels: int = 2\n" in said(capsys, folder)
    assert "    channels: int = 7\n" in said(capsys, folder, "--channels", 7)
    found = tmp_path / "run" / "retrain" / "found"
    found.mkdir(parents=True)
    shutil.copytree(folder / "seed0", found / "seed0")
    shutil.copy(folder / "genotype.json", tmp_path / "run" / "genotype.json")
    assert "    num_classes: int = 3\n" in said(capsys, "run")
    search = tmp_path / "search" / "search"
    search.mkdir(parents=True)
    shutil.copy(folder / "genotype.json", search.parent)
    config = {"config": {"search": {"supernet": {**SIZE, "cells": None}}}}
    (search / "config.json").write_text(json.dumps(config))
    assert "    num_classes: int = 3\n" in said(capsys, "search")
    (search / "config.json").write_text("[]")
    assert "no configuration" in said(capsys, "search", status=2)


def test_other_forms(capsys):
    assert said(capsys, "DARTS_V2", "--as", "text").startswith("Genotype(normal=[")
    text = said(capsys, "DARTS_V2", "--as", "json")
    assert jnas.Genotype.from_json(text) == jnas.Genotype.parse("DARTS_V2")
    assert said(capsys, "DARTS_V2", "--as", "dot").count("digraph") == 2
    out = said(capsys, "DARTS_RNN_V1", "--vocab-size", 65, "--width", 8)
    assert "    vocab_size: int = 65\n" in out


def test_weights_of_a_genotype(trained, tmp_path, capsys):
    folder = trained[0]
    weights = ["--weights", folder / "seed0" / "weights.npz"]
    said(capsys, TEXT, *weights, "--weights-output", "w.npz")
    with np.load("w.npz") as arrays:
        assert arrays["params/classifier/kernel"].shape == (8, 3)


def test_refusals(trained, tmp_path, capsys):
    seed = trained[0] / "seed0"
    (tmp_path / "there.py").write_text("mine")
    (tmp_path / "empty").mkdir()
    shutil.copy(seed / "weights.npz", tmp_path / "net.npz")
    before = (tmp_path / "net.npz").read_bytes()
    for words, message in [
        (["DARTS_V2", "--output", "there.py"], "there.py exists: add --force"),
        (["DARTS_V2", "--as", "yaml"], "unknown form 'yaml'"),
        (["DARTS_V3"], "did you mean"),
        (["runs/nothing"], "no file or folder runs/nothing"),
        (["empty"], "no genotype.json"),
        (["DARTS_RNN_V1"], "--vocab-size"),
        (["DARTS_V2", "--width", "8"], "--width is for recurrent"),
        (["DARTS_V2", "--weights-output", "w.npz"], "there are no weights"),
        (["DARTS_V2", "--weights", seed], "of another genotype"),
        (["DARTS_V2", "--weights", tmp_path / "no.npz"], "there is no file"),
        ([seed, "--channels", "4"], "--channels is 2 in the trained network"),
        ([seed, "--auxiliary"], "has no auxiliary head"),
        ([seed, "--weights-output", "w.h5"], "an .npz file"),
        (["net.npz", "--output", "net.py", "--force"], "another --weights-output"),
        ([seed, "--as", "json", "--weights", seed], "--as json has no weights"),
    ]:
        assert message in said(capsys, *words, status=2), words
    assert (tmp_path / "there.py").read_text() == "mine"
    assert (tmp_path / "net.npz").read_bytes() == before
    assert not (tmp_path / "net.py").exists()
    said(capsys, "DARTS_V2", "--output", "there.py", "--force")
    assert "class Network" in (tmp_path / "there.py").read_text()
