"""Curvature against closed forms, double backward, and the papers' own Hessian."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.regularizers import curvature

GOLDEN = golden_files.load("darts_hessian")


def random_symmetric(seed, size, values=None):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    values = rng.normal(size=size) if values is None else np.asarray(values, float)
    return jnp.asarray(basis * values @ basis.T)


def quartic(seed=0, size=9):
    """A loss of a tree with a known Hessian: quadratic plus sum of fourth powers."""
    matrix = random_symmetric(seed, size)

    def loss(tree):
        x = jnp.concatenate([tree["a"].ravel(), tree["b"]])
        return x @ matrix @ x / 2 + jnp.sum(x**4)

    rng = np.random.default_rng(seed + 1)
    point = {
        "a": jnp.asarray(rng.normal(size=(2, 3))),
        "b": jnp.asarray(rng.normal(size=3)),
    }
    x = np.concatenate([np.ravel(point["a"]), point["b"]])
    return loss, point, np.asarray(matrix) + np.diag(12 * x**2)


def test_product_and_exact_are_the_closed_form():
    with jax.enable_x64(True):
        loss, point, expected = quartic()
        direction = jax.tree.map(jnp.ones_like, point)
        found = curvature.hessian_product(loss, point, direction)
        flat = np.concatenate([np.ravel(found["a"]), found["b"]])
        np.testing.assert_allclose(flat, expected.sum(1), rtol=1e-12)
        for at_once in (1, 4, 99):
            matrix = jax.jit(lambda p, n=at_once: curvature.exact(loss, p, at_once=n))
            np.testing.assert_allclose(matrix(point), expected, atol=1e-12)


def test_masked_coordinates_are_dropped():
    with jax.enable_x64(True):
        loss, point, expected = quartic()
        mask = {
            "a": np.array([[True, False, True], [True, True, False]]),
            "b": np.ones(3),
        }
        kept = np.flatnonzero(np.concatenate([mask["a"].ravel(), mask["b"]]))
        found = curvature.exact(loss, point, mask)
        np.testing.assert_allclose(found, expected[np.ix_(kept, kept)], atol=1e-12)
        largest = curvature.largest_eigenvalue(
            loss, point, jax.random.key(0), mask=mask
        )
        values = np.linalg.eigvalsh(expected[np.ix_(kept, kept)])
        np.testing.assert_allclose(largest, values[-1], rtol=1e-10)


def test_largest_is_algebraic():
    # All negative, and one of largest size far below: neither 0 nor that one is right.
    with jax.enable_x64(True):
        for values in ([-9.0, -3.0, -2.0, -1.0], [-9.0, 0.5, 0.25, 0.1]):
            matrix = random_symmetric(3, 4, values)

            def loss(x, matrix=matrix):
                return x @ matrix @ x / 2

            found = curvature.largest_eigenvalue(loss, jnp.ones(4), jax.random.key(1))
            np.testing.assert_allclose(found, max(values), rtol=1e-10)
            both = curvature.extremes(lambda v, m=matrix: m @ v, jnp.ones(4), 4)
            np.testing.assert_allclose(both.smallest, -9.0, rtol=1e-10)
            vector = both.largest_vector
            np.testing.assert_allclose(
                matrix @ vector, both.largest * vector, atol=1e-9
            )


def test_lanczos_reaches_the_published_networks_curvature_in_20_products():
    with jax.enable_x64(True):
        hessian = jnp.asarray(GOLDEN["out/hessian"])
        values = np.linalg.eigvalsh(hessian)
        assert -values[0] > 0.1 * values[-1]  # not all of one sign
        for seed in range(5):
            start = jax.random.normal(jax.random.key(seed), (len(hessian),), float)
            found = jax.jit(lambda s: curvature.extremes(lambda v: hessian @ v, s, 20))(
                start
            )
            assert abs(found.largest - values[-1]) <= 1e-6 * values[-1]
        np.testing.assert_allclose(values[-1], GOLDEN["out/lambda_max"], rtol=1e-8)


@pytest.mark.parametrize("unroll", [False, True])
def test_lanczos_keeps_its_basis_orthogonal_and_the_whole_spectrum(unroll):
    with jax.enable_x64(True):
        matrix = random_symmetric(0, 30, np.geomspace(1e-6, 1e3, 30))
        start = jnp.asarray(np.random.default_rng(5).normal(size=30))
        small, basis = curvature.lanczos(lambda v: matrix @ v, start, 99, unroll=unroll)
        assert small.shape == (30, 30)
        np.testing.assert_allclose(basis @ basis.T, np.eye(30), atol=1e-10)
        np.testing.assert_allclose(
            np.linalg.eigvalsh(small), np.linalg.eigvalsh(matrix), atol=1e-9
        )


def test_lanczos_survives_an_exhausted_space():
    # Two different eigenvalues: the third vector would be noise. All are negative, so
    # a filling of zeros would be taken for the largest.
    matrix = random_symmetric(1, 12, [-2.0] * 6 + [-1.0] * 6).astype(jnp.float32)
    start = jnp.asarray(np.random.default_rng(2).normal(size=12), jnp.float32)
    found = curvature.extremes(lambda v: matrix @ v, start, 10)
    np.testing.assert_allclose(found.largest, -1.0, rtol=1e-5)
    np.testing.assert_allclose(found.smallest, -2.0, rtol=1e-5)


def test_estimates_are_without_bias():
    matrix = random_symmetric(4, 20).astype(jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4000)
    for function, expected in (
        (curvature.trace, float(jnp.trace(matrix))),
        (curvature.squared_frobenius, float(jnp.sum(matrix**2))),
    ):
        draws = jax.vmap(lambda k, f=function: f(lambda v: matrix @ v, k, 20))(keys)
        error = float(draws.std()) / np.sqrt(len(keys))
        assert abs(float(draws.mean()) - expected) < 5 * error
        many = function(lambda v: matrix @ v, keys[0], 20, samples=200)
        assert abs(float(many) - expected) < 5 * float(draws.std()) / np.sqrt(200)


def test_what_an_edge_cannot_choose_does_not_count():
    operations = ("none", "skip_connect", "nor_conv_1x1")
    space = jnas.spaces.nasbench201().restrict(
        {"cell": [operations[:2]] + [operations] * 5}
    )
    size = len(space.groups[0].operations)
    arch = {
        "operations": {"cell": jnp.zeros((6, size))},
        "edges": {"cell": jnp.zeros(6)},
    }
    mask = curvature.choosable_arch(space, arch)
    assert mask["edges"]["cell"].all()
    np.testing.assert_array_equal(mask["operations"]["cell"], space.groups[0].allowed)


def test_bad_input_is_one_line():
    loss, point, _ = quartic()
    with pytest.raises(jnas.JnasError, match="mask must be a tree"):
        curvature.exact(loss, point, {"a": np.ones((2, 3))})
    nothing = jax.tree.map(lambda x: np.zeros(x.shape, bool), point)
    with pytest.raises(jnas.JnasError, match="at least one"):
        curvature.flat_product(loss, point, nothing)
    for call in (
        lambda: curvature.lanczos(lambda v: v, jnp.ones(2), 0),
        lambda: curvature.trace(lambda v: v, jax.random.key(0), 2, samples=1.5),
        lambda: curvature.exact(loss, point, at_once=0),
    ):
        with pytest.raises(jnas.JnasError, match="positive integer"):
            call()
