"""Finalists and rank correlation, against counting by hand."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas import discrete, domain
from jnas.errors import JnasError

SPACE = jnas.spaces.nasbench201()


def objective(function, name="own", space=SPACE, traceable=False):
    def evaluate(genes, key, fidelity):
        return function(np.asarray(genes)), fidelity

    return discrete.Objective(space, evaluate, name, traceable=traceable)


def total(genes):
    return genes.sum(-1).astype(np.float32)


def test_listed_proposes_in_order():
    genes = SPACE.random(0, n=7)
    trials = discrete.study(
        discrete.listed(SPACE, genes), objective(total), evaluations=7, batch=3
    )
    np.testing.assert_array_equal(trials.genes, genes)
    np.testing.assert_array_equal(trials.scores, total(genes))
    with pytest.raises(JnasError, match="room for 7"):
        discrete.study(discrete.listed(SPACE, genes), objective(total), evaluations=8)


def test_the_best_of_a_study_are_trained():
    trials = discrete.study(
        discrete.random_search(SPACE), objective(total), evaluations=30
    )
    second = objective(lambda genes: genes[:, 0] - genes[:, 1] / 10, "second")
    found = discrete.train_top(trials, second, k=5)
    ranked = sorted(trials.scores.tolist(), reverse=True)
    assert sorted(found.search_scores.tolist(), reverse=True) == ranked[:5]
    np.testing.assert_array_equal(found.search_scores, total(found.genes))
    wanted = found.genes[:, 0] - found.genes[:, 1] / 10
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-6)
    assert (np.diff(found.scores) <= 0).all() and len(found.trials.ids) == 5
    assert np.isnan(found.spread).all()


def test_the_same_network_counts_once_with_its_mean():
    rows = np.array([[0] * 6, [1] * 6, [2] * 6, [3] * 6], np.int32)
    genes = rows[[0, 1, 0, 2, 3, 1]]
    scores = np.array([9.0, 5.0, 1.0, np.nan, np.inf, 7.0])  # means: 5, 6
    found = discrete.train_top((genes, scores), objective(total), k=4)
    np.testing.assert_array_equal(found.genes, rows[[1, 0]])
    np.testing.assert_array_equal(found.search_scores, [6, 5])
    np.testing.assert_array_equal(found.scores, [6, 0])
    # Of several scores the first counts.
    both = np.stack([scores, -scores], -1)
    again = discrete.train_top((genes, both), objective(total), k=1)
    np.testing.assert_array_equal(again.genes, rows[[1]])


class Halves:
    """A space of one gene whose neighbouring values are the same network."""

    name, genes = "halves", (8,)

    def domain(self):
        cells = jnas.spaces.Space(
            "own", (jnas.spaces.Group("cell", tuple("abcdefgh"), ((0, 1),), 1, (1,)),)
        )
        own = domain.of(cells)
        return own._replace(space=self, identity=lambda genes: genes // 2)


def test_identity_is_that_of_the_domain():
    space = Halves()
    genes = np.arange(8, dtype=np.int32)[:, None]
    scores = np.array([0, 1, 6, 6, 9, 0, 2, 3.0])
    second = objective(lambda genes: genes[:, 0] * 1.0, space=space)
    found = discrete.train_top((genes, scores), second, k=3)
    np.testing.assert_array_equal(found.genes[:, 0], [6, 4, 2])
    np.testing.assert_array_equal(found.search_scores, [2.5, 4.5, 6])
    tau = discrete.kendall_tau(second, second, 100, bootstrap=10)
    assert tau.n == 4 and len(np.unique(tau.genes // 2)) == 4 and tau.tau == 1


def test_repeats_are_averaged_and_failures_come_last(tmp_path):
    calls = []

    def noisy(genes):
        calls.append(1)
        bad = genes[:, 0] == 4
        return np.where(bad, np.nan, total(genes) + len(calls) % 3)

    genes = np.array([[1] * 6, [4] * 6, [2] * 6], np.int32)
    found = discrete.train_top(
        (genes, [1.0, 2.0, 3.0]), objective(noisy), repeats=3, workdir=tmp_path
    )
    assert len(calls) == 9
    np.testing.assert_array_equal(found.genes, genes[[2, 0, 1]])
    np.testing.assert_allclose(found.scores, [13, 7, np.nan])
    np.testing.assert_allclose(found.spread, [1, 1, np.nan])
    discrete.train_top(
        (genes, [1.0, 2.0, 3.0]), objective(noisy), repeats=3, workdir=tmp_path
    )
    assert len(calls) == 9  # the study was finished


def tau_b(x, y):
    """By counting pairs; ties as in Kendall 1945."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    sign = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    both = sum(a * b for a, b in sign)
    left, right = (sum(s[k] != 0 for s in sign) for k in (0, 1))
    return both / np.sqrt(left * right)


