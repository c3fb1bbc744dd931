"""Expected cost: SNAS (ICLR 2019), ProxylessNAS (ICLR 2019), FBNet (CVPR 2019).

E is the cost of the network under the mixture: a fixed part plus the sum over cells,
edges and candidates of weight times cost; weights of edges don't count. Tables of
parameters and multiply-adds come from `jnas.cost.operation_costs`; latencies are the
user's to measure. Added to the loss of the architecture:

    "linear":      strength * E                                  (SNAS)
    "log":         strength * log E                              (SNAS' log costs)
    "add_linear":  strength * (E - reference) / reference        (ProxylessNAS)
    "mul_log":     loss * (strength * (log E / log reference)^exponent - 1)

The last turns the loss into ``strength * loss * (log E / log reference)^exponent``. Its
ProxylessNAS values are strength 0.2 and exponent 0.3. FBNet's formula, ``strength *
loss * (log E)^exponent`` with 0.2 and 0.6, is this with reference e. A third-party code
of FBNet has log(E^exponent) instead: exponent 1, and strength times 0.6.

"mul_log" needs the value of the loss, which a penalty gets by evaluating the network
once more at the same weights and mixture. Where the evaluation is random (drop path)
the second one draws for itself, so the product is exact in expectation only.

Which weights count: the sample's, so that the gradient goes through the sample (SNAS'
reparametrised and FBNet's form), or, with ``probabilities``, those of the deterministic
view (ProxylessNAS, whose sampled gates would see only two of the candidates).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jnas.errors import JnasError
from jnas.regularizers import base, checks

__all__ = ["expected_cost"]

KINDS = ("linear", "log", "add_linear", "mul_log")


def expected_cost(
    costs: Mapping[str, ArrayLike],
    *,
    strength: checks.Scheduled,
    kind: str = "linear",
    reference: float | None = None,
    exponent: float = 1.0,
    fixed: float = 0.0,
    probabilities: Callable[[Any], Any] | None = None,
) -> base.Regularizer:
    """Makes costly candidates less attractive to the architecture.

    Args:
      costs: of every candidate in each cell, ``{group: [cells, E, O]}``
        (`jnas.cost.operation_costs`), or in all cells of the group together,
        ``[E, O]``; in any unit.
      strength: see the module; a number or a function of the step. The number 0 gives
        `identity`, but with "mul_log".
      kind: "linear", "log", "add_linear" or "mul_log".
      reference: the cost aimed at, in the unit of ``costs``; "linear" and "log" have
        none. "mul_log" takes logarithms: it and E must stay above 1.
      exponent: of "mul_log".
      fixed: the cost of what can't be chosen.
      probabilities: ``arch -> Mixture`` whose weights count; None: the sample's. For a
        relaxation, ``functools.partial(relaxation.probabilities, space=space)``.

    Returns:
      The regularizer, without state.

    Raises:
      JnasError: an argument is out of range; ``init``: the costs don't fit the space.

    Example:
      >>> import types, jnas
      >>> space = jnas.spaces.nasbench201()
      >>> table = jnas.cost.operation_costs(space, channels=16, cells_per_stage=5)
      >>> part = expected_cost(table.parameters, strength=1e-6, fixed=73306)
      >>> mixture = jnas.mixture.uniform(space)
      >>> state = part.init(types.SimpleNamespace(
      ...     space=space, cells={"cell": 15}), None)
      >>> round(float(part.penalty(state, mixture=mixture, phase="arch")), 4)
      0.3986

    References:
      Xie, Zheng, Liu, Lin, SNAS: Stochastic Neural Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1812.09926; Cai, Zhu, Han, ProxylessNAS, ICLR 2019,
      https://arxiv.org/abs/1812.00332; Wu et al., FBNet, CVPR 2019,
      https://arxiv.org/abs/1812.03443
    """
    checks.strength(strength)
    checks.number(exponent, "exponent")
    checks.number(fixed, "fixed")
    if kind not in KINDS:
        raise JnasError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    aim = _reference(kind, reference)
    tables = {name: _table(name, values) for name, values in costs.items()}
    if checks.is_zero(strength) and kind != "mul_log":
        return base.identity()

    def init(supernet, arch, **context):
        del arch, context
        _check(tables, supernet)
        return ()

    def cost(weights):
        total = fixed
        for name, table in tables.items():
            values = jnp.asarray(weights[name])
            total += _weighted(values, table)
        return total

    def penalty(state, *, phase, mixture, arch=None, step=0, **context):
        del state
        if phase != "arch":
            return 0.0
        factor = checks.value_at(strength, step)
        counted = mixture if probabilities is None else probabilities(arch)
        expected = cost(counted.weights)
        if kind == "linear":
            return factor * expected
        if kind == "log":
            return factor * jnp.log(expected)
        if kind == "add_linear":
            return factor * (expected - aim) / aim
        factor = factor * (jnp.log(expected) / np.log(aim)) ** exponent
        loss = context["loss_fn"](context["weights"], mixture, key=context["key"])
        return loss * (factor - 1)

    return base.Regularizer(init=init, penalty=penalty)


def _reference(kind: str, reference: Any) -> float:
    """The cost aimed at, checked; 1.0 where there is none."""
    if kind not in ("add_linear", "mul_log"):
        if reference is not None:
            raise JnasError(f"kind {kind!r} has no reference, got {reference!r}")
        return 1.0
    if reference is None:
        raise JnasError(f"kind {kind!r} needs a reference: the cost aimed at")
    checks.number(reference, "reference", positive=True)
    if kind == "mul_log" and reference <= 1:
        raise JnasError(
            "reference must be > 1 for 'mul_log', whose logarithm divides, got "
            f"{reference!r}: use a smaller unit"
        )
    return float(reference)


def _table(name: str, values: ArrayLike) -> np.ndarray:
    """The costs of one group, checked."""
    try:
        table = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim not in (2, 3) or not np.isfinite(table).all() or table.min() < 0:
        raise JnasError(
            f"costs[{name!r}] must be finite numbers >= 0, [E, O] or [cells, E, O], "
            f"got {type(values).__name__} of shape {list(np.shape(table))}"
        )
    return table


def _check(tables: dict[str, np.ndarray], supernet: Any) -> None:
    """Raises unless there is a fitting table for each group."""
    space = supernet.space
    if set(tables) != set(space.names):
        raise JnasError(
            f"costs must have the groups {sorted(space.names)} of space "
            f"{space.name!r}, got {sorted(tables)}"
        )
    for group in space.groups:
        shape = (group.num_edges, group.num_operations)
        full = (supernet.cells[group.name], *shape)
        if tables[group.name].shape not in (shape, full):
            raise JnasError(
                f"costs[{group.name!r}] must be {list(shape)} (edges, operations) or "
                f"{list(full)} (with cells first), got "
                f"{list(tables[group.name].shape)}"
            )


def _weighted(weights, table: np.ndarray):
    """Weights times costs, all cells together; either may have cells or not."""
    if weights.ndim == 2 and table.ndim == 3:
        table = table.sum(axis=0)
    if weights.ndim == 3 and table.ndim == 2:
        weights = jnp.mean(weights, axis=0)
    return jnp.sum(weights * jnp.asarray(table, weights.dtype))
