"""Floating-point operations of a traced function, counted from its jaxpr.

Products are counted exactly: two operations for each multiply-add of a convolution or
matrix product; the other arithmetic as one per element of its output, or of its input
for a reduction. Calls and scans are followed; of a conditional the costliest branch
counts, but for a choice by platform, of which that platform's does. Of a loop without a
known length one iteration counts, and ``open_loops`` says how many there are.
"""

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Flops", "count", "needed"]

_ELEMENTWISE = frozenset(
    {
        *("add", "sub", "mul", "div", "neg", "max", "min", "abs", "sign", "add_any"),
        *("exp", "exp2", "expm1", "log", "log1p", "pow", "integer_pow", "square"),
        *("sqrt", "rsqrt", "cbrt", "tanh", "logistic", "erf", "sin", "cos"),
    }
)
_REDUCTIONS = frozenset(
    {
        *("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
        *("argmax", "argmin", "cumsum"),
    }
)


class Flops(NamedTuple):
    """A count.

    Attributes:
      conv: of convolutions.
      dot: of matrix products.
      elementwise: of other arithmetic.
      open_loops: loops of unknown length, of which one iteration is in the count.
    """

    conv: int = 0
    dot: int = 0
    elementwise: int = 0
    open_loops: int = 0

    @property
    def products(self) -> int:
        """Of convolutions and matrix products."""
        return self.conv + self.dot

    @property
    def total(self) -> int:
        """Of everything."""
        return self.products + self.elementwise

    def plus(self, other: "Flops", times: int = 1) -> "Flops":
        """The sum with some times another."""
        pairs = zip(self[:3], other[:3], strict=True)
        loops = self.open_loops + other.open_loops
        return Flops(*(a + times * b for a, b in pairs), loops)


def count(closed: Any, platform: str = "cpu", padding: bool = True) -> Flops:
    """Counts a function traced by ``jax.make_jaxpr``.

    Args:
      closed: the closed jaxpr.
      platform: whose branch is taken where a program chooses by platform: "cpu",
        "cuda", "rocm" or "tpu".
      padding: whether products with padding, and with the zeros between the elements
        of a dilated input, count: they do in published figures and not in XLA's.

    Returns:
      The count.
    """
    return _jaxpr(_open(closed), platform, padding, {})[0]


def needed(space: str, sizes: Any) -> int:
    """Operations that a first-order step needs, by formula.

    Twice the multiply-adds of `jnas.cost` for all candidates, times the batch, times
    five: the arch half-step needs the products of the forward pass and those of the
    gradients of activations; the weight half-step needs those of the gradients of
    weights, too.
    """
    from jnas import cost

    options = {"cells_per_stage": sizes.cells_per_stage}
    if space == "darts":
        options = {"cells": sizes.cells}
    table = cost.operation_costs(
        space,
        channels=sizes.channels,
        image_shape=(sizes.side, sizes.side, 3),
        affine=False,
        **options,
    )
    forward = sum(int(own.sum()) for own in table.multiply_adds.values())
    return 2 * 5 * sizes.batch_size * (table.base_multiply_adds + forward)


def _jaxpr(
    jaxpr: Any, platform: str, padding: bool, chosen: dict[Any, int]
) -> tuple[Flops, dict[Any, int]]:
    """The count, and which variables are known to stand for which platform's branch."""
    total, chosen = Flops(), dict(chosen)

    def inside(inner, given):
        """A called jaxpr, to whose arguments what is known is handed on."""
        known = {}
        if len(given) == len(inner.invars):
            for outer, own in zip(given, inner.invars, strict=True):
                if not hasattr(outer, "val") and outer in chosen:
                    known[own] = chosen[outer]
        return _jaxpr(inner, platform, padding, known)

    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "conv_general_dilated":
            total = total.plus(Flops(conv=_convolution(eqn, padding)))
        elif name == "dot_general":
            total = total.plus(Flops(dot=_dot(eqn)))
        elif name == "platform_index":
            chosen[eqn.outvars[0]] = _place(params["platforms"], platform)
        elif name == "cond":
            branches = [_open(branch) for branch in params["branches"]]
            index = eqn.invars[0]
            if not hasattr(index, "val") and index in chosen:
                branches = [branches[chosen[index]]]
            counts = [inside(branch, eqn.invars[1:])[0] for branch in branches]
            total = total.plus(max(counts, key=lambda found: found.total))
        elif name == "scan":
            body = inside(_open(params["jaxpr"]), eqn.invars)[0]
            total = total.plus(body, params["length"])
        elif name == "while":
            body = inside(_open(params["body_jaxpr"]), ())[0]
            total = total.plus(body).plus(Flops(open_loops=1))
        elif name in _ELEMENTWISE:
            total = total.plus(Flops(elementwise=_size(eqn.outvars[0])))
        elif name in _REDUCTIONS:
            total = total.plus(Flops(elementwise=_size(eqn.invars[0])))
        else:
            inner = _called(name, params)
            if inner is None:
                continue
            found, known = inside(inner, eqn.invars)
            total = total.plus(found)
            for outer, own in zip(eqn.outvars, inner.outvars, strict=True):
                if not hasattr(own, "val") and own in known:
                    chosen[outer] = known[own]
    return total, chosen


def _called(name: str, params: dict[str, Any]) -> Any:
    """The jaxpr that an operation calls, or None."""
    if name.startswith("scatter") or name in ("reduce", "reduce_window", "sort"):
        return None  # theirs says how two elements are combined
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            return _open(params[key])
    return None


def _open(jaxpr: Any) -> Any:
    """Without its constants, if it comes with some."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _place(platforms: Any, platform: str) -> int:
    """The branch of a platform; None in the list stands for all others."""
    for place, names in enumerate(platforms):
        if names is None or platform in names:
            return place
    raise ValueError(f"no branch for platform {platform!r} among {platforms}")


def _size(variable: Any) -> int:
    """Elements of a floating-point array; others are no floating-point work."""
    aval = variable.aval
    dtype = getattr(aval, "dtype", None)
    if dtype is None or getattr(dtype, "kind", "?") not in "fcV":
        return 0
    return math.prod(aval.shape)


def _dot(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return 2 * math.prod(eqn.outvars[0].aval.shape) * inner


def _convolution(eqn: Any, padding: bool) -> int:
    params = eqn.params
    lhs, rhs = (v.aval.shape for v in eqn.invars)
    out = eqn.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    # The kernel's inputs are those of one group.
    products = out[numbers.out_spec[0]] * out[numbers.out_spec[1]]
    products *= rhs[numbers.rhs_spec[1]]
    for axis, (stride, pad, spread, dilation) in enumerate(
        zip(
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            strict=True,
        )
    ):
        places = out[numbers.out_spec[2 + axis]]
        taps = rhs[numbers.rhs_spec[2 + axis]]
        if padding:
            products *= places * taps
            continue
        extent = (lhs[numbers.lhs_spec[2 + axis]] - 1) * spread
        where = np.arange(places)[:, None] * stride - pad[0]
        where = where + np.arange(taps) * dilation
        inside = (where >= 0) & (where <= extent) & (where % spread == 0)
        products *= int(inside.sum())
    return 2 * products
