"""Q-learning with replay, which builds a candidate gene by gene (MetaQNN)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import domain
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, positive, share
from jnas.discrete.drawing import valid_draws
from jnas.errors import JnasError

__all__ = ["q_learning"]

# A tenth of the published numbers of models, for studies of some hundred evaluations.
_SCHEDULE = (
    (1.0, 150),
    *[(epsilon, 10) for epsilon in (0.9, 0.8, 0.7)],
    *[(epsilon, 15) for epsilon in (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)],
)
_LARGEST = 10_000_000


class _Agent(NamedTuple):
    q: jax.Array  # [L, K ** history, K], -inf for a value that a gene has not
    genes: jax.Array  # [C, L], a ring by the order of telling
    reward: jax.Array  # [C]
    written: jax.Array  # number of entries ever written
    unique: jax.Array  # number of different candidates


def q_learning(
    space: Any,
    *,
    schedule: Sequence[tuple[float, int]] = _SCHEDULE,
    history: int = 1,
    learning_rate: float = 0.01,
    discount: float = 1.0,
    first: float = 0.5,
    replays: int = 128,
    memory: int = 1000,
    scale: float = 100.0,
) -> Strategy:
    """Chooses gene after gene by a table of values, at random with probability epsilon.

    The value Q of choosing ``a`` for a gene depends on the gene's position and the
    ``history`` genes before it. What is told is stored, then ``replays`` stored
    candidates are drawn with replacement, and each updates its choices from the last
    to the first: ``Q <- Q + learning_rate (r + discount max Q' - Q)``, with the reward
    at the last gene, where max Q' is 0, and 0 before. Equal values are chosen from at
    random. A candidate told again is stored again, with its first reward, and replayed
    like any other, but does not count for the schedule. Failed candidates contribute
    nothing.

    Baker, Gupta, Naik & Raskar, Designing neural network architectures using
    reinforcement learning (ICLR 2017), and its code. Its schedule is
    ``((1.0, 1500), (0.9, 100), (0.8, 100), (0.7, 100), (0.6, 150), ..., (0.1, 150))``;
    the default is a tenth of that. Its states describe the layer before; here the
    history stands for them; with fewer than all genes before, values are averages over
    the others, as they were stored. It never trained a candidate twice, but drew again;
    here a repetition is an evaluation.

    In a space whose genes are no product, an invalid draw is repeated (at most 10
    times, then drawn by the space).

    Args:
      space: a space or its name.
      schedule: pairs of epsilon and the number of different candidates it lasts for;
        the last one stays.
      history: number of genes before a gene that its values depend on.
      learning_rate: of Q.
      discount: of what later choices are worth.
      first: Q at first, in units of the reward.
      replays: candidates replayed after each result.
      memory: candidates stored; then the oldest is lost, and is new if told again.
      scale: what scores are divided by. Rewards should be near [0, 1], as `first` is:
        100 suits accuracies in percent.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range, or the table would be too large.

    Example:
      >>> strategy = q_learning("nasbench201", schedule=[(1.0, 20), (0.1, 1)])
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)), 2)
      >>> state = strategy.tell(state, proposal, jnp.array([90.0, 80.0]))
      >>> float(strategy.best(state)[1])
      90.0
    """
    own = domain.of(space)
    epsilons, numbers = _read(schedule)
    ends = np.cumsum(numbers).astype(np.int32)
    history = count("history", history, 0)
    replays, memory = count("replays", replays), count("memory", memory)
    learning_rate = share("learning_rate", learning_rate)
    discount = share("discount", discount)
    first = positive("first", first, zero=True)
    scale = positive("scale", scale)
    sizes = np.asarray(own.cardinalities)
    length, most = len(sizes), int(sizes.max())
    table = length * most ** (history + 1)
    if table > _LARGEST:
        raise JnasError(
            f"history={history} makes a table of {table:,} values, at most "
            f"{_LARGEST:,} are possible: let values depend on fewer genes"
        )
    wide = most**history
    allowed = np.arange(most)[None] < sizes[:, None]

    def init(key):
        values = np.where(allowed, first, -np.inf)[:, None]
        return _Agent(
            q=jnp.asarray(np.broadcast_to(values, (length, wide, most)), jnp.float32),
            genes=jnp.zeros((memory, length), jnp.int32),
            reward=jnp.zeros(memory, jnp.float32),
            written=jnp.zeros((), jnp.int32),
            unique=jnp.zeros((), jnp.int32),
        )

    def follow(state, gene):
        """The state after a choice: the last genes as one number."""
        return (state * most + gene) % wide

    def draw(key, agent):
        stage = jnp.searchsorted(jnp.asarray(ends), agent.unique, side="right")
        epsilon = jnp.asarray(epsilons, jnp.float32)[
            jnp.minimum(stage, len(epsilons) - 1)
        ]
        explore_key, choice_key = jax.random.split(key)
        explores = jax.random.uniform(explore_key, (length,)) < epsilon
        ranks = jax.random.uniform(choice_key, (length, most))

        def step(state, row):
            q, mask, explore, rank = row
            values = q[state]
            eligible = jnp.where(explore, mask, values == jnp.max(values))
            gene = jnp.argmax(jnp.where(eligible, rank, -1.0)).astype(jnp.int32)
            return follow(state, gene), gene

        rows = (agent.q, jnp.asarray(allowed), explores, ranks)
        return jax.lax.scan(step, jnp.zeros((), jnp.int32), rows)[1]

    valid = valid_draws(own, draw)

    def propose(agent, *, key, **context):
        return valid(key, agent), agent

    def replayed(q, genes, rewards):
        """Updates of Q for candidates ``[R, L]``, one after the other."""
        states = [jnp.zeros(len(genes), jnp.int32)]
        for place in range(length - 1):
            states.append(follow(states[-1], genes[:, place]))

        def one(q, row):
            place, state, gene, last, reward = row
            # The row of the gene after this one; of the first gene, after the last.
            after = q[(place + 1) % length, follow(state, gene)]
            worth = jnp.where(last, reward, discount * jnp.max(after))
            change = learning_rate * (worth - q[place, state, gene])
            return q.at[place, state, gene].add(change), None

        places = jnp.broadcast_to(jnp.arange(length)[::-1], genes.shape)
        rewards = jnp.broadcast_to(rewards[:, None], genes.shape)
        backwards = jnp.stack(states, -1)[:, ::-1], genes[:, ::-1]
        rows = (places, *backwards, places == length - 1, rewards)
        rows = jax.tree.map(lambda x: x.reshape(-1), rows)
        return jax.lax.scan(one, q, rows)[0]

    def learn(agent, *, genes, score, key, **context):
        known = score > -jnp.inf
        stored = jnp.arange(memory) < agent.written
        same = stored & jnp.all(agent.genes == genes[None], axis=-1)
        again = jnp.any(same)
        reward = jnp.where(known, score.astype(jnp.float32) / scale, 0.0)
        reward = jnp.where(again, agent.reward[jnp.argmax(same)], reward)
        place = agent.written % memory
        new = agent._replace(
            genes=agent.genes.at[place].set(genes),
            reward=agent.reward.at[place].set(reward),
            written=agent.written + 1,
            unique=agent.unique + ~again,
        )
        filled = jnp.minimum(new.written, memory)
        rows = jax.random.randint(key, (replays,), 0, filled)
        new = new._replace(q=replayed(new.q, new.genes[rows], new.reward[rows]))
        return jax.tree.map(lambda a, b: jnp.where(known, a, b), new, agent)

    return build(
        own.space,
        "q_learning",
        init=init,
        propose=propose,
        learn=learn,
        config={
            "strategy": "q_learning",
            "schedule": [list(pair) for pair in zip(epsilons, numbers, strict=True)],
            "history": history,
            "learning_rate": learning_rate,
            "discount": discount,
            "first": first,
            "replays": replays,
            "memory": memory,
            "scale": scale,
        },
    )


def _read(schedule: Any) -> tuple[list[float], list[int]]:
    """The epsilons, and the numbers of candidates that each lasts for."""
    try:
        pairs = [(epsilon, number) for epsilon, number in schedule]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        raise JnasError(
            "schedule must be pairs of epsilon and a number of candidates, such as "
            f"[(1.0, 150), (0.1, 15)], got {schedule!r}"
        )
    epsilons = [share("an epsilon of the schedule", epsilon) for epsilon, _ in pairs]
    numbers = [count("a number of the schedule", number) for _, number in pairs]
    return epsilons, numbers
