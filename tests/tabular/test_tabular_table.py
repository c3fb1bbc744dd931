"""A table against plain loops over its arrays: look-ups, fidelity, noise, errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import synthetic

from jnas import JnasError, domain, objective, spaces, tabular
from jnas.tabular import columns as columns_lib

TABLE = synthetic.table()
ALL = np.array(list(itertools.product(*map(range, TABLE.space.genes))), np.int32)
ROWS = {tuple(genes): row for row, genes in enumerate(TABLE.genes.tolist())}


def expected(genes, column, place):
    """What a loop finds."""
    found = []
    for vector in genes.tolist():
        row = ROWS.get(tuple(vector))
        found.append(np.nan if row is None else column.values[row, place])
    return np.array(found, np.float32)


def test_rows_and_values_of_every_candidate():
    rows = [ROWS.get(tuple(genes), -1) for genes in ALL.tolist()]
    assert rows.count(-1) == 3
    np.testing.assert_array_equal(TABLE.rows(ALL), rows)
    np.testing.assert_array_equal(jax.vmap(TABLE.rows)(ALL), rows)
    np.testing.assert_array_equal(
        jax.jit(TABLE.rows)(ALL.reshape(3, 6, 3)).ravel(), rows
    )
    for dataset in TABLE.datasets:
        for metric, column in TABLE.columns[dataset].items():
            last = column.values.shape[1] - 1
            values = jax.jit(lambda g, d=dataset, m=metric: TABLE.values(g, d, m))(ALL)
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, expected(ALL, column, last))
            for place, epochs in enumerate(column.epochs):
                values = TABLE.values(ALL, dataset, f"{metric}_{epochs}")
                np.testing.assert_array_equal(values, expected(ALL, column, place))


def test_values_outside_the_genes_are_unknown():
    odd = np.array([[-1, 0, 0], [0, 3, 0], [2, 0, 0], [0, 0, 99]], np.int32)
    np.testing.assert_array_equal(TABLE.rows(odd), [-1] * 4)
    assert np.isnan(TABLE.values(odd, "digits", "params")).all()
    score, cost = TABLE.objective("digits", "val").evaluate(
        odd, jax.random.key(0), jnp.ones(4)
    )
    assert np.isnan(score).all() and not cost.any()


@pytest.mark.parametrize("metric", ["val", "test"])
def test_fidelity_pays_for_the_largest_epochs_within_it(metric):
    column = TABLE.columns["digits"][metric]
    goal = TABLE.objective("digits", metric)
    assert isinstance(goal, objective.Objective) and goal.traceable
    assert (goal.cost_unit, goal.score_unit) == ("s", "accuracy, %")
    genes = TABLE.genes
    fidelities = [0, 0.1, 1 / 9, 0.2, np.float32(1 / 3), 0.34, 0.99, 1, 1.5]
    for fidelity in fidelities:
        place = max(
            [0, *(i for i, e in enumerate((1, 3, 9)) if e <= 9 * fidelity + 1e-5)]
        )
        given = jnp.full(len(genes), fidelity, jnp.float32)
        score, cost = jax.jit(goal.evaluate)(genes, jax.random.key(0), given)
        np.testing.assert_array_equal(score, column.values[:, place].astype(np.float32))
        np.testing.assert_array_equal(cost, column.seconds[:, place])
    # One for each query, too.
    given = jnp.asarray(np.resize(fidelities, len(genes)), jnp.float32)
    score, cost = goal.evaluate(genes, jax.random.key(0), given)
    for i in range(len(genes)):
        alone = goal.evaluate(genes[i : i + 1], jax.random.key(0), given[i : i + 1])
        np.testing.assert_array_equal(alone[0][0], score[i])
        np.testing.assert_array_equal(alone[1][0], cost[i])


def test_fixed_epochs_ignore_the_fidelity():
    goal = TABLE.objective("digits", "test_3")
    column = TABLE.columns["digits"]["test"]
    score, cost = goal.evaluate(TABLE.genes, jax.random.key(0), jnp.zeros(15))
    np.testing.assert_array_equal(score, column.values[:, 1])
    np.testing.assert_array_equal(cost, column.seconds[:, 1])
    np.testing.assert_array_equal(goal(TABLE.genes), column.values[:, 1])


def test_costs_without_times():
    goal = TABLE.objective("other", "val")
    assert goal.cost_unit == "epochs"
    cost = goal.evaluate(TABLE.genes, jax.random.key(0), jnp.ones(15))[1]
    np.testing.assert_array_equal(cost, np.full(15, 5.0))
    goal = TABLE.objective("digits", "params")
    assert goal.cost_unit == "s"
    assert not goal.evaluate(TABLE.genes, jax.random.key(0), jnp.ones(15))[1].any()


def test_sampling_draws_the_known_seeds_alike():
    column = TABLE.columns["digits"]["val"]
    goal = TABLE.objective("digits", "val_3", noise="sample")
    draws = 4000
    keys = jax.random.split(jax.random.key(1), draws)
    evaluate = jax.jit(
        jax.vmap(lambda key: goal.evaluate(TABLE.genes, key, jnp.ones(15))[0])
    )
    scores = np.asarray(evaluate(keys))
    for row in range(15):
        known = column.seeds[row, :, 1]
        known = known[np.isfinite(known)].astype(np.float32)
        if not len(known):
            assert np.isnan(scores[:, row]).all()
            continue
        found, counts = np.unique(scores[:, row], return_counts=True)
        np.testing.assert_array_equal(found, np.sort(known))
        share = 1 / len(known)
        # Five standard deviations of a binomial share.
        slack = 5 * np.sqrt(share * (1 - share) / draws)
        np.testing.assert_array_less(abs(counts / draws - share), slack + 1e-9)
    first, second = evaluate(keys[:1]), evaluate(keys[:1])
    np.testing.assert_array_equal(first, second)
    # Queries of one call draw by themselves.
    same = np.repeat(TABLE.genes[:1], 200, 0)
    assert len(np.unique(goal.evaluate(same, keys[0], jnp.ones(200))[0])) > 1


def test_the_mean_is_that_of_the_known_seeds():
    column = TABLE.columns["digits"]["val"]
    for row, place in itertools.product(range(15), range(3)):
        known = [x for x in column.seeds[row, :, place].tolist() if x == x]
        value = sum(known) / len(known) if known else np.nan
        np.testing.assert_allclose(column.values[row, place], value, rtol=1e-12)
    assert np.isnan(column.values[3]).all()


def test_several_metrics_and_signs():
    goal = TABLE.objective("digits", ["test_3", "-params", "test"])
    given = jnp.full(15, 0.34, jnp.float32)
    scores, costs = goal.evaluate(TABLE.genes, jax.random.key(0), given)
    test, params = (TABLE.columns["digits"][name] for name in ("test", "params"))
    wanted = np.stack([test.values[:, 1], -params.values[:, 0], test.values[:, 1]], 1)
    np.testing.assert_array_equal(scores, wanted.astype(np.float32))
    np.testing.assert_array_equal(costs, test.seconds[:, 1])
    # One training run has one seed: what is drawn fits together.
    goal = TABLE.objective("digits", ["val_9", "val"], noise="sample")
    scores, _ = goal.evaluate(TABLE.genes, jax.random.key(3), jnp.ones(15))
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])


def test_inside_scan_and_first_used_inside_a_trace():
    table = synthetic.table()
    goal = table.objective("digits", "val", noise="sample")
    own = domain.of(table.space)

    def step(carry, key):
        genes = own.sample(key)
        score, cost = goal.evaluate(genes[None], key, jnp.ones(1))
        return carry + cost[0], (genes, score[0])

    keys = jax.random.split(jax.random.key(0), 50)
    total, (genes, scores) = jax.jit(lambda: jax.lax.scan(step, 0.0, keys))()
    pairs = zip(genes, keys, strict=True)
    alone = [goal.evaluate(g[None], k, jnp.ones(1)) for g, k in pairs]
    np.testing.assert_array_equal(scores, np.array([s[0] for s, _ in alone]))
    np.testing.assert_allclose(total, sum(float(c[0]) for _, c in alone), rtol=1e-5)


def test_best_is_the_highest_known():
    for dataset in TABLE.datasets:
        for metric in TABLE.metrics(dataset):
            genes, value = TABLE.best(dataset, metric)
            values = np.asarray(TABLE.values(TABLE.genes, dataset, metric))
            assert np.float32(value) == np.nanmax(values)
            assert ROWS[tuple(genes.tolist())] == int(np.nanargmax(values))


def test_names_and_one_line():
    assert TABLE.datasets == ("digits", "other")
    assert TABLE.metrics("other") == ("val", "val_5")
    assert TABLE.metrics("digits")[:4] == ("val", "val_1", "val_3", "val_9")
    text = repr(TABLE)
    assert text == TABLE.describe() and "\n" not in text
    for word in ("synthetic", "15 cells", "val (1, 3, 9 epochs)", "params", "other"):
        assert word in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.objective("mnist", "val"), "unknown dataset of synthetic 'mnist'"),
        (lambda t: t.objective("digits", "vall"), "did you mean 'val'"),
        (lambda t: t.values(ALL, "digits", "val_2"), "val_1, val_3, val_9"),
        (lambda t: t.best("digits", "params_1"), "unknown metric"),
        (lambda t: t.metrics("x"), "known: digits, other"),
        (lambda t: t.objective("digits", "val", noise="x"), "unknown noise 'x'"),
        (lambda t: t.objective("digits", []), "at least one metric"),
        (lambda t: t.objective("digits", "test", noise="sample"), "no seeds of test"),
        (lambda t: t.rows([[0, 1]]), r"integers \[..., 3\], got int32 \[1, 2\]"),
        (lambda t: t.rows(np.zeros((2, 3))), "must be integers"),
    ],
)
def test_errors_are_one_line(call, message):
    with pytest.raises(JnasError, match=message) as caught:
        call(TABLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs values or seeds"),
        ({"values": [[1.0]], "epochs": (1, 2)}, r"must be \[N, 2\]"),
        ({"values": [1.0], "epochs": (2, 1)}, "ascending"),
        ({"values": [1.0], "epochs": (0,)}, "positive"),
        ({"values": ["a"]}, "must be numbers"),
        ({"values": [[1.0], [1.0, 2.0]]}, "must be numbers"),
        ({"values": [1.0, 2.0], "seconds": [1.0]}, "different lengths"),
        ({"seeds": [1.0]}, r"\[N, S, 1\]"),
        ({"seeds": np.zeros((2, 0, 1))}, r"\[N, S, 1\]"),
    ],
)
def test_malformed_columns(arguments, message):
    with pytest.raises(JnasError, match=message) as caught:
        tabular.Column(**arguments)
    assert "\n" not in str(caught.value)


def test_malformed_tables():
    column = tabular.Column([1.0, 2.0])
    space = TABLE.space
    genes = TABLE.genes[:2]
    good = {"d": {"m": column}}

    def find(genes):
        return genes[..., 0]

    for changed, message in (
        ({"genes": genes[:, :2]}, r"genes \[N, 3\]"),
        ({"genes": genes[:0]}, r"genes \[N, 3\]"),
        ({"columns": {}}, "without columns"),
        ({"columns": {"d": {}}}, "without columns"),
        ({"genes": TABLE.genes[:3]}, "3 candidates, but 'm' of 'd' has 2"),
        ({"facts": {"x": np.zeros(3)}}, "2 candidates, but 'x' has 3"),
    ):
        arguments = {"genes": genes, "columns": good, "find": find} | changed
        with pytest.raises(JnasError, match=message):
            tabular.Table("t", space, **arguments)
    nothing = {"d": {"m": tabular.Column([np.nan, np.nan])}}
    with pytest.raises(JnasError, match="knows no m of d"):
        tabular.Table("t", space, genes, nothing, find).best("d", "m")


def test_look_up_by_code_refuses_what_it_cannot_hold():
    with pytest.raises(JnasError, match="twice"):
        tabular.by_code((2, 2), np.array([[0, 1], [0, 1]]))
    with pytest.raises(JnasError, match="no candidates"):
        tabular.by_code((2, 2), np.array([[0, 2]]))
    with pytest.raises(JnasError, match="too large"):
        tabular.by_code(spaces.darts().genes, np.zeros((1, 32), np.int32))


def test_a_device_array_is_made_once_and_outlives_its_trace():
    lazy = columns_lib.OnDevice(np.arange(4, dtype=np.int32))
    jax.jit(lambda i: lazy()[i])(2)
    assert isinstance(lazy(), jax.Array) and not isinstance(lazy(), jax.core.Tracer)
    assert lazy() is lazy()
    # The same for a column of fixed epochs, however often it is asked for.
    assert TABLE.column("digits", "val_3") is TABLE.column("digits", "val_3")
