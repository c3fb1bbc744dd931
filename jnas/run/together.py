"""Several seeds in one program, and the folders that they leave.

The loop sees one run, whose rows hold the metrics of every seed; its checkpoints are in
``WORKDIR/batch``. From these rows each seed gets a folder like that of a single run.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jnas import search as searches
from jnas.errors import JnasError
from jnas.run import batched, hooks, metrics, nonfinite, planning, workdir
from jnas.run.loop import EpochInfo, LoopResult, loop
from jnas.run.phases import Phases
from jnas.run.planning import Plan, SearchResult

__all__ = ["folder_of", "run"]

_BATCH = "batch"
_WATCH = ("train_loss", "val_loss")
_log = logging.getLogger("jnas")


def folder_of(root: Path | None, seed: int) -> Path | None:
    """The folder of a seed.

    Args:
      root: of all seeds, or None.
      seed: the seed.

    Returns:
      Its folder, or None.

    Example:
      >>> folder_of(Path("runs"), 3).as_posix()
      'runs/seed3'
    """
    return None if root is None else root / f"seed{seed}"


def run(
    plan: Plan,
    seeds: tuple[int, ...],
    batching: str,
    root: Path | None,
    *,
    on_epoch: Callable[[EpochInfo], str | None] | None,
    chunk: int | None,
    save_every_epochs: int,
    progress: bool,
    on_nan: str,
    report: bool,
    label: str,
) -> tuple[tuple[SearchResult, ...], float]:
    """Searches with all seeds in one program; arguments as for `Plan.run`.

    Args:
      plan: of the search.
      seeds: the seeds.
      batching: "vmap" or "sharded".
      root: the folder of all seeds, or None.
      on_epoch: called with the rows and the state of all seeds.
      chunk: likewise as there.
      save_every_epochs: likewise.
      progress: likewise.
      on_nan: "stop" or "skip".
      report: likewise.
      label: likewise.

    Returns:
      The results of the seeds, and the wall time of all epochs.
    """
    over = None
    if batching == "sharded":
        over = batched.mesh(len(seeds), jax.local_devices())
    computed = batched.padded(seeds, over)
    step = plan.step
    if on_nan == "skip":  # each seed by itself, in the program
        step = _skipping(step)
    folders = _Folders(plan, seeds, root)

    def epoch_metrics(state: searches.SearchState) -> dict[str, Any]:
        rows = {
            str(seed): plan.row(batched.one(state, i)) for i, seed in enumerate(seeds)
        }
        return {"seeds": rows}

    def told(info: EpochInfo) -> str | None:
        folders.follow(info.history)
        return None if on_epoch is None else on_epoch(info)

    result = loop(
        batched.mapped(step, seeds, over),
        batched.start(plan.init, computed),
        batched.feed(plan.feed, computed, over),
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        seed=seeds[0],
        workdir=None if root is None else root / _BATCH,
        config={
            **plan.config,
            "seeds": list(seeds),
            "batching": batching,
            **({} if over is None else {"devices": over.size}),
        },
        chunk=chunk,
        label=f"{label}, {len(seeds)} seeds",
        epoch_metrics=epoch_metrics,
        on_epoch=told,
        watch=tuple(metrics.of_seed(name, seed) for name in _WATCH for seed in seeds),
        save_every_epochs=save_every_epochs,
        progress=progress,
        images_per_step=plan.images_per_step * len(seeds),
        on_nan="stop" if on_nan == "skip" else on_nan,
        place=None if over is None else batched.placing(over),
    )
    folders.follow(tuple(result.history), anew=True)
    results = []
    for i, seed in enumerate(seeds):
        own = [_row(row, seed, len(seeds)) for row in result.history]
        single = LoopResult(
            batched.one(result.state, i),
            own,
            sum(row["seconds"] for row in own),
            result.step,
            result.resumed_from,
            result.stopped,
        )
        results.append(plan.finish(single, folder_of(root, seed), report))
    return tuple(results), result.seconds


def _skipping(step: Any) -> Any:
    if isinstance(step, Phases):
        return step._replace(
            both=nonfinite.Skipping(step.both, _WATCH),
            weights=nonfinite.Skipping(step.weights, _WATCH),
        )
    return nonfinite.Skipping(step, _WATCH)


class _Folders:
    """The folders of seeds that run together, which look like those of single runs."""

    def __init__(self, plan: Plan, seeds: tuple[int, ...], root: Path | None):
        self._plan, self._seeds, self._root = plan, seeds, root
        self._rows: dict[int, metrics.Rows] = {}
        for seed in seeds:
            folder = folder_of(root, seed)
            if folder is None or (folder.parent / _BATCH / "config.json").exists():
                continue
            if (folder / "config.json").exists():
                raise JnasError(
                    f"{folder} holds a search of that seed alone: go on with "
                    "batching='sequential', choose another workdir, or delete it"
                )
        self._watch = {
            seed: hooks.watching(None, plan.epochs, plan.method, f"seed {seed}, ")
            for seed in seeds
        }

    def follow(self, history: tuple[dict[str, Any], ...], anew: bool = False) -> None:
        """Brings the folders up to the rows of all seeds.

        Args:
          history: these rows.
          anew: whether they may have been followed before.
        """
        for seed in self._seeds:
            own = [_row(row, seed, len(self._seeds)) for row in history]
            if own and not anew:
                last = own[-1]
                if last.get(nonfinite.SKIPPED) == 1.0:
                    _log.warning(
                        "seed %d: every step of epoch %d was skipped, for its losses "
                        "are not finite",
                        seed,
                        last["epoch"],
                    )
                info = EpochInfo(last["epoch"], last["step"], last, None, tuple(own))
                self._watch[seed](info)
            folder = folder_of(self._root, seed)
            if folder is not None:
                self._bring(folder, seed, own)

    def _bring(self, folder: Path, seed: int, own: list[dict[str, Any]]) -> None:
        if seed not in self._rows:
            self._describe(folder, seed)
            planning.write_space(
                folder / "space.json", self._plan.search.supernet.space
            )
            # All of them in one move, whatever a run that was killed left there.
            path, last = folder / "metrics.jsonl", own[-1]["step"] if own else 0
            text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in own)
            metrics.write_atomically(path, text)
            self._rows[seed] = metrics.Rows(path, upto=last)
        rows = self._rows[seed]
        for row in own[len(rows.history) :]:
            rows.append(row)

    def _describe(self, folder: Path, seed: int) -> None:
        """Writes the seed's configuration, or compares it with what is there."""
        path = folder.parent / _BATCH / "config.json"
        common = json.loads(path.read_text(encoding="utf-8"))
        with workdir.claim(folder):
            workdir.match_config(
                folder,
                {
                    **common,
                    "seed": seed,
                    "config": {
                        name: value
                        for name, value in common["config"].items()
                        if name != "seeds"
                    },
                },
            )


def _row(row: dict[str, Any], seed: int, number: int) -> dict[str, Any]:
    """What a row of all seeds tells of one; of the time its equal share."""
    own = {name: row[name] for name in ("epoch", "step")}
    for name in ("seconds", "images_per_second"):
        if name in row:
            own[name] = row[name] / number
    for name, value in row.items():
        metric, of = metrics.split_seed(name)
        if of == seed:
            own[metric] = value
    return own | row["seeds"][str(seed)]
