"""REINFORCE: a policy over genes that follows the gradient of the expected reward."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnas import domain, errors
from jnas.discrete import controller as controllers
from jnas.discrete.base import Strategy, build
from jnas.discrete.checks import count, positive, share
from jnas.discrete.drawing import valid_draws

__all__ = ["reinforce"]

_POLICIES = ("independent", "lstm")


class _Policy(NamedTuple):
    params: Any
    optimizer: Any
    baseline: controllers.Baseline


def reinforce(
    space: Any,
    *,
    policy: str = "independent",
    learning_rate: float | None = None,
    decay: float = 0.9,
    entropy: float = 0.0,
    units: int = 35,
    layers: int = 2,
    scale: float = 0.08,
) -> Strategy:
    """Draws candidates from a policy that makes good ones more likely.

    Each call of ``tell`` is one step of Adam along ``mean((r - b) grad log p(genes))``
    over the candidates told, at the policy of now: what was asked of an older policy
    is not corrected for. The baseline b is a moving average that takes in the mean
    reward of the call first (`controller.advantages`, where its bias is discussed).
    Failed candidates contribute nothing, to gradient or baseline.

    * ``"independent"``: a softmax for each gene, as in the code of NAS-Bench-201 (Dong
      & Yang, ICLR 2020), with the settings of NATS-Bench: one candidate a step, Adam
      0.01, decay 0.9, rewards in percent.
    * ``"lstm"``: the controller of Zoph & Le, Neural architecture search with
      reinforcement learning (ICLR 2017), section 3: two layers of 35 units, weights
      U(-0.08, 0.08), Adam 6e-4, 8 candidates a step (one of its 100 replicas, which
      updated at the same time). The decay is not in the paper. It cubed accuracies;
      Adam does not see the unit of rewards, but cubing is left to the objective. These
      settings are for thousands of candidates: 300 in calls of 8 are 37 steps, after
      which the policy is still nearly uniform.

    In a space whose genes are no product, an invalid draw is repeated (at most 10
    times, then drawn by the space), and p stays the probability of a draw.

    Args:
      space: a space or its name.
      policy: ``"independent"`` or ``"lstm"``.
      learning_rate: of Adam; by default that of the policy.
      decay: of the baseline.
      entropy: weight of the policy's entropy, in nats, beside the reward; in the unit
        of scores.
      units: of the LSTM.
      layers: of the LSTM.
      scale: of the LSTM's first weights.

    Returns:
      The strategy.

    Raises:
      JnasError: an argument is out of range.

    Example:
      >>> strategy = reinforce("nasbench201")
      >>> proposal, state = strategy.ask(strategy.init(jax.random.key(0)))
      >>> state = strategy.tell(state, proposal, jnp.array([90.0]))
      >>> float(strategy.best(state)[1])
      90.0
    """
    own = domain.of(space)
    if policy not in _POLICIES:
        raise errors.unknown_name("policy", policy, _POLICIES)
    recurrent = policy == "lstm"
    if learning_rate is None:
        learning_rate = 6e-4 if recurrent else 0.01
    learning_rate = positive("learning_rate", learning_rate)
    decay, entropy = share("decay", decay), positive("entropy", entropy, zero=True)
    config = {
        "strategy": "reinforce",
        "policy": policy,
        "learning_rate": learning_rate,
        "decay": decay,
        "entropy": entropy,
    }
    if recurrent:
        units, layers = count("units", units), count("layers", layers)
        scale = positive("scale", scale)
        controller = controllers.lstm(own.cardinalities, units, layers, scale)
        config |= {"units": units, "layers": layers, "scale": scale}
    else:
        controller = controllers.independent(own.cardinalities)
    optimizer = optax.adam(learning_rate)
    draw = valid_draws(own, controller.sample)

    def init(key):
        params = controller.init(key)
        zero = jnp.zeros((), jnp.float32)
        return _Policy(params, optimizer.init(params), controllers.Baseline(zero, zero))

    def propose(inner, n, *, keys, **context):
        return jax.vmap(draw, (0, None))(keys, inner.params), inner

    def learn(inner, *, genes, score, **context):
        score = score.astype(jnp.float32)
        known = score > -jnp.inf
        advantage, baseline = controllers.advantages(inner.baseline, score, decay)

        def loss(params):
            evaluate = jax.vmap(controller.evaluate, (None, 0))
            log_prob, spread = evaluate(params, genes)
            gain = advantage * log_prob + jnp.where(known, entropy * spread, 0.0)
            return -jnp.sum(gain) / jnp.maximum(jnp.sum(known), 1)

        params, state = controllers.learned(
            optimizer, loss, inner.params, inner.optimizer
        )
        new = _Policy(params, state, baseline)
        # Adam moves on even where the gradient is 0: nothing known, nothing done.
        some = jnp.any(known)
        return jax.tree.map(lambda a, b: jnp.where(some, a, b), new, inner)

    return build(
        own.space,
        "reinforce",
        init=init,
        propose=propose,
        learn=learn,
        batched=True,
        batch=8 if recurrent else 1,
        config=config,
    )
