"""Hypergradients through unrolled weight updates: DARTS' second order, and exact ones.

The validation loss is differentiated at the weights that the optimizer would reach in
``steps`` updates on the training loss, ``w'(arch)``:

  d/d arch L_val(w'(arch), arch)
    = grad_arch L_val(w', arch) + (d w' / d arch)^T grad_w L_val(w', arch).

* "exact": the second term is the exact derivative through the optimizer itself, with
  its momentum, decay, clipping and schedule, taken backwards one update at a time by
  Hessian-vector products. Only the weights and the optimizer's state of each update are
  kept, never the activations of more than one (what `jax.checkpoint` would do).
* "finite_difference": DARTS' own formula (Liu et al., ICLR 2019, section 2.3), a
  central difference of the training gradient. **On networks with ReLUs or max-pooling
  it is not an approximation of the exact term**: the published step crosses many kinks,
  and its result is several times too large. It is what "second-order DARTS" has been in
  the published results, so it is here to the letter; ``docs/bilevel.md`` has the
  measurements.

Quirks of the authors' code. Convolutional: the virtual step is not clipped though the
real one is (``inner_tx``). Recurrent: see ``clip``. Their finite-difference forward
passes update the running statistics of the real network twice; here no evaluation of
the training loss does.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jnas import numerics
from jnas.bilevel import base, products
from jnas.errors import JnasError

__all__ = ["unrolled"]

METHODS = ("exact", "finite_difference")


def unrolled(
    steps: int = 1,
    *,
    method: str = "exact",
    epsilon: float = 0.01,
    inner_tx: optax.GradientTransformation | None = None,
    stacked: bool = False,
    clip: float | None = None,
) -> base.Hypergradient:
    """Differentiates the validation loss through ``steps`` virtual weight updates.

    The updates start at the current weights and optimizer state, which stay as they
    are, and use the learning rate that the next real step would use.

    Args:
      steps: how many updates; 1 in DARTS.
      method: "exact", or "finite_difference" (of one step only).
      epsilon: of the finite difference: the weights are moved by this Euclidean length
        in either direction; 0.01 in DARTS. May be traced.
      inner_tx: optimizer of the virtual updates in place of ``weight_tx``; its state
        must have the same structure, so it may differ in stateless parts (DARTS: its
        clipping replaced by ``optax.identity()``).
      stacked: whether each leaf of the training batch has a leading axis of ``steps``
        batches, one for each update; else the one batch serves all.
      clip: of the finite difference, the rule of DARTS' *recurrent* code: the training
        gradient and the validation gradient are clipped to this norm, and the second
        term is multiplied by ``clip / (train norm + 1e-6)``, which that code does not
        limit to 1. Use with an ``inner_tx`` that does not clip.

    Returns:
      The estimator. It has no state. Beside the contract's entries, its info has
      "response", a tree like arch: what is added to the direct gradient.

    Raises:
      JnasError: an option is out of range; from ``estimate``, when a loss, a tree or
        the optimizer's state is not what it must be.

    Example:
      One step of gradient descent with rate 0.1 on (w - a)^2 from w = 0 reaches 0.2 a;
      the validation loss w^2 / 2 there has the derivative 0.2 * 0.2 a:

      >>> train = lambda w, a, batch, key: ((w - a) ** 2, None)
      >>> val = lambda w, a, batch, key: (w**2 / 2, None)
      >>> tx = optax.sgd(0.1)
      >>> grad, _, _ = unrolled().estimate(
      ...     (), train, val, 0.0, 3.0, None, None,
      ...     weight_tx=tx, weight_opt_state=tx.init(0.0), key=jax.random.key(0))
      >>> round(float(grad), 6)
      0.12

    References:
      Liu, Simonyan, Yang, DARTS: Differentiable Architecture Search, ICLR 2019,
      https://arxiv.org/abs/1806.09055; Franceschi et al., Forward and Reverse
      Gradient-Based Hyperparameter Optimization, ICML 2017,
      https://arxiv.org/abs/1703.01785
    """
    _check_options(steps, method, epsilon, clip)

    def estimate(
        state,
        train_loss,
        val_loss,
        weights,
        arch,
        train_batch,
        val_batch,
        *,
        weight_tx,
        weight_opt_state,
        key,
        **_,
    ):
        name = "weight_tx" if inner_tx is None else "inner_tx"
        tx = weight_tx if inner_tx is None else inner_tx
        tx = base.check_optimizer(tx, weight_opt_state, weights, name)
        base.check_real(weights, "weights")
        base.check_real(arch, "arch")
        if stacked:
            _check_stacked(train_batch, steps)
        train_value = base.scalar(train_loss, "training")
        val_value = base.scalar(val_loss, "validation")

        def train_at(t):
            batch = (
                jax.tree.map(lambda x: x[t], train_batch) if stacked else train_batch
            )
            step_key = base.train_key(key)
            step_key = step_key if steps == 1 else jax.random.fold_in(step_key, t)
            return batch, lambda w, a: train_value(w, a, batch, step_key)[0]

        def validate(w):
            return jax.value_and_grad(val_value, (0, 1), has_aux=True)(
                w, arch, val_batch, key
            )

        solve = _one_step if steps == 1 else _many_steps
        if method == "finite_difference":
            solve = _finite_difference(epsilon, clip)
        aux, direct, response = solve(
            tx, weight_opt_state, weights, arch, train_at, validate, steps
        )
        grad = products.add(direct, response)
        return grad, state, {**aux, "response": response}

    return base.Hypergradient(base.stateless, estimate, second_order=True)


def _updater(tx: Any, opt_state: Any) -> tuple[Callable[..., Any], Any, Any]:
    """The update as a function of floating-point arrays only.

    Counters and keys in the optimizer's state can't be differentiated; they are passed
    beside.

    Returns:
      ``(update, floats, rest)`` with ``update(grads, floats, rest, weights, batch) ->
      ((weights, floats), rest)``.
    """
    leaves, structure = jax.tree.flatten(opt_state)
    real = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in leaves]

    def split(state):
        leaves = jax.tree.leaves(state)
        floats = [x for x, is_real in zip(leaves, real, strict=True) if is_real]
        return floats, [
            x for x, is_real in zip(leaves, real, strict=True) if not is_real
        ]

    def update(grads, floats, rest, weights, batch):
        parts = {True: iter(floats), False: iter(rest)}
        state = jax.tree.unflatten(
            structure, [next(parts[is_real]) for is_real in real]
        )
        updates, state = tx.update(grads, state, weights, batch=batch)
        floats, rest = split(state)
        return (optax.apply_updates(weights, updates), floats), rest

    return update, *split(opt_state)


def _pull_back(update, grads, floats, rest, weights, batch, weight_bar, float_bar):
    """Cotangents of an update's inputs: its gradient, its state, its weights."""
    _, vjp, _ = jax.vjp(
        lambda g, f, w: update(g, f, rest, w, batch),
        grads,
        floats,
        weights,
        has_aux=True,
    )
    return vjp((weight_bar, float_bar))


