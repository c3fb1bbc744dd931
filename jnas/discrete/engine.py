"""Where trials run: in this process, or in workers that may die.

What a worker runs catches what the objective raises, so an exception of a future means
that the worker is gone (or can't be reached), and the trial is submitted again. After
some deaths a trial runs alone, so that it can be blamed for nothing but its own.
"""

import asyncio
import collections
import concurrent.futures
import os
import socket
import time
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.discrete import executors
from jnas.errors import JnasError

__all__ = ["Job", "Outcome", "Pump", "Shared", "one_line", "work"]

# Keys of evaluations are apart from those that the strategy derives from the seed.
_EVALUATION = 0x0B1EC7
_KEPT = 4  # objectives that a worker keeps


class Job(NamedTuple):
    """Candidates that are evaluated by one call: ids ``[c]``, genes ``[c, L]``."""

    ids: tuple[int, ...]
    genes: np.ndarray
    fidelity: np.ndarray


class Outcome(NamedTuple):
    """What came of a job; scores and costs are None where it failed."""

    scores: Any
    costs: Any
    seconds: float
    worker: str
    error: str | None = None


class Shared:
    """An objective that travels: a worker keeps the first copy that it gets.

    So what this copy has compiled and loaded serves all later trials.
    """

    def __init__(self, token: str, objective: Any):
        self.token, self.objective = token, objective

    def __reduce__(self):
        return _unpacked, (self.token, self.objective)


_known: collections.OrderedDict[str, Shared] = collections.OrderedDict()


def _unpacked(token: str, objective: Any) -> Shared:
    found = _known.setdefault(token, Shared(token, objective))
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return found


def work(shared: Shared, seed: int, job: Job) -> Outcome:
    """Evaluates a job; an objective that raises has failed, and that is all.

    Args:
      shared: the objective.
      seed: of the study; the key of a job depends on it and on its first id.
      job: the candidates.

    Returns:
      The outcome.

    Example:
      >>> from jnas.objective import Objective
      >>> def evaluate(genes, key, fidelity):
      ...     return genes.sum(-1), fidelity
      >>> shared = Shared("x", Objective(None, evaluate, "sum"))
      >>> work(shared, 0, Job((0,), np.ones((1, 3), np.int32), np.ones(1))).scores
      array([3.], dtype=float32)
    """
    key = jax.random.fold_in(jax.random.key(seed), _EVALUATION)
    key = jax.random.fold_in(key, job.ids[0])
    worker = f"{socket.gethostname()}:{os.getpid()}"
    start = time.perf_counter()
    scores = costs = error = None
    try:
        found = shared.objective.evaluate(job.genes, key, job.fidelity)
        # Scores without costs are no failed trial; who drives the study tells.
        pair = isinstance(found, tuple | list) and len(found) == 2
        scores, costs = found if pair else (found, np.nan)
        scores = np.asarray(scores, np.float32)
        costs = np.asarray(costs, np.float32)
    except Exception as caught:
        scores = costs = None
        error = f"{type(caught).__name__}: {one_line(caught)}"
    return Outcome(scores, costs, time.perf_counter() - start, worker, error)


def one_line(error: BaseException) -> str:
    r"""The message of an error in one line of at most 500 characters.

    Args:
      error: the error.

    Returns:
      The text.

    Example:
      >>> one_line(ValueError("two\nlines"))
      'two lines'
    """
    return " ".join(str(error).split())[:500]


