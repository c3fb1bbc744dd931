"""`run`: a strategy on an objective for many seeds, in one compiled program."""

import functools
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import compiling, domain
from jnas.discrete import folders, seed_log
from jnas.discrete.base import Strategy, seed_axes
from jnas.discrete.checks import count
from jnas.discrete.result import Result
from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["check_fit", "run", "seeds_of"]


def run(
    strategy: Strategy,
    objective: Objective,
    *,
    evaluations: int,
    seeds: int | Sequence[int] = 1,
    batch: int | None = None,
    workdir: str | os.PathLike[str] | None = None,
    together: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **how: Any,
) -> Result:
    """Runs a strategy on an objective for some seeds.

    Where both can be traced (tables can), all seeds advance together (``vmap``) through
    one compiled loop (``scan``) of asking, evaluating and telling. The same strategy
    and objective run again compile nothing. The trials of a seed do not depend on the
    other seeds (but for rounding, where a strategy trains networks).

    Args:
      strategy: the strategy.
      objective: the objective, over the same space. Where it can't be traced, or the
        strategy can't, seeds are studied in turn (`jnas.discrete.study`), each in a
        folder ``seedN`` of the workdir.
      evaluations: number of evaluations of each seed.
      seeds: how many (0, 1, ...), or which.
      batch: candidates that are evaluated before the strategy learns, by default the
        strategy's own.
      workdir: folder for ``trials.jsonl``, a line for each trial; the same call again
        goes on with the seeds that are not complete there, and more seeds may be
        asked for. None writes nothing.
      together: seeds that run at once, by default 100 with a workdir, else all.
      progress: called with the number of finished seeds and of all, now and then.
      **how: where seeds are studied in turn, ``executor``, ``parallel`` and other
        options of `jnas.discrete.study`; its ``progress`` is ``on_trial`` here.

    Returns:
      The trials.

    Raises:
      JnasError: the parts don't fit each other, or a number is out of range.

    Example:
      >>> import jnas
      >>> strategy = jnas.discrete.random_search("nasbench201")
      >>> def total(genes, key, fidelity):
      ...     return genes.sum(-1) * 1.0, fidelity
      >>> wish = Objective(strategy.space, total, "sum", traceable=True)
      >>> run(strategy, wish, evaluations=20, seeds=3).genes.shape
      (3, 20, 6)
    """
    numbers = seeds_of(seeds)
    evaluations = count("evaluations", evaluations)
    check_fit(strategy, objective, evaluations)
    if not (strategy.traceable and objective.traceable):
        if together is not None:
            name = strategy.name if objective.traceable else objective.name
            raise JnasError(
                f"{name} can't be traced, so seeds run one after the other: leave "
                "together out"
            )
        found = _one_by_one(
            strategy, objective, evaluations, numbers, batch, workdir, progress, how
        )
        return _result(strategy, objective, numbers, *found)
    if how:
        raise JnasError(
            f"{', '.join(how)}: for objectives that can't be traced, as "
            f"{objective.name} can: leave it out"
        )
    batch = strategy.batch if batch is None else count("batch", batch)
    program = _program(
        strategy.init,
        strategy.ask,
        strategy.tell,
        objective.evaluate,
        evaluations,
        min(batch, evaluations),
    )

    folder = None if workdir is None else Path(workdir)
    done: dict[int, Any] = {}
    if folder is not None:
        setting = {
            "strategy": strategy.config or {"strategy": strategy.name},
            "objective": {"name": objective.name, **(objective.config or {})},
            "space": folders.described(domain.of(strategy.space).space),
            "evaluations": evaluations,
            "batch": batch,
        }
        seed_log.check_setting(folder, setting)
        done = seed_log.complete_seeds(folder, evaluations)
    if together is None:
        together = len(numbers) if folder is None else min(100, len(numbers))
    together = min(count("together", together), len(numbers))
    left = [seed for seed in numbers if seed not in done]
    for start in range(0, len(left), together):
        own = left[start : start + together]
        # Filled up with one of them, so that all calls are of one shape.
        filled = own + own[-1:] * (together - len(own))
        rows = jax.device_get(program(np.asarray(filled, np.int32)))
        if folder is not None:
            seed_log.append(
                folder, _result(strategy, objective, filled, *rows), len(own)
            )
        done |= {seed: tuple(x[i] for x in rows) for i, seed in enumerate(own)}
        if progress is not None:
            progress(len(numbers) - len(left) + start + len(own), len(numbers))
    stacked = [np.stack([done[seed][i] for seed in numbers]) for i in range(3)]
    return _result(strategy, objective, numbers, *stacked)


def _result(strategy, objective, numbers, genes, scores, costs) -> Result:
    return Result(
        genes=np.asarray(genes, np.int32),
        scores=np.asarray(scores, np.float32),
        costs=np.asarray(costs, np.float32),
        seeds=tuple(numbers),
        space=strategy.space,
        strategy=dict(strategy.config or {"strategy": strategy.name}),
        objective=objective.name,
        score_unit=objective.score_unit,
        cost_unit=objective.cost_unit,
    )


