"""`retrain`: trains a genotype's final network from scratch, for several seeds."""

import functools
import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnas import data as datasets
from jnas.errors import JnasError
from jnas.networks import Recipe, recipes
from jnas.run import metrics
from jnas.run.environment import environment
from jnas.run.loop import loop
from jnas.run.retraining_plan import Plan, plan
from jnas.run.weights import save_weights
from jnas.run.weights_files import check_path
from jnas.spaces import Genotype

__all__ = ["RetrainResult", "choose_recipe", "export_path", "retrain"]

# Of these None means that nothing is said.
_SIZES = ("channels", "cells", "cells_per_stage", "width", "bptt")
_SMALL = {"batch_size": 64, "channels": 16, "auxiliary": False, "augment": None}
_SMALL_TEXT = {"batch_size": 64, "width": 64, "dropouts": None}


class RetrainResult(NamedTuple):
    """What retraining a genotype gives.

    Attributes:
      genotype: what was trained.
      parameters: of the network, without auxiliary head.
      multiply_adds: of one image, or of one token of text.
      seeds: the seeds.
      accuracies: test accuracy of each seed, fractions (of text: of the next token).
      mean: of the accuracies.
      standard_error: of the mean over the seeds; NaN for one seed.
      seconds: wall time of each seed's training.
      bits: of text, the test cross-entropy of each seed in bits per token.
      recipe: what was followed.
    """

    genotype: Genotype
    parameters: int
    multiply_adds: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    standard_error: float
    seconds: tuple[float, ...]
    bits: tuple[float, ...] | None = None
    recipe: Recipe | None = None


