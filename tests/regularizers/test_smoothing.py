"""The smoothings: what they do to mixtures, and that arch is left alone."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import regularizers
from jnas.regularizers import smoothing
from jnas.regularizers.adversarial_smoothing import attack

SPACE = jnas.spaces.nasbench201()
OPERATIONS = SPACE.groups[0].operations
RAGGED = SPACE.restrict({"cell": [("none", "skip_connect")] + [OPERATIONS] * 5})
NET = types.SimpleNamespace(space=RAGGED, cells={"cell": 1})
MASK = jnp.asarray(RAGGED.groups[0].allowed)
MIXTURE = jnas.relax.softmax().probabilities(
    {"cell": jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)},
    space=RAGGED,
)


def quadratic(weights, mixture, *, statistics="batch", key=None):
    del weights, statistics, key
    return jnp.sum((mixture.weights["cell"] - 0.7) ** 2)


def transform(part, mixture=MIXTURE, phase="weights", key=0, step=0, loss=quadratic):
    return part.transform(
        part.init(NET, None),
        mixture,
        weights=jnp.zeros(2),
        loss_fn=loss,
        key=jax.random.key(key),
        step=step,
        phase=phase,
    )


PARTS = {
    "random": regularizers.random_smoothing(0.3),
    "adversarial": regularizers.adversarial_smoothing(0.3),
}


@pytest.mark.parametrize("name", PARTS)
def test_mixtures_stay_mixtures_and_the_arch_phase_is_clean(name):
    part = PARTS[name]
    for key in range(20):
        moved = transform(part, key=key).weights["cell"]
        assert (moved >= 0).all() and (moved != MIXTURE.weights["cell"]).any()
        np.testing.assert_allclose(moved.sum(-1), 1, rtol=1e-6)
        assert not np.asarray(moved)[~np.asarray(MASK)].any()
    assert transform(part, phase="arch") is MIXTURE


@pytest.mark.parametrize("name", PARTS)
def test_other_shapes_of_mixtures(name):
    part = PARTS[name]
    stacked = MIXTURE._replace(
        weights={"cell": jnp.stack([MIXTURE.weights["cell"]] * 3)},
        edges={"cell": jnp.ones(6)},
    )
    moved = transform(part, stacked)
    assert moved.weights["cell"].shape == (3, 6, 5) and moved.edges is stacked.edges
    # Rows of independent gates keep their sums.
    gates = MIXTURE._replace(weights={"cell": 2 * MIXTURE.weights["cell"]})
    np.testing.assert_allclose(
        transform(part, gates).weights["cell"].sum(-1), 2, rtol=1e-6
    )


def test_rows_are_clamped_divided_and_never_empty():
    mask = jnp.array([[True] * 3, [True] * 3, [True, True, False]])
    rows = jnp.array([[1.5, 0.5, -1.0], [-0.3, -0.1, -0.2], [-3.0, -2.0, 1.0]])
    found = smoothing.onto_rows(rows, mask)
    np.testing.assert_allclose(
        found, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 1, 0]], rtol=1e-6
    )


def test_noise_is_uniform_and_each_draw_its_own():
    weights = {"a": jnp.zeros((200, 8)), "b": jnp.zeros((200, 8))}
    drawn = smoothing.noise(jax.random.key(0), weights)
    values = np.concatenate([np.ravel(drawn["a"]), np.ravel(drawn["b"])])
    assert abs(values.mean()) < 5 / np.sqrt(3 * values.size)
    assert abs(values.var() - 1 / 3) < 5 * np.sqrt(4 / 45 / values.size)
    assert np.abs(values).max() <= 1 and (drawn["a"] != drawn["b"]).all()


def test_the_attack_ends_no_lower_than_it_began():
    rng = np.random.default_rng(1)
    masks, reverted = {"cell": MASK}, []
    clean = MIXTURE.weights
    for _ in range(30):
        # Rough losses, on which signed steps may well end lower.
        wave = jnp.asarray(rng.normal(size=(6, 5)) * 400, jnp.float32)

        def loss(weights, wave=wave):
            return jnp.sum(jnp.sin(weights["cell"] * wave))

        unit = {"cell": jnp.asarray(rng.uniform(-1, 1, (6, 5)), jnp.float32)}
        found = attack(loss, clean, unit, masks, radius=0.1)
        reverted.append(bool(found.reverted))
        assert float(found.loss_before) == pytest.approx(float(loss(clean)))
        assert float(loss(found.weights)) >= float(found.loss_before)
        if found.reverted:
            np.testing.assert_array_equal(found.weights["cell"], clean["cell"])
    # Both ways were seen.
    assert 0 < sum(reverted) < 30


def test_the_attack_finds_the_corner_of_a_linear_loss():
    slope = jnp.array([[3.0, -1.0]])
    clean = {"cell": jnp.array([[0.5, 0.5]])}
    for unit in (-1.0, 0.0, 1.0):
        found = attack(
            lambda w: jnp.sum(w["cell"] * slope),
            clean,
            {"cell": jnp.full((1, 2), unit)},
            {"cell": jnp.ones((1, 2), bool)},
            radius=0.2,
        )
        np.testing.assert_allclose(found.weights["cell"], [[0.7, 0.3]], rtol=1e-6)


def test_statistics_and_gradients_of_the_attack():
    seen = []

    def loss(weights, mixture, *, statistics, key):
        seen.append(statistics)
        return jnp.sum(mixture.weights["cell"] ** 2) + jnp.sum(weights)

    transform(regularizers.adversarial_smoothing(0.1, steps=1), loss=loss)
    assert set(seen) == {"running"}

    def through(weights):
        part = regularizers.adversarial_smoothing(0.1)
        moved = part.transform(
            part.init(NET, None), MIXTURE, weights=weights, loss_fn=loss,
            key=jax.random.key(0), step=0, phase="weights",
        )  # fmt: skip
        return jnp.sum(moved.weights["cell"] ** 2)

    assert not np.asarray(jax.grad(through)(jnp.ones(2))).any()


def test_the_radius_grows_as_published():
    radius = regularizers.growing_radius(epochs=50, steps_per_epoch=10)
    expected = {0: 0.03, 9: 0.03, 250: 0.165, 499: 0.03 + 0.27 * 49 / 50}
    for step, value in expected.items():
        assert float(radius(step)) == pytest.approx(value, rel=1e-6)
    small = transform(regularizers.random_smoothing(radius), step=0).weights["cell"]
    large = transform(regularizers.random_smoothing(radius), step=499).weights["cell"]
    clean = MIXTURE.weights["cell"]
    assert jnp.abs(small - clean).max() < 0.1 < jnp.abs(large - clean).max()


@pytest.mark.parametrize("name", PARTS)
def test_arch_moves_as_without_smoothing_in_the_first_step(name):
    # The arch half-step comes first and is clean, so one step moves arch by the same
    # bits; the weights move otherwise.
    batches = tiny.batch(0), tiny.batch(1)
    after = {}
    for label, part in (("plain", None), ("smooth", PARTS[name])):
        search = tiny.tiny_search(regularizer=part)
        state = search.init(jax.random.key(0), batches[0]["image"])
        after[label], _ = jax.jit(search.step)(state, *batches)
    jax.tree.map(
        np.testing.assert_array_equal, after["plain"].arch, after["smooth"].arch
    )
    different = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        after["plain"].weights,
        after["smooth"].weights,
    )
    assert any(jax.tree.leaves(different))


def test_bad_input_is_one_line():
    for call, words in (
        (lambda: regularizers.random_smoothing(-1.0), "radius"),
        (lambda: regularizers.adversarial_smoothing(float("nan")), "radius"),
        (lambda: regularizers.adversarial_smoothing(0.1, steps=0), "steps"),
        (lambda: regularizers.adversarial_smoothing(0.1, statistics="x"), "running"),
        (lambda: regularizers.growing_radius(epochs=0, steps_per_epoch=1), "epochs"),
    ):
        with pytest.raises(jnas.JnasError, match=words):
            call()
