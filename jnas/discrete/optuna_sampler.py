"""Optuna's samplers as strategies."""

import collections
import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas import domain
from jnas.discrete.base import Best, Proposal, State, Strategy
from jnas.discrete.checks import count
from jnas.errors import JnasError, unknown_name

__all__ = ["optuna_sampler"]

# Studies that are kept alive, candidates that a sampler may try for a valid one.
_KEPT, _TRIES = 64, 100


class _Log(NamedTuple):
    """All that ever happened, from which a study can be made again.

    Attributes:
      genes: int32 ``[capacity, L]``, asked.
      scores: float64 ``[capacity, M]``, told; NaN before, -inf for failures.
      events: int32 ``[2 capacity]``, in their order: -1 for a candidate that was
        asked for, else the id of one that was told.
    """

    genes: np.ndarray
    scores: np.ndarray
    events: np.ndarray


class _Live(NamedTuple):
    study: Any
    trials: list


def optuna_sampler(
    space: Any,
    sampler: str | Callable[[int], Any] | None = None,
    *,
    scores: int | None = None,
    capacity: int = 1000,
    ordered: bool = False,
) -> Strategy:
    """Any sampler of Optuna (Akiba et al., KDD 2019) that is asked and told.

    Every gene is a parameter of an in-memory study. The state is the log of what was
    asked and told, in arrays: a study is made again by replaying it, with a sampler
    seeded from the key, so states can be saved, resumed and branched like all others.
    (Told trials alone would not do: samplers such as NSGA-II note in the study to which
    generation a trial belongs.) Studies are kept while a process goes on from the same
    state, so that a run replays nothing, and a resumed one once. The functions run on
    the host and can't be traced.

    Args:
      space: a space or its name.
      sampler: name of a class in `optuna.samplers` that takes a seed, such as
        "TPESampler" (the default), or ``(seed) -> sampler``, which has to draw from
        that seed alone.
      scores: number ``M`` of scores, each is maximised; None for one without an axis.
      capacity: the most evaluations; asking for more is an error.
      ordered: whether genes are numbers, near values alike, instead of categories.

    Returns:
      The strategy.

    Raises:
      JnasError: Optuna is not installed, or has no such sampler; later, where more is
        asked than there is room for, something is told that was not asked (or twice),
        or a replay does not give what was proposed then.

    Example:
      >>> strategy = optuna_sampler("nasbench201", "RandomSampler")
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 3)
      >>> state = strategy.tell(state, proposal, np.array([1.0, 3.0, 2.0]))
      >>> float(strategy.best(state)[1])
      3.0
    """
    optuna = _optuna()
    own = domain.of(space)
    capacity = count("capacity", capacity)
    many = None if scores is None else count("scores", scores)
    make, name = _factory(optuna, sampler)
    length = len(own.cardinalities)
    distributions = {
        f"gene{i}": optuna.distributions.IntDistribution(0, size - 1)
        if ordered
        else optuna.distributions.CategoricalDistribution(range(size))
        for i, size in enumerate(own.cardinalities)
    }
    alive: collections.OrderedDict[bytes, _Live] = collections.OrderedDict()
    title = f"optuna {name}"

    def init(key):
        zero: Any = np.zeros((), np.int32)
        nothing: Any = np.zeros(length, np.int32), np.array(-np.inf)
        log = _Log(
            np.zeros((capacity, length), np.int32),
            np.full((capacity, many or 1), np.nan),
            np.full(2 * capacity, -1, np.int32),
        )
        return State(key, zero, zero, Best(*nothing), log)

    def ask_one(live):
        for _ in range(_TRIES):
            trial = live.study.ask(distributions)
            params = [trial.params[name] for name in distributions]
            genes: Any = np.array(params, np.int32)
            if bool(own.valid(genes)):
                live.trials.append(trial)
                return genes
            live.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise JnasError(f"{title} found no valid candidate in {_TRIES} tries")

    def tell_one(live, number, values):
        trial = live.trials[number]
        if np.isfinite(values).all():
            live.study.tell(trial, values.tolist())
        else:
            live.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def revive(state):
        """The study of a state: kept, or made again."""
        live = alive.pop(_digest(state), None)
        if live is not None:
            return live
        seed = np.random.SeedSequence(np.asarray(jax.random.key_data(state.key)))
        study = optuna.create_study(
            sampler=make(int(seed.generate_state(1)[0])),
            directions=["maximize"] * (many or 1),
        )
        live = _Live(study, [])
        for event in state.inner.events[: int(state.asked) + int(state.told)].tolist():
            if event >= 0:
                tell_one(live, event, state.inner.scores[event])
                continue
            number = len(live.trials)
            if not np.array_equal(ask_one(live), state.inner.genes[number]):
                raise JnasError(
                    f"{title} proposes something else for candidate {number} than when "
                    "the state was made: use the Optuna and the sampler of then, one "
                    "that draws from its seed alone"
                )
        return live

    def keep(state, live):
        alive[_digest(state)] = live
        while len(alive) > _KEPT:
            alive.popitem(last=False)
        return state

    def ask(state, n=None):
        n = 1 if n is None else n
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise JnasError(
                f"{title} is asked for a number of candidates >= 1, got {n}"
            )
        asked = int(state.asked)
        if asked + n > capacity:
            raise JnasError(
                f"{title} has room for {capacity} evaluations, asked for {asked + n}: "
                "make it with a larger capacity"
            )
        with _quiet(optuna):
            live = revive(state)
            drawn = np.stack([ask_one(live) for _ in range(n)])
        genes, events = state.inner.genes.copy(), state.inner.events.copy()
        genes[asked : asked + n] = drawn
        place = asked + int(state.told)
        events[place : place + n] = -1
        state = state._replace(
            asked=np.array(asked + n, np.int32),
            inner=state.inner._replace(genes=genes, events=events),
        )
        ids = np.arange(asked, asked + n, dtype=np.int32)
        return Proposal(drawn, np.ones(n, np.float32), ids), keep(state, live)

    def tell(state, proposal, values, costs=None):
        n = len(proposal.genes)
        wanted = (n,) if many is None else (n, many)
        if np.shape(values) != wanted:
            raise JnasError(
                f"{title} is told scores of shape {list(wanted)}, got "
                f"{list(np.shape(values))}"
            )
        rows = np.asarray(values, np.float64).reshape(n, many or 1)
        rows = np.where(np.isfinite(rows).all(1, keepdims=True), rows, -np.inf)
        ids = np.asarray(proposal.id).tolist()
        told = state.inner.scores
        for number in ids:
            known = 0 <= number < int(state.asked) and np.isnan(told[number, 0])
            if not known or ids.count(number) > 1:
                raise JnasError(
                    f"{title} is told candidate {number}, which was never asked or was "
                    "told before"
                )
        with _quiet(optuna):
            live = revive(state)
            for number, row in zip(ids, rows, strict=True):
                tell_one(live, number, row)
        scores, events = told.copy(), state.inner.events.copy()
        scores[ids] = rows
        place = int(state.asked) + int(state.told)
        events[place : place + n] = ids
        best, first = state.best, int(np.argmax(rows[:, 0]))
        if rows[first, 0] > best.score:
            winner: Any = (
                np.asarray(proposal.genes[first], np.int32),
                np.array(rows[first, 0]),
            )
            best = Best(*winner)
        state = state._replace(
            told=np.array(int(state.told) + n, np.int32),
            best=best,
            inner=state.inner._replace(scores=scores, events=events),
        )
        return keep(state, live)

    return Strategy(
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: (state.best.genes, state.best.score),
        space=own.space,
        name="optuna_sampler",
        capacity=capacity,
        scores=many,
        traceable=False,
        config={
            "strategy": "optuna_sampler", "sampler": name, "scores": many,
            "capacity": capacity, "ordered": ordered,
            "optuna": optuna.__version__,
        },
    )  # fmt: skip


