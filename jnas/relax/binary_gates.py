"""Binary gates: Cai, Zhu & Han, ProxylessNAS, ICLR 2019, section 3.2.

The weights learn on one path, drawn from p = softmax(alpha). The architecture learns on
two, drawn without replacement: their probabilities q are made to sum to 1, one of them
gets the gate 1 and the other 0, both are computed, and

    dL/dalpha_i = sum over j of dL/dg_j q_j (delta_ij - q_i).

After the update both alphas are shifted so that the sum of their exponentials stays
what it was, and the others are put back: so their probabilities don't change, whatever
the optimizer. (The code's Adam, with a first decay rate of 0 and no weight decay, does
not move them.) ``paths=None`` is the code's other mode, its default: the gate is drawn
among all candidates, all are computed for the gradient, and nothing is shifted.

Quirk of the code, kept unless ``skip_none=False``: an edge whose open gate is that of
the zero operation is not updated. Such an edge names one candidate twice in ``active``;
so does one that has only one candidate. With ``paths=None`` its gradient is 0 then.
"""

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.relax import base
from jnas.spaces import Space

__all__ = ["binary_gates"]


def binary_gates(
    paths: int | None = 2, init_scale: float = 1e-3, skip_none: bool = True
) -> base.Relaxation:
    """One path for the weights, two (or all) for the architecture.

    Args:
      paths: 2, or None for all candidates.
      init_scale: standard deviation of the initial alpha; 1e-3 in the paper's code.
      skip_none: whether edges whose sampled candidate is "none" learn nothing.

    Returns:
      The relaxation; arch is ``{group: float32 [E, O]}``.

    Raises:
      JnasError: an argument is out of range; ``init``: two paths need two operations.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = binary_gates()
      >>> arch = relaxation.init(jax.random.key(0), space)
      >>> context = {"key": jax.random.key(1), "step": 0, "space": space}
      >>> [relaxation.sample(arch, phase=phase, **context).active["cell"].shape
      ...  for phase in ("weights", "arch")]
      [(6, 1), (6, 2)]

    References:
      Cai, Zhu, Han, ProxylessNAS: Direct Neural Architecture Search on Target Task and
      Hardware, ICLR 2019, https://arxiv.org/abs/1812.00332
    """
    if paths not in (2, None):
        raise JnasError(f"paths must be 2, or None for all, got {paths!r}")
    base.check_scale(init_scale)

    def check(space: Space):
        for group in space.groups:
            if group.num_operations < 2 and paths == 2:
                raise JnasError(
                    f"group {group.name!r} has one operation, two paths need two: use "
                    "paths=None"
                )

    def sample(arch, *, key, step=None, phase="arch", space=None, **context):
        del step, context

        def one(key, name, alpha):
            log_p = base.log_probabilities(alpha, base.allowed(space, name))
            k = jnp.argmax(log_p + base.gumbel(key, alpha), axis=-1)
            return jax.nn.one_hot(k, alpha.shape[-1], dtype=alpha.dtype), k[:, None]

        def idle(name, k):
            """Whether an edge with this candidate's gate open learns nothing."""
            group = None if space is None else space.group(name)
            if group is None or not skip_none or "none" not in group.columns:
                return jnp.zeros(k.shape, bool)
            return k == group.columns["none"]

        def pair(key, name, alpha):
            pair_key, gate_key = jax.random.split(key)
            log_p = base.log_probabilities(alpha, base.allowed(space, name))
            # The two largest of log p + Gumbel noise: a draw without replacement.
            _, active = jax.lax.top_k(log_p + base.gumbel(pair_key, alpha), 2)
            logits = jnp.take_along_axis(log_p, active, axis=-1)
            gates, place = _gates(gate_key, logits)
            k = jnp.take_along_axis(active, place[:, None], axis=-1)
            single = idle(name, k[:, 0]) | (jnp.min(logits, axis=-1) < base.NEVER / 2)
            # Both gates in one place: their sum is 1, and its gradient 0 (by rounding
            # nearly, so it is cut).
            active = jnp.where(single[:, None], k, active)
            held = jax.lax.stop_gradient(gates)
            gates = jnp.where(single[:, None], held, gates)
            places = jax.nn.one_hot(active, alpha.shape[-1], dtype=alpha.dtype)
            return jnp.sum(places * gates[..., None], axis=-2), active

        def every(key, name, alpha):
            log_p = base.log_probabilities(alpha, base.allowed(space, name))
            gates, k = _gates(key, log_p)
            return jnp.where(
                idle(name, k)[:, None], jax.lax.stop_gradient(gates), gates
            )

        if phase == "weights":
            return base.path_mixture(base.by_group(one, key, arch))
        if paths is None:
            return Mixture(base.by_group(every, key, arch))
        return base.path_mixture(base.by_group(pair, key, arch))

    def after_update(old_arch, new_arch, mixture):
        if mixture.active is None:
            return new_arch
        shifted = {}
        for name, new in new_arch.items():
            active, old = mixture.active[name], old_arch[name]
            before, after = (
                jax.nn.logsumexp(jnp.take_along_axis(a, active, axis=-1), axis=-1)
                for a in (old, new)
            )
            chosen = jnp.max(jax.nn.one_hot(active, new.shape[-1], dtype=bool), axis=-2)
            chosen &= (active[:, 0] != active[:, 1])[:, None]
            shifted[name] = jnp.where(chosen, new + (before - after)[:, None], old)
        return shifted

    return base.over_logits(sample, init_scale, check=check, after_update=after_update)


def _gates(key, logits):
    """``(h, k)``: a one-hot draw from the softmax, with the softmax's gradient."""
    q = jax.nn.softmax(logits)
    k = jnp.argmax(logits + base.gumbel(key, logits), axis=-1)
    one_hot = jax.nn.one_hot(k, q.shape[-1], dtype=q.dtype)
    return one_hot + (q - jax.lax.stop_gradient(q)), k
