"""Evaluation of exported and retrained networks, and the files of predictions."""

import csv
import dataclasses

import numpy as np
import pytest
import run_networks
from run_networks import CELL, SMALL

import jnas
from jnas import run

NAMES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    data = run_networks.images(names=NAMES)
    export = folder / "net.safetensors"
    result = run.retrain(CELL, data, "quick", **SMALL, workdir=folder, export=export)
    return result, folder, data


def test_an_exported_network_and_a_folder_give_what_retraining_gave(done):
    result, folder, data = done
    assert result.mean > 0.5  # it learned, so that a mistake would show
    for path in (folder / "net.safetensors", folder / "seed0"):
        found = run.evaluate(path, data)
        assert found["accuracy"] == result.mean and found["split"] == "test"
        assert found["count"] == len(data.test)


def test_splits(done, tmp_path):
    _, folder, data = done
    for split in ("train", "validation"):
        part = getattr(data, split)
        found = run.evaluate(folder / "seed0", data, split)
        assert found["count"] == len(part)
        swapped = dataclasses.replace(data, test=part)
        again = run.evaluate(folder / "seed0", swapped)
        assert {**again, "split": split} == found
    with pytest.raises(jnas.JnasError, match="unknown split 'val': known: test"):
        run.evaluate(folder / "seed0", data, "val")


def test_images_are_normalised_as_in_training(done):
    _, folder, data = done
    other = dataclasses.replace(data, mean=(0.9,), std=(0.01,))
    assert run.evaluate(folder / "seed0", other) == run.evaluate(folder / "seed0", data)
    # Unless the file does not tell.
    network, variables, _ = run.load_weights(folder / "seed0" / "weights.npz")
    run.save_weights(folder / "bare.npz", network, variables)
    bare = run.evaluate(folder / "bare.npz", data)
    assert bare["loss"] == run.evaluate(folder / "seed0", data)["loss"]
    assert run.evaluate(folder / "bare.npz", other)["loss"] != bare["loss"]


def test_predictions(done, tmp_path):
    result, folder, data = done
    for name in ("p.csv", "p.npz"):
        path = tmp_path / "new" / name
        found = run.evaluate(folder / "seed0", data, predictions=path)
    with np.load(path, allow_pickle=False) as stored:
        table = dict(stored)
    np.testing.assert_array_equal(table["label"], data.test.label)
    assert np.mean(table["prediction"] == table["label"]) == result.mean
    assert table["probabilities"].shape == (len(data.test), 3)
    np.testing.assert_allclose(table["probabilities"].sum(-1), 1, rtol=1e-5)
    assert tuple(table["class_names"]) == NAMES
    own = table["probabilities"][np.arange(len(data.test)), data.test.label]
    np.testing.assert_allclose(-np.mean(np.log(own)), found["loss"], rtol=1e-4)
    with open(tmp_path / "new" / "p.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(len(data.test)))
    for row, label, guess in zip(
        rows, table["label"], table["prediction"], strict=True
    ):
        assert int(row["label"]) == label and int(row["prediction"]) == guess
        assert row["label_name"] == NAMES[label]
        assert row["prediction_name"] == NAMES[guess]
        largest = table["probabilities"][int(row["index"])].max()
        assert float(row["probability"]) == pytest.approx(largest, abs=1e-6)


def test_what_does_not_fit(done, tmp_path):
    _, folder, data = done
    seed = folder / "seed0"
    swapped = dataclasses.replace(data, class_names=("dog", "cat", "eel"))
    for other, match in (
        (
            run_networks.images(classes=4, per_class=10),
            "has 3 outputs but 'rows' has 4",
        ),
        (run_networks.images(channels=3), "images with 1 channels, 'rows' has 3"),
        (swapped, "classes are cat, dog, eel, ..., but those of 'rows' are dog, cat"),
        (run_networks.text(tmp_path), "is for images, but 'poem' holds text"),
    ):
        with pytest.raises(jnas.JnasError, match=match):
            run.evaluate(seed, other)
    with pytest.raises(jnas.JnasError, match=r"to a .csv or an .npz file, got 'p.txt'"):
        run.evaluate(seed, data, predictions="p.txt")


def test_what_holds_no_network(done, tmp_path):
    _, folder, data = done
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for path, match in (
        (folder, "holds the networks of several trainings, name one: seed0"),
        (tmp_path / "begun", "is not finished: run the command that began it again"),
        (tmp_path / "empty", "holds no trained network"),
        (tmp_path / "no", "there is no file or folder"),
    ):
        with pytest.raises(jnas.JnasError, match=match):
            run.evaluate(path, data)