class Pump:
    """Jobs in, outcomes out, in the order in which they come.

    Args:
      shared: the objective.
      seed: of the study.
      executor: a `concurrent.futures.Executor`, a function that makes one (and another
        one when that breaks), or None for this process.
      limit: the most jobs that are submitted at a time.
      retries: how often a job is submitted again after a worker died.
    """

    def __init__(
        self,
        shared: Shared,
        seed: int,
        executor: Any,
        limit: int,
        retries: int,
    ):
        self._shared, self._seed = shared, seed
        self._limit, self._retries = limit, retries
        self._queue: collections.deque[tuple[Job, int]] = collections.deque()
        self._running: dict[Any, tuple[Job, int, Any]] = {}
        self._make: Callable[[], Any] | None = None
        self._executor: Any = executor
        known = isinstance(executor, concurrent.futures.Executor | None)
        if not known and not callable(executor):
            raise JnasError(
                "executor must be None, 'processes', a concurrent.futures.Executor or "
                f"a function that makes one, got {executor!r:.60}"
            )
        if not known:
            self._make, self._executor = executor, executor()
        if isinstance(self._executor, concurrent.futures.ProcessPoolExecutor):
            try:
                _check_travels(shared)
            except JnasError:
                self.close()
                raise

    def add(self, job: Job) -> None:
        """Takes a job.

        Args:
          job: the candidates.
        """
        self._queue.append((job, 0))

    @property
    def open(self) -> int:
        """Number of jobs that have no outcome yet."""
        return len(self._queue) + len(self._running)

    def next(self) -> list[tuple[Job, Outcome, int]]:
        """Waits for at least one outcome.

        Returns:
          Jobs with their outcomes and the number of times they were lost before; none
          if no job is open.

        Raises:
          JnasError: the executor takes no more work.
        """
        if self._executor is None:
            if not self._queue:
                return []
            job, lost = self._queue.popleft()
            return [(job, work(self._shared, self._seed, job), lost)]
        finished: list[tuple[Job, Outcome, int]] = []
        while self.open and not finished:
            self._fill()
            # With a limit of time, so that a signal is seen meanwhile.
            done, _ = concurrent.futures.wait(
                self._running,
                timeout=0.5,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            for future in sorted(done, key=lambda f: self._running[f][0].ids):
                job, lost, executor = self._running.pop(future)
                try:
                    finished.append((job, future.result(), lost))
                except (Exception, asyncio.CancelledError) as error:
                    outcome = self._lost(job, lost, executor, error)
                    finished += [] if outcome is None else [(job, outcome, lost + 1)]
        return finished

    def _fill(self) -> None:
        """Submits what may run now."""
        while self._queue and len(self._running) < self._limit:
            job, lost = self._queue[0]
            last = [n for _, n, _ in self._running.values()] + [lost]
            if self._running and max(last) >= self._retries > 0:
                return
            try:
                future = self._executor.submit(work, self._shared, self._seed, job)
            except concurrent.futures.BrokenExecutor as error:
                if self._make is None:
                    raise _refused(error) from None
                self._renew()
                continue
            except Exception as error:
                raise _refused(error) from None
            self._queue.popleft()
            self._running[future] = (job, lost, self._executor)

    def _lost(self, job: Job, lost: int, executor: Any, error: BaseException) -> Any:
        """Queues a lost job again; the outcome, if it was lost too often."""
        broken = isinstance(error, concurrent.futures.BrokenExecutor)
        if broken and self._make is not None and executor is self._executor:
            self._renew()
        if lost < self._retries:
            self._queue.appendleft((job, lost + 1))
            return None
        # distributed is not imported for the sake of a name
        if not broken and type(error).__name__ != "KilledWorker":
            raise JnasError(
                f"the executor lost a trial {lost + 1} times "
                f"({type(error).__name__}: {one_line(error)}): see to its workers, "
                "then run the study again to go on"
            ) from None
        text = f"its worker died, {lost + 1} times: {one_line(error)}"
        return Outcome(None, None, float("nan"), "", text)

    def _renew(self) -> None:
        """Another executor for one that broke."""
        executors.end(self._executor, at_once=True)
        self._executor = self._make() if self._make is not None else None

    def close(self) -> None:
        """Takes back what waits, and ends an executor that was made here."""
        for future in self._running:
            future.cancel()
        if self._make is not None:
            executors.end(self._executor, at_once=bool(self._running))


def _refused(error: BaseException) -> JnasError:
    return JnasError(
        f"the executor takes no work ({type(error).__name__}: {one_line(error)}): "
        "start another one and run the study again to go on"
    )


def _check_travels(shared: Shared) -> None:
    """Tells at once that an objective can't be sent to other processes."""
    try:
        # As a process pool will send it.
        reduction.ForkingPickler.dumps(shared)
    except Exception as error:
        raise JnasError(
            f"objective {shared.objective.name!r} can't be sent to other processes "
            f"({type(error).__name__}: {one_line(error)}): give evaluate as a function "
            "of a module or a method of a dataclass, or use jnas.discrete.built_by"
        ) from None
