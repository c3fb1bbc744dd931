"""`search`: runs a differentiable search on a dataset, with checkpoints and resume."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, overload

import jax

from jnas import data as datasets
from jnas import search as searches
from jnas.errors import JnasError, unknown_name
from jnas.run import planning, seeding
from jnas.run.loop import EpochInfo
from jnas.run.planning import SearchResult, write_space

__all__ = ["SearchResult", "search", "write_space"]


@overload
def search(  # pyrefly: ignore[inconsistent-overload]
    search: searches.Search,
    data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
    *,
    epochs: int,
    seeds: None = None,
    **options: Any,
) -> SearchResult: ...
@overload
def search(  # pyrefly: ignore[inconsistent-overload]
    search: searches.Search,
    data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
    *,
    epochs: int,
    seeds: Iterable[int],
    **options: Any,
) -> seeding.SeedsResult: ...
def search(
    search: searches.Search,
    data: datasets.Dataset | datasets.StreamDataset | datasets.TextDataset,
    *,
    epochs: int,
    batch_size: int = 64,
    seed: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[EpochInfo], str | None] | None = None,
    chunk: int | None = None,
    save_every_epochs: int = 1,
    progress: bool = True,
    on_nan: str = "stop",
    stream: bool = False,
    report: bool = True,
    start: Callable[[jax.Array, Any], Any] | None = None,
    label: str = "search",
    diagnose_every: int | None = None,
    seeds: Iterable[int] | None = None,
    batching: str = "auto",
) -> SearchResult | seeding.SeedsResult:
    """Searches on the train and validation halves of a dataset.

    The weights learn from ``data.train``, the architecture from ``data.validation``;
    the test split is never touched. The same call again goes on from the last
    checkpoint in ``workdir``, and ends in the same bits (same backend and chunk).

    Args:
      search: the search, e.g. of `jnas.presets`.
      data: the dataset, images or text to fit the search.
      epochs: how many.
      batch_size: of both batches (of text: how many columns are read in step).
      seed: of the initial state and the order of the data; None: 0.
      workdir: folder of checkpoints, metrics, configuration, the found genotype and
        the report; None writes nothing.
      on_epoch: called after each epoch; "stop" ends the search.
      chunk: steps per dispatch; None chooses by the backend.
      save_every_epochs: checkpoints; long epochs are saved in between, too.
      progress: whether to show how it goes.
      on_nan: "stop", "skip" or "rollback" when a loss is not finite, as in
        `jnas.run.loop`.
      stream: whether to read the images batch by batch, for sets larger than the
        device's memory (a `jnas.data.StreamDataset` always is).
      report: whether to write ``report.html`` in the workdir at the end.
      start: ``(key, initial state) -> state`` to begin with, e.g. of
        `jnas.progressive.widen`; best a `jax.tree_util.Partial`, whose arrays are no
        constants of a program and tell this start from others.
      label: the name in what is shown.
      diagnose_every: epochs from one diagnosis (lambda_max and discretisation gap, in
        the rows) to the next; None: so many that it takes a tenth of the time at most;
        0: none but those that a regularizer needs.
      seeds: several instead of ``seed``: each searches as a run of its own with that
        seed does, in ``workdir/seedN``, and the result has mean and standard deviation.
      batching: how several seeds are run: "sequential", one after another through one
        compiled step; "vmap", all in one program; "sharded", likewise, spread over the
        devices. "auto": sequential on the CPU, else one program where the search
        allows it (see `jnas.run.seeding.choose`). In one program ``on_epoch`` is told
        of all seeds at once and a loss that is not finite ends all, naming its seed,
        unless ``on_nan`` is "skip"; "rollback" is for sequential runs.

    Returns:
      The result; of several ``seeds`` a `SeedsResult`.

    Raises:
      JnasError: the parts don't fit each other, the workdir belongs to another run, a
        loss is not finite, ...
      jnas.run.Interrupted: a signal stopped it; what was reached is saved.

    Example:
      >>> import jnas
      >>> data = jnas.data.load("digits")
      >>> method = jnas.presets.darts(
      ...     jnas.spaces.nasbench201(), channels=2, cells_per_stage=1,
      ...     epochs=1, steps_per_epoch=12)
      >>> search(method, data, epochs=2, progress=False)
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: epochs is 2 here but the search was composed for 1: \
pass epochs=2 to the preset
    """
    if seeds is not None and seed is not None:
        raise JnasError(
            f"give seed or seeds, not both: got seed={seed!r} and seeds={seeds!r}"
        )
    chosen = None if seeds is None else seeding.check(seeds)
    if batching not in seeding.BATCHINGS:
        raise unknown_name("batching", batching, seeding.BATCHINGS)
    plan = planning.Plan(
        search,
        data,
        epochs=epochs,
        batch_size=batch_size,
        stream=stream,
        start=start,
        diagnose_every=diagnose_every,
    )
    options: dict[str, Any] = {
        "workdir": None if workdir is None else Path(workdir),
        "on_epoch": on_epoch,
        "chunk": chunk,
        "save_every_epochs": save_every_epochs,
        "progress": progress,
        "on_nan": on_nan,
        "report": report,
        "label": label,
    }
    if chosen is not None:
        return seeding.run(plan, chosen, batching, **options)
    return plan.run(seed=0 if seed is None else seed, **options)