def _optuna() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError:
        raise JnasError(
            "Optuna is not installed, whose samplers are asked for: pip install optuna"
        ) from None
    return optuna


def _factory(optuna: Any, sampler: Any) -> tuple[Callable[[int], Any], str]:
    """What makes a sampler of a seed, and its name."""
    sampler = "TPESampler" if sampler is None else sampler
    base = optuna.samplers.BaseSampler
    if isinstance(sampler, str):
        known = sorted(
            name
            for name in optuna.samplers.__all__
            if isinstance(getattr(optuna.samplers, name), type)
            and issubclass(getattr(optuna.samplers, name), base)
        )
        if sampler not in known:
            raise unknown_name("Optuna sampler", sampler, known)
        kind = getattr(optuna.samplers, sampler)
        return lambda seed: kind(seed=seed), sampler
    if isinstance(sampler, base) or not callable(sampler):
        raise JnasError(
            "sampler must be a name or (seed) -> sampler, got "
            f'{type(sampler).__name__}: such as "TPESampler" or lambda seed: '
            "TPESampler(seed=seed)"
        )
    return sampler, getattr(sampler, "__name__", type(sampler).__name__)


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keeps Optuna's notes on studies and experimental features to itself."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _digest(state: State) -> bytes:
    """What the study of a state depends on."""
    asked, told = int(state.asked), int(state.told)
    parts = (
        np.asarray(jax.random.key_data(state.key)),
        state.inner.events[: asked + told],
        state.inner.genes[:asked],
        state.inner.scores[:asked],
    )
    found = hashlib.blake2b(f"{asked} {told}".encode())
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.digest()
