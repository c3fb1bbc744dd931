"""`progressive`: runs a search in stages, and goes on where it stopped.

Each stage is a search of its own in ``WORKDIR/stageN``, so it goes on within a stage
as any search does. What is left of the space after a stage is in
``stageN/pruned.json``; it follows from the stage's last state, and is compared with the
file when a run goes on.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnas import data as datasets
from jnas import report as reports
from jnas import search as searches
from jnas.errors import JnasError
from jnas.progressive import Progressive, candidates_of
from jnas.run import metrics, searching
from jnas.run import workdir as folders
from jnas.run.loop import EpochInfo
from jnas.spaces import Genotype, Space

__all__ = ["ProgressiveResult", "progressive"]

FORMAT = 1


class ProgressiveResult(NamedTuple):
    """What a search in stages gives back.

    Attributes:
      genotype: derived from the final state of the last stage.
      state: that state.
      search: the search of the last stage.
      history: the rows of all stages, with "stage" from 1 and epochs and steps that
        run on.
      seconds: wall time of all epochs.
      resumed_from: the step of the checkpoint that the last stage went on from, or
        None.
      stopped: whether the last stage ended early on purpose.
      stages: what each stage gave.
      spaces: what each stage searched.
      verdict: whether the last stage collapsed, in words.
    """

    genotype: Genotype
    state: searches.SearchState
    search: searches.Search
    history: list[dict[str, Any]]
    seconds: float
    resumed_from: int | None
    stopped: bool
    stages: tuple[searching.SearchResult, ...]
    spaces: tuple[Space, ...]
    verdict: reports.collapse.Verdict


def progressive(
    plan: Progressive,
    data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
    *,
    batch_size: int = 64,
    seed: int = 0,
    workdir: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[EpochInfo], str | None] | None = None,
    chunk: int | None = None,
    save_every_epochs: int = 1,
    progress: bool = True,
    on_nan: str = "stop",
    stream: bool = False,
    report: bool = True,
    diagnose_every: int | None = None,
) -> ProgressiveResult:
    """Runs the stages one after another.

    The same call again goes on where it stopped, between stages or within one, and ends
    in the same bits (same backend and chunk).

    Args:
      plan: the stages, e.g. of `jnas.presets.p_darts`.
      data: the dataset.
      batch_size: of both batches, in all stages.
      seed: stage n of N has the seed ``N * seed + n - 1``.
      workdir: folder with one search per stage, ``stage1``, ``stage2``, ..., and the
        rows of all, the unpruned space and the found genotype beside them; None writes
        nothing.
      on_epoch: called after each epoch; "stop" ends the stage, and the next begins.
      chunk: as for `jnas.run.search`.
      save_every_epochs: likewise.
      progress: likewise.
      on_nan: likewise.
      stream: likewise.
      report: whether the stages write a ``report.html``.
      diagnose_every: as for `jnas.run.search`, of each stage.

    Returns:
      The result.

    Raises:
      JnasError: as `jnas.run.search`, or if what was pruned is not what the workdir
        says.
      jnas.run.Interrupted: a signal stopped it; what was reached is saved.

    Example:
      >>> import jnas
      >>> data = jnas.data.load("digits")
      >>> plan = jnas.presets.p_darts(
      ...     jnas.spaces.nasbench201(), channels=2, cells_per_stage=1, epochs=2,
      ...     steps_per_epoch=12)
      >>> progressive(plan, data, batch_size=32, progress=False)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: steps_per_epoch is 23 here but the search was composed \
