"""Proximal policy optimization of a recurrent controller, as for NASNet."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas import domain
from jnas.discrete import controller as controllers
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, positive, share
from jnas.discrete.drawing import valid_draws

__all__ = ["ppo"]

# exp(20) is far beyond any clip; more would overflow in float32.
_LARGEST_LOG_RATIO = 20.0


class _Pending(NamedTuple):
    id: jax.Array  # [P], a ring by the order of asking, -1 where nothing is
    log_prob: jax.Array  # [P], when it was drawn


class _Policy(NamedTuple):
    params: Any
    optimizer: Any
    baseline: controllers.Baseline
    pending: _Pending


def ppo(
    space: Any,
    *,
    batch: int = 20,
    epochs: int = 10,
    clip: float = 0.2,
    learning_rate: float = 3.5e-4,
    entropy: float = 1e-5,
    decay: float = 0.95,
    scale: float = 100.0,
    pending: int = 1000,
    units: int = 100,
    layers: int = 1,
    weights: float = 0.1,
) -> Strategy:
    """Draws candidates from an LSTM that is trained with the clipped surrogate.

    Each call of ``tell`` takes ``epochs`` steps of Adam on all its candidates, along
    the gradient of ``mean(min(q A, clip(q, 1 - clip, 1 + clip) A)) + entropy H``. The
    ratio q compares the probability of the whole candidate with that at its drawing,
    which is kept by its number, so that candidates may be told late and in any order.
    A is the reward minus a moving average that takes in the call's mean first
    (`controller.advantages`). Failed candidates contribute nothing.

    Zoph, Vasudevan, Shlens & Le, Learning transferable architectures for scalable
    image recognition (CVPR 2018), appendix A.1: one layer of 100 units, weights U(-0.1,
    0.1), Adam 3.5e-4, entropy 1e-5, decay 0.95; 20,000 candidates were trained. Batch,
    epochs and clip are not in the paper: clip and epochs are those of Schulman et al.,
    Proximal policy optimization algorithms (2017), tables 1 and 3, and the batch is our
    choice.

    In a space whose genes are no product, an invalid draw is repeated (at most 10
    times, then drawn by the space), and the probability stays that of a draw.

    Args:
      space: a space or its name.
      batch: candidates of one call of ``ask``.
      epochs: steps of each call of ``tell``.
      clip: how far the ratio may be from 1.
      learning_rate: of Adam.
      entropy: weight of the policy's entropy, in nats, beside the reward.
      decay: of the baseline.
      scale: what scores are divided by; 100 makes percents fractions.
      pending: candidates whose probability at drawing is kept; one that is told after
        so many more were asked counts as if drawn now (q = 1 at the first step).
      units: of the LSTM.
      layers: of the LSTM.
      weights: bound of the LSTM's first weights.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> strategy = ppo("nasbench201", batch=2)
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)))
      >>> state = strategy.tell(state, proposal, jnp.array([90.0, 80.0]))
      >>> float(strategy.best(state)[1])
      90.0
    """
    own = domain.of(space)
    batch, epochs = count("batch", batch), count("epochs", epochs)
    units, layers = count("units", units), count("layers", layers)
    room = count("pending", pending)
    clip, scale = positive("clip", clip), positive("scale", scale)
    learning_rate = positive("learning_rate", learning_rate)
    entropy = positive("entropy", entropy, zero=True)
    decay, weights = share("decay", decay), positive("weights", weights)
    controller = controllers.lstm(own.cardinalities, units, layers, weights)
    evaluate = jax.vmap(controller.evaluate, (None, 0))
    optimizer = optax.adam(learning_rate)
    draw = valid_draws(own, controller.sample)

    def init(key):
        params = controller.init(key)
        zero = jnp.zeros((), jnp.float32)
        return _Policy(
            params,
            optimizer.init(params),
            controllers.Baseline(zero, zero),
            _Pending(jnp.full(room, -1, jnp.int32), jnp.zeros(room, jnp.float32)),
        )

    def propose(inner, n, *, keys, asked, **context):
        genes = jax.vmap(draw, (0, None))(keys, inner.params)
        log_prob, _ = evaluate(inner.params, genes)
        # Of more than there is room for, the last are kept.
        ids = (asked + jnp.arange(n, dtype=jnp.int32))[-room:]
        kept = _Pending(
            inner.pending.id.at[ids % room].set(ids),
            inner.pending.log_prob.at[ids % room].set(log_prob[-room:]),
        )
        return genes, inner._replace(pending=kept)

    def learn(inner, *, genes, score, id, **context):
        rewards = score.astype(jnp.float32) / scale
        known = rewards > -jnp.inf
        advantage, baseline = controllers.advantages(inner.baseline, rewards, decay)
        place = id % room
        now, _ = evaluate(inner.params, genes)
        kept = inner.pending.id[place] == id
        before = jnp.where(kept, inner.pending.log_prob[place], now)

        def loss(params):
            log_prob, spread = evaluate(params, genes)
            ratio = jnp.exp(jnp.minimum(log_prob - before, _LARGEST_LOG_RATIO))
            clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
            gain = jnp.minimum(ratio * advantage, clipped * advantage)
            gain += jnp.where(known, entropy * spread, 0.0)
            return -jnp.sum(gain) / jnp.maximum(jnp.sum(known), 1)

        def epoch(carry, _):
            return controllers.learned(optimizer, loss, *carry), None

        start = (inner.params, inner.optimizer)
        (params, state), _ = jax.lax.scan(epoch, start, length=epochs)
        new = _Policy(params, state, baseline, inner.pending)
        # Adam moves on even where the gradient is 0: nothing known, nothing done.
        some = jnp.any(known)
        return jax.tree.map(lambda a, b: jnp.where(some, a, b), new, inner)

    return build(
        own.space,
        "ppo",
        init=init,
        propose=propose,
        learn=learn,
        batched=True,
        batch=batch,
        config={
            "strategy": "ppo",
            "batch": batch,
            "epochs": epochs,
            "clip": clip,
            "learning_rate": learning_rate,
            "entropy": entropy,
            "decay": decay,
            "scale": scale,
            "pending": room,
            "units": units,
            "layers": layers,
            "weights": weights,
        },
    )
