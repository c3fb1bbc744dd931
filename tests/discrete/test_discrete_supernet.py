"""The supernet as an objective, against networks built and evaluated one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jnas
from jnas import cost, discrete
from jnas.discrete import choices, supernet_objective
from jnas.errors import JnasError
from jnas.mixture import from_genotype

S2 = jnas.spaces.robust_darts("S2")  # nodes choose their edges, ragged
SPACES = {
    "nasbench201": jnas.spaces.nasbench201(),
    "s2": S2,
    "darts": jnas.spaces.darts(),
}


@functools.cache
def built(name, **options):
    space = SPACES[name]
    options |= {"channels": 4}
    options |= {"cells_per_stage": 1} if name == "nasbench201" else {"cells": 3}
    net = jnas.supernet.build(space, **options)
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    # Statistics of no use, so that it is seen where they are used.
    state = jax.tree.map(lambda x: x + 0.7, variables.model_state)
    return net, variables.weights, state


def batches(number, size=32, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "image": rng.normal(size=(size, 8, 8, 1)).astype(np.float32),
            "label": rng.integers(0, 10, size).astype(np.int32),
        }
        for _ in range(number)
    ]


@pytest.mark.parametrize("name", SPACES)
def test_mixtures_are_those_of_the_genotypes(name):
    space = SPACES[name]
    genes = space.random(0, n=40)
    mixed = jax.jit(jax.vmap(choices.mixture_of(space)))(genes)
    for i, row in enumerate(genes):
        own = from_genotype(space, space.decode(row), active=True, edges=True)
        for group in space.groups:
            kept = np.asarray(own.edges[group.name]) > 0
            weights = mixed.weights[group.name][i]
            np.testing.assert_array_equal(weights, own.weights[group.name])
            active = np.asarray(mixed.active[group.name][i])
            np.testing.assert_array_equal(
                active[kept], np.asarray(own.active[group.name])[kept]
            )
            if space.keep is not None:
                np.testing.assert_array_equal(mixed.edges[group.name][i], kept)
            idle = {group.operations[o] for o in active[~kept, 0]
                    if group.allowed[:, o].all()}  # fmt: skip
            assert idle <= {"none", "skip_connect"}


def reference(net, weights, state, genes, train, validation, statistics):
    """Every operation computed, by the genotype's mixture; statistics as in PyTorch."""
    mixture = from_genotype(net.space, net.space.decode(genes), edges=True)
    apply = jax.jit(net.apply, static_argnames=("train", "statistics"))
    if statistics == "recalibrated":
        zeros = jax.tree.map(jnp.zeros_like, state["batch_stats"])
        running = jax.tree.map(np.asarray, zeros)
        for k, batch in enumerate(train, 1):  # momentum=None: cumulative average
            # Not from the averages: of what has no variance, rounding is all there is.
            start = {**state, "batch_stats": zeros}
            _, moved = apply(weights, start, mixture, batch["image"], train=True)
            running = jax.tree.map(
                lambda old, new, k=k: old + (np.float64(new) / 0.1 - old) / k,
                running,
                moved["batch_stats"],
            )
        running = jax.tree.map(jnp.float32, running)
        state = {**state, "batch_stats": running}
    mode = "batch" if statistics == "batch" else "running"
    right = total = 0.0
    logits = []
    for batch in validation:
        out, _ = apply(
            weights, state, mixture, batch["image"], train=False, statistics=mode
        )
        weight = batch.get("weight", np.ones(len(batch["label"])))
        right += float((weight * (np.argmax(out, -1) == batch["label"])).sum())
        total += weight.sum()
        logits.append(np.asarray(out))
    return 100 * right / total, np.concatenate(logits)


CASES = [
    ("nasbench201", "recalibrated", 1),
    ("nasbench201", "batch", 1),
    ("nasbench201", "running", 1),
    ("s2", "batch", 1),
    pytest.param("s2", "recalibrated", 4, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "statistics", "partial"), CASES)
def test_scores_are_those_of_dense_evaluation(name, statistics, partial):
    options = {} if partial == 1 else {"partial_channels": partial}
    net, weights, state = built(name, **options)
    train, validation = batches(3), batches(3, seed=1)
    validation[-1]["weight"] = (np.arange(32) < 20).astype(np.float32)
    objective = discrete.supernet(
        net, weights, state, (train, validation), statistics=statistics, recalibration=3
    )
    genes = net.space.random(3, n=4)
    scores = objective(genes)
    wanted = [
        reference(net, weights, state, row, train, validation, statistics)[0]
        for row in genes
    ]
    np.testing.assert_allclose(scores, wanted, rtol=1e-6)
    assert statistics == "running" or len(np.unique(scores)) > 1
    assert objective.traceable and objective.space == net.space


def test_recalibrated_logits_are_the_reference_s():
    net, weights, state = built("nasbench201")
    train, validation = batches(3), batches(1, seed=1)
    genes = np.array([3, 2, 1, 3, 4, 2], np.int32)
    mixture = choices.mixture_of(net.space)(genes)
    stacked = {"image": np.stack([b["image"] for b in train])}
    new = supernet_objective.recalibrated(
        net.apply, weights, state, mixture, stacked, jax.random.key(0)
    )
    image = validation[0]["image"]
    logits, _ = net.apply(weights, new, mixture, image, train=False)
    wanted = reference(net, weights, state, genes, train, validation, "recalibrated")[1]
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    # What was there before has no part in it.
    other = jax.tree.map(lambda x: 3 * x, state)
    again = supernet_objective.recalibrated(
        net.apply, weights, other, mixture, stacked, jax.random.key(0)
    )
    jax.tree.map(np.testing.assert_array_equal, new, again)


