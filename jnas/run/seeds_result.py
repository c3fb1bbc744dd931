"""What several seeds of a search give together: mean ± standard deviation, counts."""

import collections
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jnas.run import metrics
from jnas.run.planning import SearchResult

__all__ = ["FILE", "SeedsResult", "Spread", "Summary", "announce", "summarize", "write"]

FILE = "seeds.json"
FORMAT = 1
_NOT_MEASURED = ("epoch", "step")
_TOLD = ("accuracy", "loss", "arch_entropy", "skip_share", "lambda_max")  # endings


class Spread(NamedTuple):
    """A metric over seeds.

    Attributes:
      mean: over the seeds that have it.
      std: their standard deviation, with n - 1; None for one seed.
      count: how many have it as a finite number.

    Example:
      >>> str(Spread(0.9134, 0.0121, 8))
      '0.913 ± 0.012 (8 seeds)'
    """

    mean: float
    std: float | None
    count: int

    def __str__(self) -> str:
        seeds = f"({self.count} seed{'s'[: self.count > 1]})"
        if self.std is None:
            return f"{self.mean:.4g} {seeds}"
        # both to the second digit of the deviation, but no fewer than three places
        places = 3
        if 0 < self.std < 0.01:
            places = min(9, 1 - math.floor(math.log10(self.std)))
        return f"{self.mean:.{places}f} ± {self.std:.{places}f} {seeds}"


class Summary(NamedTuple):
    """What the seeds have in common and where they differ.

    Attributes:
      metrics: of each number in the seeds' last rows.
      genotypes: how many seeds found each, the most frequent first.
      verdicts: likewise, of the levels of `SearchResult.verdict`.
    """

    metrics: dict[str, Spread]
    genotypes: dict[str, int]
    verdicts: dict[str, int]


class SeedsResult(NamedTuple):
    """What a search with several seeds gives back; its text is the summary.

    Attributes:
      results: of each seed, in the order of ``seeds``.
      seeds: the seeds.
      batching: "sequential", "vmap" or "sharded": how they were run.
      seconds: wall time of all epochs of all seeds.
      summary: over the seeds.

    Example:
      >>> print(SeedsResult((), (0, 1), "vmap", 2.5, Summary(
      ...     {"val_accuracy": Spread(0.913, 0.012, 2)}, {"a": 2}, {"healthy": 2})))
      2 seeds (vmap), 2 s
      val_accuracy 0.913 ± 0.012 (2 seeds)
      found by 2: a
      verdicts: healthy 2
    """

    results: tuple[SearchResult, ...]
    seeds: tuple[int, ...]
    batching: str
    seconds: float
    summary: Summary

    @property
    def text(self) -> str:
        """The summary for people, some lines."""
        number = len(self.seeds)
        told = self.summary
        lines = [
            f"{number} seed{'s'[: number > 1]} ({self.batching}), {self.seconds:.0f} s",
            *(
                f"{name} {spread}"
                for name, spread in told.metrics.items()
                if name.endswith(_TOLD)
            ),
            *(f"found by {n}: {genotype}" for genotype, n in told.genotypes.items()),
        ]
        verdicts = ", ".join(f"{level} {n}" for level, n in told.verdicts.items())
        return "\n".join([*lines, f"verdicts: {verdicts}"])

    def __str__(self) -> str:
        return self.text


def summarize(results: Sequence[SearchResult]) -> Summary:
    """Sums up the results of some seeds.

    Args:
      results: of the seeds, each of its last epoch.

    Returns:
      The summary; numbers that are not finite, and missing ones, are left out.

    Example:
      >>> summarize([]).metrics
      {}
    """
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in (result.history[-1] if result.history else {}).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and math.isfinite(value) and name not in _NOT_MEASURED:
                values.setdefault(name, []).append(float(value))
    spreads = {
        name: Spread(
            statistics.fmean(found),
            statistics.stdev(found) if len(found) > 1 else None,
            len(found),
        )
        for name, found in values.items()
    }
    return Summary(
        spreads,
        _counted(str(result.genotype) for result in results),
        _counted(result.verdict.level for result in results),
    )


def _counted(texts: Any) -> dict[str, int]:
    return dict(collections.Counter(texts).most_common())


def announce(root: Path, seeds: Sequence[int], batching: str) -> None:
    """Writes of which seeds a folder is, for reports of searches under way.

    Args:
      root: the folder.
      seeds: the seeds.
      batching: how they are run.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     announce(Path(folder), (0, 1), "vmap")
    """
    _write(root, {"seeds": list(seeds), "batching": batching, "finished": False})


def write(root: Path, result: SeedsResult) -> None:
    """Writes ``seeds.json``: the summary, and what each seed found.

    Args:
      root: the folder of all seeds.
      result: of them.

    Example:
      >>> import tempfile
      >>> result = SeedsResult((), (), "vmap", 0.0, summarize([]))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(Path(folder), result)
    """
    _write(
        root,
        {
            "seeds": list(result.seeds),
            "batching": result.batching,
            "finished": True,
            "seconds": result.seconds,
            "metrics": {
                name: spread._asdict()
                for name, spread in result.summary.metrics.items()
            },
            "genotypes": result.summary.genotypes,
            "verdicts": result.summary.verdicts,
            "results": [
                {
                    "seed": seed,
                    "folder": f"seed{seed}",
                    "genotype": str(one.genotype),
                    "verdict": one.verdict.text,
                }
                for seed, one in zip(result.seeds, result.results, strict=True)
            ],
        },
    )


def _write(root: Path, content: Mapping[str, Any]) -> None:
    told = metrics.as_json({"format": FORMAT, **content}, FILE)
    text = json.dumps(told, indent=2, allow_nan=False) + "\n"
    metrics.write_atomically(root / FILE, text)
