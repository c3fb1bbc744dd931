"""Layer alignment: Movahedi et al., Lambda-DARTS, ICLR 2023.

All cells of a group share one arch, so DARTS adds up what each of them wants. With

    g_l = d train loss / d (mixture weights of cell l),     u_l = g_l / |g_l|,
    Lambda = 2 / (n (n - 1)) * sum over pairs l < m of u_l . u_m,

the weights learn to make the cells agree: they minimise ``loss - strength * Lambda``.
Its gradient by the weights is that of ``sum_l g_l . d_l`` with d = dLambda / dg held
fixed, so one product with a mixed second derivative suffices:

    "exact":              forward over reverse mode, (d/dp dL/dw) d
    "finite_difference":  (dL/dw at p + e d  -  at p - e d) / 2e,  e = epsilon / |d|,

the second being the authors'. Their step crosses kinks of the ReLUs, where it can be
far from the derivative (``docs/collapse.md``). The correction is a constant to whoever
differentiates the training loss further (unrolled hypergradients).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jnas import numerics
from jnas.errors import JnasError, unknown_name
from jnas.regularizers import base, checks

__all__ = ["alignment", "layer_alignment"]

METHODS = ("exact", "finite_difference")


def alignment(gradients: jax.Array) -> jax.Array:
    """The mean cosine of all pairs of rows.

    Args:
      gradients: ``[cells, ...]``, at least two cells.

    Returns:
      A scalar in [-1, 1].

    Example:
      >>> float(alignment(jnp.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])))
      0.3333333432674408
    """
    rows = gradients.reshape(len(gradients), -1)
    # A gradient of 0 has no direction; it agrees with nothing.
    norms = jnp.sum(rows**2, axis=1, keepdims=True)
    units = rows * jax.lax.rsqrt(jnp.where(norms > 0, norms, 1.0))
    total = jnp.sum(units, axis=0)
    same = jnp.sum(units**2)
    return (jnp.sum(total**2) - same) / (len(rows) * (len(rows) - 1))


def layer_alignment(
    strength: checks.Scheduled = 0.125,
    *,
    groups: tuple[str, ...] | None = None,
    method: str = "exact",
    epsilon: float = 1e-3,
) -> base.Regularizer:
    """Makes the cells that share an architecture ask for the same one.

    Args:
      strength: lambda; 0.125 in the authors' code, rising linearly by epoch
        (`linear_strength`). A number or a function of the step; the number 0 gives
        `identity`.
      groups: whose cells are compared; None: all but "reduce", as the authors do.
      method: "exact" or "finite_difference".
      epsilon: length of the step of "finite_difference" in all mixture weights
        together; 1e-4 or 1e-3 in the authors' code.

    Returns:
      The regularizer; its state is ``{group: bool [cells, E, O]}``.

    Raises:
      JnasError: an argument is out of range; ``init``: a group is unknown, or none has
        two cells.

    Example:
      >>> import types, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> supernet = types.SimpleNamespace(space=space, cells={"cell": 3})
      >>> layer_alignment().init(supernet, None)["cell"].shape
      (3, 6, 5)

    References:
      Movahedi, Adabinejad, Imani, Keshavarz, Dehghani, Shakery, Araabi, Lambda-DARTS:
      Mitigating Performance Collapse by Harmonizing Operation Selection Among Cells,
      ICLR 2023, https://arxiv.org/abs/2210.07998; dr-faustus/Lambda-DARTS
    """
    checks.strength(strength)
    checks.number(epsilon, "epsilon", positive=True)
    if method not in METHODS:
        raise unknown_name("method of layer_alignment", method, METHODS)
    if checks.is_zero(strength):
        return base.identity()

    def init(supernet, arch, **context):
        del arch, context
        return _masks(supernet, groups)

    def penalty(state, *, phase, weights, mixture, loss_fn, key, step=0, **context):
        del context
        if phase != "weights":
            return 0.0
        fixed = jax.lax.stop_gradient((weights, mixture))
        at, mixed = fixed
        cells = {
            name: jnp.broadcast_to(mixed.weights[name], mask.shape)
            for name, mask in state.items()
        }

        def loss(at, cells):
            moved = mixed._replace(weights={**mixed.weights, **cells})
            return loss_fn(at, moved, key=key)

        def agreement(slopes):
            found = [
                alignment(jnp.where(mask, slopes[name], 0.0))
                for name, mask in state.items()
            ]
            return sum(found) / len(found)

        value, direction = jax.value_and_grad(agreement)(jax.grad(loss, 1)(at, cells))
        change = _mixed_product(jax.grad(loss), at, cells, direction, method, epsilon)
        change = jax.lax.stop_gradient(change)
        # Zero here, and of the gradient wanted.
        linear = numerics.dot(change, jax.tree.map(jnp.subtract, weights, at))
        factor = -checks.value_at(strength, step)
        return factor * (jax.lax.stop_gradient(value) + linear)

    return base.Regularizer(init=init, penalty=penalty)


def _masks(supernet: Any, groups: tuple[str, ...] | None) -> dict[str, jax.Array]:
    """What the cells of each group that is compared can choose."""
    space = supernet.space
    names = [name for name in space.names if name != "reduce"]
    for name in groups or ():
        if name not in space.names:
            raise unknown_name(f"group of {space.name}", name, space.names)
    names = list(groups or names)
    if not names or any(supernet.cells[name] < 2 for name in names):
        counts = ", ".join(f"{supernet.cells[name]} of {name!r}" for name in names)
        raise JnasError(
            f"layer_alignment compares cells of one group, of which there must be at "
            f"least 2, got {counts or 'none'}: build the supernet with more cells"
        )
    masks = checks.choosable(supernet)
    return {
        name: jnp.broadcast_to(masks[name], (supernet.cells[name], *masks[name].shape))
        for name in names
    }


def _mixed_product(slope, at, cells, direction, method, epsilon):
    """The change of ``slope(at, cells)`` along a direction of the cells' weights."""
    if method == "exact":
        return jax.jvp(lambda cells: slope(at, cells), (cells,), (direction,))[1]
    norm = numerics.global_norm(direction)
    step = epsilon / jnp.where(norm > 0, norm, 1.0)

    def beside(sign):
        moved = jax.tree.map(lambda p, d: p + sign * step * d, cells, direction)
        return slope(at, moved)

    return jax.tree.map(lambda a, b: (a - b) / (2 * step), beside(1.0), beside(-1.0))
