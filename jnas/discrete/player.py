"""A strategy driven by a log: what a study asks and tells, live or repeated."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.discrete import trial_log
from jnas.discrete.base import Best, Proposal, Strategy
from jnas.errors import JnasError

__all__ = ["Player", "Trials"]


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


class Player:
    """The strategy's side of a study, driven by the events of its log, new or old.

    Args:
      strategy: who asks.
      seed: of the strategy.
      asynchronous: whether each result is told as it comes; else a batch at its end.

    Attributes:
      state: of the strategy.
      asked: number of candidates asked for.
      told: number of candidates told.
      open: what was asked for, in order, and is not all told.
      results: rows of the log by id.
    """

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
        """Asks for ``n`` candidates; arrays on the host."""
        proposal, self.state = self._ask(self.state, n)
        proposal = Proposal(*(np.asarray(x) for x in proposal))
        self.asked += n
        self.open.append(proposal)
        return proposal

    def asking(self, proposal: Proposal) -> dict[str, Any]:
        """The log's row of what was asked."""
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
        """All that was told."""
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


def _text(space: Any, genes: np.ndarray) -> str | None:
    """The genotype's text, where the space has genotypes."""
    if not callable(getattr(space, "decode", None)):
        return None
    genotype = space.decode(genes)
    text = getattr(genotype, "to_text", None)
    return text() if callable(text) else str(genotype)
