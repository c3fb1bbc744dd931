"""Retrained networks, as the folders of their seeds and a run's summary tell them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jnas.errors import JnasError
from jnas.report import records

__all__ = ["Network", "merged", "of_folder", "of_summary", "seeds"]

_SEED = re.compile(r"seed(\d+)")


class Network(NamedTuple):
    """One genotype that was trained from scratch, with one or more seeds.

    Attributes:
      label: its name in the comparison, such as "found".
      genotype: its text, or None.
      parameters: of the network, or None.
      multiply_adds: of one image or token, or None.
      seeds: those whose training is tested.
      accuracies: test accuracy of each of these seeds.
      bits: of text, the test bits per token of each of these seeds; else empty.
      seconds: wall time of each of these seeds' training.
      histories: {seed: rows of its training}, also of seeds that are not tested yet.

    Example:
      >>> Network("found", None, None, None, (), (), (), (), {}).values
      ()
    """

    label: str
    genotype: str | None
    parameters: int | None
    multiply_adds: int | None
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    bits: tuple[float, ...]
    seconds: tuple[float, ...]
    histories: Mapping[int, tuple[dict[str, Any], ...]]

    @property
    def values(self) -> tuple[float, ...]:
        """What networks are compared by: bits if there are any, else accuracies."""
        return self.bits or self.accuracies


def seeds(folder: Path) -> dict[int, Path]:
    """Finds the seeds of a retraining.

    Args:
      folder: of the retraining.

    Returns:
      {seed: its folder}, ascending.

    Raises:
      JnasError: if the folder can't be read.

    Example:
      >>> seeds(Path("no/such/folder"))
      {}
    """
    found = {}
    for entry in records.folders(folder):
        name = _SEED.fullmatch(entry.name)
        if name and any(
            (entry / file).exists() for file in ("config.json", "metrics.jsonl")
        ):
            found[int(name[1])] = entry
    return dict(sorted(found.items()))


def of_folder(folder: Path, label: str, only: Path | None = None) -> Network:
    """Reads a network from the folders of its seeds.

    Args:
      folder: of the retraining, with ``seed0/``, ... in it.
      label: name of the network.
      only: one of these folders, if the others are not meant.

    Returns:
      The network; seeds that are still in training have histories only.

    Raises:
      JnasError: if a file is damaged.

    Example:
      >>> of_folder(Path("no/such/folder"), "found").histories
      {}
    """
    told: dict[str, Any] = {}
    tested: dict[int, tuple[float, float | None, float]] = {}
    histories = {}
    for seed, path in seeds(folder).items():
        if only is not None and path.name != only.name:
            continue
        rows = records.read_rows(path / "metrics.jsonl")
        config = records.read_object(path / "config.json") or {}
        result = records.read_object(path / "result.json") or {}
        histories[seed] = rows
        inner = config.get("config")
        told |= inner if isinstance(inner, Mapping) else {}
        told |= {k: v for k, v in result.items() if v is not None}
        accuracy = records.first(result, "test_accuracy", "accuracy")
        if accuracy is not None:
            seconds = records.first(result, "seconds")
            if seconds is None:
                seconds = sum(records.number(row.get("seconds")) or 0 for row in rows)
            tested[seed] = (
                accuracy,
                records.first(result, "test_bits", "bits"),
                seconds,
            )
    bits = tuple(b for _, b, _ in tested.values() if b is not None)
    genotype = told.get("genotype")
    return Network(
        label,
        genotype if isinstance(genotype, str) else None,
        records.whole(told.get("parameters")),
        records.whole(told.get("multiply_adds")),
        tuple(tested),
        tuple(accuracy for accuracy, _, _ in tested.values()),
        bits if len(bits) == len(tested) else (),
        tuple(seconds for _, _, seconds in tested.values()),
        histories,
    )


def of_summary(summary: Mapping[str, Any], path: Path) -> list[Network]:
    """Reads the networks of a run's summary.

    Args:
      summary: the content of ``summary.json``, or an empty one.
      path: that file, for messages.

    Returns:
      The networks, without histories.

    Raises:
      JnasError: if the table is malformed.

    Example:
      >>> of_summary({}, Path("summary.json"))
      []
    """
    what = f"{path}: table"
    rows = summary.get("table", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise JnasError(f"{what} must be a list of objects: restore or remove the file")
    networks = []
    for row in rows:
        label, genotype = row.get("label"), row.get("genotype")
        trained = records.numbers(row.get("seeds"), f"{what}, seeds")
        accuracies = records.numbers(row.get("test_accuracies"), f"{what}, accuracies")
        seconds = records.numbers(row.get("seconds", []), f"{what}, seconds")
        bits = records.numbers(row.get("test_bits", []), f"{what}, bits")
        lengths = {len(trained), len(accuracies), *([len(bits)] if bits else [])}
        if not isinstance(label, str) or not trained or len(lengths) != 1:
            raise JnasError(
                f"{what}: each row needs a label and one accuracy (and bits) for each "
                f"of its seeds, got {row!r:.60}: restore or remove the file"
            )
        networks.append(
            Network(
                label,
                genotype if isinstance(genotype, str) else None,
                records.whole(row.get("parameters")),
                records.whole(row.get("multiply_adds")),
                tuple(int(seed) for seed in trained),
                accuracies,
                bits,
                seconds,
                {},
            )
        )
    return networks


def merged(table: list[Network], folders: list[Network]) -> tuple[Network, ...]:
    """Joins what the summary and the folders tell.

    Args:
      table: networks of the summary.
      folders: networks of the folders.

    Returns:
      Those of the table with the folders' histories, then the others.

    Example:
      >>> merged([], [])
      ()
    """
    by_name = {network.label: network for network in folders}
    joined = []
    for network in table:
        folder = by_name.pop(network.label.replace(" ", "-"), None)
        histories = {} if folder is None else folder.histories
        joined.append(network._replace(histories=histories))
    first = [by_name.pop(name) for name in ("found", "random") if name in by_name]
    return (*joined, *first, *by_name.values())
