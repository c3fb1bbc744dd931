"""The k best candidates against enumeration; draws; selection by validation."""

import itertools
import math

import jax
import numpy as np
import pytest

import jnas
from jnas.errors import JnasError
from jnas.select import ranking, sample, validated
from jnas.spaces import Group, Space

DENSE = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
ABC = ("a", "b", "c")
RAGGED = (("a",), ("b", "c"), ABC, ("c",), ("a", "b"))
SPACES = {
    "keep": Space("keep", (Group("cell", ABC, DENSE, 2, (3,)),), 2, ("a",)),
    "one": Space("one", (Group("cell", ABC, DENSE, 2, (3,)),), 1),
    "ragged": Space("ragged", (Group("cell", ABC, DENSE, 2, (3,), RAGGED),), 2),
    "groups": Space(
        "groups",
        (
            Group("x", ABC, ((0, 1), (0, 2), (1, 2)), 1, (2,)),
            Group("y", ("a", "d"), ((0, 1),), 1, (1,)),
        ),
    ),
    "nasbench201": jnas.spaces.nasbench201(),
}


def random_mixture(space, seed, edges=False):
    rng = np.random.default_rng(seed)
    weights, beta = {}, {}
    for group in space.groups:
        rows = np.exp(rng.normal(size=(group.num_edges, group.num_operations)))
        rows = np.where(group.allowed, rows, 0)
        weights[group.name] = rows / rows.sum(axis=1, keepdims=True)
        beta[group.name] = rng.uniform(0.1, 1, group.num_edges)
    return jnas.Mixture(weights, edges=beta if edges else None)


def every(space):
    vectors = list(itertools.product(*map(range, space.genes)))
    return np.asarray(vectors, np.int32)


def log_weights(space, mixture, genes):
    """From the one-hot rows alone."""
    result = []
    for row in genes:
        hot = space.one_hot(space.decode(row))
        total = 0.0
        for name, values in hot.items():
            weights = mixture.weights[name]
            if mixture.edges is not None:
                weights = weights * mixture.edges[name][:, None]
            total += np.log(weights[values > 0]).sum()
        result.append(total)
    return np.array(result)


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("name", ["keep", "one", "ragged", "groups"])
def test_the_best_are_those_of_the_enumeration(name, edges):
    space = SPACES[name]
    mixture = random_mixture(space, 3, edges)
    vectors = every(space)
    logs = log_weights(space, mixture, vectors)
    order = np.argsort(-logs, kind="stable")
    for count in (1, 2, 7, space.size, space.size + 5):
        found = ranking.best(mixture, space, count)
        assert found.dtype == np.int32 and len(found) == min(count, space.size)
        assert len(np.unique(found, axis=0)) == len(found)
        np.testing.assert_array_equal(found, vectors[order[:count]])


def test_the_best_of_all_of_nasbench201():
    space = SPACES["nasbench201"]
    mixture = random_mixture(space, 1)
    logs = np.log(mixture.weights["cell"])
    vectors = every(space)
    scores = logs[np.arange(6), vectors].sum(axis=1)
    order = np.argsort(-scores, kind="stable")
    for count in (100, 15_625):
        found = ranking.best(mixture, space, count)
        np.testing.assert_array_equal(found, vectors[order[:count]])


def test_ties_and_weights_of_zero():
    space = SPACES["nasbench201"]
    found = ranking.best(jnas.mixture.uniform(space), space, 30)
    assert len(np.unique(found, axis=0)) == 30
    np.testing.assert_array_equal(
        found, ranking.best(jnas.mixture.uniform(space), space, 30)
    )
    weights = np.zeros((6, 5))
    weights[:, 2] = 1
    found = ranking.best(jnas.Mixture({"cell": weights}), space, 40)
    assert found[0].tolist() == [2] * 6
    # next come those that differ in one place
    assert ((found[1:25] != 2).sum(axis=1) == 1).all()


def test_darts_is_exact_in_a_large_space():
    space = jnas.spaces.darts()
    mixture = random_mixture(space, 0)
    found = ranking.best(mixture, space, 300)
    logs = log_weights(space, mixture, found)
    assert (np.diff(logs) <= 1e-9).all() and len(np.unique(found, axis=0)) == 300
    # whatever is one edit from the best and better than the last is among them
    listed = {tuple(row) for row in found.tolist()}
    near = space.neighbours(found[0])
    better = log_weights(space, mixture, near) > logs[-1] + 1e-9
    assert better.sum() > 5 and {tuple(r) for r in near[better].tolist()} <= listed


