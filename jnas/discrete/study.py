"""`study`: a strategy asks, an objective that takes its time answers, a log remembers.

For objectives that are slow or can't be traced; traceable ones, such as tables, are
searched faster within one compiled program.
"""

import contextlib
import hashlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import jnas
from jnas import spaces
from jnas.discrete import engine, executors, trial_log
from jnas.discrete.base import Best, Proposal, Strategy
from jnas.discrete.checks import count
from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["Trials", "study"]

FORMAT = 1


class Trials(NamedTuple):
    """What a study did, in the order in which the strategy was told.

    Letters: ``T`` trials, ``L`` genes, ``M`` scores.

    Attributes:
      genes: int32 ``[T, L]``.
      scores: float32 ``[T]`` or ``[T, M]``, NaN of what failed.
      costs: float32 ``[T]``, in the objective's unit, NaN of what failed.
      ids: int32 ``[T]``, numbers in the order of asking.
      fidelity: float32 ``[T]``.
      best: genes ``[L]`` and score of the best, -inf if all failed.
      state: of the strategy, to ask further.
      errors: by id, what went wrong.
    """

    genes: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    ids: np.ndarray
    fidelity: np.ndarray
    best: Best
    state: Any
    errors: dict[int, str]


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
      >>> space = spaces.nasbench201()
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
        "space": _described(strategy.space),
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
        player = _Player(strategy, seed, asynchronous)
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


class _Player:
    """The strategy's side, driven by the events of a log, new or old."""

    def __init__(self, strategy: Strategy, seed: int, asynchronous: bool):
        self._strategy, self.asynchronous = strategy, asynchronous
        jit = jax.jit if strategy.traceable else (lambda f, **_: f)
        self._ask = jit(strategy.ask, static_argnums=1)
        self._tell = jit(strategy.tell)
        self.state = jit(strategy.init)(jax.random.key(seed))
        self.asked = self.told = 0
        self.open: list[Proposal] = []  # asked for, in order, and not all told
        self.results: dict[int, dict[str, Any]] = {}  # rows by id
        self._order: list[int] = []

    def ask(self, n: int) -> Proposal:
        proposal, self.state = self._ask(self.state, n)
        proposal = Proposal(*(np.asarray(x) for x in proposal))
        self.asked += n
        self.open.append(proposal)
        return proposal

    def asking(self, proposal: Proposal) -> dict[str, Any]:
        return {
            "event": "ask",
            "ids": proposal.id.tolist(),
            "genes": proposal.genes.tolist(),
            "fidelity": trial_log.number(proposal.fidelity),
        }

    def rows(self, job, outcome, lost: int) -> list[dict[str, Any]]:
        """The log's rows of an outcome, without what is known already."""
        n, scores = len(job.ids), self._strategy.scores
        shape = (n,) if scores is None else (n, scores)
        values, costs, error = outcome.scores, outcome.costs, outcome.error
        if error is not None:
            values, costs = np.full(shape, np.nan), np.full(n, np.nan)
        if np.shape(values) != shape or np.shape(costs) != (n,):
            raise JnasError(
                f"for {n} candidates {self._strategy.name} needs scores "
                f"{list(shape)} and costs [{n}], but the objective gave "
                f"{list(np.shape(values))} and {list(np.shape(costs))}"
            )
        rows = []
        for i, number in enumerate(job.ids):
            if number in self.results:
                continue
            row = {
                "event": "tell",
                "id": number,
                "genes": job.genes[i].tolist(),
                "genotype": _text(self._strategy.space, job.genes[i]),
                "fidelity": trial_log.number(job.fidelity[i]),
                "score": trial_log.number(values[i]),
                "cost": trial_log.number(costs[i]),
                "seconds": trial_log.number(outcome.seconds / n),
                "worker": outcome.worker,
            }
            row |= {"error": error} if error is not None else {}
            rows.append(row | ({"lost": lost} if lost else {}))
        return rows

    def result(self, row: dict[str, Any]) -> None:
        """Takes a result, and tells the strategy what is due."""
        self.results[row["id"]] = row
        if self.asynchronous:
            place = next(p for p in self.open if row["id"] in p.id)
            self._told(place, [int(np.flatnonzero(place.id == row["id"])[0])])
            if all(int(i) in self.results for i in place.id):
                self.open = [p for p in self.open if p is not place]
        elif all(int(i) in self.results for i in self.open[0].id):
            whole = self.open.pop()
            self._told(whole, range(len(whole.id)))

    def _told(self, proposal: Proposal, places) -> None:
        part = Proposal(*(x[list(places)] for x in proposal))
        rows = [self.results[int(i)] for i in part.id]
        scores = trial_log.from_number([row["score"] for row in rows])
        costs = trial_log.from_number([row["cost"] for row in rows])
        self.state = self._tell(self.state, part, scores, costs)
        self.told += len(rows)
        self._order += [row["id"] for row in rows]

    def replay(self, rows: list[dict[str, Any]]) -> None:
        """Repeats what a log says."""
        for line, row in enumerate(rows, 1):
            if row["event"] == "ask":
                if self.open and not self.asynchronous:
                    raise _other(line, "more is asked before all was told")
                proposal = self.ask(len(row["ids"]))
                if self.asking(proposal) != row:
                    raise _other(line, "the strategy proposes other candidates now")
            else:
                known = [int(i) for p in self.open for i in p.id]
                if row.get("id") not in known or row["id"] in self.results:
                    raise _other(line, "a trial is told that was not asked, or twice")
                self.result(row)

    def trials(self) -> Trials:
        rows = [self.results[i] for i in self._order]
        genes, score = self._strategy.best(self.state)
        numbers = {
            name: trial_log.from_number([row[name] for row in rows])
            for name in ("score", "cost", "fidelity")
        }
        return Trials(
            genes=np.asarray([row["genes"] for row in rows], np.int32),
            scores=numbers["score"],
            costs=numbers["cost"],
            ids=np.asarray(self._order, np.int32),
            fidelity=numbers["fidelity"],
            best=Best(genes, score),
            state=self.state,
            errors={row["id"]: row["error"] for row in rows if "error" in row},
        )


def _other(line: int, what: str) -> JnasError:
    return JnasError(
        f"{trial_log.LOG} line {line}: {what}: the log is of another version of jnas "
        "or JAX, or was changed; use another folder"
    )


def _check(strategy: Strategy, objective: Objective, evaluations: int) -> None:
    own, other = strategy.space, objective.space
    if own != other and _described(own) != _described(other):
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


def _described(space: Any) -> dict[str, Any]:
    """What tells spaces apart, of JSON's types."""
    found = {"name": getattr(space, "name", None), "genes": list(space.genes)}
    if isinstance(space, spaces.Space):
        found["sha256"] = hashlib.sha256(repr(space).encode()).hexdigest()[:16]
    return found


def _text(space: Any, genes: np.ndarray) -> str | None:
    """The genotype's text, where the space has genotypes."""
    if not callable(getattr(space, "decode", None)):
        return None
    genotype = space.decode(genes)
    text = getattr(genotype, "to_text", None)
    return text() if callable(text) else str(genotype)


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
