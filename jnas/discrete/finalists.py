"""What cheap scores are worth: training the best, and how two rankings agree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count
from jnas.discrete.player import Trials
from jnas.discrete.result import Result
from jnas.discrete.study import study
from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["Agreement", "Finalists", "kendall_tau", "listed", "train_top"]

_TRIES = 20  # times the number wanted that candidates are drawn


class Finalists(NamedTuple):
    """Candidates by their scores of the second objective, the best first.

    Attributes:
      genes: int32 ``[k, L]``.
      scores: float32 ``[k]``, means over repeats, NaN of what failed (last).
      spread: float32 ``[k]``, sample standard deviations over repeats, NaN of one.
      search_scores: float32 ``[k]``, what they were chosen by.
      trials: of the second objective.
    """

    genes: np.ndarray
    scores: np.ndarray
    spread: np.ndarray
    search_scores: np.ndarray
    trials: Trials


def listed(space: Any, genes: Any) -> Strategy:
    """A strategy that proposes given candidates, in their order.

    Args:
      space: a space or its name.
      genes: integers ``[n, L]``.

    Returns:
      The strategy, with room for ``n`` evaluations.

    Raises:
      JnasError: the genes are not candidates of the space.

    Example:
      >>> strategy = listed("nasbench201", [[0, 1, 2, 3, 4, 0]])
      >>> proposal, _ = strategy.ask(strategy.init(jax.random.key(0)), 1)
      >>> proposal.genes.tolist()
      [[0, 1, 2, 3, 4, 0]]
    """
    own = domain.of(space)
    rows = _candidates(own, genes)
    if not len(rows):
        raise JnasError("there are no candidates to evaluate, got an empty list")
    table = jnp.asarray(rows)

    def propose(inner, *, asked, **context):
        return table[asked], inner

    return build(
        own.space,
        "listed",
        init=lambda key: (),
        propose=propose,
        learn=lambda inner, **context: inner,
        capacity=len(rows),
        config={"strategy": "listed", "genes": rows.tolist()},
    )


def train_top(
    trials: Any,
    objective: Objective,
    k: int = 10,
    *,
    repeats: int = 1,
    seed: int = 0,
    **options: Any,
) -> Finalists:
    """Evaluates the best candidates of a search by another, dearer objective.

    "Search, then train the top k from scratch", since the rankings of supernets and of
    short trainings mislead: Yu et al., Evaluating the search phase of neural
    architecture search, ICLR 2020; SPOS and RSPS do so, too. Candidates that are the
    same network (`jnas.domain.Domain.identity`) count once, with the mean of their
    finite scores.

    Args:
      trials: of the search: those of `study`, the `Result` of `run` (all seeds
        together), or a pair (genes ``[n, L]``, scores ``[n]`` or ``[n, M]``); of
        several scores the first counts.
      objective: evaluates the finalists, at full fidelity.
      k: the most finalists.
      repeats: evaluations of each, with different keys.
      seed: of the evaluations.
      **options: of `study`: workdir, executor, parallel, retries, progress, chunk.

    Returns:
      The finalists.

    Raises:
      JnasError: no score is finite, or an option is out of range.

    Example:
      >>> import jnas
      >>> wish = Objective(jnas.spaces.nasbench201(),
      ...                  lambda genes, key, f: (genes[:, 0], f), "first")
      >>> genes = np.array([[0, 1, 1, 1, 1, 1], [2, 1, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]])
      >>> found = train_top((genes, [3.0, 2.0, 1.0]), wish, k=2)
      >>> found.scores.tolist(), found.search_scores.tolist()
      ([2.0, 0.0], [2.0, 3.0])
    """
    k, repeats = count("k", k), count("repeats", repeats)
    if isinstance(trials, Trials):
        trials = (trials.genes, trials.scores)
    elif isinstance(trials, Result):
        genes = trials.genes
        trials = (genes.reshape(-1, genes.shape[-1]), trials.first_scores().reshape(-1))
    if not isinstance(trials, tuple | list) or len(trials) != 2:
        raise JnasError(
            "trials must be those of study, the result of run, or a pair (genes, "
            f"scores), got {type(trials).__name__}"
        )
    genes, scores = trials
    own = domain.of(objective.space)
    genes, scores = _candidates(own, genes), np.asarray(scores, np.float32)
    if len(scores) != len(genes):
        raise JnasError(
            f"every candidate needs a score, got {len(genes)} and {len(scores)}"
        )
    scores = scores.reshape(len(scores), -1)
    known, scores = np.isfinite(scores).all(axis=1), scores[:, 0]
    if not known.any():
        raise JnasError("no candidate has a finite score: nothing can be chosen")
    genes, scores = genes[known], scores[known]
    first, group = _distinct(own, genes)
    means = np.bincount(group, scores.astype(np.float64)) / np.bincount(group)
    # Of equal scores the one that was found first.
    best = np.argsort(-means, kind="stable")[:k]
    chosen = genes[first[best]]
    result = study(
        listed(own.space, np.repeat(chosen, repeats, axis=0)),
        objective,
        evaluations=len(chosen) * repeats,
        batch=len(chosen) * repeats,
        seed=seed,
        **options,
    )
    found = result.scores.reshape(len(chosen), repeats, -1)[:, :, 0].astype(np.float64)
    mean = found.mean(axis=1)
    spread = np.full(len(chosen), np.nan)
    if repeats > 1:
        spread = found.std(axis=1, ddof=1)
    order = np.argsort(-np.where(np.isfinite(mean), mean, -np.inf), kind="stable")
    return Finalists(
        chosen[order],
        mean[order].astype(np.float32),
        spread[order].astype(np.float32),
        means[best][order].astype(np.float32),
        result,
    )


class Agreement(NamedTuple):
    """How two objectives rank the same candidates.

    Attributes:
      tau: Kendall's tau-b, from -1 to 1, NaN where an objective scores all alike.
      p_value: of the hypothesis that the rankings have nothing in common.
      standard_error: of tau, by bootstrap over candidates.
      n: number of candidates with two finite scores.
      genes: int32 ``[n, L]``.
      scores: float32 ``[2, n]``.
    """

    tau: float
    p_value: float
    standard_error: float
    n: int
    genes: np.ndarray
    scores: np.ndarray


def kendall_tau(
    first: Objective,
    second: Objective,
    candidates: Any = 100,
    *,
    seed: int = 0,
    bootstrap: int = 1000,
) -> Agreement:
    """Kendall's tau-b between two objectives, such as a supernet and a table.

    Kendall, A new measure of rank correlation, Biometrika 1938; tau-b, which corrects
    for ties, is that of ``scipy.stats.kendalltau``.

    Args:
      first: an objective.
      second: another one, of the same space.
      candidates: genes ``[n, L]``, or how many distinct networks to draw uniformly
        (fewer, if the space has hardly more).
      seed: of the drawing, the evaluations' keys and the bootstrap.
      bootstrap: number of resamples for the standard error.

    Returns:
      The agreement; candidates without two finite scores are left out.

    Raises:
      JnasError: the spaces differ, fewer than two candidates are left, or scipy is not
        installed.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> up = Objective(space, lambda g, key, f: (g.sum(-1), f), "sum")
      >>> down = Objective(space, lambda g, key, f: (-g.sum(-1), f), "less")
      >>> found = kendall_tau(up, down, 20, bootstrap=50)
      >>> found.n, round(found.tau, 6)
      (20, -1.0)
    """
    try:
        from scipy import stats
    except ImportError:
        raise JnasError(
            "Kendall's tau needs the package scipy: pip install scipy"
        ) from None
    bootstrap, seed = count("bootstrap", bootstrap, 2), count("seed", seed, 0)
    own = domain.of(first.space)
    if domain.of(second.space).space != own.space:
        raise JnasError(
            f"objectives {first.name!r} and {second.name!r} score different spaces: "
            "compare two of one space"
        )
    key = jax.random.key(seed)
    if np.ndim(candidates):
        genes = _candidates(own, candidates)
    else:
        genes = _drawn(own, count("candidates", candidates, 2), key)
    values = []
    for number, objective in enumerate((first, second)):
        found = np.asarray(objective(genes, jax.random.fold_in(key, number)))
        values.append(np.asarray(found[:, 0] if found.ndim > 1 else found, np.float32))
    scores = np.stack(values)
    known = np.isfinite(scores).all(axis=0)
    genes, scores = genes[known], scores[:, known]
    n = len(genes)
    if n < 2:
        raise JnasError(
            f"a ranking needs two candidates with finite scores, got {n} of "
            f"{known.size}"
        )
    tau, p_value = stats.kendalltau(*scores)
    rng = np.random.default_rng(seed)
    # NaN where a resample has one candidate only.
    drawn = [
        stats.kendalltau(*scores[:, rng.integers(0, n, n)])[0] for _ in range(bootstrap)
    ]
    error = float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else np.nan
    return Agreement(float(tau), float(p_value), error, n, genes, scores)


def _candidates(own: domain.Domain, genes: Any) -> np.ndarray:
    """Checked genes, int32 ``[n, L]``."""
    rows = np.asarray(genes)
    length = len(own.cardinalities)
    if rows.ndim != 2 or rows.shape[1] != length or rows.dtype.kind not in "iu":
        raise JnasError(
            f"genes must be integers [n, {length}], got {rows.dtype} {list(rows.shape)}"
        )
    rows = rows.astype(np.int32)
    if not len(rows):
        return rows
    wrong = np.flatnonzero(~np.asarray(jax.vmap(own.valid)(jnp.asarray(rows))))
    if len(wrong):
        raise JnasError(
            f"genes {rows[wrong[0]].tolist()} (row {wrong[0]}) are no candidate of the "
            "space"
        )
    return rows


def _distinct(own: domain.Domain, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of distinct networks, in order, and of each row its network."""
    identity = np.asarray(jax.jit(jax.vmap(own.identity))(genes))
    _, first, group = np.unique(
        identity, axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[group.reshape(-1)]


def _drawn(own: domain.Domain, n: int, key: jax.Array) -> np.ndarray:
    """Distinct networks, the first of uniform draws."""
    sample = jax.jit(jax.vmap(own.sample))
    genes = np.zeros((0, len(own.cardinalities)), np.int32)
    for part in range(_TRIES):
        keys = jax.random.split(jax.random.fold_in(key, 2 + part), n)
        genes = np.concatenate([genes, np.asarray(sample(keys))])
        genes = genes[_distinct(own, genes)[0]]
        if len(genes) >= n:
            break
    return genes[:n]