def retrain(
    genotype: Genotype | str,
    data: datasets.Dataset | datasets.TextDataset | datasets.StreamDataset,
    recipe: str | Recipe | None = None,
    *,
    seeds: Sequence[int] = (0,),
    label: str = "retrain",
    workdir: str | os.PathLike[str] | None = None,
    export: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    on_nan: str = "stop",
    stream: bool = False,
    **overrides: Any,
) -> RetrainResult:
    """Trains on train plus validation, reports the test accuracy after the last epoch.

    One compiled program serves all seeds. In the folder ``workdir/seedN`` of each seed
    are ``config.json``, ``metrics.jsonl`` and ``checkpoints/`` and, when it is done,
    ``result.json`` (what the test split gave) and ``weights.npz`` (see
    `jnas.run.load_weights`). The same call again goes on where it stopped, and does
    not train a finished seed again.

    Without a recipe the genotype's own is followed (DARTS', NAS-Bench-201's or that of
    the recurrent networks), but on a small network: 16 channels or a width of 64, 64
    images a batch, no auxiliary head, the dataset's augmentation, and as many
    ``epochs`` as are given, which are needed then.

    Args:
      genotype: what to train, or a text that `Genotype.parse` understands.
      data: the dataset.
      recipe: a name of `jnas.networks.recipes.names`, a `Recipe`, or None. Its
        augmentation, where it names one, replaces the dataset's.
      seeds: one training each.
      label: the name in what is shown.
      workdir: folder with one run per seed; None writes nothing.
      export: file or folder to write the trained network to, as of
        `jnas.run.save_weights`; with several seeds one each, ``NAME-seedN``.
      chunk: steps per dispatch; None chooses by the backend.
      progress: whether to show how it goes.
      on_nan: "stop", "skip" or "rollback" when the loss is not finite, as in
        `jnas.run.loop`.
      stream: whether to read the images batch by batch, for sets larger than the
        device's memory (those of a `StreamDataset` always are).
      **overrides: fields of the recipe to change, e.g. ``epochs``, ``learning_rate``,
        ``channels``, ``cells``.

    Returns:
      The result.

    Raises:
      JnasError: an option is unknown or out of range, the parts don't fit each other,
        the workdir belongs to another run, ...

    Example:
      >>> import jnas
      >>> g = jnas.spaces.nasbench201().decode([1] * 6)
      >>> retrain(g, jnas.data.load("digits"), "quick", seeds=())
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: seeds must name at least one seed, got ()
    """
    if not seeds:
        raise JnasError(f"seeds must name at least one seed, got {tuple(seeds)!r}")
    if len(set(seeds)) != len(seeds):
        raise JnasError(f"seeds must differ from each other, got {tuple(seeds)!r}")
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    chosen = choose_recipe(genotype, recipe, **overrides)
    exports = [None if export is None else export_path(export, s, seeds) for s in seeds]
    for path in filter(None, exports):
        check_path(path)  # not after hours
    made = plan(genotype, data, chosen, stream=stream)
    network, feed = made.network, made.material.feed
    trainer = made.recipe.trainer(network, steps_per_epoch=feed.steps_per_epoch)
    # One object for all seeds, so that they share the compiled programs.
    init = functools.partial(trainer.init, inputs=made.material.example)
    measured = []
    seconds = []
    for seed, target in zip(seeds, exports, strict=True):
        folder = None if workdir is None else Path(workdir) / f"seed{seed}"
        result = loop(
            trainer.step,
            init,
            feed,
            epochs=chosen.epochs,
            steps_per_epoch=feed.steps_per_epoch,
            seed=seed,
            workdir=folder,
            config={
                "genotype": str(genotype),
                "network": network.config,
                "trainer": trainer.config,
                "data": {"name": data.name, "fingerprint": data.fingerprint()},
                "batch_size": chosen.batch_size,
            },
            chunk=chunk,
            label=f"{label}, seed {seed}",
            watch=("train_loss",),
            save_every_epochs=max(1, chosen.epochs // 4),
            progress=progress,
            images_per_step=made.material.per_step,
            on_nan=on_nan,
        )
        measured.append(made.evaluate(trainer, result.state))
        seconds.append(result.seconds)
        about = _about(made, seed, measured[-1], result.seconds)
        extra = {"recipe": about["recipe"], "result": measured[-1], "seed": seed}
        if folder is not None:
            path = folder / "weights.npz"
            save_weights(path, network, result.state, data=data, extra=extra)
            text = json.dumps(metrics.as_json(about, "result"), indent=2)
            metrics.write_atomically(folder / "result.json", text + "\n")
        if target is not None:
            save_weights(target, network, result.state, data=data, extra=extra)
    accuracies = tuple(one["accuracy"] for one in measured)
    spread = math.nan
    if len(seeds) > 1:
        spread = statistics.stdev(accuracies) / math.sqrt(len(seeds))
    return RetrainResult(
        genotype,
        made.parameters,
        made.multiply_adds,
        tuple(seeds),
        accuracies,
        statistics.fmean(accuracies),
        spread,
        tuple(seconds),
        tuple(one["bits"] for one in measured) if "bits" in measured[0] else None,
        made.recipe,
    )


def choose_recipe(
    genotype: Genotype, recipe: str | Recipe | None, **overrides: Any
) -> Recipe:
    """The recipe that `retrain` follows.

    Args:
      genotype: what is to be trained.
      recipe: a name, a recipe, or None.
      **overrides: fields to change.

    Returns:
      The recipe.

    Raises:
      JnasError: there is no such recipe or field, it does not fit the genotype, ...

    Example:
      >>> choose_recipe(Genotype.parse("DARTS_V2"), None, epochs=5).channels
      16
    """
    overrides = {
        name: value
        for name, value in overrides.items()
        if value is not None or name not in _SIZES
    }
    single = not genotype.is_darts_like
    other = "cells" if single else "cells_per_stage"
    if other in overrides and genotype.names != ("recurrent",):
        right = "cells_per_stage" if single else "cells"
        raise JnasError(
            f"{other} does not size a network of the cells {list(genotype.names)}: "
            f"use {right}=..."
        )
    if isinstance(recipe, str):
        recipe = recipes.get(recipe)
    if recipe is None:
        if "epochs" not in overrides:
            raise JnasError(
                "retrain needs epochs=..., or a recipe that says how many: one of "
                + ", ".join(recipes.names())
            )
        if genotype.names == ("recurrent",):
            recipe = recipes.get("darts_rnn", **_SMALL_TEXT)
        else:
            recipe = recipes.get("nasbench201" if single else "darts", **_SMALL)
    if not isinstance(recipe, Recipe):
        raise JnasError(
            f"recipe must be a name or a jnas.networks.Recipe, got "
            f"{type(recipe).__name__}"
        )
    return recipe.replace(**overrides)


def export_path(
    export: str | os.PathLike[str], seed: int, seeds: Sequence[int]
) -> Path:
    """Where the network of one of the seeds goes: with several, a file for each.

    Example:
      >>> export_path("net.npz", 1, (0, 1)).name
      'net-seed1.npz'
    """
    path = Path(export)
    if len(seeds) == 1:
        return path
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")


def _about(made: Plan, seed: int, test: dict[str, Any], seconds: float) -> Any:
    """What ``result.json`` holds."""
    # Not at the top: it knows the results that are made here.
    return {
        "format": 1,
        "genotype": str(made.network.genotype),
        "recipe": made.recipe.to_dict(),
        "seed": seed,
        "parameters": made.parameters,
        "multiply_adds": made.multiply_adds,
        "seconds": seconds,
        **{f"test_{name}": value for name, value in test.items()},
        "environment": environment(),
    }
