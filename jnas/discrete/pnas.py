"""PNAS: cells grow block by block, and a predictor chooses which to try."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas import domain
from jnas.discrete import predictors
from jnas.discrete.base import Strategy, build
from jnas.discrete.blocks import Tokens, blocks, levels, schedule, tokens
from jnas.discrete.checks import count, positive
from jnas.discrete.history import first_of_equals, seen

__all__ = ["pnas"]

# Random candidates that are drawn where a level has no new cell left.
_TRIES = 32


class _Search(NamedTuple):
    """What was asked (the row is the id), this level's queue, and the predictor."""

    genes: jax.Array  # [capacity, L]
    score: jax.Array  # [capacity], -inf where not told, or failed
    decided: jax.Array  # int32 [capacity], number of decided blocks
    queue: jax.Array  # [Q, L], best first
    many: jax.Array  # [], filled rows of the queue
    weights: Any
    fitted: jax.Array  # bool []
    centre: jax.Array  # [], of the first scores that were fitted
    scale: jax.Array  # []


def pnas(
    space: Any,
    *,
    survivors: int = 256,
    capacity: int | None = None,
    ensemble: int = 5,
    embedding: int = 100,
    hidden: tuple[int, ...] = (100, 100),
    epochs: int = 150,
    minibatch: int = 32,
    learning_rates: tuple[float, float] = (0.01, 0.002),
) -> Strategy:
    """Candidates of few blocks first; their best grow by a block at a time.

    A block is a node (`jnas.discrete.blocks.blocks`: in NAS-Bench-201's cell 5, 25 and
    125 choices; of two cells the nodes of the first come first). All cells of one block
    are proposed in random order. Then, level by level: a predictor is trained on all
    that was told; the best ``survivors`` cells so far are expanded by every choice of
    the next block; and as many of these children, the best predicted first, are
    proposed. Undecided blocks are fillers, so every proposal is a whole candidate, and
    a child that decides for the filler is its parent: it is not proposed again, but
    grows on. What the last level has no room for is proposed after it, ranked anew;
    then come random candidates.

    The predictor is the ensemble of multi-layer perceptrons of the paper: embedded
    tokens averaged over blocks, each member trained on all but one part of the data
    (mean absolute error, Adam, 0.01 the first time and 0.002 after), members averaged.
    Liu et al., Progressive neural architecture search (ECCV 2018), sections 3.3, 3.4.
    Not in the paper: scores are centred and scaled by those of the first level;
    training continues from the last weights; epochs and batch size are BANANAS'.

    The size of a level is known beforehand, see `jnas.discrete.blocks.schedule`. A
    level that is asked for before the last one was told expands what is known then.
    Training amplifies rounding: seeds under ``vmap`` follow single ones in
    distribution, not always bit by bit.

    Args:
      space: a `jnas.Space` or its name.
      survivors: ``K``, cells that are expanded, and proposed, per level.
      capacity: number of evaluations that are remembered, by default those of all
        levels; what is asked beyond it is random.
      ensemble: number of predictors.
      embedding: numbers of an embedded token.
      hidden: sizes of the hidden layers.
      epochs: epochs of a training.
      minibatch: rows of a batch of training.
      learning_rates: of Adam, the first time and later.

    Returns:
      The strategy; its batch is the first level's size.

    Raises:
      JnasError: an argument is out of range, or the space is no `jnas.Space`.

    Example:
      >>> strategy = pnas("nasbench201", survivors=4, epochs=2)
      >>> strategy.capacity, strategy.batch
      (13, 5)
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)))
      >>> sorted(proposal.genes.tolist())[-1]  # one block; the output takes in all
      [4, 0, 0, 1, 1, 1]
    """
    own = domain.of(space)
    survivors, ensemble = count("survivors", survivors), count("ensemble", ensemble)
    for name, value in {
        "embedding": embedding, "epochs": epochs, "minibatch": minibatch,
    }.items():  # fmt: skip
        count(name, value)
    hidden = tuple(count("hidden", width) for width in hidden)
    first_rate, later_rate = (positive("learning_rates", r) for r in learning_rates)
    parts, code = blocks(own.space), tokens(own.space)
    length = len(own.cardinalities)
    sizes = schedule(parts.counts.tolist(), survivors)
    rows = sum(sizes) if capacity is None else count("capacity", capacity)
    starts, level_blocks = levels(sizes, rows)
    queued = min(max(sizes), rows)
    many_parents = min(survivors, rows)
    width = parts.choices.shape[1]
    # Enough for every child that was asked before to be left out.
    ranked = min(max(survivors, queued) + rows, many_parents * width)
    choices, counts, fillers, block_of = (
        jnp.asarray(x)
        for x in (parts.choices, parts.counts, parts.fillers, parts.block)
    )
    filler = jnp.asarray(parts.filler)

    def init(key):
        weights = jax.vmap(lambda k: _init(k, code, embedding, hidden))(
            jax.random.split(key, ensemble)
        )
        return _Search(
            jnp.zeros((rows, length), jnp.int32),
            jnp.full(rows, -jnp.inf, jnp.float32),
            jnp.zeros(rows, jnp.int32),
            jnp.zeros((queued, length), jnp.int32),
            jnp.zeros((), jnp.int32),
            weights,
            jnp.zeros((), bool),
            jnp.zeros((), jnp.float32),
            jnp.ones((), jnp.float32),
        )

    def refit(search, key, told):
        """Trains the ensemble on what was told."""
        chosen = search.score > -jnp.inf
        _, mean, std = predictors.standardise(search.score, chosen)
        centre = jnp.where(search.fitted, search.centre, mean)
        scale = jnp.where(search.fitted, search.scale, std)
        targets = jnp.where(chosen, (search.score - centre) / scale, 0.0)
        inputs = jax.vmap(code.encode)(search.genes, search.decided)
        fold_key, fit_key = jax.random.split(key)
        numbers = jax.random.uniform(fold_key, (rows,))
        part = jnp.argsort(jnp.argsort(jnp.where(chosen, numbers, 2.0))) % ensemble

        def member(weights, number, key):
            # A single member has all of the data.
            own_rows = chosen & ((part != number) | (ensemble == 1))
            mean = jnp.sum(jnp.where(own_rows, targets, 0.0))
            mean = mean / jnp.maximum(jnp.sum(own_rows), 1)
            kernel, bias = weights["layers"][-1]
            bias = jnp.where(search.fitted, bias, mean[None])
            weights = {**weights, "layers": [*weights["layers"][:-1], (kernel, bias)]}
            return predictors.fit(
                lambda w, x: _predict(w, x, code),
                weights,
                inputs,
                targets,
                own_rows,
                key=key,
                learning_rate=jnp.where(search.fitted, later_rate, first_rate),
                epochs=epochs,
                batch=minibatch,
                most=jnp.minimum(told, rows),
            )

        weights = jax.vmap(member)(
            search.weights, jnp.arange(ensemble), jax.random.split(fit_key, ensemble)
        )
        return search._replace(
            weights=weights,
            centre=centre,
            scale=scale,
            fitted=search.fitted | jnp.any(chosen),
        )

    def fill(search, level, key, asked, told):
        """Starts a level: its queue."""
        fit_key, noise_key = jax.random.split(key)
        search = refit(search, fit_key, told)
        block = jnp.asarray(level_blocks)[level]
        inside = block_of == block
        # Parents have nothing decided from this block on; before anything is told,
        # whatever was asked grows on.
        grown = jnp.any((block_of >= block)[None] & (search.genes != filler[None]), 1)
        open_ = ~grown & (jnp.arange(rows) < asked)
        good = open_ & (search.score > -jnp.inf)
        rank = jnp.where(jnp.any(good), search.score, 0.0)
        rank = jnp.where(jnp.where(jnp.any(good), good, open_), rank, -jnp.inf)
        value, place = jax.lax.top_k(rank, many_parents)
        parents, there = search.genes[place], value > -jnp.inf
        alone = (level == 0) & (jnp.arange(many_parents) == 0)
        parents = jnp.where((block == 0), filler[None], parents)
        there = jnp.where(block == 0, jnp.arange(many_parents) == 0, there)

        def expand(parent):
            children = jnp.where(inside[None], choices[block], parent[None])
            inputs = jax.vmap(code.encode, in_axes=(0, None))(children, block + 1)
            predicted = jax.vmap(lambda w: _predict(w, inputs, code))(search.weights)
            return jnp.mean(predicted, axis=0), jax.vmap(own.valid)(children)

        worth, valid = jax.lax.map(expand, parents)
        noise = jax.random.uniform(noise_key, worth.shape)
        worth = jnp.where(level == 0, noise, worth)
        row = jnp.arange(width)
        usable = valid & there[:, None] & (row < counts[block])[None]
        usable &= (row != fillers[block])[None] | alone[:, None]
        worth = jnp.where(usable, worth, -jnp.inf).reshape(-1)
        value, place = jax.lax.top_k(worth, ranked)
        children = jnp.where(
            inside[None], choices[block][place % width], parents[place // width]
        )
        identity = jax.vmap(own.identity)(children)
        known = jax.vmap(own.identity)(search.genes)
        new = first_of_equals(
            identity, (value > -jnp.inf) & ~seen(identity, known, asked)
        )
        order = jnp.argsort(~new)[:queued]
        return search._replace(
            queue=children[order], many=jnp.minimum(jnp.sum(new), queued)
        )

    def propose(search, *, key, asked, told):
        fill_key, pool_key = jax.random.split(key)
        level = jnp.searchsorted(jnp.asarray(starts), asked, side="right") - 1
        # The number asked doesn't depend on the seed: under vmap one side is run.
        search = jax.lax.cond(
            jnp.any(jnp.asarray(starts) == asked),
            lambda s: fill(s, level, fill_key, asked, told),
            lambda s: s,
            search,
        )
        place = asked - jnp.asarray(starts)[level]
        take = (place < search.many) & (asked < rows)
        pool = jax.vmap(own.sample)(jax.random.split(pool_key, _TRIES))
        fresh = ~seen(
            jax.vmap(own.identity)(pool), jax.vmap(own.identity)(search.genes), asked
        )
        random = pool[jnp.argmax(fresh)]
        genes = jnp.where(take, search.queue[jnp.minimum(place, queued - 1)], random)
        decided = jnp.where(
            take, jnp.asarray(level_blocks)[level] + 1, len(parts.counts)
        )
        return genes, search._replace(
            genes=search.genes.at[asked].set(genes, mode="drop"),
            decided=search.decided.at[asked].set(decided, mode="drop"),
        )

    def learn(search, *, score, id, **context):
        score = score.astype(search.score.dtype)
        return search._replace(score=search.score.at[id].set(score, mode="drop"))

    return build(
        own.space,
        "pnas",
        init=init,
        propose=propose,
        learn=learn,
        batch=min(sizes[0], rows),
        capacity=rows,
        config={
            "strategy": "pnas", "survivors": survivors, "capacity": rows,
            "levels": list(sizes), "ensemble": ensemble, "embedding": embedding,
            "hidden": list(hidden), "epochs": epochs, "minibatch": minibatch,
            "learning_rates": [first_rate, later_rate],
        },
    )  # fmt: skip


def _init(key: jax.Array, code: Tokens, embedding: int, hidden: tuple[int, ...]) -> Any:
    """Weights of one member: a table of each kind of token, and the layers."""
    *keys, last = jax.random.split(key, len(code.parts) + 1)
    tables = [
        jax.nn.initializers.glorot_uniform()(k, (many, embedding), jnp.float32)
        for k, (_, many) in zip(keys, code.parts, strict=True)
    ]
    inputs = embedding * sum(slots for slots, _ in code.parts)
    return {
        "tables": tables,
        "layers": predictors.mlp_init(last, (inputs, *hidden, 1)),
    }


def _predict(weights: Any, inputs: jax.Array, code: Tokens) -> jax.Array:
    """Predictions ``[n]`` of tokens ``[n, F]``."""
    start, embedded = 0, []
    for (slots, many), table in zip(code.parts, weights["tables"], strict=True):
        part = inputs[:, start : start + slots * many].reshape(-1, slots, many)
        embedded.append((part @ table).reshape(len(inputs), -1))
        start += slots * many
    return predictors.mlp(weights["layers"], jnp.concatenate(embedded, axis=1))
