"""Retraining by recipes: what is written, what is not done twice, the protocol."""

import json
import statistics

import numpy as np
import pytest
import run_networks
from run_networks import CELL, RNN, SMALL

import jnas
from jnas import networks, run
from jnas.data import Augment
from jnas.networks import recipes
from jnas.run import retraining_plan
from jnas.run.engine import Engine
from jnas.run.retraining import choose_recipe
from jnas.run.retraining_protocol import default_settings


@pytest.fixture(scope="module")
def data():
    return run_networks.images()


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    export = folder / "out" / "net.npz"
    call = {"seeds": (0, 3), "workdir": folder / "x"}
    result = run.retrain(CELL, data, "quick", **SMALL, **call, export=export)
    return result, folder, call


def read(path):
    return json.loads(path.read_text())


def test_each_seed_leaves_its_result_and_weights(done, data):
    result, folder, _ = done
    assert result.recipe.name == "quick" and result.recipe.channels == 2
    for seed, accuracy, seconds in zip(
        result.seeds, result.accuracies, result.seconds, strict=True
    ):
        about = read(folder / "x" / f"seed{seed}" / "result.json")
        assert about["seed"] == seed and about["test_accuracy"] == accuracy
        assert about["test_count"] == len(data.test) and about["seconds"] == seconds
        assert about["test_loss"] > 0 and about["parameters"] == result.parameters
        assert about["genotype"] == str(CELL) and "jax" in about["environment"]
        assert recipes.from_json(json.dumps(about["recipe"])) == result.recipe
        config = read(folder / "x" / f"seed{seed}" / "config.json")
        assert config["config"]["trainer"]["recipe"] == "quick"
        # Exported and kept weights are the same, and of this seed.
        kept = run.load_weights(folder / "x" / f"seed{seed}" / "weights.npz")
        out = run.load_weights(folder / "out" / f"net-seed{seed}.npz")
        assert kept.metadata == out.metadata and out.metadata["seed"] == seed
        assert out.metadata["result"]["accuracy"] == accuracy
    a, b = (
        run.load_weights(folder / "out" / f"net-seed{seed}.npz").variables.weights
        for seed in (0, 3)
    )
    classifiers = [w["skeleton"]["classifier"]["kernel"] for w in (a, b)]
    assert not np.array_equal(*classifiers)


def test_a_finished_seed_is_not_trained_again(done, data, monkeypatch):
    result, folder, call = done
    before = {
        p: p.read_bytes()
        for p in folder.glob("x/seed*/*")
        if p.name != "result.json"
        if p.is_file()
    }

    def train(*args):
        raise AssertionError("it trains")

    monkeypatch.setattr(Engine, "train", train)
    again = run.retrain(CELL, data, "quick", **SMALL, **call)
    assert again == result
    assert all(p.read_bytes() == content for p, content in before.items())
    # Only the new seed is.
    with pytest.raises(AssertionError, match="it trains"):
        run.retrain(CELL, data, "quick", **SMALL, **{**call, "seeds": (0, 5)})


def test_another_recipe_in_the_same_folder_is_refused(done, data):
    _, _, call = done
    with pytest.raises(jnas.JnasError, match=r"another run .*label_smoothing"):
        run.retrain(CELL, data, "quick", **SMALL, **call, label_smoothing=0.1)


def test_the_augmentation_is_the_recipes_or_the_datasets(data):
    own = run_networks.images()
    assert own.augment == Augment()
    for recipe, expected in (
        (recipes.get("quick"), Augment()),
        (
            recipes.get("quick", augment=Augment(crop=2, cutout=4)),
            Augment(crop=2, cutout=4),
        ),
    ):
        made = retraining_plan.plan(CELL, own, recipe.replace(batch_size=16))
        assert made.material.feed.augment == expected
        assert made.recipe.augment == expected
    with pytest.raises(jnas.JnasError, match="cutout must be at most the image side"):
        run.retrain(CELL, own, "quick", augment={"cutout": 16})


