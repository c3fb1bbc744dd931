"""One run in progress: what the loop does between two dispatches.

The host looks at the metrics of a chunk after it has dispatched the next one, so the
device need not wait for it; before a row, a save or an end it looks at all of them.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.errors import JnasError
from jnas.run import metrics, nonfinite, phases, program
from jnas.run.checkpoint import Checkpoints, Saved
from jnas.run.feeding import Feeding
from jnas.run.progress import Progress
from jnas.run.signals import Guard, Interrupted
from jnas.run.workdir import fingerprint, match_config

__all__ = ["Change", "Engine", "EpochInfo"]

_log = logging.getLogger("jnas")


class EpochInfo(NamedTuple):
    """What `on_epoch` is told.

    Attributes:
      epoch: the number of finished epochs.
      step: the number of finished steps.
      metrics: the row of the epoch, as in ``metrics.jsonl``.
      state: the state; its buffers are gone after the next step, so keep no reference.
      history: the rows so far, this one the last; those of before a resume, too.
    """

    epoch: int
    step: int
    metrics: dict[str, Any]
    state: Any
    history: tuple[dict[str, Any], ...] = ()


class Change(NamedTuple):
    """What `between_epochs` makes of a run.

    Attributes:
      state: the state to go on with.
      stop: whether the run ends here.
      back: how many epochs to go back, to the checkpoint of then; 0: none.
      amend: ``(state of then) -> state``, what is changed in it.
    """

    state: Any
    stop: bool = False
    back: int = 0
    amend: Callable[[Any], Any] | None = None


class Engine:
    """The state of a run and how it moves on; `jnas.run.loop` is the way to use it.

    Attributes:
      state: the state of the training.
      step: the number of finished steps.
      stopped: whether `on_epoch` asked to stop.
      rows: the metrics so far.

    Example:
      >>> feed = jax.tree_util.Partial(lambda key, step: (None, None))
      >>> run = Engine(lambda s, t, v: (s, {}), lambda key: 1.0, feed, epochs=2,
      ...              steps_per_epoch=5, chunk=1)
      >>> run.begin(), run.step, run.complete, run.where
      (None, 0, False, 'epoch 1/2, step 0')
    """

    def __init__(
        self,
        step_fn: Callable[..., Any] | phases.Phases,
        init_fn: Callable[..., Any],
        feed: Any,
        *,
        epochs: int,
        steps_per_epoch: int,
        chunk: int,
        seed: int = 0,
        watch: tuple[str, ...] = (),
        epoch_metrics: Callable[[Any], Mapping[str, Any]] | None = None,
        on_epoch: Callable[[EpochInfo], str | None] | None = None,
        between_epochs: Callable[[Any, int], Change] | None = None,
        save_every_epochs: int = 1,
        save_every_seconds: float = 60.0,
        images_per_step: int = 0,
        on_nan: str = "stop",
        place: Callable[[Any], Any] | None = None,
    ):
        skip = watch if on_nan == "skip" else None
        self._programs = phases.Programs(step_fn, chunk, skip=skip)
        chunk = self._programs.chunk
        self._on_nan = on_nan
        self._place_tree = place or (lambda tree: tree)
        self._init = program.initializer(init_fn)
        self._feeding = Feeding(feed, seed=seed, chunk=chunk)
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._chunk = chunk
        self._seed = seed
        self._watch = watch
        self._epoch_metrics = epoch_metrics
        self._on_epoch = on_epoch
        self._between_epochs = between_epochs
        self._save_every_epochs = save_every_epochs
        self._save_every_seconds = save_every_seconds
        self._images_per_step = images_per_step

        root = jax.random.key(seed)
        self._init_key = jax.random.fold_in(root, 0)
        self._first_data_key = jax.random.fold_in(root, 1)
        self._rollbacks = 0  # of any kind: each has its own order of the data
        self._mishaps = 0  # those for a loss that was not finite
        self._template = jax.eval_shape(self._init, self._init_key)
        self._checkpoints: Checkpoints | None = None
        self._workdir: Path | None = None
        self._saved: int | None = None  # the step of the last checkpoint
        self._pending: tuple[int, str, jax.Array] | None = None
        self._sums: dict[str, dict[str, jax.Array]] = {}  # of each kind of step
        self.state: Any = None
        self.step = 0
        self.stopped = False
        self.rows = metrics.Rows(None, upto=0)
        self._spent = 0.0  # seconds of this epoch in processes before this one

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped or self.step == self._epochs * self._steps_per_epoch

    @property
    def _data_key(self) -> jax.Array:
        """Of the order of the data: another one after each roll back."""
        if not self._rollbacks:
            return self._first_data_key
        return jax.random.fold_in(self._first_data_key, self._rollbacks)

    @property
    def where(self) -> str:
        """Where the run is, for people."""
        return self._place(self.step)

    def open(self, workdir: Path, config: Mapping[str, Any] | None, keep: int) -> None:
        """Makes a folder, which the caller has claimed, the folder of this run.

        Args:
          workdir: the folder.
          config: what describes the run.
          keep: how many checkpoints to keep.

        Raises:
          JnasError: if the folder holds another run.
        """
        # Whoever goes back to earlier epochs needs theirs, whatever was saved between.
        period = self._steps_per_epoch if keep > 2 else 1
        checkpoints = Checkpoints(workdir / "checkpoints", keep=keep, period=period)
        if checkpoints.steps() and not (workdir / "config.json").exists():
            raise JnasError(
                f"workdir {workdir} has checkpoints but no config.json, so it is not "
                "known what they are of: choose another workdir or delete this one"
            )
        description = {
            "config": {} if config is None else dict(config),
            "seed": self._seed,
            "epochs": self._epochs,
            "steps_per_epoch": self._steps_per_epoch,
            "chunk": self._chunk,
            "state": fingerprint(self._template),
            "feed": self._feeding.description(),
            **self._programs.description(),
        }
        match_config(workdir, description)
        self._checkpoints, self._workdir = checkpoints, workdir

    def begin(self) -> int | None:
        """Makes the first state, or takes it from the latest checkpoint.

        Returns:
          The step of that checkpoint, or None.

        Raises:
          JnasError: if the checkpoint is damaged.
        """
        saved = self._restore()
        if saved is not None:
            self._rollbacks = saved.extra.get("rollbacks", 0)
            self._mishaps = saved.extra.get("mishaps", self._rollbacks)
            _log.info("resumed from the checkpoint of step %d", saved.step)
        self._feeding.begin(None if saved is None else saved.extra.get("place"))
        path = None if self._workdir is None else self._workdir / "metrics.jsonl"
        found, wanted = len(self.rows.history), self.step // self._steps_per_epoch
        if path is not None and found != wanted:
            _log.warning("%s has %d of %d rows", path, found, wanted)
        return self._saved

    def _restore(self) -> Saved | None:
        """Takes state and rows from the latest checkpoint, or from the beginning."""
        saved = None
        if self._checkpoints is not None:
            saved = self._checkpoints.latest(self._template)
        if saved is None:
            self.state, self.step, self._sums = self._init(self._init_key), 0, {}
            self._spent, self._saved = 0.0, None
        else:
            self.state, self.step = saved.state, saved.step
            self._sums = phases.unflat(saved.sums)
            self._spent, self.stopped = saved.extra["seconds"], saved.extra["stopped"]
            self._saved = saved.step
        self.state = self._place_tree(self.state)
        self._sums = self._place_tree(self._sums)
        path = None if self._workdir is None else self._workdir / "metrics.jsonl"
        self.rows = metrics.Rows(path, upto=self.step)
        return saved

    def train(self, guard: Guard, progress: Progress) -> None:
        """Runs until the run is complete.

        Args:
          guard: knows whether a signal came.
          progress: where to show how it goes.

        Raises:
          JnasError: if a watched metric is not finite, or the disk fails.
          Interrupted: if a signal came; the state is saved.
        """
        self._progress = progress
        self._prepare()
        try:
            while not self.complete and guard.signum is None:
                try:
                    self._advance()
                    if self.step % self._steps_per_epoch == 0:
                        self._end_epoch()
                    elif self._due():
                        self._save()
                except nonfinite.NonFiniteError as error:
                    self._roll_back(error)
            if guard.signum is not None:
                self._save()
                saved = self._checkpoints is not None
                raise Interrupted(guard.signum, self.where, saved=saved)
        except BaseException:
            self._flush_quietly()
            raise
        finally:
            self._feeding.close()
        if self._checkpoints is not None:
            self._checkpoints.wait()

    def _roll_back(self, error: nonfinite.NonFiniteError) -> None:
        """Goes back to the last checkpoint, and on with the data in another order."""
        if self._on_nan != "rollback":
            raise error
        if self._mishaps == nonfinite.MOST_ROLLBACKS:
            raise JnasError(f"{error} (after {self._mishaps} roll backs)") from error
        if self._checkpoints is not None:
            self._checkpoints.wait()
        self._pending = None
        self._restore()
        self._rollbacks += 1
        self._mishaps += 1
        _log.warning(
            "%s; rolled back to step %d, from where the data come in another order",
            str(error).partition(";")[0],
            self.step,
        )
        if self.step % self._steps_per_epoch == 0:
            self._sums = self._zeros(self._kinds())
        self._progress.chunk(self.step, {}, None)
        self._restart_clock()

    def _return(self, epoch: int, amend: Callable[[Any], Any] | None) -> None:
        """Goes on from the checkpoint of an earlier epoch, as if now were then."""
        step = epoch * self._steps_per_epoch
        if self._checkpoints is not None:
            self._checkpoints.wait()  # the one before may just be on its way
        if self._checkpoints is None or step not in self._checkpoints.steps():
            raise JnasError(
                f"going back to epoch {epoch} needs its checkpoint: give a workdir, "
                "and save after every epoch"
            )
        saved = self._checkpoints.load(step, self._template)
        self._checkpoints.drop_after(step - 1)
        state = saved.state if amend is None else amend(saved.state)
        self.state = self._place_tree(state)
        self.step, self.stopped = step, False
        self._rollbacks += 1
        self.rows = metrics.Rows(self.rows.path, upto=step)
        self._feeding.close()
        self._feeding.begin(saved.extra.get("place"))
        _log.info("back to epoch %d", epoch)
        self._sums = self._zeros(self._kinds())
        self._spent, self._saved = 0.0, None
        self._progress.chunk(self.step, {}, None)
        self._restart_clock()
        self._save()

    def _prepare(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.clear()
        fed = self._feeding.look(self.step)
        first = self.step - self.step % self._steps_per_epoch
        kinds = self._programs.kinds(first, self._epochs * self._steps_per_epoch)
        self._programs.look(kinds, self.state, fed, self._data_key)
        reserved = {"epoch", "step", "seconds", "images_per_second"}
        names = {name for own in self._programs.names.values() for name in own}
        taken = sorted(reserved & names)
        if taken:
            raise JnasError(
                f"the info of a step must not be named {taken[0]!r}, which a row has "
                "already: rename it"
            )
        zeros = self._zeros(self._kinds())
        before, now = {*phases.flat(self._sums)}, {*phases.flat(zeros)}
        if self.step % self._steps_per_epoch == 0:
            self._sums = zeros
        elif before == now:
            self._sums = {**zeros, **self._sums}
        else:
            differing = sorted(before ^ now)
            raise JnasError(
                f"the metrics must be those of the epoch that was begun at step "
                f"{self.step}, got others ({', '.join(differing)}): use the step_fn "
                "of before or another workdir"
            )
        self._saved_at = time.monotonic()
        self._compiled: set[str] = set()
        self._restart_clock()

    def _zeros(self, kinds: Iterable[str]) -> dict[str, dict[str, jax.Array]]:
        """New sums, where the program wants them."""
        return self._place_tree(self._programs.zeros(kinds))

    def _kinds(self) -> tuple[str, ...]:
        """The kinds of step that the epoch under way has."""
        first = self.step - self.step % self._steps_per_epoch
        return self._programs.kinds(first, first + self._steps_per_epoch)

    def _restart_clock(self) -> None:
        self._epoch_start = time.perf_counter()
        self._rate_start, self._rate_step = self._epoch_start, self.step

    def _advance(self) -> None:
        """Dispatches a chunk, then looks at the metrics of the one before."""
        step0 = jax.device_put(np.int32(self.step))
        fed = self._feeding.take(self.step)
        self.state, self._sums, kind, infos = self._programs.dispatch(
            self.state, self._sums, fed, self._data_key, self.step, step0
        )
        before, self._pending = self._pending, (self.step, kind, infos)
        self.step += self._chunk
        if kind not in self._compiled:
            jax.block_until_ready(infos)
            self._compiled.add(kind)
            now = time.perf_counter()
            _log.info("compiled and ran a chunk in %.1f s", now - self._rate_start)
            if self.step % self._steps_per_epoch:
                self._rate_start, self._rate_step = now, self.step
        if before is not None:
            self._look(*before)

    def _settle(self) -> None:
        """Looks at all metrics that were not looked at yet."""
        if self._pending is not None:
            before, self._pending = self._pending, None
            self._look(*before)

    def _look(self, step0: int, kind: str, infos: jax.Array) -> None:
        values, names = jax.device_get(infos), self._programs.names[kind]
        for name in self._watch:
            if name in names:
                column = values[:, names.index(name)]
                bad = np.flatnonzero(~np.isfinite(column))
                if bad.size:
                    self._give_up(name, column[bad[0]], step0 + int(bad[0]) + 1)
        means = dict(zip(names, values.mean(0).tolist(), strict=True))
        self._progress.chunk(step0 + len(values), means, self._rate())

    def _give_up(self, name: str, value: float, step: int) -> None:
        good = "there is no checkpoint before it"
        if self._saved is not None:
            good = f"the last good checkpoint is of step {self._saved}"
        raise nonfinite.NonFiniteError(
            f"{name} must be finite, got {value} at {self._place(step)}; {good}: try a "
            "smaller learning rate, gradient clipping or float32, in another workdir"
        )

    def _rate(self) -> float | None:
        steps = self.step - self._rate_step
        seconds = time.perf_counter() - self._rate_start
        if not self._images_per_step or not steps or not seconds:
            return None
        first = self._rate_step
        whole = self._programs.phases.number(phases.BOTH, first, self.step)
        # Of its two batches a step of the weights alone uses one.
        return self._images_per_step * (whole + steps) / 2 / seconds

    def _end_epoch(self) -> None:
        self._settle()
        epoch = self.step // self._steps_per_epoch
        sums = jax.device_get(self._sums)
        row: dict[str, Any] = {"epoch": epoch, "step": self.step}
        row["seconds"] = self._spent + time.perf_counter() - self._epoch_start
        rate = self._rate()
        if rate is not None:
            row["images_per_second"] = rate
        number = self._programs.phases.number
        first = self.step - self._steps_per_epoch
        values = phases.means(
            sums, {kind: number(kind, first, self.step) for kind in sums}
        )
        if values.get(nonfinite.SKIPPED) == 1.0:
            self._give_up("every loss of the epoch", math.nan, self.step)
        row |= values
        if self._epoch_metrics is not None:
            more = self._epoch_metrics(self.state)
            clash = sorted(row.keys() & more.keys())
            if clash:
                raise JnasError(
                    f"epoch_metrics must not be named {clash[0]!r}, which the row has "
                    "already: rename it"
                )
            row |= more
        row = metrics.as_json(row, "the row of metrics")
        self.rows.append(row)
        self._progress.epoch(row)
        if self._on_epoch is not None:
            told = tuple(self.rows.history)
            info = EpochInfo(epoch, self.step, row, self.state, told)
            answer = self._on_epoch(info)
            if answer not in (None, "stop"):
                raise JnasError(
                    f"on_epoch must return None or 'stop', got {answer!r}: return "
                    "nothing to go on"
                )
            self.stopped = answer == "stop"
        if self._between_epochs is not None:
            change = self._between_epochs(self.state, epoch)
            self.state = change.state
            self.stopped = self.stopped or change.stop
            if change.back and not self.stopped:
                self._return(epoch - change.back, change.amend)
                return
        kinds = self._programs.names if self.complete else self._kinds()
        self._sums = self._zeros(kinds)
        self._spent = 0.0
        self._restart_clock()
        if epoch % self._save_every_epochs == 0 or self.complete or self._due():
            self._save()

    def _due(self) -> bool:
        age = time.monotonic() - self._saved_at
        return self._checkpoints is not None and age >= self._save_every_seconds

    def _save(self) -> None:
        """Saves the state, once its metrics are known to be good."""
        self._settle()
        if self._checkpoints is None or self._saved == self.step:
            return
        spent = 0.0
        if self.step % self._steps_per_epoch:
            spent = self._spent + time.perf_counter() - self._epoch_start
        self._checkpoints.save(
            self.step,
            self.state,
            phases.flat(self._sums),
            seconds=spent,
            stopped=self.stopped,
            rollbacks=self._rollbacks,
            mishaps=self._mishaps,
            place=self._feeding.place,
        )
        self._saved = self.step
        self._saved_at = time.monotonic()

    def _flush_quietly(self) -> None:
        """Finishes a save that is under way, behind an error that matters more."""
        try:
            if self._checkpoints is not None:
                self._checkpoints.wait()
        except JnasError as error:
            _log.warning("%s", error)

    def _place(self, step: int) -> str:
        # step counts finished steps, so the last of an epoch still belongs to it
        epoch = max(1, -(-step // self._steps_per_epoch))
        return f"epoch {epoch}/{self._epochs}, step {step}"