@pytest.mark.parametrize("name", ["keep", "ragged", "groups"])
def test_draws_have_the_frequencies_of_the_weights(name):
    space = SPACES[name]
    mixture = random_mixture(space, 5)
    vectors = every(space)
    expected = np.exp(log_weights(space, mixture, vectors))
    expected /= expected.sum()
    rng = np.random.default_rng(0)
    n = 4000
    draws = [tuple(ranking.draw(mixture, space, rng).tolist()) for _ in range(n)]
    counts = np.array([draws.count(tuple(row)) for row in vectors.tolist()])
    assert counts.sum() == n
    # five standard deviations of a binomial count
    bound = 5 * np.sqrt(n * expected * (1 - expected)) + 1
    assert (np.abs(counts - n * expected) <= bound).all()


def test_sample_depends_on_the_key_only():
    space = jnas.spaces.nasbench201()
    mixture = random_mixture(space, 0)
    first, second, other = (
        sample().select(None, mixture, space=space, key=jax.random.key(seed))
        for seed in (0, 0, 1)
    )
    assert first == second != other
    raw = jax.random.key_data(jax.random.key(0))
    assert sample().select(None, mixture, space=space, key=raw) == first
    with pytest.raises(JnasError, match="sample draws at random"):
        sample().select(None, mixture, space=space)


# --- validated


def test_validated_takes_the_best_of_the_most_probable():
    space = jnas.spaces.nasbench201()
    mixture = random_mixture(space, 2)
    seen = []

    def evaluate(candidate):
        row = np.asarray(candidate.active["cell"])[:, 0]
        hot = np.asarray(candidate.weights["cell"])
        assert (hot.argmax(1) == row).all() and hot.sum() == 6
        seen.append(tuple(row.tolist()))
        return {
            "loss": 0.0,
            "accuracy": math.sin(float(np.dot(row, [1, 5, 25, 3, 7, 2]))),
        }

    chosen = validated(100).select(None, mixture, space=space, evaluate=evaluate)
    assert seen == [tuple(r) for r in ranking.best(mixture, space, 100).tolist()]
    scores = [math.sin(float(np.dot(row, [1, 5, 25, 3, 7, 2]))) for row in seen]
    assert tuple(space.encode(chosen).tolist()) == seen[int(np.argmax(scores))]
    assert validated().needs_evaluation and not sample().needs_evaluation


def test_validated_metrics_ties_and_failures():
    space = jnas.spaces.nasbench201()
    mixture = random_mixture(space, 2)
    values = iter([math.nan, 3.0, 1.0, 1.0, 2.0])
    order = ranking.best(mixture, space, 5)

    def chosen(function, **options):
        genotype = validated(5, **options).select(
            None, mixture, space=space, evaluate=function, key=jax.random.key(0)
        )
        return space.encode(genotype).tolist()

    # the smallest loss; of equals the first; never NaN
    assert chosen(lambda m: {"loss": next(values)}) == order[2].tolist()
    values = iter([1.0, 5.0, 2.0, 3.0, 4.0])
    both = lambda m: {"accuracy": 1.0, "score": next(values)}  # noqa: E731
    assert chosen(both, metric="score") == order[1].tolist()
    with pytest.raises(JnasError, match="none of 5 candidates has a finite result"):
        chosen(lambda m: {"loss": math.nan})
    with pytest.raises(JnasError, match="unknown metric of evaluate 'accurac'"):
        chosen(lambda m: {"accuracy": 1.0}, metric="accurac")
    with pytest.raises(JnasError, match="pass evaluate="):
        validated().select(None, mixture, space=space)
    with pytest.raises(JnasError, match="unknown way to propose"):
        validated(propose="best")
    with pytest.raises(JnasError, match="count must be"):
        validated(0)
    with pytest.raises(JnasError, match=r"propose='uniform'.* draws at random"):
        validated(2, "uniform").select(
            None, mixture, space=space, evaluate=lambda m: {"loss": 1.0}
        )


def test_validated_proposes_uniform_and_drawn_candidates():
    space = jnas.spaces.nasbench201()
    weights = np.full((6, 5), 1e-9)
    weights[:, 3] = 1
    mixture = jnas.Mixture({"cell": weights})
    for propose, number in (("sample", 1), ("uniform", 50)):
        seen = []

        def evaluate(candidate, seen=seen):
            seen.append(np.asarray(candidate.active["cell"])[:, 0].tolist())
            return {"loss": 1.0}

        validated(50, propose).select(
            None, mixture, space=space, evaluate=evaluate, key=jax.random.key(0)
        )
        assert len(seen) == number  # each once
        assert seen[0] == [3] * 6 or propose == "uniform"