def test_without_a_recipe_the_genotypes_own_on_a_small_network():
    darts = jnas.Genotype.parse("DARTS_V2")
    for genotype, name, changes in (
        (darts, "darts", {"channels": 16, "auxiliary": False, "augment": None}),
        (CELL, "nasbench201", {"channels": 16, "augment": None}),
        (RNN, "darts_rnn", {"width": 64, "dropouts": None}),
    ):
        got = choose_recipe(genotype, None, epochs=7, cells=None, width=None)
        expected = recipes.get(name, epochs=7, batch_size=64, **changes)
        assert got == expected


def test_a_recipe_of_ones_own(data):
    mine = networks.Recipe("mine", 9, 16, 0.2, channels=2, cells_per_stage=1, clip=5.0)
    result = run.retrain(str(CELL), data, mine, progress=False, epochs=4)
    assert result.recipe == mine.replace(epochs=4, augment=Augment())
    assert result.standard_error != result.standard_error  # NaN: one seed


def test_text_has_bits_in_its_result(tmp_path):
    corpus = run_networks.text(tmp_path)
    small = {"width": 4, "bptt": 5, "batch_size": 8, "epochs": 1}
    result = run.retrain(
        RNN, corpus, "darts_rnn", **small, workdir=tmp_path / "x", progress=False
    )
    about = read(tmp_path / "x" / "seed0" / "result.json")
    assert result.bits == (about["test_bits"],)
    assert about["test_perplexity"] == pytest.approx(2 ** about["test_bits"])
    assert result.recipe.dropouts.output == 0.75
    found = run.evaluate(tmp_path / "x" / "seed0", corpus)
    assert found["bits"] == about["test_bits"]
    other = run_networks.text(tmp_path, more="\nquick zebras")
    with pytest.raises(jnas.JnasError, match=r"vocabulary .* is not that of 'poem'"):
        run.evaluate(tmp_path / "x" / "seed0", other)
    with pytest.raises(jnas.JnasError, match="predictions are written of images only"):
        run.evaluate(tmp_path / "x" / "seed0", corpus, predictions="p.csv")
    with pytest.raises(jnas.JnasError, match="is for text, but 'rows' holds images"):
        run.evaluate(tmp_path / "x" / "seed0", run_networks.images())


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((CELL,), {}, "retrain needs epochs=..., or a recipe"),
        ((CELL, "quik"), {}, "unknown recipe 'quik': did you mean 'quick'"),
        ((CELL, 3), {}, "recipe must be a name or a jnas.networks.Recipe, got int"),
        ((CELL, "quick"), {"learnin_rate": 1}, "did you mean 'learning_rate'"),
        ((CELL, "quick"), {"cells": 3}, "cells does not size .* use cells_per_stage="),
        (("DARTS_V2", "quick"), {"cells_per_stage": 3}, "use cells=..."),
        ((RNN, "quick"), {}, "a recurrent cell needs a text, but 'rows' holds images"),
        ((CELL, "quick"), {"seeds": (1, 1)}, "seeds must differ from each other"),
        ((CELL, "quick"), {"auxiliary": True}, "has no auxiliary head"),
        (
            ("DARTS_V2", "quick"),
            {"auxiliary": True, "batch_size": 8},
            "at least 32x32, got 8x8",
        ),
        ((CELL, "quick"), {"batch_size": 1000}, "batch_size must be at most"),
        ((CELL, "quick"), {**SMALL, "export": "net.txt"}, "must end in .npz"),
        ((CELL, "darts"), {}, "recipe 'darts' does not say how many cells"),
    ],
)
def test_bad_calls(data, arguments, options, match, monkeypatch):
    monkeypatch.setattr(Engine, "train", None)  # all are told before any training
    genotype, *recipe = arguments
    with pytest.raises(jnas.JnasError, match=match):
        run.retrain(genotype, data, *recipe, **{"progress": False, **options})


def test_images_need_no_recurrent_cell_and_text_does(tmp_path):
    with pytest.raises(jnas.JnasError, match="'poem' holds text, which needs a recur"):
        run.retrain(CELL, run_networks.text(tmp_path), "quick")