def _one_step(tx, opt_state, weights, arch, train_at, validate, steps):
    del steps
    update, floats, rest = _updater(tx, opt_state)
    batch, loss = train_at(0)
    grads = jax.grad(loss)(weights, arch)
    (reached, after), _ = update(grads, floats, rest, weights, batch)
    (value, aux), (weight_bar, direct) = validate(reached)
    still = jax.tree.map(jnp.zeros_like, after)
    direction, _, _ = _pull_back(
        update, grads, floats, rest, weights, batch, weight_bar, still
    )
    response = products.mixed_product(loss, weights, arch, direction)
    return {"val_loss": value, "val_aux": aux}, direct, response


def _many_steps(tx, opt_state, weights, arch, train_at, validate, steps):
    update, floats, rest = _updater(tx, opt_state)

    def forward(carry, t):
        weights, floats, rest = carry
        batch, loss = train_at(t)
        grads = jax.grad(loss)(weights, arch)
        (after, new_floats), new_rest = update(grads, floats, rest, weights, batch)
        return (after, new_floats, new_rest), (weights, floats, rest, grads)

    def backward(carry, inputs):
        weight_bar, float_bar, response = carry
        t, (weights, floats, rest, grads) = inputs
        batch, loss = train_at(t)
        direction, float_bar, passed = _pull_back(
            update, grads, floats, rest, weights, batch, weight_bar, float_bar
        )
        by_weights, by_arch = products.products(loss, weights, arch, direction)
        return (
            products.add(passed, by_weights),
            float_bar,
            products.add(response, by_arch),
        ), None

    unroll = products.unroll(steps)
    times = jnp.arange(steps)
    (reached, after, _), path = jax.lax.scan(
        forward, (weights, floats, rest), times, unroll=unroll
    )
    (value, aux), (weight_bar, direct) = validate(reached)
    start = (weight_bar, *(jax.tree.map(jnp.zeros_like, x) for x in (after, direct)))
    (_, _, response), _ = jax.lax.scan(
        backward, start, (times, path), reverse=True, unroll=unroll
    )
    return {"val_loss": value, "val_aux": aux}, direct, response


