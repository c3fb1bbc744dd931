"""The step against the papers' formulas written out, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

import jnas
from jnas.mixture import Mixture
from jnas.run.nonfinite import Skipping

LR, MOMENTUM, DECAY, CLIP = 0.3, 0.9, 3e-2, 0.05
ARCH_LR, B1, B2, ARCH_DECAY = 0.02, 0.5, 0.999, 1e-1


def _loss(net, weights, arch, batch):
    mixture = Mixture({"cell": jax.nn.softmax(arch)})
    state = {"batch_stats": jnp.zeros(tiny.FEATURES, arch.dtype)}
    logits, _ = net.apply(weights, state, mixture, batch["image"], train=True)
    p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(p, batch["label"][:, None], 1))


class Reference:
    """Two half-steps in NumPy, only the gradients from JAX."""

    def __init__(self, net, weights, arch):
        self.net = net
        self.weights = {k: np.asarray(v) for k, v in weights.items()}
        self.arch = np.asarray(arch)
        self.velocity = {k: np.zeros_like(v) for k, v in self.weights.items()}
        self.m = self.v = np.zeros_like(self.arch)
        self.count = 0

    def arch_gradient(self, batch):
        grad = jax.grad(_loss, argnums=2)(self.net, self.weights, self.arch, batch)
        return np.asarray(grad)

    def arch_update(self, grad):
        grad = grad + ARCH_DECAY * self.arch
        self.count += 1
        self.m = B1 * self.m + (1 - B1) * grad
        self.v = B2 * self.v + (1 - B2) * grad**2
        m = self.m / (1 - B1**self.count)
        v = self.v / (1 - B2**self.count)
        self.arch = self.arch - ARCH_LR * m / (np.sqrt(v) + 1e-8)

    def weight_step(self, batch, nesterov, arch):
        grads = jax.grad(_loss, argnums=1)(self.net, self.weights, arch, batch)
        grads = {k: np.asarray(v) for k, v in grads.items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        assert norm > CLIP  # clipping is active
        factor = min(1.0, CLIP / (norm + 1e-6))
        for k, g in grads.items():
            g = g * factor + DECAY * self.weights[k]
            self.velocity[k] = MOMENTUM * self.velocity[k] + g
            step = g + MOMENTUM * self.velocity[k] if nesterov else self.velocity[k]
            self.weights[k] = self.weights[k] - LR * step
        return norm


@pytest.mark.parametrize("order", jnas.search.ORDERS)
@pytest.mark.parametrize("nesterov", [False, True])
def test_three_steps_equal_the_written_out_formulas(x64, order, nesterov):
    net = tiny.tiny_supernet(jnp.float64)
    search = jnas.search.differentiable(
        net,
        weight_tx=jnas.optimizers.coupled_sgd(
            LR, momentum=MOMENTUM, weight_decay=DECAY, nesterov=nesterov, clip=CLIP
        ),
        arch_tx=jnas.optimizers.coupled_adam(
            ARCH_LR, b1=B1, b2=B2, weight_decay=ARCH_DECAY
        ),
        order=order,
    )
    batches = [
        (tiny.batch(i, dtype=jnp.float64), tiny.batch(9 + i, dtype=jnp.float64))
        for i in range(3)
    ]
    state = search.init(jax.random.key(0), batches[0][0]["image"])
    state = state._replace(arch={"cell": state.arch["cell"].astype(jnp.float64)})
    state = state._replace(
        arch_opt_state=jnas.optimizers.coupled_adam(
            ARCH_LR, b1=B1, b2=B2, weight_decay=ARCH_DECAY
        ).init(state.arch)
    )
    reference = Reference(net, state.weights, state.arch["cell"])
    step = jax.jit(search.step)
    for train, val in batches:
        state, info = step(state, train, val)
        old = reference.arch
        if order == "arch_first":
            reference.arch_update(reference.arch_gradient(val))
            norm = reference.weight_step(train, nesterov, reference.arch)
        elif order == "weights_first":
            norm = reference.weight_step(train, nesterov, old)
            reference.arch_update(reference.arch_gradient(val))
        else:
            gradient = reference.arch_gradient(val)
            norm = reference.weight_step(train, nesterov, old)
            reference.arch_update(gradient)
        np.testing.assert_allclose(info.weight_grad_norm, norm, rtol=1e-12)
    np.testing.assert_allclose(state.arch["cell"], reference.arch, rtol=1e-12)
    for k, w in reference.weights.items():
        np.testing.assert_allclose(state.weights[k], w, rtol=1e-11, atol=1e-13)


def test_both_half_steps_update_the_running_statistics():
    search = tiny.tiny_search()
    train, val = tiny.batch(0), tiny.batch(1)
    state = search.init(jax.random.key(0), train["image"])
    after_arch, _ = search.arch_step(state, train, val)
    after_weights, _ = search.weight_step(state, train)
    start = state.model_state["batch_stats"]
    for after in (after_arch, after_weights):
        assert not np.allclose(start, after.model_state["batch_stats"])
    # The arch half-step leaves weights and the counter alone, and vice versa.
    assert np.array_equal(after_arch.weights["dense"], state.weights["dense"])
    assert int(after_arch.step) == 0 and int(after_weights.step) == 1
    assert np.array_equal(after_weights.arch["cell"], state.arch["cell"])


@pytest.mark.parametrize("order", ["arch_first", "weights_first", "joint"])
def test_recent_archs_are_the_ones_at_the_marked_steps(order):
    search = tiny.tiny_search(recent=2, recent_every=2, order=order)
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    step = jax.jit(search.step)
    seen = []
    for i in range(5):
        state, _ = step(state, tiny.batch(i), tiny.batch(9 + i))
        seen.append(state.arch["cell"])
    ring = state.recent_archs["cell"]
    np.testing.assert_array_equal(ring[0], seen[3])
    np.testing.assert_array_equal(ring[1], seen[1])


def test_a_skipped_step_keeps_the_arch_of_its_epoch():
    """Else the one of an epoch before would be taken for it."""
    search = tiny.tiny_search(recent=2, recent_every=2)
    skipping = Skipping(search.step, ("train_loss",))
    step = jax.jit(lambda *arguments: skipping(*arguments))
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    seen = []
    for i in range(4):
        train = tiny.batch(i)
        if i == 3:  # the second marked step
            train["image"] = jnp.full_like(train["image"], jnp.nan)
        state, info = step(state, train, tiny.batch(9 + i))
        seen.append(state.arch["cell"])
    assert float(info["steps_skipped"]) == 1 and int(state.step) == 4
    ring = state.recent_archs["cell"]
    np.testing.assert_array_equal(ring[0], seen[2])
    np.testing.assert_array_equal(ring[1], seen[1])
    train["image"] = jnp.full_like(train["image"], jnp.nan)
    state, _ = step(state, train, tiny.batch(0))  # not marked
    np.testing.assert_array_equal(state.recent_archs["cell"], ring)


@pytest.mark.parametrize("order", ["arch_first", "weights_first", "joint"])
def test_both_halves_of_a_step_see_the_same_number_of_steps_done(order):
    seen = []

    def transform(state, mixture, *, step, phase, **context):
        jax.debug.callback(lambda step: seen.append((int(step), phase)), step)
        return mixture

    part = jnas.regularizers.Regularizer(transform=transform)
    search = tiny.tiny_search(order=order, regularizer=part)
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    step = jax.jit(search.step)
    for i in range(3):
        state, _ = step(state, tiny.batch(i), tiny.batch(9 + i))
    jax.effects_barrier()
    assert {*seen} == {(i, phase) for i in range(3) for phase in ("arch", "weights")}
    assert int(state.step) == 3


def test_regularizer_hooks_reach_the_step():
    """Each hook changes what it should: penalty, transform, gradient mask, state."""
    calls = []

    def penalty(state, *, arch, phase, **context):
        calls.append(phase)
        assert {"weights", "mixture", "loss_fn", "key", "step"} <= set(context)
        # The plain gradient of alpha is small; this one is not.
        return 100.0 * jnp.sum(arch["cell"][:, 1]) if phase == "arch" else 0.0

    def gradients(state, weight_grads, *, supernet, step, **context):
        mask = {"cell": jnp.ones((2, 3, 3)).at[0, 1, 2].set(0.0)}
        return state + 1, weight_grads, supernet.op_mask(mask)

    regularizer = jnas.regularizers.Regularizer(
        init=lambda supernet, arch: jnp.zeros(()), penalty=penalty, gradients=gradients
    )
    tx = jnas.optimizers.coupled_sgd(0.1, weight_decay=0.1)
    search = tiny.tiny_search(regularizer=regularizer, weight_tx=tx)
    train, val = tiny.batch(0), tiny.batch(1)
    state = search.init(jax.random.key(0), train["image"])
    # A velocity from before freezing must neither move the weight nor decay.
    moving = jax.tree.map(jnp.ones_like, state.weights)
    state = state._replace(
        weight_opt_state=optax.tree_map_params(
            tx, lambda leaf, one: one, state.weight_opt_state, moving
        )
    )
    after, info = jax.jit(search.step)(state, train, val)
    assert set(calls) == {"arch", "weights"}
    assert float(info.arch_grad_norm) > 100
    assert float(after.regularizer_state) == 1
    frozen = np.array_equal(after.weights["dense"][1], state.weights["dense"][1])
    assert frozen and not np.array_equal(
        after.weights["dense"][0], state.weights["dense"][0]
    )
    velocity = [
        leaf
        for leaf in jax.tree.leaves(after.weight_opt_state)
        if leaf.shape == (3, 6, 6)
    ]
    assert len(velocity) == 2 and np.all(velocity[0][1] == 1)
    assert not np.all(velocity[0][0] == 1)


def test_transform_acts_on_the_forward_pass_only():
    """A transformed mixture changes the loss; arch is not overwritten."""

    def transform(state, mixture, *, phase, **context):
        one_hot = jnp.zeros((3, 3)).at[:, 0].set(1.0)  # "none" everywhere: logits 0
        return Mixture({"cell": one_hot}) if phase == "weights" else mixture

    search = tiny.tiny_search(
        regularizer=jnas.regularizers.Regularizer(transform=transform)
    )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    after, info = search.weight_step(state, tiny.batch(0))
    np.testing.assert_allclose(info.train_loss, np.log(tiny.CLASSES), rtol=1e-6)
    assert np.array_equal(after.arch["cell"], state.arch["cell"])


def test_inspect_compares_the_mixture_with_the_derived_one_hot():
    search = tiny.tiny_search()
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    batch = tiny.batch(3)
    diagnostics = search.inspect(state, batch)
    arch = state.arch["cell"]
    net = search.supernet
    expected = _loss(net, state.weights, arch, batch)
    np.testing.assert_allclose(diagnostics.loss, expected, rtol=1e-6)
    hard = jnp.where(jax.nn.one_hot(jnp.argmax(arch, -1), 3) > 0, 0.0, -jnp.inf)
    expected = _loss(net, state.weights, hard, batch)
    np.testing.assert_allclose(diagnostics.derived_loss, expected, rtol=1e-6)
    assert 0 <= diagnostics.derived_skip_share <= 1
    assert diagnostics.shares is not None
    share = diagnostics.shares["cell"]["skip"]
    np.testing.assert_allclose(share, diagnostics.skip_share, atol=1e-5)
    assert 0.99 < float(diagnostics.arch_entropy) <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "arch"}, "order must be one of arch_first, weights_first, joint"),
        ({"recent": -1}, "recent must be >= 0"),
        ({"recent_every": 0}, "recent_every >= 1"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(jnas.JnasError, match=message) as error:
        tiny.tiny_search(**options)
    assert "\n" not in str(error.value)
