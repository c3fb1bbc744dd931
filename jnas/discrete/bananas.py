"""BANANAS: Bayesian optimisation with an ensemble of predictors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jnas import domain, errors
from jnas.discrete import acquisition as acquisitions
from jnas.discrete import encodings, history, predictors, variation
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, positive
from jnas.discrete.history import first_of_equals, seen

__all__ = ["bananas"]


def bananas(
    space: Any,
    *,
    capacity: int = 150,
    initial: int = 10,
    batch: int = 10,
    ensemble: int = 5,
    candidates: int = 100,
    mutants_of: int = 1,
    patience: int = 5,
    mutation: str = "uniform",
    encoding: str | Callable[[jax.Array], jax.Array] = "path",
    truncate: int | None = None,
    acquisition: str = "its",
    layers: int = 10,
    width: int = 20,
    epochs: int = 150,
    minibatch: int = 32,
    learning_rate: float = 0.01,
) -> Strategy:
    """An ensemble of small networks predicts the scores of mutants of the best.

    The first ``initial`` candidates are random. Then, at every call of ``ask``, an
    ensemble is trained anew on all that was told (mean absolute error, Adam with
    b2 = 0.99 and eps = 1e-7); ``candidates`` mutants of the best ``mutants_of``
    candidates are made; and the most worthwhile by the acquisition function are
    proposed. Nothing that was asked before is proposed again: where the mutants are too
    few, those of the next best are added, up to ``patience`` times ``mutants_of``
    parents, then random candidates (of which a bounded number is drawn; only where
    these run out, in a space that is nearly exhausted, is something repeated).

    White, Neiswanger & Savani, BANANAS: Bayesian optimization with neural architectures
    for neural architecture search (AAAI 2021), Algorithm 1, with the settings of their
    code. What differs: scores are centred and scaled to deviation 1 for training
    (theirs are losses in percent), and failed candidates are not trained on. Their code
    mutates NAS-Bench-201's cells by ``mutation="genes"``.

    Training amplifies rounding: seeds under ``vmap`` follow single ones in
    distribution, not always bit by bit.

    Args:
      space: a space or its name.
      capacity: number of evaluations that are remembered. What is asked beyond it is
        proposed as always, but neither learned from nor kept from being repeated.
      initial: number of random candidates at the start.
      batch: candidates per call; the ensemble is trained once for each call.
      ensemble: number of predictors.
      candidates: number of mutants that are compared.
      mutants_of: number of best candidates that are mutated.
      patience: see above.
      mutation: one of the kinds of `jnas.domain.of`, or "genes": each gene gets another
        value with probability 1 / (L - 2), at most 1/2.
      encoding: "path", "adjacency" (one-hot genes) or ``(genes [L]) -> [F]``, see
        `jnas.discrete.encodings`.
      truncate: number of path features, see `jnas.discrete.encodings.paths`.
      acquisition: "its", "ucb", "ei", "pi", "ts" or "mean", see
        `jnas.discrete.acquisition.acquire`.
      layers: number of hidden layers of a predictor.
      width: units of a hidden layer.
      epochs: epochs of training.
      minibatch: rows of a batch of training.
      learning_rate: of Adam.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range or unknown, or the space has no paths.

    Example:
      >>> strategy = bananas("nasbench201", initial=2, batch=2, epochs=2)
      >>> state = strategy.init(jax.random.key(0))
      >>> for _ in range(2):
      ...     proposal, state = strategy.ask(state)
      ...     state = strategy.tell(state, proposal, proposal.genes.sum(-1) * 1.0)
      >>> int(state.told), strategy.capacity
      (4, 150)
    """
    own = domain.of(space)
    length = len(own.cardinalities)
    for name, value in {
        "capacity": capacity, "initial": initial, "batch": batch, "ensemble": ensemble,
        "candidates": candidates, "mutants_of": mutants_of, "patience": patience,
        "layers": layers, "width": width, "epochs": epochs, "minibatch": minibatch,
    }.items():  # fmt: skip
        count(name, value)
    positive("learning_rate", learning_rate)
    kinds = (*own.mutations, "genes")
    if mutation not in kinds:
        raise errors.unknown_name("mutation", mutation, kinds)
    if acquisition not in acquisitions.ACQUISITIONS:
        raise errors.unknown_name("acquisition", acquisition, acquisitions.ACQUISITIONS)
    code = encodings.encoding(own.space, encoding, truncate)
    parents = min(mutants_of * patience, capacity)
    each = max(candidates // mutants_of, 1)
    sizes = (code.size, *[width] * layers, 1)

    def mutate(key, genes):
        if mutation == "genes":
            chance = 1 / max(length - 2, 2)
            return variation.redraw(key, genes, own.cardinalities, chance)
        return own.mutate(key, genes, mutation)

    def init(key):
        return history.empty(own, capacity)

    def predict(memory, genes, key, told):
        """Scaled predictions ``[E, n]``, and the best scaled score."""
        chosen = memory.score > -jnp.inf
        targets, _, _ = predictors.standardise(memory.score, chosen)
        inputs = jax.vmap(code.encode)(memory.genes)
        asked_for = jax.vmap(code.encode)(genes)

        def member(key):
            init_key, fit_key = jax.random.split(key)
            weights = predictors.fit(
                predictors.mlp,
                predictors.mlp_init(init_key, sizes),
                inputs,
                targets,
                chosen,
                key=fit_key,
                learning_rate=learning_rate,
                epochs=epochs,
                batch=minibatch,
                most=jnp.minimum(told, capacity),
                b2=0.99,
                eps=1e-7,
            )
            return predictors.mlp(weights, asked_for)

        predictions = jax.vmap(member)(jax.random.split(key, ensemble))
        return predictions, jnp.max(jnp.where(chosen, targets, -jnp.inf))

    def mutants(memory, key, asked):
        """Mutants ``[m, L]`` of the best, and which of them are candidates."""
        scores, rows = jax.lax.top_k(memory.score, parents)
        keys = jax.random.split(key, (parents, each))
        made = jax.vmap(jax.vmap(mutate, in_axes=(0, None)))(keys, memory.genes[rows])
        made = made.reshape(-1, length)
        identity = jax.vmap(own.identity)(made)
        usable = jnp.repeat(scores > -jnp.inf, each) & jax.vmap(own.valid)(made)
        usable &= ~seen(identity, memory.identity, asked)
        usable = first_of_equals(identity, usable)
        # A further parent counts only while there are too few mutants.
        by_parent = jnp.sum(usable.reshape(parents, each), axis=1)
        before = jnp.cumsum(by_parent) - by_parent
        return made, usable & jnp.repeat(before < candidates, each)

    def propose(memory, n, *, keys, asked, told):
        mutate_key, fit_key, draw_key, pool_key = jax.random.split(keys[0], 4)

        def modelled(memory):
            made, usable = mutants(memory, mutate_key, asked)
            predictions, best = predict(memory, made, fit_key, told)
            worth = acquisitions.acquire(acquisition, predictions, best, draw_key)
            # The usable first, also where predictions are NaN.
            order = jnp.lexsort((-worth, ~usable))
            return made[order], jnp.sum(usable)

        def blind(memory):
            return jnp.zeros((parents * each, length), jnp.int32), jnp.sum(0)

        # Neither number depends on the seed: under vmap only one side is run.
        start = (asked + n <= initial) | (told == 0)
        made, many = jax.lax.cond(start, blind, modelled, memory)
        pool = jax.vmap(own.sample)(jax.random.split(pool_key, 4 * n + 16))
        every = jnp.concatenate([made, pool])
        identity = jax.vmap(own.identity)(every)
        usable = jnp.arange(len(every)) >= len(made)
        usable &= ~seen(identity, memory.identity, asked)
        usable |= jnp.arange(len(every)) < many
        fresh = first_of_equals(identity, usable)[len(made) :]
        pool = pool[jnp.argsort(~fresh)]
        # Rows of the initial stage are random, then come mutants, then random ones.
        rows = jnp.arange(n)
        drawn = jnp.clip(initial - asked, 0, n)
        place = rows - drawn
        modelled_row = (place >= 0) & (place < many)
        other = jnp.where(place < 0, rows, rows - many)
        genes = jnp.where(
            modelled_row[:, None],
            made[jnp.clip(place, 0, len(made) - 1)],
            pool[jnp.clip(other, 0, len(pool) - 1)],
        )
        chosen = jax.vmap(own.identity)(genes)
        return genes, history.with_asked(memory, asked + rows, genes, chosen)

    def learn(memory, *, score, id, **context):
        return history.with_told(memory, id, score)

    return build(
        own.space,
        "bananas",
        init=init,
        propose=propose,
        learn=learn,
        batched=True,
        batch=batch,
        capacity=capacity,
        config={
            "strategy": "bananas", "capacity": capacity, "initial": initial,
            "batch": batch, "ensemble": ensemble, "candidates": candidates,
            "mutants_of": mutants_of, "patience": patience, "mutation": mutation,
            "encoding": code.name, "features": code.size, "acquisition": acquisition,
            "layers": layers, "width": width, "epochs": epochs,
            "minibatch": minibatch, "learning_rate": learning_rate,
        },
    )  # fmt: skip
