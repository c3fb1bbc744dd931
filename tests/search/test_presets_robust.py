"""The presets against collapse: their figures, and their fixes on any other parts."""

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import presets, regularizers

NASBENCH = jnas.spaces.nasbench201()
SMALL = jnas.Space(
    "small",
    (jnas.spaces.Group("cell", NASBENCH.groups[0].operations, ((0, 1),), 1, (1,)),),
)
SIZES = {
    "channels": 4,
    "cells_per_stage": 1,
    "num_classes": 4,
    "epochs": 50,
    "steps_per_epoch": 2,
}
FIXES = {
    "random_smoothing": lambda: regularizers.random_smoothing(0.1),
    "adversarial_smoothing": lambda: regularizers.adversarial_smoothing(0.1, steps=2),
    "hessian_norm": lambda: regularizers.hessian_norm(products=2),
    "drop_path": lambda: regularizers.drop_path(0.2),
    "eigenvalue_stop": regularizers.eigenvalue_stop,
    "eigenvalue_adaptive": regularizers.eigenvalue_adaptive,
}


@pytest.mark.parametrize("fix", FIXES)
def test_every_fix_goes_with_every_relaxation_and_hypergradient(fix):
    batches = tiny.batch(0), tiny.batch(1)
    # One of each kind; variants of one plug-in differ in what fixes don't touch.
    pairs = [
        (name, "first_order") for name in conformance.RELAXATIONS if "-" not in name
    ]
    pairs += [("softmax", name) for name in ("unrolled", "mixed_level", "single_level")]
    pairs += [("gumbel_hard", "unrolled"), ("dirichlet", "implicit")]
    for relaxation, hypergradient in pairs:
        search = tiny.tiny_search(
            regularizer=FIXES[fix](),
            relaxation=conformance.RELAXATIONS[relaxation](),
            hypergradient=conformance.HYPERGRADIENTS[hypergradient](),
        )
        state = jax.eval_shape(search.init, jax.random.key(0), batches[0]["image"])
        after, _ = jax.eval_shape(search.step, state, *batches)
        assert jax.tree.structure(after) == jax.tree.structure(state), relaxation
        sharp = jax.eval_shape(search.lambda_max, state, batches[1])
        assert sharp.shape == ()


def test_presets_take_other_parts():
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    for name in ("sdarts_rs", "r_darts_l2", "darts_es", "hessian_darts"):
        search = presets.get(name)(
            SMALL,
            relaxation=jnas.relax.sigmoid(),
            hypergradient=jnas.bilevel.implicit(),
            **SIZES,
        )
        assert search.config["hypergradient"] == "the caller's"
        state = jax.eval_shape(search.init, jax.random.key(0), image)
        mixed = jax.eval_shape(search.probabilities, state.arch)
        assert mixed.weights["cell"].shape == (1, 5)
        # Gates of one half each, where a softmax has a fifth.
        gates = search.probabilities({"cell": jnp.zeros((1, 5))}).weights["cell"]
        np.testing.assert_allclose(gates, 0.5)


def test_published_figures():
    def state(search):
        shape = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
        return jax.jit(lambda: search.init(jax.random.key(0), jnp.zeros(shape.shape)))()

    decayed = state(presets.r_darts_l2(SMALL, **SIZES, order=1))
    decay = decayed.weight_opt_state.hyperparams["weight_decay"]
    assert float(decay) == pytest.approx(81e-4)
    assert presets.WEIGHT_DECAYS == (3e-4, 9e-4, 27e-4, 81e-4)
    assert presets.DROP_PATHS == (0.0, 0.2, 0.4, 0.6)
    for name in ("r_darts_l2", "r_darts_dp", "darts_es", "darts_ada"):
        config = presets.get(name)(SMALL, **SIZES).config
        assert config["hypergradient"] == "unrolled exact"
        assert config["order"] == "arch_first"
    for name in ("sdarts_rs", "sdarts_adv", "hessian_darts"):
        config = presets.get(name)(SMALL, **SIZES).config
        assert config["hypergradient"] == "first_order"


def test_drop_path_rises_to_its_value_in_the_last_epoch():
    search = presets.r_darts_dp(SMALL, drop_path=0.6, **SIZES)
    rates = [
        float(search.regularizer.rates((), step=2 * epoch)["drop_path"])
        for epoch in (0, 7, 49)
    ]
    np.testing.assert_allclose(rates, [0, 0.6 * 7 / 49, 0.6], rtol=1e-6)
    plain = presets.r_darts_dp(SMALL, drop_path=0.0, **SIZES)
    assert plain.regularizer == regularizers.identity()


def test_early_stopping_watches_what_the_authors_do():
    part = presets.darts_es(SMALL, **SIZES).regularizer
    assert (part.curvature_every, part.keeps_archs) == (2, 12)
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    search = presets.darts_es(SMALL, **SIZES)
    state = jax.eval_shape(search.init, jax.random.key(0), image)
    assert state.recent_archs["cell"].shape == (13, 1, 5)
    adaptive = presets.darts_ada(SMALL, **SIZES).regularizer
    assert (adaptive.curvature_every, adaptive.keeps_states) == (2, 24)


def test_own_regularizers_are_chained_behind():
    own = regularizers.drop_path(0.25)
    search = presets.sdarts_rs(SMALL, regularizer=own, **SIZES)
    state = search.regularizer.init(search.supernet, None)
    assert float(search.regularizer.rates(state, step=0)["drop_path"]) == 0.25


def test_bad_input_is_one_line():
    for name, options, words in (
        ("sdarts_rs", {"radius": -1}, "radius"),
        ("sdarts_adv", {"steps": 0}, "steps"),
        ("sdarts_rs", {"start_radius": 0.5}, "start_radius must be <= radius"),
        ("r_darts_l2", {"weight_decay": -1}, "weight_decay"),
        ("r_darts_dp", {"drop_path": 1.0}, "rate"),
        ("darts_es", {"ratio": 0}, "ratio"),
        ("darts_ada", {"factor": 1}, "factor"),
        ("hessian_darts", {"kind": "spectrl"}, "did you mean 'spectral'"),
        ("hessian_darts", {"ordr": 1}, "did you mean"),
        ("hessian_darts", {"order": 3}, "order must be 1 or 2"),
    ):
        with pytest.raises(jnas.JnasError, match=words):
            presets.get(name)(SMALL, **SIZES, **options)


def test_evaluation_drops_nothing():
    search = presets.r_darts_dp(SMALL, drop_path=0.9, **SIZES)
    plain = presets.darts(SMALL, order=2, **SIZES)
    batch = {
        "image": jax.random.normal(jax.random.key(0), (8, 8, 8, 1)),
        "label": jnp.arange(8) % 4,
    }
    state = plain.init(jax.random.key(0), batch["image"])
    state = state._replace(step=jnp.asarray(2 * 49, jnp.int32))
    mixed = plain.probabilities(state.arch)
    found = [float(one.evaluate(state, mixed, batch)[0]) for one in (search, plain)]
    assert found[0] == found[1]
