"""Initial weights from one random draw.

A supernet has over a hundred weight arrays; drawing each by itself compiles for 20 s on
a CPU. The layers here mark their parameters with the rule of their initial value, so
that the shapes can be evaluated without computing anything and all random values be cut
from a single vector.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

__all__ = ["Rule", "constant", "fan_in_uniform", "initial_variables"]


@struct.dataclass
class Rule(nn.meta.AxisMetadata):
    """A parameter together with how its initial value is made.

    Attributes:
      value: the array (or its shape, in shape evaluation).
      bound: the value is uniform in ``[-bound, bound]``; 0 for constants.
      fill: the value of a constant.
    """

    value: Any
    bound: float = struct.field(pytree_node=False, default=0.0)
    fill: float = struct.field(pytree_node=False, default=0.0)

    def unbox(self) -> Any:
        """The array itself."""
        return self.value

    def replace_boxed(self, val: Any) -> "Rule":
        """The same rule for another array."""
        return Rule(val, self.bound, self.fill)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Rule":
        """Lifted transformations keep the rule."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Rule":
        """Lifted transformations keep the rule."""
        del index, params
        return self


def fan_in_uniform(fan_in: int) -> Callable[..., Any]:
    """PyTorch's default: uniform in +-1/sqrt(fan_in), for weights and their biases.

    Args:
      fan_in: inputs of one output.

    Returns:
      A Linen initializer; its parameter carries a `Rule`, which Linen unboxes.

    Example:
      >>> x = fan_in_uniform(4)(jax.random.key(0), (1000,), jnp.float32).value
      >>> bool(abs(x).max() <= 0.5)
      True
    """
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype):
        return Rule(jax.random.uniform(key, shape, dtype, -bound, bound), bound)

    return init


def constant(fill: float) -> Callable[..., Any]:
    """An initializer of equal values.

    Args:
      fill: the value.

    Returns:
      A Linen initializer.

    Example:
      >>> constant(1.0)(None, (2,), jnp.float32).value.tolist()
      [1.0, 1.0]
    """

    def init(key, shape, dtype):
        del key
        return Rule(jnp.full(shape, fill, dtype), 0.0, fill)

    return init


def _is_rule(leaf: Any) -> bool:
    return isinstance(leaf, Rule)


def _is_variance(path: Any) -> bool:
    return str(getattr(path[-1], "key", "")).endswith("var")


def initial_variables(init: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """Runs a module's ``init``, quickly where all its parameters carry a `Rule`.

    Args:
      init: ``(key) -> variables`` of a Linen module.
      key: consumed.

    Returns:
      The variables, without rules.
    """
    shapes = jax.eval_shape(init, key)
    rules, tree = jax.tree.flatten(shapes["params"], is_leaf=_is_rule)
    known = all(map(_is_rule, rules)) and set(shapes) <= {"params", "batch_stats"}
    if not known:  # modules of the user's: their own initializers must run
        return nn.meta.unbox(jax.jit(init)(key))

    def draw(key):
        sizes = [math.prod(r.value.shape) if r.bound else 0 for r in rules]
        dtype = jnp.result_type(*(r.value.dtype for r in rules))
        vector = jax.random.uniform(key, (sum(sizes),), dtype, -1.0, 1.0)
        leaves, start = [], 0
        for rule, size in zip(rules, sizes, strict=True):
            shape, leaf_dtype = rule.value.shape, rule.value.dtype
            if rule.bound:
                values = rule.bound * vector[start : start + size]
                leaves.append(values.reshape(shape).astype(leaf_dtype))
            else:
                leaves.append(jnp.full(shape, rule.fill, leaf_dtype))
            start += size
        stats = jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.full(leaf.shape, _is_variance(path), leaf.dtype),
            shapes.get("batch_stats", {}),
        )
        variables = {"params": jax.tree.unflatten(tree, leaves)}
        return variables | ({"batch_stats": stats} if stats else {})

    return jax.jit(draw)(key)
