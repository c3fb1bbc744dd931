"""`evaluate`: an exported or retrained network on a split of a dataset."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jnas import compiling, networks
from jnas import data as datasets
from jnas.errors import JnasError, unknown_name
from jnas.run import metrics
from jnas.run.retraining_plan import EVALUATION_BATCH, EVALUATION_COLUMNS
from jnas.run.weights import Exported, load_weights

__all__ = ["evaluate"]

_SPLITS = ("train", "validation", "test")
_TABLES = (".csv", ".npz")


def evaluate(
    path: str | os.PathLike[str],
    data: Any,
    split: str = "test",
    *,
    predictions: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Measures a trained network on a split, each example exactly once.

    Images are normalised as in the network's training, whatever the dataset's own mean
    and standard deviation are (they are only used if the file does not tell any).

    Args:
      path: what `jnas.run.save_weights` or ``retrain(export=...)`` wrote, or the folder
        of a seed of `jnas.run.retrain`.
      data: the dataset; it must have the network's number of classes, or vocabulary.
      split: "test", "validation" or "train". (Retraining learns from both of the
        latter.)
      predictions: a file for each image's prediction: ``.csv`` with index, label,
        prediction and its probability, or ``.npz`` with "label", "prediction" and
        "probabilities" ``[N, K]``.

    Returns:
      "split", "accuracy", "standard_error", "loss" and "count" as of
      `jnas.networks.evaluate`; of text also "bits" and "perplexity".

    Raises:
      JnasError: the file can't be used, or does not fit the dataset.

    Example:
      >>> evaluate("no/such.npz", datasets.load("digits"))
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: there is no file or folder no/such.npz
    """
    if split not in _SPLITS:
        raise unknown_name("split", split, _SPLITS)
    if predictions is not None and Path(predictions).suffix not in _TABLES:
        raise JnasError(
            f"predictions are written to a .csv or an .npz file, got "
            f"{str(predictions)!r}"
        )
    found = load_weights(_find(Path(path)))
    _check_fit(found, data)
    examples = getattr(data, split)
    training = networks.trainer(found.network, tx=optax.identity())
    state = networks.TrainState(*found.variables, opt_state=None, key=None, step=None)  # pyrefly: ignore
    if isinstance(data, datasets.TextDataset):
        if predictions is not None:
            raise JnasError("predictions are written of images only, not of text")
        recipe = found.metadata.get("recipe") or {}
        columns = min(EVALUATION_COLUMNS, len(examples) - 1)
        windows = datasets.text_batches(examples, columns, recipe.get("bptt") or 35)
        return {
            "split": split,
            **networks.evaluate_text(training, state, windows),
        }
    told = found.metadata["data"] or {}
    mean, std = told.get("mean") or data.mean, told.get("std") or data.std

    def batches() -> Iterable[dict[str, Any]]:
        return datasets.batches(examples, EVALUATION_BATCH, tuple(mean), tuple(std))

    result = {"split": split, **networks.evaluate(training, state, batches())}
    if predictions is not None:
        names = data.class_names or told.get("class_names")
        _write(Path(predictions), _predict(training, state, batches()), names)
    return result


def _find(path: Path) -> Path:
    """The file or folder of weights that a path means."""
    if not path.is_dir() or (path / "metadata.json").exists():
        return path
    if (path / "weights.npz").exists():
        return path / "weights.npz"
    if (path / "checkpoints").is_dir():
        raise JnasError(
            f"the training in {path} is not finished: run the command that began it "
            "again, and it goes on from the last checkpoint"
        )
    seeds = sorted(p.parent.relative_to(path) for p in path.glob("**/weights.npz"))
    if seeds:
        listed = ", ".join(str(seed) for seed in seeds[:6])
        raise JnasError(
            f"{path} holds the networks of several trainings, name one: {listed}"
        )
    raise JnasError(
        f"{path} holds no trained network: give a file that was exported, or the "
        "folder of a seed of a retraining"
    )


def _check_fit(found: Exported, data: Any) -> None:
    """Refuses data that the network's outputs or inputs are not for."""
    config, inputs = found.network.config, found.metadata["inputs"]
    is_text = isinstance(data, datasets.TextDataset)
    if is_text != (inputs is None):
        raise JnasError(
            f"this network is for {'images' if is_text else 'text'}, but {data.name!r} "
            f"holds {'text' if is_text else 'images'}"
        )
    told = found.metadata["data"] or {}
    if is_text:
        words = told.get("vocabulary")
        same = words is None or words == list(data.vocabulary)
        if config["vocab_size"] != data.vocab_size or not same:
            raise JnasError(
                f"the network's vocabulary ({config['vocab_size']} tokens) is not that "
                f"of {data.name!r} ({data.vocab_size}): use the text it was trained on"
            )
        return
    if config["num_classes"] != data.num_classes:
        raise JnasError(
            f"the network has {config['num_classes']} outputs but {data.name!r} has "
            f"{data.num_classes} classes"
        )
    names, own = told.get("class_names"), data.class_names
    if names and own and list(own) != names:
        raise JnasError(
            f"the network's classes are {', '.join(names[:3])}, ..., but those of "
            f"{data.name!r} are {', '.join(own[:3])}, ... in this order"
        )
    if inputs[2] != data.image_shape[2]:
        raise JnasError(
            f"the network takes images with {inputs[2]} channels, {data.name!r} has "
            f"{data.image_shape[2]}"
        )


def _predict(training: Any, state: Any, batches: Any) -> dict[str, np.ndarray]:
    """Labels and probabilities of every image, in order."""
    forward = jax.jit(
        lambda s, images: jax.nn.softmax(training.predict(s, images)),
        compiler_options=compiling.options(),
    )
    labels, rows = [], []
    for batch in batches:
        real = np.asarray(batch["weight"]) > 0
        rows.append(np.asarray(forward(state, batch["image"]))[real])
        labels.append(np.asarray(batch["label"])[real])
    probabilities = np.concatenate(rows).astype(np.float32)
    return {
        "label": np.concatenate(labels),
        "prediction": probabilities.argmax(-1).astype(np.int32),
        "probabilities": probabilities,
    }


def _write(path: Path, found: dict[str, np.ndarray], names: Any) -> None:
    """Writes predictions in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        if names:
            found = {**found, "class_names": np.array(names)}
        part = path.with_name(path.name + ".part")
        with open(part, "wb") as file:
            np.savez(file, **found)  # pyrefly: ignore
        os.replace(part, path)
        return
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    more = ["label_name", "prediction_name"] if names else []
    table.writerow(["index", "label", "prediction", "probability", *more])
    columns = (found["label"], found["prediction"], found["probabilities"])
    for i, (label, guess, row) in enumerate(zip(*columns, strict=True)):
        more = [names[label], names[guess]] if names else []
        table.writerow([i, label, guess, f"{row[guess]:.6f}", *more])
    metrics.write_atomically(path, stream.getvalue())
