"""Several runs side by side: which belong together, and how much they differ."""

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jnas import spaces
from jnas.errors import JnasError
from jnas.report.comparison import standard_error
from jnas.report.runs import Run

__all__ = [
    "Setting",
    "Spread",
    "agreement",
    "differing",
    "last_change",
    "names",
    "settings",
    "spread",
    "stability",
]

# What may differ between runs of one setting.
_OWN = ("seed", "workdir", "data_dir", "config", "chunk")
_LONGEST = 32  # letters of a setting's label


class Setting(NamedTuple):
    """Runs with the same configuration but for their seeds.

    Attributes:
      label: what sets them apart from the others.
      indices: of the runs, in the order in which they were given.

    Example:
      >>> Setting("order=2", (1, 3)).label
      'order=2'
    """

    label: str
    indices: tuple[int, ...]


class Spread(NamedTuple):
    """Mean and spread of some values.

    Attributes:
      count: how many there are.
      mean: of them.
      deviation: sample standard deviation; None for one value.
      error: standard error of the mean; None for one value.
      lowest: of them.
      highest: of them.

    Example:
      >>> spread([1.0, 3.0]).mean
      2.0
    """

    count: int
    mean: float
    deviation: float | None
    error: float | None
    lowest: float
    highest: float


def spread(values: Iterable[float]) -> Spread:
    """Tells the mean and the spread of some values.

    Args:
      values: at least one.

    Returns:
      Them.

    Example:
      >>> spread([1.0, 3.0])[2:4]
      (1.4142135623730951, 1.0)
    """
    values = list(values)
    return Spread(
        len(values),
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        standard_error(values),
        min(values),
        max(values),
    )


def names(runs: Sequence[Run]) -> list[str]:
    """Short names of runs: as much of their paths as tells them apart.

    Args:
      runs: the runs.

    Returns:
      A name for each.

    Raises:
      JnasError: if one is given twice.

    Example:
      >>> names([])
      []
    """
    paths = [run.path.resolve() for run in runs]
    for path, count in Counter(paths).items():
        if count > 1:
            raise JnasError(f"run {path} is given {count} times: give each run once")
    # "search" alone says nothing
    plain = all(path.name not in ("search", "retrain") for path in paths)
    deepest = max((len(path.parts) for path in paths), default=0)
    for length in range(1 if plain else 2, deepest + 1):
        short = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return [str(path) for path in paths]


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings in which runs differ.

    Args:
      runs: the runs.

    Returns:
      The names, in the order of the first run's configuration.

    Example:
      >>> differing([])
      []
    """
    every = dict.fromkeys(name for run in runs for name in run.config)
    return [
        name for name in every if len({_text(run.config, name) for run in runs}) > 1
    ]


def settings(runs: Sequence[Run]) -> list[Setting]:
    """Puts together the runs whose configurations differ in nothing but seeds.

    Args:
      runs: the runs.

    Returns:
      The settings, in the order of their first runs.

    Example:
      >>> settings([])
      []
    """
    telling = [name for name in differing(runs) if name not in _OWN]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, run in enumerate(runs):
        key = tuple(_text(run.config, name) for name in telling)
        groups.setdefault(key, []).append(index)
    if len(groups) < 2:
        return [Setting("", tuple(range(len(runs))))] if runs else []
    # the arguments of a command tell more, in fewer words, than what follows from them
    short = [name for name in telling if "." not in name] or telling
    labels = []
    for indices in groups.values():
        config = runs[indices[0]].config
        labels.append(", ".join(f"{name}={config.get(name)}" for name in short))
    if len(set(labels)) < len(labels) or max(map(len, labels)) > _LONGEST:
        labels = [f"setting {number}" for number in range(1, len(labels) + 1)]
    return [
        Setting(label, tuple(indices))
        for label, indices in zip(labels, groups.values(), strict=True)
    ]


def agreement(genotypes: Sequence[spaces.Genotype]) -> float | None:
    """How alike genotypes are: the mean share of edges that two of them have in common.

    An edge is the same if its cell, source, target and operation are.

    Args:
      genotypes: of one space.

    Returns:
      The mean over all pairs, 1 if all are equal; None for less than two.

    Example:
      >>> space = spaces.nasbench201()
      >>> agreement([space.decode([1] * 6), space.decode([1, 1, 1, 3, 3, 3])])
      0.5
    """
    bags = [_edges(genotype) for genotype in genotypes]
    if len(bags) < 2:
        return None
    return statistics.fmean(
        (one & other).total() / max(one.total(), other.total())
        for one, other in itertools.combinations(bags, 2)
    )


def stability(history: Iterable[Mapping[str, Any]]) -> list[float | None]:
    """The share of edges of each epoch's genotype that the last one has, too.

    Args:
      history: the rows of a run.

    Returns:
      A share for each row, None where the genotype can't be read.

    Example:
      >>> cell = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
      >>> other = cell.replace("skip_connect", "none")
      >>> [round(s, 2) for s in stability([{"genotype": other}, {"genotype": cell}])]
      [0.83, 1.0]
    """
    found = _genotypes(history)
    if not found or found[-1] is None:
        return [None] * len(found)
    return [None if one is None else agreement([one, found[-1]]) for one in found]


def last_change(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The first epoch since which the derived genotype stayed what it is.

    Args:
      history: the rows of a run.

    Returns:
      The epoch, or None where genotypes can't be read.

    Example:
      >>> last_change([{"epoch": e, "genotype": "NASNet"} for e in (1, 2)])
      1
    """
    shares = stability(history)
    if not shares or None in shares:
        return None
    since = len(shares) - 1
    while since and shares[since - 1] == 1.0:
        since -= 1
    return history[since].get("epoch")


def _genotypes(history: Iterable[Mapping[str, Any]]) -> list[spaces.Genotype | None]:
    known: dict[str, spaces.Genotype | None] = {}
    found = []
    for row in history:
        text = row.get("genotype")
        if not isinstance(text, str):
            found.append(None)
            continue
        if text not in known:
            try:
                known[text] = spaces.Genotype.parse(text)
            except JnasError:
                known[text] = None
        found.append(known[text])
    return found


def _edges(genotype: spaces.Genotype) -> Counter[tuple[Any, ...]]:
    return Counter(
        (name, *edge) for name, cell in genotype.cells for edge in cell.edges
    )


def _text(config: Mapping[str, Any], name: str) -> str:
    return json.dumps(config[name], sort_keys=True) if name in config else ""
