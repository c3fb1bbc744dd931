"""`retrain`: trains a genotype's final network from scratch, for several seeds."""

import functools
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jnas import cost, networks
from jnas import data as datasets
from jnas.errors import JnasError
from jnas.run import material
from jnas.run.loop import loop
from jnas.spaces import Genotype

__all__ = ["RetrainResult", "retrain"]


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


def retrain(
    genotype: Genotype,
    data: datasets.Dataset | datasets.TextDataset,
    *,
    epochs: int,
    batch_size: int = 64,
    seeds: Sequence[int] = (0,),
    channels: int = 16,
    cells: int | None = None,
    cells_per_stage: int | None = None,
    auxiliary: bool = False,
    width: int = 64,
    bptt: int = material.BPTT,
    dropouts: networks.Dropouts | None = None,
    label: str = "retrain",
    workdir: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    **recipe: Any,
) -> RetrainResult:
    """Trains on train plus validation, reports the test accuracy after the last epoch.

    NAS-Bench-201 cells get its recipe (`jnas.networks.nasbench201_recipe`), DARTS-like
    ones DARTS' (`jnas.networks.darts_recipe`), recurrent ones
    `jnas.networks.darts_rnn_recipe`. One compiled program serves all seeds.

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
      width: of the network (recurrent).
      bptt: times of a window of text (recurrent).
      dropouts: of the network (recurrent).
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
    plan: _Plan
    if isinstance(data, datasets.TextDataset):
        plan = _plan_text(genotype, data, batch_size, width, bptt, dropouts)
    elif genotype.names == ("recurrent",):
        raise JnasError(
            f"a recurrent cell needs a text, but {data.name!r} holds images: use e.g. "
            "'tinyshakespeare' or a .txt file"
        )
    else:
        size: dict[str, Any] = {"channels": channels, "cells": cells}
        size["cells_per_stage"] = cells_per_stage
        plan = _plan_images(genotype, data, batch_size, size, auxiliary)
    network, feed = plan.network, plan.material.feed
    trainer = plan.recipe(
        network, epochs=epochs, steps_per_epoch=feed.steps_per_epoch, **recipe
    )
    # One object for all seeds, so that they share the compiled programs.
    init = functools.partial(trainer.init, inputs=plan.material.example)
    accuracies, seconds, bits = [], [], []
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
            images_per_step=plan.material.per_step,
        )
        measured = plan.evaluate(trainer, result.state)
        accuracies.append(measured["accuracy"])
        bits.append(measured.get("bits"))
        seconds.append(result.seconds)
    spread = math.nan
    if len(seeds) > 1:
        spread = statistics.stdev(accuracies) / math.sqrt(len(seeds))
    return RetrainResult(
        genotype,
        plan.parameters,
        plan.multiply_adds,
        tuple(seeds),
        tuple(accuracies),
        statistics.fmean(accuracies),
        spread,
        tuple(seconds),
        None if bits[0] is None else tuple(bits),
    )


class _Plan(NamedTuple):
    """What differs between images and text."""

    network: networks.Network
    material: material.Material
    recipe: Callable[..., networks.Trainer]
    parameters: int
    multiply_adds: int
    evaluate: Callable[..., dict[str, Any]]


def _plan_images(genotype, data, batch_size, size, auxiliary) -> _Plan:
    stages = genotype.names == ("cell",)
    size.pop("cells" if stages else "cells_per_stage")
    network = networks.build(
        genotype, **size, num_classes=data.num_classes, auxiliary=auxiliary
    )
    count = cost.count(
        genotype,
        channels=size["channels"],
        cells=network.config.get("cells"),
        cells_per_stage=network.config.get("cells_per_stage"),
        num_classes=data.num_classes,
        image_shape=data.image_shape,
    )

    def evaluate(trainer, state):
        batches = datasets.batches(data.test, 256, data.mean, data.std)
        return networks.evaluate(trainer, state, batches)

    return _Plan(
        network,
        material.for_retraining(data, batch_size),
        networks.nasbench201_recipe if stages else networks.darts_recipe,
        count.parameters,
        count.multiply_adds,
        evaluate,
    )


def _plan_text(genotype, data, batch_size, width, bptt, dropouts) -> _Plan:
    network = networks.recurrent(
        genotype, vocab_size=data.vocab_size, width=width, dropouts=dropouts
    )
    wanted = material.for_retraining(data, batch_size, bptt)
    shapes = jax.eval_shape(network.init, jax.random.key(0), wanted.example).weights
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    def evaluate(trainer, state):
        # Few columns: each begins without what came before it.
        batches = datasets.text_batches(data.test, min(10, len(data.test) - 1), bptt)
        return networks.evaluate_text(trainer, state, batches)

    return _Plan(
        network,
        wanted,
        functools.partial(networks.darts_rnn_recipe, bptt=bptt),
        parameters,
        # A matrix entry is used once a token, the tied embedding by the decoder.
        parameters - data.vocab_size,
        evaluate,
    )
