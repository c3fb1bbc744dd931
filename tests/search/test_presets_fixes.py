"""The later fixes as presets: a figure only each has, and what is left without it."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import presets, regularizers
from jnas.presets import fixes

NASBENCH = jnas.spaces.nasbench201()
DARTS = jnas.spaces.darts()
SMALL = jnas.Space(
    "small",
    (jnas.spaces.Group("cell", NASBENCH.groups[0].operations, ((0, 1),), 1, (1,)),),
)
# Two groups of five edges; the second node has one more than it may keep.
PAIR = jnas.Space(
    "pair",
    tuple(
        jnas.spaces.Group(
            name,
            NASBENCH.groups[0].operations[1:3],
            ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)),
            2,
            (2, 3),
        )
        for name in ("normal", "reduce")
    ),
    keep=2,
)
SIZES = {
    "channels": 4,
    "cells_per_stage": 1,
    "num_classes": 4,
    "epochs": 10,
    "steps_per_epoch": 2,
}


RATES = {"learning_rate": 0.05, "arch_learning_rate": 0.02}


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
    return presets.get(name)(SMALL, **{**SIZES, **RATES, **options})


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), 16).astype(np.int32)
    image = rng.integers(0, 60, (64, 8, 8, 1)).astype(np.uint8)
    return jnas.data.from_arrays(image, label, name="rows")


@pytest.fixture(scope="module")
def plain():
    """Plain DARTS after some steps, with the figures that a preset has; each once."""

    @functools.cache
    def run(steps, of_darts):
        changes = fixes.BENCHMARK_OF_DARTS if of_darts else {}
        parts = {**SIZES, **RATES}
        search = fixes.compose("darts", SMALL, parts, changes=changes, config={})
        return after(search, steps)

    return run


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
    of_darts = name == "beta_darts"
    for a, b in zip(plain(3, of_darts), after(rates(name, **cut)), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        float(np.abs(a - b).max())
        for a, b in zip(plain(4, of_darts), after(rates(name, **fixed), 4), strict=True)
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
    assert search.config["order"] == "arch_first"


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


def when_due(part, space, epochs):
    """After how many epochs a projection is made."""
    evaluate = lambda mixture: {"accuracy": 0.0}  # noqa: E731
    net = types.SimpleNamespace(space=space)
    state, times = part.init(net, None), []
    for epoch in range(1, epochs + 1):
        before = int(state.done)
        mixture = part.project(state, jnas.mixture.uniform(space))
        state, _ = part.epoch_end(
            state,
            epoch=epoch,
            mixture=mixture,
            evaluate=evaluate,
            supernet=net,
            key=jax.random.key(epoch),
        )
        times += [epoch] * (int(state.done) - before)
    return times


def test_darts_pt_projects_at_the_published_epochs():
    found = presets.darts_pt(NASBENCH, channels=4, cells_per_stage=1)
    assert found.config["epochs"] == 125 and found.config["last_projection"] == 124
    times = when_due(found.regularizer, NASBENCH, 125)
    assert times == [100, 105, 110, 115, 120, 124]
    found = presets.darts_pt(DARTS, channels=4, cells=3)
    times = when_due(found.regularizer, found.supernet.space, 131)
    assert times == [*range(50, 131, 5)]


def test_the_virtual_step_of_darts_pt_has_the_rate_of_the_real_one(monkeypatch):
    made = optimizers_of(
        lambda: presets.darts_pt(DARTS, channels=4, cells=3, order=2), monkeypatch
    )
    virtual, real = (
        [float(rate(391 * e)) for e in (0, 49, 50, 90)] for rate, _ in made
    )
    assert virtual == real and virtual[2] == pytest.approx(0.0025)


def optimizers_of(compose, monkeypatch):
    """The learning rates and options that SGD is made with."""
    made = []
    make = jnas.optimizers.coupled_sgd

    def spy(rate, **options):
        made.append((rate, options))
        return make(rate, **options)

    with monkeypatch.context() as patch:
        patch.setattr(jnas.optimizers, "coupled_sgd", spy)
        compose()
    return made


@pytest.mark.parametrize("name", ["beta_darts", "darts_pt"])
def test_some_search_the_benchmark_with_the_optimizers_of_darts(name, monkeypatch):
    search = lambda name: presets.get(name)(NASBENCH, **SIZES)  # noqa: E731
    (rate, options), *_ = optimizers_of(lambda: search(name), monkeypatch)
    assert options["weight_decay"] == 3e-4 and not options["nesterov"]
    assert float(rate(2)) == float(rate(3)) != float(rate(4))  # two steps an epoch
    assert search(name).config["order"] == "arch_first"
    (rate, options), *_ = optimizers_of(lambda: search("darts"), monkeypatch)
    assert options["weight_decay"] == 5e-4 and options["nesterov"]
    assert float(rate(2)) != float(rate(3))


def test_sgas_decides_as_the_authors_do():
    config = presets.sgas(DARTS, channels=4, cells=3).config
    assert (config["first_decision"], config["last_decision"]) == (10, 45)
    seen = []
    make = regularizers.greedy_decisions

    def spy(*span, criterion):
        seen.append(criterion)
        return make(*span, criterion=criterion)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regularizers, "greedy_decisions", spy)
        for criterion in (1, 2):
            presets.sgas(DARTS, channels=4, cells=3, criterion=criterion)
    assert seen == [1, 2]
    for epochs in (1, 2, 6, 20):
        made = presets.sgas(NASBENCH, **{**SIZES, "epochs": epochs}).config
        assert 1 <= made["first_decision"] <= made["last_decision"] <= epochs


@pytest.mark.parametrize("name", ["darts_pt", "sgas"])
def test_deciding_presets_end_decided_and_darts_does_not(name, data, tmp_path):
    epochs = 20
    sizes = {k: v for k, v in SIZES.items() if k != "cells_per_stage"}
    sizes |= {"epochs": epochs, "cells": 3}
    search = presets.get(name)(PAIR, **sizes)
    run = lambda folder, search=search, **more: jnas.run.search(  # noqa: E731
        search,
        data,
        epochs=epochs,
        batch_size=16,
        progress=False,
        workdir=folder,
        **more,
    )
    found = run(tmp_path / "straight")
    decisions = found.state.regularizer_state.decisions
    for group in PAIR.groups:
        kept = np.asarray(decisions.kept[group.name])
        assert kept.tolist()[:2] == [True] * 2 and kept.sum() == 4
        expected = {
            (*group.edges[e], group.operations[int(decisions.chosen[group.name][e])])
            for e in np.flatnonzero(kept)
        }
        edges = found.genotype[group.name].edges
        assert {(e.source, e.target, e.operation) for e in edges} == expected
        weights = np.asarray(search.mixture(found.state).weights[group.name])
        np.testing.assert_array_equal(weights.sum(axis=1), kept)
        assert ((weights == 0) | (weights == 1)).all()
    # Without decisions it is DARTS, which ends with a mixture.
    plain = run(None, presets.darts(PAIR, **sizes))
    for weights in plain.history[-1]["probabilities"].values():
        assert np.max(weights) < 0.9
    assert found.history[-1]["arch_entropy"] < 1e-6
    told = tmp_path / "straight" / "regularizer.json"
    assert told.exists() == (name == "darts_pt")
    # Decisions are saved with the search: it goes on in the same bits.
    # Where something is decided and something is not: of DARTS-PT the edges are, the
    # node is not.
    crash = {"darts_pt": 19, "sgas": 9}[name]

    def breaking(info):
        own = info.state.regularizer_state.decisions
        if info.epoch == crash:
            assert (np.asarray(own.chosen["normal"]) >= 0).any()
            assert not jnas.select.decisions.settled(PAIR, search.mixture(info.state))
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", on_epoch=breaking)
    again = run(tmp_path / "cut")
    assert again.resumed_from is not None and again.genotype == found.genotype
    for a, b in zip(
        jax.tree.leaves((again.state.weights, again.state.regularizer_state)),
        jax.tree.leaves((found.state.weights, found.state.regularizer_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_what_was_never_learned_is_told_when_it_is_decided(data, caplog):
    """DARTS-PT with fixed alpha: no verdict on the strongest of a random start."""
    sizes = {k: v for k, v in SIZES.items() if k != "cells_per_stage"}
    sizes |= {"epochs": 20, "cells": 3}
    search = presets.darts_pt(PAIR, **sizes, learn_arch=False)
    run = functools.partial(
        jnas.run.search, search, data, epochs=20, batch_size=16, progress=False
    )
    found = run(diagnose_every=10)
    # Edges are all decided one epoch before their node is thinned, after the 19th.
    assert ["genotype" in row for row in found.history] == [False] * 19 + [True]
    assert "collaps" not in caplog.text and "ended before" not in caplog.text
    for epoch in (2, 18):
        caplog.clear()
        run(on_epoch=lambda info, at=epoch: "stop" if info.epoch == at else None)
        assert "ended before all was decided" in caplog.text


def test_darts_plus_gives_the_cell_of_the_epoch_before(data):
    """The whole run, weights first: the arch that the rows of that epoch are of."""
    archs = {}
    search = presets.darts_plus(
        SMALL, **{**SIZES, "epochs": 6}, limit=None, stable=1, arch_learning_rate=1e-6
    )
    assert search.config["order"] == "weights_first"
    found = jnas.run.search(
        search,
        data,
        epochs=6,
        batch_size=16,
        progress=False,
        on_epoch=lambda info: archs.update(
            {info.epoch: np.asarray(info.state.arch["cell"])}
        ),
    )
    assert found.stopped and len(found.history) == 2
    np.testing.assert_array_equal(found.state.arch["cell"], archs[1])
    assert (archs[1] != archs[2]).any()


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
