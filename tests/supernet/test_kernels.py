"""The kernels against their plain forms: values and derivatives up to the third."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from jnas.supernet import kernels

WINDOWS = [(1, 1), (3, 3), (5, 5), (1, 7), (7, 1)]
STRIDES = DILATIONS = [1, 2]
COMPILE_FAST = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def jit(function):
    return jax.jit(function, compiler_options=COMPILE_FAST)


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def derivatives(function, arguments, third=True):
    """The function's value, gradient, and ``grad(jvp(grad))`` along a direction.

    The function's outputs are weighed and squashed, so that no derivative is trivial.
    """
    rng = np.random.default_rng(9)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), arguments)
    shape = jax.eval_shape(function, *arguments).shape
    coefficients = jnp.asarray(rng.normal(size=shape))

    def scalar(arguments):
        return jnp.sum(jnp.sin(function(*arguments)) * coefficients)

    def slope(arguments):
        _, tangent = jax.jvp(jax.grad(scalar), (arguments,), (direction,))
        return sum(jnp.sum(jnp.sin(t)) for t in jax.tree.leaves(tangent))

    def everything(arguments):
        result = {
            "value": function(*arguments),
            "gradient": jax.grad(scalar)(arguments),
        }
        if third:
            result["third"] = jax.value_and_grad(slope)(arguments)
        return result

    return jit(everything)(arguments)


def assert_same(got, expected, tolerance=1e-11):
    def check(path, a, b):
        scale = max(float(jnp.max(jnp.abs(b))), 1e-3)
        error = float(jnp.max(jnp.abs(a - b)))
        assert error <= tolerance * scale, (jax.tree_util.keystr(path), error, scale)

    jax.tree_util.tree_map_with_path(check, got, expected)


def conv_loops(x, kernel, stride, dilation):
    """A convolution as its definition, pixel by pixel."""
    x, kernel = np.asarray(x), np.asarray(kernel)
    height, width = (-(-size // stride) for size in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j, a, b in np.ndindex(height, width, *kernel.shape[:2]):
        row = i * stride + (a - kernel.shape[0] // 2) * dilation
        column = j * stride + (b - kernel.shape[1] // 2) * dilation
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            y[:, i, j] += x[:, row, column] @ kernel[a, b]
    return y


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_conv_is_its_definition(x64, window):
    kernel = random(*window, 2, 3, seed=1)
    for size, stride, dilation in itertools.product(
        [(6, 5), (7, 8), (2, 3)], STRIDES, DILATIONS
    ):
        x = random(2, *size, 2)
        expected = conv_loops(x, kernel, stride, dilation)
        np.testing.assert_allclose(
            kernels.conv(x, kernel, stride, dilation), expected, rtol=0, atol=1e-12
        )
        plain = reference.conv(x, kernel, stride, dilation)
        np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-12)


# Third derivatives at the stride and dilation that stress the adjoint's padding most.
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (2, 2)])
def test_conv_derivatives(x64, window, stride, dilation):
    arguments = random(2, 6, 5, 2), random(*window, 2, 3, seed=1)
    third = (stride, dilation) == (2, 1) and window in [(3, 3), (1, 7)]
    got, expected = (
        derivatives(lambda x, k, f=f: f(x, k, stride, dilation), arguments, third)
        for f in (kernels.conv, reference.conv)
    )
    assert_same(got, expected)


def plain_separable(x, depthwise, pointwise, stride, dilation):
    outputs = []
    for edge in range(len(depthwise)):
        own = x[..., 0 if x.shape[3] == 1 else edge, :]
        y = reference.depthwise(own, depthwise[edge], stride, dilation)
        outputs.append(reference.pointwise(y, pointwise[edge]))
    return jnp.stack(outputs, axis=3)


@pytest.mark.parametrize(
    ("window", "stride", "dilation", "shared"),
    [
        (3, 1, 1, False),
        (3, 2, 1, True),
        (3, 2, 2, False),
        (5, 1, 1, False),
        (5, 1, 2, True),
        (5, 2, 2, True),
        (7, 2, 1, False),
    ],
)
def test_separable_derivatives(x64, window, stride, dilation, shared):
    arguments = (
        random(2, 6, 5, 1 if shared else 2, 3),
        random(2, window, window, 3, seed=1),
        random(2, 3, 4, seed=2),
    )
    third = window == 3
    got, expected = (
        derivatives(lambda *a, f=f: f(*a, stride, dilation), arguments, third)
        for f in (kernels.separable, plain_separable)
    )
    assert_same(got, expected)


@pytest.mark.parametrize("size", [(6, 5), (1, 2)], ids=str)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("pool", ["max_pool", "avg_pool"])
def test_pool_derivatives(x64, pool, stride, size):
    x = random(2, *size, 3)
    third = size == (6, 5)
    plain = getattr(reference, pool)
    if pool == "max_pool":
        # Its own derivatives of higher order are not implemented in JAX; those of a
        # maximum over shifted views are.
        assert_same(kernels.max_pool(x, stride), plain(x, stride), 0)

        def plain(x, stride):
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1e30)
            views = [
                padded[:, i : i + x.shape[1], j : j + x.shape[2]][:, ::stride, ::stride]
                for i, j in np.ndindex(3, 3)
            ]
            return jnp.max(jnp.stack(views), axis=0)

    got, expected = (
        derivatives(lambda x, f=f: f(x, stride), (x,), third)
        for f in (getattr(kernels, pool), plain)
    )
    assert_same(got, expected)


@pytest.mark.parametrize("stride", STRIDES)
def test_ties_of_the_max_pool_go_to_the_first_position(stride):
    """Few distinct values make many ties; the loop scans rows, then columns."""
    x = np.random.default_rng(0).integers(-1, 2, (2, 6, 5, 3)).astype(np.float32)
    y = np.zeros((2, -(-6 // stride), -(-5 // stride), 3), np.float32)
    g = np.random.default_rng(1).integers(1, 9, y.shape).astype(np.float32)
    dx, ties = np.zeros_like(x), 0
    for b, i, j, c in np.ndindex(*y.shape):
        window = [
            (x[b, row, column, c], row, column)
            for row in range(i * stride - 1, i * stride + 2)
            for column in range(j * stride - 1, j * stride + 2)
            if 0 <= row < 6 and 0 <= column < 5
        ]
        best = max(value for value, _, _ in window)
        first = next(entry for entry in window if entry[0] == best)
        ties += sum(value == best for value, _, _ in window) > 1
        y[b, i, j, c] = best
        dx[b, first[1], first[2], c] += g[b, i, j, c]
    assert ties > 20
    value, pull = jax.vjp(lambda x: kernels.max_pool(x, stride), jnp.asarray(x))
    np.testing.assert_array_equal(value, y)
    np.testing.assert_array_equal(pull(jnp.asarray(g))[0], dx)


def plain_normalise(y, scale=None, epsilon=1e-5):
    mean, variance = jnp.mean(y, (0, 1, 2)), jnp.var(y, (0, 1, 2))
    z = (y - mean[None, None, None]) / jnp.sqrt(variance + epsilon)[None, None, None]
    return z if scale is None else z * scale[None, None, None]


@pytest.mark.parametrize("scaled", [True, False])
def test_normalise_derivatives(x64, scaled):
    y = 3 + random(2, 3, 4, 2)
    arguments = (y, random(2, seed=1)) if scaled else (y,)
    got = derivatives(lambda *a: kernels.normalise(*a)[0], arguments)
    assert_same(got, derivatives(plain_normalise, arguments))
    _, mean, variance = kernels.normalise(*arguments)
    np.testing.assert_allclose(mean, np.asarray(y).mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(variance, np.asarray(y).var((0, 1, 2)), rtol=1e-13)
    # The statistics are constants of the gradient, and epsilon is used.
    slopes = jax.grad(lambda y: sum(jnp.sum(s) for s in kernels.normalise(y)[1:]))(y)
    np.testing.assert_array_equal(slopes, 0)
    got = kernels.normalise(y, None, 0.5)[0]
    np.testing.assert_allclose(got, plain_normalise(y, None, 0.5), rtol=1e-12)


def separable_of(separable):
    """As a function of images and depthwise windows of two edges."""
    return lambda x, k: separable(
        x[..., None, :], k, jnp.sum(k, (1, 2)).reshape(2, 1, 1), 2, 1
    )


@pytest.mark.parametrize(
    ("ours", "plain", "shape"),
    [
        (
            lambda x, k: kernels.conv(x, k, 2),
            lambda x, k: reference.conv(x, k, 2),
            (3, 3, 1, 2),
        ),
        (
            separable_of(kernels.separable),
            separable_of(plain_separable),
            (2, 3, 3, 1),
        ),
        (lambda x, k: kernels.normalise(x, k)[0], plain_normalise, (1,)),
    ],
    ids=["conv", "separable", "normalise"],
)
def test_hessian_of_all_arguments(x64, ours, plain, shape):
    arguments = (random(1, 3, 2, 1), random(*shape, seed=1))

    def hessian(function):
        return jit(jax.hessian(lambda a: jnp.sum(jnp.sin(function(*a)) ** 2)))(
            arguments
        )

    got = hessian(ours)
    assert_same(got, hessian(plain))
    mixed = np.moveaxis(got[1][0], range(-4, 0), range(4))
    np.testing.assert_allclose(got[0][1], mixed, rtol=0, atol=1e-11)


def compiled_text(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 2)])
def test_gradients_in_a_conditional_are_in_the_fast_layout(window, stride, dilation):
    """The compiler rewrites other layouts outside of conditionals and loops only."""

    def layouts(function):
        def pull(index, x, kernel, g):
            def run(x, kernel, g):
                return jax.vjp(lambda *a: function(*a, stride, dilation), x, kernel)[1](
                    g
                )

            def idle(x, kernel, g):
                return x, kernel

            return jax.lax.switch(index, [run, idle], x, kernel, g)

        x, kernel = jnp.ones((2, 16, 16, 8)), jnp.ones((window, window, 8, 8))
        g = jax.eval_shape(lambda: reference.conv(x, kernel, stride, dilation))
        text = compiled_text(pull, jnp.int32(0), x, kernel, jnp.ones(g.shape))
        return set(re.findall(r"convolution\(.*dim_labels=([^,\s]*)", text))

    fast = {"b01f_01io->b01f"}
    assert layouts(kernels.conv) <= fast  # small windows may become products
    assert window == 1 or layouts(kernels.conv) == fast
    assert window == 1 or layouts(reference.conv) != fast


def test_bfloat16_is_kept_and_statistics_are_float32():
    x = jnp.ones((2, 4, 4, 2), jnp.bfloat16) * jnp.bfloat16(1.5)
    kernel = jnp.ones((3, 3, 2, 4), jnp.bfloat16)
    depthwise, pointwise = kernel[None, ..., 0], jnp.ones((1, 2, 4), jnp.bfloat16)
    cases = [
        (kernels.conv, (x, kernel)),
        (kernels.separable, (x[..., None, :], depthwise, pointwise)),
        (kernels.max_pool, (x,)),
        (kernels.avg_pool, (x,)),
        (lambda x: kernels.normalise(x)[0], (x,)),
    ]
    for function, arguments in cases:

        def with_pull(*arguments, function=function):
            value, pull = jax.vjp(function, *arguments)
            return value, pull(value)

        leaves = jax.tree.leaves(jax.eval_shape(with_pull, *arguments))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
    scale = jnp.ones(2, jnp.float32)
    (z, mean, variance), pull = jax.vjp(kernels.normalise, x, scale)
    assert (z.dtype, mean.dtype, variance.dtype) == (
        jnp.bfloat16,
        jnp.float32,
        jnp.float32,
    )
    dx, dscale = pull((z, mean, variance))
    assert (dx.dtype, dscale.dtype) == (jnp.bfloat16, jnp.float32)


def test_a_compiled_loop_gives_the_same_gradients(x64):
    x, kernel, scale = random(2, 6, 6, 2), random(3, 3, 2, 2, seed=1), random(2, seed=2)

    def loss(kernel, scale):
        y = kernels.conv(x, kernel, 2)
        y = kernels.separable(y[..., None, :], kernel[None, :, :, 0], kernel[:1, 0])
        y, _, _ = kernels.normalise(kernels.avg_pool(y[..., 0, :]), scale)
        return jnp.sum(jnp.sin(kernels.max_pool(y)))

    gradient = jax.grad(loss, (0, 1))

    def descend(weights, _):
        steps = gradient(*weights)
        return jax.tree.map(lambda w, g: w - 0.01 * g, weights, steps), steps

    _, steps = jit(lambda w: jax.lax.scan(descend, w, length=3))((kernel, scale))
    weights = (kernel, scale)
    descend = jit(descend)
    for step in range(3):
        weights, expected = descend(weights, None)
        assert_same(jax.tree.map(lambda s, step=step: s[step], steps), expected, 1e-12)


@pytest.mark.parametrize("shape", [(64, 8, 8, 3), (3, 5, 7, 4), (1, 1, 1, 2)])
def test_channel_sums_are_exact_sums(shape):
    x = np.random.default_rng(0).normal(3, 1, shape).astype(np.float32)
    exact = x.astype(np.float64).sum((0, 1, 2))
    found = jax.jit(kernels.channel_sums)(x)
    np.testing.assert_allclose(found, exact, rtol=2e-6)
    grown = jax.grad(lambda x: jnp.sum(kernels.channel_sums(x) ** 2))(x)
    expected = np.broadcast_to(2 * exact, shape)
    np.testing.assert_allclose(grown, expected, rtol=1e-5)
