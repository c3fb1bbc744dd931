"""Every selector: members of the space, deterministic, one contract."""

import dataclasses

import conformance
import jax
import numpy as np
import pytest
import tiny

import jnas
from jnas.errors import JnasError

SPACES = {
    "tiny": tiny.SPACE,
    "nasbench201": jnas.spaces.nasbench201(),
    "darts": jnas.spaces.darts(),
    "ragged": jnas.spaces.nasbench201().restrict(
        {"cell": [["none", "nor_conv_3x3"], ["skip_connect", "avg_pool_3x3"]] * 3}
    ),
    "ragged-keep": jnas.spaces.darts().restrict(
        {"normal": [["none", "skip_connect"], ["sep_conv_3x3"]] * 7}
    ),
}


@pytest.fixture(params=list(conformance.SELECTORS))
def name(request):
    return request.param


def prepared(name, space):
    """The selector, and the form of the space that it is for."""
    if name == "threshold":
        space = dataclasses.replace(space, optional=True)
    if name == "skip_limit":
        return jnas.select.skip_limit(1, group=space.names[0]), space
    return conformance.SELECTORS[name](), space


def random_mixture(space, seed):
    rng = np.random.default_rng(seed)
    weights = {}
    for group in space.groups:
        logits = rng.normal(size=(group.num_edges, group.num_operations))
        rows = np.where(group.allowed, np.exp(logits), 0)
        weights[group.name] = rows / rows.sum(axis=1, keepdims=True)
    return jnas.Mixture(weights)


def score(mixture):
    """Small where the first candidates are chosen."""
    columns = np.arange(99)
    value = sum(
        float((np.asarray(weights) * columns[: weights.shape[-1]]).sum())
        for weights in mixture.weights.values()
    )
    return {"loss": value, "accuracy": -value}


@pytest.mark.parametrize("space", SPACES)
def test_members_of_the_space_and_deterministic(name, space):
    selector, space = prepared(name, SPACES[space])
    for seed in range(3):
        mixture = random_mixture(space, seed)
        options = {"space": space, "evaluate": score, "unknown": 1}
        first, second = (
            selector.select(None, mixture, key=jax.random.key(seed), **options)
            for _ in range(2)
        )
        assert first == second and isinstance(first, jnas.Genotype)
        rows = space.one_hot(first)  # raises if it is not in the space
        for group in space.groups:
            assert not rows[group.name][~group.allowed].any()


def test_derive_of_a_search(name):
    selector, space = prepared(name, tiny.SPACE)
    search = tiny.tiny_search(selector=selector)
    if space.optional:
        supernet = tiny.tiny_supernet()._replace(space=space)
        search = jnas.search.differentiable(
            supernet,
            weight_tx=jnas.optimizers.coupled_sgd(0.1),
            arch_tx=jnas.optimizers.coupled_adam(0.01),
            selector=selector,
        )
    state = search.init(jax.random.key(0), tiny.batch(0)["image"])
    genotype = search.derive(state, evaluate=score, key=jax.random.key(1))
    space.one_hot(genotype)
    if selector.needs_evaluation:
        with pytest.raises(JnasError, match="evaluate"):
            search.derive(state, key=jax.random.key(1))
    diagnostics = search.inspect(state, tiny.batch(1))
    assert np.isfinite(float(diagnostics.derived_loss))


def test_mixtures_that_are_not_finite_are_told(name):
    selector, space = prepared(name, tiny.SPACE)
    weights = np.full((3, 3), np.nan)
    if name == "validated-uniform":  # does not look at it
        return
    with pytest.raises(JnasError, match="not finite: the search diverged"):
        selector.select(
            None,
            jnas.Mixture({"cell": weights}),
            space=space,
            evaluate=score,
            key=jax.random.key(0),
        )
