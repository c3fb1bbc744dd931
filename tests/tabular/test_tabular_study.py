"""Strategies on tables: every query compiled into one program."""

import compact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import discrete, tabular


def small(name, tmp_path):
    space = tabular.NasBench101Space()

    def hash_of(matrix, inner):
        names = ("input", *(compact.NAMES101[o] for o in inner), "output")
        return space.hash(tabular.Spec(matrix, names))

    arrays = compact.arrays201(2000) if name == "nasbench201" else None
    np.savez(tmp_path / f"{name}.npz", **(arrays or compact.arrays101(hash_of)))
    return tabular.get(name, tmp_path)


@pytest.mark.parametrize("name", ["nasbench201", "nasbench101"])
def test_evolution_in_one_program(name, tmp_path):
    table = small(name, tmp_path)
    goal = table.objective("cifar10", "val", noise="mean")
    strategy = discrete.regularized_evolution(table.space, population=4, sample=2)

    def study(key):
        def step(state, _):
            proposal, state = strategy.ask(state, 1)
            scores, costs = goal.evaluate(proposal.genes, key, proposal.fidelity)
            return strategy.tell(state, proposal, scores, costs), (
                proposal.genes[0],
                scores[0],
                costs[0],
            )

        state, told = jax.lax.scan(step, strategy.init(key), length=40)
        return strategy.best(state), told

    keys = jax.random.split(jax.random.key(0), 5)
    (genes, best), (asked, scores, costs) = jax.jit(jax.vmap(study))(keys)
    assert table.space.valid(np.asarray(asked)).all()
    # Unknown cells are failures that cost nothing and never win.
    unknown = np.asarray(table.rows(asked)) < 0
    np.testing.assert_array_equal(np.isnan(scores), unknown)
    np.testing.assert_array_equal(np.asarray(costs) == 0, unknown)
    assert unknown.any()
    highest = np.where(unknown, -np.inf, scores).max(1)
    np.testing.assert_array_equal(best, highest)
    known = np.isfinite(highest)
    values = np.asarray(table.values(genes, "cifar10", "val"))
    np.testing.assert_array_equal(values[known], highest[known])
    if name == "nasbench201":
        assert known.all()


def test_tables_survive_float64(tmp_path):
    table = small("nasbench101", tmp_path)
    rows = np.arange(len(table))
    with jax.enable_x64(True):
        np.testing.assert_array_equal(table.rows(table.genes), rows)
        goal = table.objective("cifar10", "val")
        score, _ = goal.evaluate(
            table.genes, jax.random.key(0), jnp.ones(len(table), jnp.float32)
        )
        assert score.dtype == jnp.float32
    np.testing.assert_array_equal(table.rows(table.genes), rows)