@pytest.mark.slow
def test_recalibrated_by_one_batch_is_normalised_by_it():
    net, weights, state = built("nasbench201")
    (batch,) = batches(1, seed=1)
    image = batch["image"]
    mixture = choices.mixture_of(net.space)(np.array([3, 2, 1, 3, 4, 2], np.int32))
    # Of one batch they are its own, but for the unbiased variance: n / (n - 1) with
    # n >= 2048, in at most 20 normalisations one after the other.
    many = np.tile(image, (16, 1, 1, 1))
    once = supernet_objective.recalibrated(
        net.apply, weights, state, mixture, {"image": many[None]}, jax.random.key(0)
    )
    logits, _ = net.apply(weights, once, mixture, image, train=False)
    own, _ = net.apply(weights, state, mixture, image, train=False, statistics="batch")
    assert np.linalg.norm(logits - own) < 20 / 2048 * np.linalg.norm(own)


def test_scores_are_those_of_the_network_with_inherited_weights():
    net, weights, state = built("nasbench201")
    validation = batches(4, seed=2)
    # Pools are normalised in supernets only.
    genes = np.array([[3, 2, 1, 3, 0, 2], [2, 2, 0, 1, 3, 3]], np.int32)
    objective = discrete.supernet(
        net, weights, state, ([], validation), statistics="batch"
    )
    scores = objective(genes)
    for row, score in zip(genes, scores, strict=True):
        final = jnas.networks.build(
            net.space.decode(row), channels=4, cells_per_stage=1
        )
        own = final.init(jax.random.key(1), validation[0]["image"])
        inner = jnas.networks.inherit(own, final, net, weights)
        apply = jax.jit(functools.partial(final.apply, train=False, statistics="batch"))
        right = [
            np.argmax(apply(*inner, b["image"])[0], -1) == b["label"]
            for b in validation
        ]
        np.testing.assert_allclose(score, 100 * np.mean(right), rtol=1e-6)


def test_candidates_side_by_side_and_traced_score_alike():
    net, weights, state = built("nasbench201")
    given = (batches(2), batches(2, seed=1))
    genes = net.space.random(5, n=4)
    one, two = (
        discrete.supernet(
            net, weights, state, given, statistics="batch", together=together
        )
        for together in (1, 2)
    )
    np.testing.assert_allclose(one(genes), two(genes), rtol=1e-6)
    ones = np.ones(4, np.float32)
    scores, costs = jax.jit(one.evaluate)(genes, jax.random.key(0), ones)
    np.testing.assert_allclose(scores, one(genes), rtol=1e-6)
    assert scores.shape == costs.shape == (4,)


@pytest.mark.parametrize("name", ["nasbench201", "s2"])
def test_costs_are_multiply_adds_of_the_final_network(name):
    net, weights, state = built(name)
    objective = discrete.supernet(
        net, weights, state, ([], batches(1)), statistics="batch"
    )
    genes = net.space.random(7, n=3)
    depth = {k: net.config[k] for k in ("cells", "cells_per_stage")}
    wanted = [
        cost.count(
            net.space.decode(row), channels=4, image_shape=(8, 8, 1), **depth
        ).multiply_adds
        for row in genes
    ]
    ones = np.ones(3, np.float32)
    costs = objective.evaluate(genes, jax.random.key(0), ones)[1]
    np.testing.assert_allclose(costs, wanted, rtol=1e-6)
    assert objective.cost_unit == "multiply-adds"


def test_of_a_dataset_and_of_a_supernet_of_one_s_own():
    net = tiny.tiny_supernet()
    weights, state = net.init(jax.random.key(0), tiny.batch(0)["image"])
    data = jnas.data.load("digits")
    objective = discrete.supernet(
        net, weights, state, data, recalibration=2, validation=2, batch_size=16
    )
    assert objective.cost_unit == "evaluations" and objective.config["data"] == "digits"
    assert objective.config["validation"] == 32
    trials = discrete.study(
        discrete.random_search(net.space), objective, evaluations=6, batch=6, chunk=3
    )
    assert np.isfinite(trials.scores).all() and (trials.costs == 1).all()
    whole = discrete.supernet(net, weights, state, data, recalibration=1)
    assert whole.config["validation"] == len(data.validation)


def test_what_is_not_a_number_is_no_hit():
    net, weights, state = built("nasbench201")
    broken = jax.tree.map(lambda x: x * jnp.nan, weights)
    given = ([], [{**batches(1)[0], "label": np.zeros(32, np.int32)}])
    objective = discrete.supernet(net, broken, state, given, statistics="running")
    assert float(objective(net.space.random(0, n=1))[0]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": "mean"}, "unknown kind of statistics"),
        ({"recalibration": 0}, "recalibration must be"),
        ({"recalibration": 5}, "got 2 training and 1 validation"),
        ({"together": 0}, "together must be"),
        ({"data": 3}, "two iterables of batches"),
    ],
)
def test_wrong_calls_are_one_clear_line(options, message):
    net, weights, state = built("nasbench201")
    given = options.pop("data", (batches(2), batches(1)))
    with pytest.raises(JnasError, match=message):
        discrete.supernet(net, weights, state, given, **options)


def test_supernets_with_a_carry_are_refused():
    net, weights, state = built("nasbench201")
    with pytest.raises(JnasError, match="carries hidden"):
        discrete.supernet(net._replace(per_stream=("hidden",)), weights, state, None)