def test_tau_is_counted_by_pairs():
    first = objective(total, "total")
    second = objective(lambda genes: (genes[:, 0] * 3 + genes[:, 1]) // 2, "other")
    genes = SPACE.random(1, n=25)
    found = discrete.kendall_tau(first, second, genes, bootstrap=400)
    np.testing.assert_array_equal(found.genes, genes)
    x, y = found.scores
    np.testing.assert_array_equal(x, total(genes))
    np.testing.assert_allclose(found.tau, tau_b(x, y), rtol=1e-12)
    assert 0 < found.p_value < 1 and found.n == 25
    # The resamples of a plain loop, with numbers of its own.
    rng = np.random.default_rng(99)
    own = []
    for _ in range(400):
        rows = rng.integers(0, 25, 25)
        own.append(tau_b(x[rows], y[rows]))
    # The standard error of a standard deviation of 400 draws is 3.5 %: five of them,
    # of a difference of two.
    wanted = np.std(own, ddof=1)
    assert abs(found.standard_error - wanted) < 5 * 0.035 * np.sqrt(2) * wanted


def test_candidates_are_distinct_and_failures_left_out():
    second = objective(
        lambda genes: np.where(genes[:, 0] == 2, np.nan, 1.0 * genes[:, 1])
    )
    found = discrete.kendall_tau(objective(total), second, 60, seed=3, bootstrap=5)
    assert 30 < found.n < 60 and (found.genes[:, 0] != 2).all()
    assert len(np.unique(found.genes, axis=0)) == found.n
    other = discrete.kendall_tau(objective(total), second, 60, seed=4, bootstrap=5)
    assert found.n != other.n or (found.genes != other.genes).any()


def test_a_traceable_objective_and_ties():
    flat = objective(lambda genes: np.zeros(len(genes)))
    found = discrete.kendall_tau(objective(total), flat, 10, bootstrap=3)
    assert np.isnan(found.tau) and np.isnan(found.standard_error)
    traced = discrete.Objective(
        SPACE, lambda g, key, f: (jnp.sum(g, -1) * 1.0, f), "sum", traceable=True
    )
    same = discrete.kendall_tau(objective(total), traced, 10, bootstrap=3)
    np.testing.assert_allclose(same.tau, 1)


def test_finalists_of_a_run_are_those_of_all_its_seeds():
    cheap = discrete.Objective(
        SPACE, lambda g, key, f: (jnp.sum(g, -1) * 1.0, f), "sum", traceable=True
    )
    found = discrete.run(discrete.random_search(SPACE), cheap, evaluations=6, seeds=2)
    best = discrete.train_top(found, objective(total), k=3)
    pair = (found.genes.reshape(12, 6), found.scores.reshape(12))
    np.testing.assert_array_equal(
        best.genes, discrete.train_top(pair, objective(total), k=3).genes
    )
    assert best.search_scores.max() == found.scores.max()


def test_wrong_calls_are_one_clear_line(monkeypatch):
    own, genes = objective(total), SPACE.random(0, n=3)
    for call, message in [
        (lambda: discrete.listed(SPACE, genes[:0]), "empty list"),
        (lambda: discrete.listed(SPACE, genes[:, :5]), r"integers \[n, 6\], got int32"),
        (lambda: discrete.listed(SPACE, genes + 5), "row 0. are no candidate"),
        (lambda: discrete.train_top((genes, [1.0]), own), "needs a score"),
        (lambda: discrete.train_top((genes, [np.nan] * 3), own), "no candidate has"),
        (lambda: discrete.train_top((genes, [1.0] * 3), own, k=0), "k must be"),
        (lambda: discrete.train_top(genes, own), "trials must be those of study"),
        (lambda: discrete.kendall_tau(own, own, 1), "candidates must be"),
        (lambda: discrete.kendall_tau(own, own, genes[:1]), "two candidates"),
        (
            lambda: discrete.kendall_tau(
                own, objective(total, space=jnas.spaces.darts()), 5
            ),
            "different spaces",
        ),
    ]:
        with pytest.raises(JnasError, match=message):
            call()
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(JnasError, match="pip install scipy"):
        discrete.kendall_tau(own, own, genes)
