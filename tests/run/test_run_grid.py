"""R-DARTS' choice among searches: by validation, and the test part unseen."""

import dataclasses
import json
import types

import numpy as np
import pytest

import jnas
from jnas.run import choosing as grids

DIGITS = jnas.data.load("digits")
SPACE = jnas.spaces.nasbench201()


def images(split):
    return {image.tobytes() for image in split.image}


def test_held_out_data_has_no_test_image():
    held = grids.without_test(DIGITS)
    assert images(held.full) == images(DIGITS.train)
    assert images(held.test) == images(DIGITS.validation)
    assert len(held.train) + len(held.validation) == len(DIGITS.train)
    with pytest.raises(jnas.JnasError, match="images in memory"):
        grids.without_test(object())


@pytest.fixture
def scripted(monkeypatch):
    """Searches that find a cell each, and trainings of a known accuracy."""
    calls = []

    def search(one, data, **options):
        calls.append(("search", one, data, options))
        return types.SimpleNamespace(genotype=one)

    def retrain(genotype, data, **options):
        calls.append(("retrain", genotype, data, options))
        values = {"a": 0.7, "b": 0.9, "c": 0.9}
        mean = values[genotype] if data is not DIGITS else 0.5
        return types.SimpleNamespace(genotype=genotype, mean=mean, accuracies=(mean,))

    monkeypatch.setattr(grids, "search", search)
    monkeypatch.setattr(grids, "retrain", retrain)
    return calls


def test_chooses_by_validation_and_tests_the_choice_alone(scripted, tmp_path):
    made = {"3e-4": "a", "9e-4": "b", "27e-4": "c"}
    result = grids.grid(
        made, DIGITS, epochs=3, retrain_epochs=2, seeds=(4, 5), workdir=tmp_path,
        channels=4,
    )  # fmt: skip
    assert result.best == "9e-4" and result.final.mean == 0.5
    kinds = [(kind, what) for kind, what, _, _ in scripted]
    assert kinds == [
        ("search", "a"), ("retrain", "a"), ("search", "b"), ("retrain", "b"),
        ("search", "c"), ("retrain", "c"), ("retrain", "b"),
    ]  # fmt: skip
    tested = [data for kind, _, data, _ in scripted if kind == "retrain"]
    assert [data is DIGITS for data in tested] == [False, False, False, True]
    for data in tested[:3]:
        assert not images(data.test) & images(DIGITS.test) - images(DIGITS.validation)
        assert images(data.test) == images(DIGITS.validation)
    options = scripted[-1][3]
    assert options["epochs"] == 2 and options["seeds"] == (4, 5)
    assert options["channels"] == 4
    told = json.loads((tmp_path / "grid.json").read_text())
    assert told["best"] == "9e-4" and set(told["validated"]) == set(made)
    folders = {str(call[3]["workdir"].relative_to(tmp_path)) for call in scripted}
    assert {"search/3e-4", "validate/27e-4", "test/9e-4"} <= folders


def test_bad_labels_are_one_line():
    for label in ("", "a/b", ".."):
        with pytest.raises(jnas.JnasError, match="label"):
            grids.grid({label: None}, DIGITS, epochs=1)


@pytest.mark.slow
def test_a_real_grid(tmp_path):
    rng = np.random.default_rng(0)
    data = dataclasses.replace(
        DIGITS,
        **{
            name: getattr(DIGITS, name).take(rng.permutation(64))
            for name in ("train", "validation", "test")
        },
    )
    sizes = {"channels": 2, "cells_per_stage": 1}
    made = {
        f"{decay:g}": jnas.presets.r_darts_l2(
            SPACE, weight_decay=decay, order=1, epochs=1, steps_per_epoch=4, **sizes
        )
        for decay in (3e-4, 3e-2)
    }
    options = {"epochs": 1, "retrain_epochs": 1, "batch_size": 16, "progress": False}
    options |= {"workdir": tmp_path, **sizes}
    result = jnas.run.grid(made, data, **options)
    means = {label: one.mean for label, one in result.validated.items()}
    assert means[result.best] == max(means.values())
    assert result.final.genotype == result.searches[result.best].genotype
    again = jnas.run.grid(made, data, **options)
    assert again.final.accuracies == result.final.accuracies
