"""`retrain`: trains a genotype's final network from scratch, for several seeds."""

import functools
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jnas import cost, networks
from jnas import data as datasets
from jnas.errors import JnasError
from jnas.run.loop import loop
from jnas.spaces import Genotype

__all__ = ["RetrainResult", "retrain"]


class RetrainResult(NamedTuple):
    """What retraining a genotype gives.

    Attributes:
      genotype: what was trained.
      parameters: of the network, without auxiliary head.
      multiply_adds: of one image.
      seeds: the seeds.
      accuracies: test accuracy of each seed, fractions.
      mean: of the accuracies.
      standard_error: of the mean over the seeds; NaN for one seed.
      seconds: wall time of each seed's training.
    """

    genotype: Genotype
    parameters: int
    multiply_adds: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    standard_error: float
    seconds: tuple[float, ...]


def retrain(
    genotype: Genotype,
    data: datasets.Dataset,
    *,
    epochs: int,
    batch_size: int = 64,
    seeds: Sequence[int] = (0,),
    channels: int = 16,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    auxiliary: bool = False,
    label: str = "retrain",
    workdir: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    **recipe: Any,
) -> RetrainResult:
    """Trains on train plus validation, reports the test accuracy after the last epoch.

    NAS-Bench-201 cells get its recipe (`jnas.networks.nasbench201_recipe`), DARTS-like
    ones DARTS' (`jnas.networks.darts_recipe`). One compiled program serves all seeds.

    Args:
      genotype: what to train.
      data: the dataset.
      epochs: length of each training.
      batch_size: of the training.
      seeds: one training each.
      channels: of the network.
      cells: of the network (DARTS-like).
      cells_per_stage: of the network (NAS-Bench-201-like).
      auxiliary: train with the auxiliary head (DARTS-like).
      label: the name in what is shown.
      workdir: folder with one run per seed; None writes nothing.
      chunk: steps per dispatch; None chooses by the backend.
      progress: whether to show how it goes.
      **recipe: further options of the recipe, e.g. ``learning_rate``.

    Returns:
      The result.

    Raises:
      JnasError: an option is out of range, the workdir belongs to another run, ...

    Example:
      >>> import jnas
      >>> g = jnas.spaces.nasbench201().decode([1] * 6)
      >>> retrain(g, jnas.data.load("digits"), epochs=1, seeds=(), channels=2)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: seeds must name at least one seed, got ()
    """
    if not seeds:
        raise JnasError(f"seeds must name at least one seed, got {tuple(seeds)!r}")
    if len(set(seeds)) != len(seeds):
        raise JnasError(f"seeds must differ from each other, got {tuple(seeds)!r}")
    stages = genotype.names == ("cell",)
    size: dict[str, Any] = {"channels": channels}
    size |= {"cells_per_stage": cells_per_stage} if stages else {"cells": cells}
    network = networks.build(
        genotype, **size, num_classes=data.num_classes, auxiliary=auxiliary
    )
    count = cost.count(
        genotype,
        channels=channels,
        cells=network.config.get("cells"),
        cells_per_stage=network.config.get("cells_per_stage"),
        num_classes=data.num_classes,
        image_shape=data.image_shape,
    )
    full = data.full
    feed = datasets.feed(
        full,
        None,
        batch_size=batch_size,
        mean=data.mean,
        std=data.std,
        augment=data.augment,
    )
    make = networks.nasbench201_recipe if stages else networks.darts_recipe
    trainer = make(
        network, epochs=epochs, steps_per_epoch=feed.steps_per_epoch, **recipe
    )
    example = jax.ShapeDtypeStruct((batch_size, *data.image_shape), feed.dtype)
    # One object for all seeds, so that they share the compiled programs.
    init = functools.partial(trainer.init, inputs=example)
    accuracies, seconds = [], []
    for seed in seeds:
        result = loop(
            trainer.step,
            init,
            feed,
            epochs=epochs,
            steps_per_epoch=feed.steps_per_epoch,
            seed=seed,
            workdir=None if workdir is None else Path(workdir) / f"seed{seed}",
            config={
                "genotype": str(genotype),
                "network": network.config,
                "trainer": trainer.config,
                "data": {"name": data.name, "fingerprint": data.fingerprint()},
                "batch_size": batch_size,
            },
            chunk=chunk,
            label=f"{label}, seed {seed}",
            watch=("train_loss",),
            save_every_epochs=max(1, epochs // 4),
            progress=progress,
            images_per_step=batch_size,
        )
        batches = datasets.batches(data.test, 256, data.mean, data.std)
        accuracies.append(networks.evaluate(trainer, result.state, batches)["accuracy"])
        seconds.append(result.seconds)
    spread = math.nan
    if len(seeds) > 1:
        spread = statistics.stdev(accuracies) / math.sqrt(len(seeds))
    return RetrainResult(
        genotype,
        count.parameters,
        count.multiply_adds,
        tuple(seeds),
        tuple(accuracies),
        statistics.fmean(accuracies),
        spread,
        tuple(seconds),
    )
