"""What a found genotype is compared with, and the summary of the comparison."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jnas import select
from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.run.environment import environment
from jnas.run.metrics import write_atomically
from jnas.run.retraining import RetrainResult
from jnas.spaces import Genotype, Space
from jnas.spaces.kinds import SKIPS

__all__ = ["all_skip", "random_genotype", "write_summary"]


def all_skip(space: Space) -> Genotype:
    """The candidate of a space in which every operation is the skip connection.

    It is what a collapsed search finds, so it is the baseline to beat.

    Args:
      space: the space.

    Returns:
      The genotype.

    Raises:
      JnasError: a group of the space has no skip connection.

    Example:
      >>> import jnas
      >>> str(all_skip(jnas.spaces.nasbench201()))[:17]
      '|skip_connect~0|+'
    """
    weights = {}
    for group in space.groups:
        if not set(group.operations) & set(SKIPS):
            raise JnasError(
                f"group {group.name!r} of space {space.name!r} has no skip connection, "
                f"it has {list(group.operations)}: leave this baseline out"
            )
        row = [float(name in SKIPS) for name in group.operations]
        weights[group.name] = np.tile(row, (group.num_edges, 1))
    return select.argmax().select(None, Mixture(weights), space=space)


def random_genotype(space: Space, seed: int) -> Genotype:
    """A uniformly drawn candidate.

    Args:
      space: the space.
      seed: of the draw.

    Returns:
      The genotype.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> random_genotype(space, 0) == random_genotype(space, 0)
      True
    """
    return space.decode(space.random(seed))


def write_summary(
    path: Path,
    *,
    config: Mapping[str, Any],
    genotype: Genotype,
    search_seconds: float,
    rows: Mapping[str, RetrainResult],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Writes ``summary.json``: everything that the printed table says, and more.

    Args:
      path: the file.
      config: of the run.
      genotype: that was derived.
      search_seconds: wall time of the search.
      rows: the retrained networks by label.
      notes: lines that were printed beside the table.

    Returns:
      What was written.
    """
    summary = {
        "format": 1,
        "config": dict(config),
        "environment": environment(),
        "genotype": str(genotype),
        "genotype_json": json.loads(genotype.to_json()),
        "search_seconds": search_seconds,
        "notes": list(notes),
        "table": [
            {
                "label": label,
                "genotype": str(row.genotype),
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "seeds": list(row.seeds),
                "test_accuracies": list(row.accuracies),
                "test_accuracy_mean": row.mean,
                # JSON has no NaN: one seed has no spread.
                "test_accuracy_standard_error": (
                    row.standard_error if len(row.seeds) > 1 else None
                ),
                "seconds": list(row.seconds),
                **({} if row.bits is None else {"test_bits": list(row.bits)}),
            }
            for label, row in rows.items()
        ],
    }
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    return summary
