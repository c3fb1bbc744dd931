"""Several searches and the one of them whose network validates best: R-DARTS' protocol.

Zela et al., ICLR 2020, section 5: search once with every value of a regularization
strength, retrain what each found on the training part, choose by the validation part,
and report the choice alone on the test part. No choice sees the test part.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnas import data as datasets
from jnas import search as searches
from jnas.errors import JnasError
from jnas.run import metrics
from jnas.run.retraining import RetrainResult, retrain
from jnas.run.searching import SearchResult, search

__all__ = ["GridResult", "grid", "without_test"]


class GridResult(NamedTuple):
    """What a grid gives back.

    Attributes:
      best: the label of the search that was chosen.
      searches: of every label.
      validated: likewise, the networks trained on the training part and tested on the
        validation part.
      final: the chosen network, trained on both parts and tested on the test part.
    """

    best: str
    searches: dict[str, SearchResult]
    validated: dict[str, RetrainResult]
    final: RetrainResult


def without_test(data: datasets.Dataset) -> datasets.Dataset:
    """A dataset whose test part is the validation part of another.

    Args:
      data: the dataset, images in memory.

    Returns:
      Its training part, cut in two, and its validation part as "test"; the test part is
      not in it.

    Raises:
      JnasError: the dataset is of another kind, or too small.

    Example:
      >>> digits = datasets.load("digits")
      >>> held = without_test(digits)
      >>> len(held.full) == len(digits.train), len(held.test) == len(digits.validation)
      (True, True)
    """
    if not isinstance(data, datasets.Dataset):
        raise JnasError(
            "a grid is chosen on images in memory, got a "
            f"{type(data).__name__}: search and retrain one by one"
        )
    size = len(data.train)
    if size < 2:
        raise JnasError(f"the training part must have 2 images or more, got {size}")
    return dataclasses.replace(
        data,
        train=data.train.take(slice(size // 2)),
        validation=data.train.take(slice(size // 2, None)),
        test=data.validation,
    )


def grid(
    made: Mapping[str, searches.Search],
    data: datasets.Dataset,
    *,
    epochs: int,
    retrain_epochs: int | None = None,
    seeds: Sequence[int] = (0,),
    seed: int = 0,
    batch_size: int = 64,
    workdir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **retraining: Any,
) -> GridResult:
    """Searches with every member, chooses by validation, reports on test.

    Args:
      made: a search by label, e.g. ``{f"{d:g}": presets.r_darts_l2(space,
        weight_decay=d) for d in presets.WEIGHT_DECAYS}``.
      data: images in memory.
      epochs: of each search.
      retrain_epochs: of each retraining; None: the recipe's.
      seeds: of the retrainings, whose mean counts.
      seed: of the searches.
      batch_size: of everything.
      workdir: folder of all runs and ``grid.json``; None writes nothing. The same call
        again goes on where it stopped.
      progress: whether to show how it goes.
      **retraining: as for `retrain`, e.g. ``recipe`` or ``channels``.

    Returns:
      The result; of equal means the first label counts.

    Raises:
      JnasError: there is no search, a label is no name of a folder, or as `search` and
        `retrain`.

    Example:
      >>> grid({}, datasets.load("digits"), epochs=1)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: a grid needs at least one search, got none

    References:
      Zela, Elsken, Saikia, Marrakchi, Brox, Hutter, Understanding and Robustifying
      Differentiable Architecture Search, ICLR 2020, https://arxiv.org/abs/1909.09656
    """
    if not made:
        raise JnasError("a grid needs at least one search, got none")
    for label in made:
        if not label or label in (".", "..") or set(label) & set('/\\:*?"<>|\0'):
            raise JnasError(
                f"a label must be usable as the name of a folder, got {label!r}"
            )
    held = without_test(data)
    root = None if workdir is None else Path(workdir)
    if retrain_epochs is not None:
        retraining["epochs"] = retrain_epochs
    retraining = {"batch_size": batch_size, "seeds": seeds, **retraining}

    def folder(*parts: str) -> Path | None:
        return None if root is None else root.joinpath(*parts)

    found, validated = {}, {}
    for label, one in made.items():
        found[label] = search(
            one,
            data,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            workdir=folder("search", label),
            label=f"search {label}",
            progress=progress,
        )
        validated[label] = retrain(
            found[label].genotype,
            held,
            label=f"validate {label}",
            workdir=folder("validate", label),
            progress=progress,
            **retraining,
        )
    best = max(validated, key=lambda label: validated[label].mean)
    final = retrain(
        found[best].genotype,
        data,
        label=f"test {best}",
        workdir=folder("test", best),
        progress=progress,
        **retraining,
    )
    if root is not None:
        told = {
            "best": best,
            "test": {"mean": final.mean, "accuracies": list(final.accuracies)},
            "validated": {
                label: {
                    "genotype": str(result.genotype),
                    "mean": result.mean,
                    "accuracies": list(result.accuracies),
                }
                for label, result in validated.items()
            },
        }
        metrics.write_atomically(root / "grid.json", json.dumps(told, indent=2) + "\n")
    return GridResult(best, found, validated, final)
