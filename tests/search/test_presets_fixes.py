"""The later fixes as presets: a figure only each has, and what is left without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import presets, regularizers

NASBENCH = jnas.spaces.nasbench201()
DARTS = jnas.spaces.darts()
SMALL = jnas.Space(
    "small",
    (jnas.spaces.Group("cell", NASBENCH.groups[0].operations, ((0, 1),), 1, (1,)),),
)
SIZES = {
    "channels": 4,
    "cells_per_stage": 1,
    "num_classes": 4,
    "epochs": 10,
    "steps_per_epoch": 2,
}


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, 8)),
    }


def after(search, steps=3):
    """Weights (without what only auxiliary skips have) and arch after some steps."""
    state = search.init(jax.random.key(0), batch()["image"])
    step = jax.jit(search.step)
    for i in range(steps):
        state, _ = step(state, batch(2 * i), batch(2 * i + 1))
    return jax.tree.leaves((state.weights["skeleton"], state.arch))


def rates(name, **options):
    """All presets at the same learning rates, so that only the fix differs."""
    common = {"learning_rate": 0.05, "arch_learning_rate": 0.02}
    return presets.get(name)(SMALL, **{**SIZES, **common, **options})


@pytest.fixture(scope="module")
def plain():
    return after(rates("darts"))


ABLATED = {
    "darts_minus": ({}, {"skip_weight": 0.0}),
    "beta_darts": ({}, {"strength": 0.0}),
    "lambda_darts": ({}, {"strength": 0.0}),
    # A cosine is never below -1.
    "oles": ({"threshold": 1.0, "every": 1}, {"threshold": -1.0}),
}


@pytest.mark.parametrize("name", ABLATED)
def test_without_its_fix_a_preset_is_darts(plain, name):
    fixed, cut = ABLATED[name]
    for a, b in zip(plain, after(rates(name, **cut)), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        float(np.abs(a - b).max())
        for a, b in zip(plain, after(rates(name, **fixed), 4), strict=True)
    ]
    assert max(moved) > 1e-5


def test_oles_freezes_what_overfits_and_darts_does_not():
    ends = []
    for name, options in (("darts", {}), ("oles", {"threshold": 1.0, "every": 1})):
        search = rates(name, **options)
        state = search.init(jax.random.key(0), batch()["image"])
        step = jax.jit(search.step)
        kept = []
        for i in range(4):
            state, _ = step(state, batch(2 * i), batch(2 * i + 1))
            kept.append(np.asarray(state.weights["cell_0"]["nor_conv_3x3"]["kernel"]))
        ends.append(np.array_equal(kept[-1], kept[-2]))
    assert ends == [False, True]


def test_skip_weight_falls_to_the_last_epoch():
    search = presets.darts_minus(SMALL, **{**SIZES, "epochs": 50})
    state = search.regularizer.init(search.supernet, None)
    uniform = jnas.mixture.uniform(SMALL)
    weights = [
        float(
            search.regularizer.transform(state, uniform, step=2 * epoch).auxiliary[
                "cell"
            ][0]
        )
        for epoch in (0, 25, 49)
    ]
    np.testing.assert_allclose(weights, [1.0, 0.5, 0.02], rtol=1e-5)


def test_auxiliary_skips_have_weights_where_the_stride_is_two():
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    search = presets.darts_minus(DARTS)
    state = jax.eval_shape(search.init, jax.random.key(0), image)
    total = sum(leaf.size for leaf in jax.tree.leaves(state.weights))
    # Two reduction cells, of 32 and 64 channels, 8 edges of stride 2 in each; a
    # factorised reduction has C * C weights.
    assert total == 1_930_618 + 8 * (32**2 + 64**2)


def test_beta_decay_rises_by_half_an_epoch():
    search = presets.beta_darts(SMALL, **{**SIZES, "epochs": 100})
    arch = {"cell": jnp.zeros((1, 5))}
    state = search.regularizer.init(search.supernet, arch)
    values = [
        float(search.regularizer.penalty(state, arch=arch, phase="arch", step=2 * e))
        for e in (0, 27, 99)
    ]
    np.testing.assert_allclose(values, [0, 13.5 * np.log(5), 49.5 * np.log(5)], 1e-5)
    assert presets.beta_darts(DARTS, channels=4, cells=3).config["strength"] == 25.0


def test_lambda_darts_has_its_own_rate_and_reaches_its_strength(monkeypatch):
    search = presets.lambda_darts(NASBENCH, channels=4, cells_per_stage=1)
    assert search.config["arch_learning_rate"] == 1e-4
    assert search.config["epochs"] == 100 and search.config["order"] == "weights_first"
    assert presets.lambda_darts(DARTS).config["arch_learning_rate"] == 3e-4
    seen = {}
    make = regularizers.layer_alignment
    monkeypatch.setattr(
        regularizers,
        "layer_alignment",
        lambda strength, **options: seen.update(at=strength) or make(0.1, **options),
    )
    presets.lambda_darts(SMALL, **{**SIZES, "epochs": 50})
    assert float(seen["at"](2 * 49)) == pytest.approx(0.125)
    assert float(seen["at"](0)) == 0.0


def test_darts_plus_ends_where_the_rule_says():
    search = presets.darts_plus(SMALL, **{**SIZES, "epochs": 50})
    assert search.config["earliest"] == 10 and search.regularizer.keeps_archs == 1
    space = NASBENCH
    part = presets.darts_plus(space, **{**SIZES, "epochs": 50}).regularizer

    class Net:
        pass

    Net.space = space
    state = part.init(Net, None)
    context = {"mixture": jnas.mixture.uniform(space), "supernet": Net}
    two = space.decode([1, 1, 3, 3, 3, 3])
    assert not part.epoch_end(state, genotype=two, epoch=9, **context)[1].stop
    action = part.epoch_end(state, genotype=two, epoch=10, **context)[1]
    assert action == regularizers.Action(stop=True, rollback_epochs=1)
    one = space.decode([1, 3, 3, 3, 3, 3])
    assert not part.epoch_end(state, genotype=one, epoch=10, **context)[1].stop
    without = presets.darts_plus(space, limit=7, **SIZES).regularizer
    assert not without.epoch_end(state, genotype=two, epoch=10, **context)[1].stop


def test_darts_pt_tunes_at_a_tenth_of_the_rate(monkeypatch):
    seen = {}
    make = jnas.optimizers.coupled_sgd

    def spy(rate, **options):
        seen["rate"] = rate
        return make(rate, **options)

    monkeypatch.setattr(jnas.optimizers, "coupled_sgd", spy)
    search = presets.darts_pt(DARTS, channels=4, cells=3)
    assert (search.config["search_epochs"], search.config["epochs"]) == (50, 131)
    assert [len(g.operations) for g in search.supernet.space.groups] == [7, 7]
    at = [float(seen["rate"](391 * epoch)) for epoch in (0, 25, 49, 50, 130)]
    cosine = 0.001 + 0.024 * (1 + np.cos(np.pi * np.array([0, 25, 49]) / 50)) / 2
    np.testing.assert_allclose(at, [*cosine, 0.0025, 0.0025], rtol=1e-5)
    fixed = presets.darts_pt(DARTS, channels=4, cells=3, learn_arch=False)
    assert fixed.arch_from == 131 * 391 and search.arch_from == 0


def test_sgas_decides_as_the_authors_do():
    config = presets.sgas(DARTS, channels=4, cells=3).config
    assert (config["first_decision"], config["last_decision"]) == (10, 45)
    for epochs in (1, 2, 6, 20):
        made = presets.sgas(NASBENCH, **{**SIZES, "epochs": epochs}).config
        assert 1 <= made["first_decision"] <= made["last_decision"] <= epochs


@pytest.mark.parametrize("name", ["darts_pt", "sgas"])
def test_deciding_presets_end_decided_and_darts_does_not(name, tmp_path):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 16).astype(np.int32)
    image = rng.integers(0, 60, (64, 8, 8, 1)).astype(np.uint8)
    data = jnas.data.from_arrays(image, label, name="rows")
    sizes = {**SIZES, "epochs": 6, "steps_per_epoch": 2}
    search = presets.get(name)(SMALL, **sizes)
    run = lambda folder, **more: jnas.run.search(  # noqa: E731
        search, data, epochs=6, batch_size=16, progress=False, workdir=folder, **more
    )
    found = run(tmp_path / "straight")
    decided = np.asarray(found.state.regularizer_state.decisions.chosen["cell"])
    assert (decided >= 0).all()
    edge = found.genotype["cell"].edges[0]
    assert edge.operation == SMALL.groups[0].operations[int(decided[0])]
    weights = np.asarray(search.mixture(found.state).weights["cell"])
    np.testing.assert_array_equal(np.sort(weights), [[0, 0, 0, 0, 1]])
    arch = np.asarray(search.probabilities(found.state.arch).weights["cell"])
    assert arch.max() < 0.9  # what DARTS would end with
    told = tmp_path / "straight" / "regularizer.json"
    assert told.exists() == (name == "darts_pt")
    # Decisions are saved with the search: it goes on in the same bits.
    stop = lambda info: "stop" if info.epoch == 6 else None  # noqa: E731
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", on_epoch=_breaking)
    again = run(tmp_path / "cut", on_epoch=stop)
    assert again.resumed_from is not None
    for a, b in zip(
        jax.tree.leaves((again.state.weights, again.state.regularizer_state)),
        jax.tree.leaves((found.state.weights, found.state.regularizer_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def _breaking(info):
    if info.epoch == 4:
        raise RuntimeError("the power is gone")


def test_bad_input_is_one_line():
    for name, options, words in (
        ("darts_minus", {"skip_weight": -1}, "skip_weight"),
        ("beta_darts", {"strength": -1}, "strength"),
        ("lambda_darts", {"method": "exat"}, "did you mean 'exact'"),
        ("oles", {"threshold": 2}, "a cosine"),
        ("darts_plus", {"limit": 0}, "limit"),
        ("darts_plus", {"limit": None}, "got neither"),
        ("sgas", {"criterion": 0}, "criterion"),
        ("darts_pt", {"chanels": 1}, "did you mean 'channels'"),
    ):
        with pytest.raises(jnas.JnasError, match=words) as error:
            presets.get(name)(SMALL, **SIZES, **options)
        assert "\n" not in str(error.value)
