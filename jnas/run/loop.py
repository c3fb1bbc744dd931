"""The loop that trains anything: chunks, metrics, checkpoints, resume, signals.

It knows no networks: a state, a step and a feed. What it promises is that a run that
was stopped at any moment, by a signal, a crash or the power, and started again with
the same arguments ends in the same bits as one that was left alone.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnas.errors import JnasError, unknown_name
from jnas.run import engine, nonfinite, phases, program, signals
from jnas.run.engine import Change, EpochInfo
from jnas.run.progress import Progress
from jnas.run.workdir import claim

__all__ = ["Change", "EpochInfo", "LoopResult", "loop"]


class LoopResult(NamedTuple):
    """What a run gives back.

    Attributes:
      state: the final state.
      history: the rows of ``metrics.jsonl``, one an epoch.
      seconds: the wall time of all rows.
      step: the number of finished steps.
      resumed_from: the step of the checkpoint it went on from, or None.
      stopped: whether `on_epoch` stopped it early.
    """

    state: Any
    history: list[dict[str, Any]]
    seconds: float
    step: int
    resumed_from: int | None
    stopped: bool


def loop(
    step_fn: Callable[..., Any] | phases.Phases,
    init_fn: Callable[..., Any],
    feed: Any,
    *,
    epochs: int,
    steps_per_epoch: int,
    seed: int = 0,
    workdir: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    chunk: int | None = None,
    label: str = "search",
    epoch_metrics: Callable[[Any], Mapping[str, Any]] | None = None,
    on_epoch: Callable[[EpochInfo], str | None] | None = None,
    between_epochs: Callable[[Any, int], Change] | None = None,
    watch: tuple[str, ...] = ("train_loss", "val_loss"),
    save_every_epochs: int = 1,
    save_every_seconds: float = 60.0,
    keep: int = 2,
    progress: bool = True,
    images_per_step: int = 0,
    on_nan: str = "stop",
    place: Callable[[Any], Any] | None = None,
) -> LoopResult:
    """Trains for some epochs, or goes on where an earlier run in `workdir` stopped.

    Args:
      step_fn: ``(state, train_batch, val_batch) -> (state, info)``, pure and not
        jitted; `info` is a tree of scalars, named as in `jnas.run.metrics.flatten`.
        Or `jnas.run.Phases`: steps of two kinds. The row of an epoch has the metrics
        that its steps have, each as the mean over the steps that have it.
      init_fn: ``(key) -> state``; any pytree of arrays and typed keys.
      feed: a pytree that is called as ``feed(key, step) -> (train_batch,
        val_batch)``, an argument of the compiled program and no constant in it; or a
        stream of `jnas.data`.
      epochs: how many epochs in all.
      steps_per_epoch: how many steps an epoch has.
      seed: ``fold_in(key(seed), 0)`` goes to `init_fn`, ``fold_in(key(seed), 1)`` to
        `feed` at every step.
      workdir: the folder of the run: ``config.json``, ``metrics.jsonl`` and
        ``checkpoints/<step>``; None writes nothing.
      config: what describes the run further, of JSON's types; a later start in the
        same folder must give the same.
      chunk: steps a dispatch, a divisor of `steps_per_epoch`; None: 1 on the CPU, the
        largest divisor up to 50 elsewhere. With `Phases` less, so that all steps of
        a dispatch are of one kind.
      label: the name of the run in what is shown.
      epoch_metrics: ``(state) -> dict`` of numbers and strings to add to the row of
        an epoch; called on the host.
      on_epoch: called after each epoch; returns "stop" to end the run, which is then
        complete.
      between_epochs: ``(state, epoch) -> Change``, called after `on_epoch`; it may
        change the state (not its structure), stop, or go back to the checkpoint of an
        earlier epoch, from where the data come in another order. That one must still
        be kept.
      watch: the metrics that must be finite; those that a step lacks are skipped.
      save_every_epochs: epochs from checkpoint to checkpoint; the last is always saved.
      save_every_seconds: a checkpoint is saved, too, when the last is older than this
        (``math.inf``: never).
      keep: how many checkpoints to keep.
      progress: whether to show how it goes, on standard error.
      images_per_step: for the images per second, in the rows if it is positive; the
        first dispatch, which compiles, is left out of that (not of ``seconds``),
        unless it is the whole epoch. Of `Phases`, those of a whole step; a step of
        the weights alone uses half of them.
      on_nan: what to do when a watched metric is not finite: "stop" with an error;
        "skip" such steps, whose share is then the metric ``steps_skipped``; or
        "rollback" to the last checkpoint and on with the data in another order, at
        most three times in a run. (After it `on_epoch` hears of an epoch again.)
      place: ``(tree) -> tree``, puts the state, and the sums of the metrics, on the
        devices of a `step_fn` that runs on several; None: leaves them on the first.

    Returns:
      The final state and the history.

    Raises:
      JnasError: if the arguments don't fit each other or the folder, a checkpoint is
        damaged, or a watched metric is not finite.
      Interrupted: if SIGINT or SIGTERM stopped it, after saving.

    Example:
      >>> import jax
      >>> def step_fn(w, train_batch, val_batch):
      ...     return 0.5 * w, {"train_loss": w**2}
      >>> feed = jax.tree_util.Partial(lambda key, step: (None, None))
      >>> sizes = {"epochs": 2, "steps_per_epoch": 3, "progress": False}
      >>> result = loop(step_fn, lambda key: 8.0, feed, **sizes)
      >>> float(result.state), [row["train_loss"] for row in result.history]
      (0.125, [28.0, 0.4375])
    """
    for name, value in (
        ("epochs", epochs),
        ("steps_per_epoch", steps_per_epoch),
        ("save_every_epochs", save_every_epochs),
        ("keep", keep),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise JnasError(f"{name} must be a whole number >= 1, got {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise JnasError(f"seed must be a whole number >= 0, got {seed!r}")
    if on_nan not in nonfinite.POLICIES:
        raise unknown_name("on_nan", on_nan, nonfinite.POLICIES)
    if not callable(feed) and not hasattr(feed, "fed"):
        raise JnasError(
            f"feed must be callable as feed(key, step), got {type(feed).__name__}: "
            "make it with jnas.data.feed"
        )
    run = engine.Engine(
        step_fn,
        init_fn,
        feed,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        seed=int(seed),
        chunk=program.best_chunk(steps_per_epoch, chunk),
        watch=watch,
        epoch_metrics=epoch_metrics,
        on_epoch=on_epoch,
        between_epochs=between_epochs,
        save_every_epochs=save_every_epochs,
        save_every_seconds=save_every_seconds,
        images_per_step=images_per_step,
        on_nan=on_nan,
        place=place,
    )
    with contextlib.ExitStack() as stack:
        if workdir is not None:
            stack.enter_context(claim(Path(workdir)))
            run.open(Path(workdir), config, keep)
        resumed_from = run.begin()
        if not run.complete:
            guard = stack.enter_context(signals.Guard(hint=progress))
            bar = Progress(
                label,
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                start=run.step,
                enabled=progress,
            )
            run.train(guard, stack.enter_context(bar))
    return LoopResult(
        state=run.state,
        history=run.rows.history,
        seconds=sum(row["seconds"] for row in run.rows.history),
        step=run.step,
        resumed_from=resumed_from,
        stopped=run.stopped,
    )