def _one_by_one(
    strategy, objective, evaluations, numbers, batch, workdir, progress, how
) -> list[np.ndarray]:
    """Genes, scores and costs of seeds that are studied in turn."""
    from jnas.discrete.study import study

    rows, how = [], dict(how)
    on_trial = how.pop("on_trial", None)
    for seed in numbers:
        folder = None if workdir is None else Path(workdir) / f"seed{seed}"
        rows.append(
            study(
                strategy,
                objective,
                evaluations=evaluations,
                seed=seed,
                batch=batch,
                workdir=folder,
                progress=on_trial,
                **how,
            )
        )
        if progress is not None:
            progress(len(rows), len(numbers))
    return [
        np.stack([getattr(row, name) for row in rows])
        for name in ("genes", "scores", "costs")
    ]


@functools.lru_cache(maxsize=16)
def _program(init, ask, tell, evaluate, evaluations, batch):
    """The jitted ``(seeds [S]) -> (genes, scores, costs)``, each ``[S, T, ...]``."""

    def step(carry, keys, n):
        state, number = carry
        proposal, state = jax.vmap(
            lambda s: ask(s, n), in_axes=(seed_axes,), out_axes=(0, seed_axes)
        )(state)
        drawn = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        scores, costs = jax.vmap(evaluate)(proposal.genes, drawn, proposal.fidelity)
        state = jax.vmap(tell, in_axes=(seed_axes, 0, 0, 0), out_axes=seed_axes)(
            state, proposal, scores, costs
        )
        return (state, number + 1), (proposal.genes, scores, costs)

    def program(seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        state = jax.vmap(init, out_axes=seed_axes)(keys)
        # Not one of the two that a strategy's own start splits off.
        keys = jax.vmap(lambda key: jax.random.split(key, 3)[2])(keys)
        carry = (state, jnp.zeros((), jnp.int32))
        whole, rest = divmod(evaluations, batch)
        carry, rows = jax.lax.scan(
            lambda carry, _: step(carry, keys, batch), carry, length=whole
        )
        # [steps, S, batch, ...] -> [S, steps * batch, ...]
        rows = jax.tree.map(
            lambda x: jnp.moveaxis(x, 0, 1).reshape(
                len(seeds), whole * batch, *x.shape[3:]
            ),
            rows,
        )
        if rest:
            _, last = step(carry, keys, rest)
            rows = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b], axis=1), rows, last
            )
        return rows

    return jax.jit(program, compiler_options=compiling.options())


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds that a number or a sequence means.

    Example:
      >>> seeds_of(3), seeds_of([7, 9])
      ((0, 1, 2), (7, 9))
    """
    given: Any = seeds
    try:
        numbers = (
            tuple(operator.index(seed) for seed in given)
            if hasattr(given, "__iter__")
            else tuple(range(operator.index(given)))
        )
    except TypeError:
        numbers = ()
    in_range = all(0 <= seed < 2**31 for seed in numbers)
    if not numbers or not in_range or len(set(numbers)) < len(numbers):
        raise JnasError(
            f"seeds must be a number >= 1, or distinct seeds >= 0, got {given!r}"
        )
    return numbers


def check_fit(strategy: Strategy, objective: Objective, evaluations: int) -> None:
    """Refuses what can't be run together.

    Args:
      strategy: the strategy.
      objective: the objective.
      evaluations: number of evaluations.

    Raises:
      JnasError: the spaces differ, the strategy has no room for so many, or it is told
        another number of scores than a traceable objective gives, or it gives no
        costs.
    """
    own, other = (domain.of(part.space) for part in (strategy, objective))
    if own.space != other.space:
        raise JnasError(
            f"{strategy.name} searches {own.space.name}, but {objective.name} scores "
            f"{other.space.name}: make the strategy with the objective's space"
        )
    if strategy.capacity is not None and evaluations > strategy.capacity:
        raise JnasError(
            f"{strategy.name} has room for {strategy.capacity} evaluations, "
            f"{evaluations} are wanted: make it with capacity={evaluations}"
        )
    if objective.traceable:
        genes = jax.ShapeDtypeStruct((1, len(own.cardinalities)), jnp.int32)
        share = jax.ShapeDtypeStruct((1,), jnp.float32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        found = jax.eval_shape(objective.evaluate, genes, key, share)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise JnasError(
                f"{objective.name}: evaluate must return (scores, costs), got "
                f"{type(found).__name__}: return costs, too, such as ones"
            )
        scores = found[0]
        wanted = (1,) if strategy.scores is None else (1, strategy.scores)
        if scores.shape != wanted:
            many = "one score" if len(wanted) == 1 else f"{wanted[1]} scores"
            given = "one" if len(scores.shape) == 1 else f"{scores.shape[-1]}"
            raise JnasError(
                f"{strategy.name} needs {many} of each candidate, {objective.name} "
                f"gives {given}: choose as many objectives"
            )