# --- the protocol


def test_the_default_settings_are_the_published_grid():
    got = {tuple(s.values()) for s in default_settings(recipes.get("darts"))}
    rates, decays = (0.01, 0.025, 0.1), (1e-4, 3e-4, 1e-3)
    assert got == {(rate, decay) for rate in rates for decay in decays}
    nine = default_settings(recipes.get("nasbench201"))
    assert len(nine) == 9 and nine[4] == {"learning_rate": 0.1, "weight_decay": 5e-4}


def test_the_protocol_is_the_mean_over_settings_and_seeds(data, tmp_path, monkeypatch):
    made = {0.2: (0.5, 0.75), 1e-4: (0.25, 1.0)}
    called = []

    def fake(genotype, data, recipe, *, seeds, workdir, **options):
        called.append((recipe, workdir))
        accuracies = made[recipe.learning_rate]
        mean = statistics.fmean(accuracies)
        return run.RetrainResult(
            genotype, 1, 2, seeds, accuracies, mean, 0.0, (3.0, 4.0), recipe=recipe
        )

    monkeypatch.setattr("jnas.run.retraining_protocol.retrain", fake)
    settings = [{"learning_rate": 0.2}, {"learning_rate": 1e-4, "drop_path": 0.1}]
    result = run.retrain_protocol(
        CELL, data, "quick", settings=settings, seeds=(0, 1), workdir=tmp_path, mixup=1
    )
    assert result.mean == 0.625
    assert result.deviation == pytest.approx(np.std([0.5, 0.75, 0.25, 1.0], ddof=1))
    assert (result.lowest, result.highest) == (0.25, 1.0)
    assert called == [
        (recipes.get("quick", mixup=1, **setting), tmp_path / f"setting{number}")
        for number, setting in enumerate(settings, start=1)
    ]
    about = read(tmp_path / "protocol.json")
    assert about["test_accuracy_mean"] == result.mean
    assert about["test_accuracy_deviation"] == result.deviation
    assert [row["changes"] for row in about["settings"]] == settings
    assert [row["test_accuracies"] for row in about["settings"]] == [
        [0.5, 0.75],
        [0.25, 1.0],
    ]
    assert not any("best" in name for name in [*about, *result._fields])


def test_the_protocol_checks_all_settings_first(data, monkeypatch):
    monkeypatch.setattr(Engine, "train", None)  # any training fails
    for settings, match in (
        ([], "settings must name at least one"),
        ([{}, {"epochs": 4}], "settings must differ from each other"),
        ([{}, {"learning_rat": 1}], "did you mean 'learning_rate'"),
        ([{}, {"momentum": 2}], "momentum must be in"),
    ):
        with pytest.raises(jnas.JnasError, match=match):
            run.retrain_protocol(CELL, data, "quick", settings=settings, **SMALL)


def test_a_streamed_dataset_is_retrained_on_and_evaluated(data, tmp_path):
    pytest.importorskip("grain")
    parts = (data.train, data.validation, data.test)
    pairs = [(part.image, part.label) for part in parts]
    streamed = jnas.data.from_sources(
        pairs[0],
        validation=pairs[1],
        test=pairs[2],
        mean=data.mean,
        std=data.std,
        name="rows",
    )
    result = run.retrain(CELL, streamed, "quick", **SMALL, workdir=tmp_path / "x")
    assert result.mean > 0.4
    kept = tmp_path / "x" / "seed0"
    found = run.evaluate(kept, streamed, predictions=tmp_path / "p.npz")
    assert found == run.evaluate(kept, data) and found["accuracy"] == result.mean
    # And a set in memory may be streamed.
    small = recipes.get("quick", batch_size=16)
    for stream, kind in ((True, jnas.data.Stream), (False, jnas.data.Feed)):
        made = retraining_plan.plan(CELL, data, small, stream=stream)
        assert isinstance(made.material.feed, kind)
