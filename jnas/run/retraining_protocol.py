"""`retrain_protocol`: one genotype under several settings of its retraining.

A single retraining recipe was tuned for some architecture, and may rank others wrongly.
So, as in the benchmark suite of confopt (Jha et al., AutoML 2025,
https://arxiv.org/abs/2507.16533), a genotype is trained under nine settings and what
counts is the mean. Theirs are the learning rates 0.01, 0.025, 0.1 times the weight
decays 1e-4, 3e-4, 1e-3; relative to DARTS' recipe that is 0.4, 1, 4 and 1/3, 1, 10/3,
and so these factors serve for every recipe. (Their trainings are of 300 epochs on
batches of 512, and they also report the best of the nine.)
"""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnas.errors import JnasError
from jnas.networks import Recipe
from jnas.run import metrics
from jnas.run.environment import environment
from jnas.run.retraining import RetrainResult, choose_recipe, retrain
from jnas.spaces import Genotype

__all__ = ["ProtocolResult", "default_settings", "retrain_protocol"]

_RATES = (0.4, 1.0, 4.0)
_DECAYS = (1 / 3, 1.0, 10 / 3)


class ProtocolResult(NamedTuple):
    """What retraining under several settings gives.

    No setting is singled out: to choose one by these numbers is to choose on the test
    split, and its accuracy is then no estimate any more.

    Attributes:
      genotype: what was trained.
      recipe: that the settings change.
      settings: the changes, by field.
      results: of each setting.
      mean: test accuracy over all trainings.
      deviation: its standard deviation over all trainings (of the sample); NaN for a
        single one.
      lowest: accuracy of all trainings.
      highest: likewise.
    """

    genotype: Genotype
    recipe: Recipe
    settings: tuple[dict[str, Any], ...]
    results: tuple[RetrainResult, ...]
    mean: float
    deviation: float
    lowest: float
    highest: float


def default_settings(recipe: Recipe) -> tuple[dict[str, Any], ...]:
    """Nine settings: 3 learning rates times 3 weight decays around those of a recipe.

    Args:
      recipe: the recipe.

    Returns:
      The changes of each setting.

    Example:
      >>> from jnas.networks import recipes
      >>> nine = default_settings(recipes.get("darts"))
      >>> len(nine), nine[0], nine[-1]
      (9, {'learning_rate': 0.01, 'weight_decay': 0.0001}, {'learning_rate': 0.1, \
'weight_decay': 0.001})
    """
    return tuple(
        {
            # Six digits, so that 0.025 x 0.4 is 0.01.
            "learning_rate": float(f"{recipe.learning_rate * rate:.6g}"),
            "weight_decay": float(f"{recipe.weight_decay * decay:.6g}"),
        }
        for rate in _RATES
        for decay in _DECAYS
    )


def retrain_protocol(
    genotype: Genotype | str,
    data: Any,
    recipe: str | Recipe | None = None,
    *,
    settings: Sequence[dict[str, Any]] | None = None,
    seeds: Sequence[int] = (0,),
    label: str = "retrain",
    workdir: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    progress: bool = True,
    on_nan: str = "stop",
    stream: bool = False,
    **overrides: Any,
) -> ProtocolResult:
    """Retrains a genotype under several settings, and tells the mean over all of them.

    The same call again goes on where it stopped.

    Args:
      genotype: what to train, or a text that `Genotype.parse` understands.
      data: the dataset.
      recipe: as of `jnas.run.retrain`.
      settings: fields of the recipe to change, for each setting; by default nine, of
        `default_settings`.
      seeds: one training each, in every setting.
      label: the name in what is shown.
      workdir: folder with one folder per setting, ``setting1`` and so on, each as of
        `retrain`, and with ``protocol.json``; None writes nothing.
      chunk: steps per dispatch; None chooses by the backend.
      progress: whether to show how it goes.
      on_nan: as of `jnas.run.retrain`.
      stream: likewise.
      **overrides: fields of the recipe to change in all settings.

    Returns:
      The result.

    Raises:
      JnasError: an option is unknown or out of range, two settings are the same, ...

    Example:
      >>> import jnas
      >>> g = jnas.spaces.nasbench201().decode([1] * 6)
      >>> retrain_protocol(g, jnas.data.load("digits"), "quick", settings=[])
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: settings must name at least one setting, got none
    """
    if isinstance(genotype, str):
        genotype = Genotype.parse(genotype)
    base = choose_recipe(genotype, recipe, **overrides)
    chosen = default_settings(base) if settings is None else tuple(settings)
    if not chosen:
        raise JnasError("settings must name at least one setting, got none")
    # Everything is checked before the first training, which may take hours.
    planned = [choose_recipe(genotype, base, **setting) for setting in chosen]
    for i, one in enumerate(planned):
        if one in planned[:i]:
            raise JnasError(
                f"settings must differ from each other, got {chosen[i]} twice"
            )
    results = []
    for number, one in enumerate(planned, start=1):
        folder = None if workdir is None else Path(workdir) / f"setting{number}"
        results.append(
            retrain(
                genotype,
                data,
                one,
                seeds=seeds,
                label=f"{label}, setting {number}/{len(planned)}",
                workdir=folder,
                chunk=chunk,
                progress=progress,
                on_nan=on_nan,
                stream=stream,
            )
        )
    every = [accuracy for result in results for accuracy in result.accuracies]
    result = ProtocolResult(
        genotype,
        base,
        chosen,
        tuple(results),
        statistics.fmean(every),
        statistics.stdev(every) if len(every) > 1 else float("nan"),
        min(every),
        max(every),
    )
    if workdir is not None:
        text = json.dumps(metrics.as_json(_about(result), "protocol"), indent=2)
        metrics.write_atomically(Path(workdir) / "protocol.json", text + "\n")
    return result


def _about(result: ProtocolResult) -> dict[str, Any]:
    """What ``protocol.json`` holds."""
    rows = zip(result.settings, result.results, strict=True)
    return {
        "format": 1,
        "genotype": str(result.genotype),
        "recipe": result.recipe.to_dict(),
        "test_accuracy_mean": result.mean,
        "test_accuracy_deviation": result.deviation,
        "test_accuracy_lowest": result.lowest,
        "test_accuracy_highest": result.highest,
        "settings": [
            {
                "folder": f"setting{number}",
                "changes": dict(changes),
                "seeds": list(row.seeds),
                "test_accuracies": list(row.accuracies),
                "test_accuracy_mean": row.mean,
                **({} if row.bits is None else {"test_bits": list(row.bits)}),
                "seconds": list(row.seconds),
            }
            for number, (changes, row) in enumerate(rows, start=1)
        ],
        "environment": environment(),
    }
