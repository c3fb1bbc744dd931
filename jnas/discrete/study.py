"""`study`: a strategy asks, an objective that takes its time answers, a log remembers.

For objectives that are slow or can't be traced; traceable ones, such as tables, are
searched faster within one compiled program.
"""

import contextlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jnas
from jnas.discrete import engine, executors, folders, trial_log
from jnas.discrete import player as players
from jnas.discrete.base import Strategy
from jnas.discrete.checks import count
from jnas.discrete.player import Trials
from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["study"]

FORMAT = 1


def study(
    strategy: Strategy,
    objective: Objective,
    *,
    evaluations: int,
    seed: int = 0,
    batch: int | None = None,
    chunk: int = 1,
    asynchronous: bool = False,
    workdir: Any = None,
    executor: Any = None,
    parallel: int = 1,
    retries: int = 3,
    progress: Callable[[dict[str, Any]], Any] | None = None,
) -> Trials:
    """Searches with an objective that is slow or can't be traced.

    A synchronous study asks for a batch, evaluates it, and tells the whole of it in the
    order of asking: the same trials with any executor. An asynchronous one keeps
    ``parallel`` evaluations going and tells each as it comes, so that nobody waits for
    the slowest; what is asked then depends on who comes first.

    With a folder every result is in its ``trials.jsonl`` as soon as it is known, and
    the same call goes on after an interruption of any kind. What was asked and told is
    replayed through the strategy, what was only asked is evaluated again: a synchronous
    study then has exactly the trials of an uninterrupted one. SIGTERM is raised as
    `SystemExit`, as Ctrl-C is as `KeyboardInterrupt`.

    A trial whose objective raises has the score NaN, and the text of the error in the
    log. If a worker dies, its trial is submitted again, up to ``retries`` times, the
    last time with no other beside it; only then it has failed, too.

    Args:
      strategy: who asks.
      objective: what answers. For other processes it must be picklable: ``evaluate`` is
        a function of a module or a method of a dataclass, or `built_by` makes it there.
        A worker keeps one copy, with what that has compiled.
      evaluations: number of trials.
      seed: of the strategy, and of each evaluation's key (with the trial's id).
      batch: candidates asked for at a time, by default the strategy's; synchronous
        studies only.
      chunk: candidates that one call of the objective gets, for objectives that score
        several at once.
      asynchronous: see above.
      workdir: folder of the log, or None.
      executor: None for this process; "processes" for ``parallel`` spawned ones; a
        `concurrent.futures.Executor`, such as Dask's (see `dask_executor`); or a
        function that makes one, and another one if that breaks.
      parallel: number of processes, and of evaluations side by side if asynchronous.
      retries: see above.
      progress: called with the log's row of each new result.

    Returns:
      All trials, those of before an interruption, too.

    Raises:
      JnasError: an argument is out of range; the folder holds another study; the
        strategy does not propose what the log says; the objective can't be sent, or
        returns something else than scores; the executor takes no more work.

    Example:
      >>> from jnas.discrete import random_search
      >>> space = jnas.spaces.nasbench201()
      >>> wish = Objective(space, lambda g, key, f: (g.sum(-1), f), "sum")
      >>> trials = study(random_search(space), wish, evaluations=5, batch=2)
      >>> bool(trials.best.score == trials.scores.max()), trials.ids.tolist()
      (True, [0, 1, 2, 3, 4])
    """
    evaluations = count("evaluations", evaluations)
    seed, chunk = count("seed", seed, 0), count("chunk", chunk)
    parallel, retries = count("parallel", parallel), count("retries", retries, 0)
    if asynchronous and batch is not None:
        raise JnasError("batch is for synchronous studies: use parallel and chunk")
    if asynchronous:
        batch = chunk
    else:
        batch = strategy.batch if batch is None else count("batch", batch)
    _check(strategy, objective, evaluations)
    settings = {
        "format": FORMAT,
        "strategy": {"name": strategy.name, "config": strategy.config},
        "objective": {"name": objective.name, "config": objective.config},
        "units": [objective.score_unit, objective.cost_unit],
        "space": folders.described(strategy.space),
        "evaluations": evaluations,
        "seed": seed,
        "batch": batch,
        "chunk": chunk,
        "asynchronous": asynchronous,
        "jnas": jnas.__version__,
    }
    own = executor == "processes"
    limit = parallel if own or asynchronous else -(-batch // chunk)
    with trial_log.TrialLog(workdir, settings) as log, _terminable():
        player = players.Player(strategy, seed, asynchronous)
        player.replay(log.rows)
        if player.told < evaluations:
            pump = engine.Pump(
                engine.Shared(uuid.uuid4().hex, objective),
                seed,
                executors.processes(parallel) if own else executor,
                limit,
                retries,
            )
            try:
                _run(player, pump, log, evaluations, batch, chunk, limit, progress)
            finally:
                pump.close()
    return player.trials()


def _run(player, pump, log, evaluations, batch, chunk, limit, progress) -> None:
    """Asks and evaluates until all is told."""
    for proposal in player.open:
        _submit(pump, proposal, chunk, player.results)
    while player.told < evaluations:
        # Asynchronous: whenever a place is free; synchronous: whenever nothing is open.
        while player.asked < evaluations and (
            pump.open < limit if player.asynchronous else not pump.open
        ):
            proposal = player.ask(min(batch, evaluations - player.asked))
            log.append(player.asking(proposal))
            _submit(pump, proposal, chunk, {})
        for job, outcome, lost in pump.next():
            rows = player.rows(job, outcome, lost)
            log.append(*rows)
            for row in rows:
                player.result(row)
                if progress is not None:
                    progress(row)


def _submit(pump, proposal, chunk, known) -> None:
    """Hands a batch over in chunks, but for those whose results are known."""
    for start in range(0, len(proposal.id), chunk):
        part = engine.Job(
            tuple(int(i) for i in proposal.id[start : start + chunk]),
            proposal.genes[start : start + chunk],
            proposal.fidelity[start : start + chunk],
        )
        # A chunk is one computation: it is repeated whole.
        if not all(i in known for i in part.ids):
            pump.add(part)


def _check(strategy: Strategy, objective: Objective, evaluations: int) -> None:
    own, other = strategy.space, objective.space
    if own != other and folders.described(own) != folders.described(other):
        raise JnasError(
            f"strategy {strategy.name!r} proposes candidates of space "
            f"{getattr(own, 'name', own)!r}, but objective {objective.name!r} scores "
            f"those of {getattr(other, 'name', other)!r}: build both for one space"
        )
    if strategy.capacity is not None and evaluations > strategy.capacity:
        raise JnasError(
            f"{strategy.name} has room for {strategy.capacity} evaluations, got "
            f"evaluations={evaluations}: build it with more"
        )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Raises `SystemExit` on SIGTERM, so that workers are ended (main thread only)."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return

    def handle(signum, frame):
        del frame
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