for 12: pass steps_per_epoch=23 to the preset
    """
    root = None if workdir is None else Path(workdir)
    if not plan.stages:
        raise JnasError("a progressive search needs at least one stage, got none")
    if root is not None:
        with folders.claim(root):
            _describe(root, plan, data, batch_size, seed)
    space, start = plan.space, None
    search = plan.compose(0, space)
    results: list[searching.SearchResult] = []
    spaces: list[Space] = []
    history: list[dict[str, Any]] = []
    for number, stage in enumerate(plan.stages):
        found = searching.search(
            search,
            data,
            epochs=stage.epochs,
            batch_size=batch_size,
            seed=len(plan.stages) * seed + number,
            workdir=None if root is None else root / f"stage{number + 1}",
            on_epoch=on_epoch,
            chunk=chunk,
            save_every_epochs=save_every_epochs,
            progress=progress,
            on_nan=on_nan,
            stream=stream,
            report=report,
            start=start,
            label=f"stage {number + 1}/{len(plan.stages)}",
            diagnose_every=diagnose_every,
        )
        results.append(found)
        spaces.append(space)
        history += _rows(found.history, number, history, space, plan.space)
        if root is not None:
            with folders.claim(root):
                _leave(root, plan.space, history)
        last = number == len(plan.stages) - 1
        if not last:
            pruned = _pruned(plan, number, search, found.state, space, root)
            after = plan.compose(number + 1, pruned)
            start = plan.carry and plan.carry(search, found.state, after)
            space, search = pruned, after
    if root is not None:
        text = results[-1].genotype.to_json() + "\n"
        metrics.write_atomically(root / "genotype.json", text)
    return ProgressiveResult(
        genotype=results[-1].genotype,
        state=results[-1].state,
        search=search,
        history=history,
        seconds=sum(found.seconds for found in results),
        resumed_from=results[-1].resumed_from,
        stopped=results[-1].stopped,
        stages=tuple(results),
        spaces=tuple(spaces),
        verdict=results[-1].verdict,
    )


def _describe(root: Path, plan: Progressive, data: Any, batch_size: int, seed: int):
    """Writes what the run is, or compares it with what the folder holds."""
    folders.match_config(
        root,
        {
            "progressive": {
                **(plan.config or {}),
                "space": plan.space.name,
                "carries": plan.carry is not None,
            },
            "stages": [
                {
                    "epochs": stage.epochs,
                    "size": dict(stage.size),
                    "keep": stage.keep,
                    "options": dict(stage.options),
                }
                for stage in plan.stages
            ],
            "data": {"name": data.name, "fingerprint": data.fingerprint()},
            "batch_size": batch_size,
            "seed": seed,
        },
    )


def _pruned(plan, number, search, state, space, root) -> Space:
    """The space of the next stage; told in a file, or compared with it."""
    stage = plan.stages[number]
    left = candidates_of(space)
    if stage.keep is not None:
        left = plan.prune(space, search.mixture(state), stage.keep)
    pruned = space.restrict(left)
    if root is not None:
        path = root / f"stage{number + 1}" / "pruned.json"
        text = json.dumps(
            {"format": FORMAT, "space": space.name, "candidates": left}, indent=1
        )
        before = path.read_bytes() if path.exists() else None
        if before not in (None, f"{text}\n".encode()):
            raise JnasError(
                f"{path} is not what stage {number + 1} leaves: it was changed, or is "
                "of another run; delete it and the later stages, or choose another "
                "workdir"
            )
        metrics.write_atomically(path, text + "\n")
    return pruned


def _rows(rows, number, history, space, whole) -> list[dict[str, Any]]:
    """A stage's rows as they follow those before: probabilities of all candidates."""
    done = history[-1] if history else {"epoch": 0, "step": 0}
    following = []
    for row in rows:
        row = {
            **row,
            "stage": number + 1,
            "epoch": done["epoch"] + row["epoch"],
            "step": done["step"] + row["step"],
        }
        if "probabilities" in row:
            row["probabilities"] = {
                name: _spread(part, space.group(name), whole.group(name))
                for name, part in row["probabilities"].items()
            }
        following.append(row)
    return following


def _spread(part, group, whole) -> list[list[float]]:
    """With a column for each candidate of the unpruned space, 0 for pruned ones."""
    full = np.zeros((whole.num_edges, whole.num_operations))
    columns = [whole.columns[name] for name in group.operations]
    full[:, columns] = part
    return full.tolist()


def _leave(root: Path, space: Space, history: list[dict[str, Any]]) -> None:
    """The rows so far and what they are of, for reports."""
    searching.write_space(root / "space.json", space)
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in history)
    metrics.write_atomically(root / "metrics.jsonl", text)