def _finite_difference(epsilon, clip):
    def solve(tx, opt_state, weights, arch, train_at, validate, steps):
        del steps
        update, floats, rest = _updater(tx, opt_state)
        batch, loss = train_at(0)
        grads = jax.grad(loss)(weights, arch)
        factor = 1.0
        if clip is not None:
            factor = clip / (numerics.global_norm(grads) + 1e-6)
            grads = _scaled(grads, jnp.minimum(factor, 1.0))
        (reached, after), _ = update(grads, floats, rest, weights, batch)
        (value, aux), (weight_bar, direct) = validate(reached)
        if clip is not None:
            norm = numerics.global_norm(weight_bar)
            weight_bar = _scaled(weight_bar, jnp.minimum(clip / (norm + 1e-6), 1.0))
        # For gradient descent the direction is -rate * weight_bar, so that the points
        # are DARTS' w +- (epsilon / |v|) v and the factor is its rate / (2 R).
        direction, _, _ = _pull_back(
            update,
            grads,
            floats,
            rest,
            weights,
            batch,
            weight_bar,
            jax.tree.map(jnp.zeros_like, after),
        )
        length = numerics.global_norm(direction)
        moved = length > 0
        reach = epsilon / jnp.where(moved, length, 1.0)
        difference = products.add(
            jax.grad(loss, 1)(products.add(weights, direction, reach), arch),
            jax.grad(loss, 1)(products.add(weights, direction, -reach), arch),
            -1.0,
        )
        scale = jnp.where(moved, factor / (2 * reach), 0.0)
        response = _scaled(difference, scale)
        return {"val_loss": value, "val_aux": aux}, direct, response

    return solve


def _scaled(tree: Any, factor: Any) -> Any:
    return jax.tree.map(lambda x: (x * factor).astype(x.dtype), tree)


def _check_options(steps: Any, method: Any, epsilon: Any, clip: Any) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise JnasError(f"steps must be a whole number >= 1, got {steps!r}")
    if method not in METHODS:
        raise JnasError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not isinstance(epsilon, jax.core.Tracer) and not epsilon > 0:
        raise JnasError(f"epsilon must be positive, got {epsilon!r}")
    if method == "finite_difference" and steps != 1:
        raise JnasError(
            f"finite_difference is defined for one step, got steps={steps}: use "
            "method='exact'"
        )
    if clip is not None and (method == "exact" or not clip > 0):
        raise JnasError(
            f"clip is a positive number for method='finite_difference' only, got "
            f"{clip!r} with {method!r}: for exact gradients clip in inner_tx"
        )


def _check_stacked(batch: Any, steps: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        shape = jnp.shape(leaf)
        if not shape or shape[0] != steps:
            raise JnasError(
                f"with stacked=True every leaf of train_batch must be [{steps}, ...], "
                f"got {list(shape)} at batch{jax.tree_util.keystr(path)}"
            )
