"""What the conformance suites run over: every plug-in of every kind.

A new plug-in is tested by being added here; `test_registry_is_complete` fails until it
is.
"""

import jax
import optax
import tiny

import jnas

SPACES = {
    "tiny": tiny.SPACE,
    "nasbench201": jnas.spaces.nasbench201(),
    "darts": jnas.spaces.darts(),
    "darts_rnn": jnas.spaces.darts_rnn(),
}
RELAXATIONS = {
    "softmax": jnas.relax.softmax,
    "sigmoid": jnas.relax.sigmoid,
    "gumbel_hard": jnas.relax.gumbel_hard,
    "gumbel_hard-selected": lambda: jnas.relax.gumbel_hard(1.0, "selected"),
    "gumbel_soft": lambda: jnas.relax.gumbel_soft(lambda step: 5 * 0.956**step),
    "concrete": jnas.relax.concrete,
    "dirichlet": jnas.relax.dirichlet,
    "binary_gates": jnas.relax.binary_gates,
    "binary_gates-all": lambda: jnas.relax.binary_gates(paths=None),
    "reinmax": jnas.relax.reinmax,
    "dsnas": jnas.relax.dsnas,
    "uniform_path": jnas.relax.uniform_path,
    "uniform_path-fair": lambda: jnas.relax.uniform_path(fair=True),
    "uniform_path-resample": lambda: jnas.relax.uniform_path(resample_none=True),
    "edge_normalised": jnas.relax.edge_normalised,
    "edge_normalised-gumbel": lambda: jnas.relax.edge_normalised(
        jnas.relax.gumbel_hard()
    ),
    "top_k": lambda: jnas.relax.top_k(2),
    "phased": lambda: jnas.relax.phased(
        jnas.relax.uniform_path(), jnas.relax.softmax()
    ),
}
# In these rooms, but no plug-in.
SCHEDULES = {
    "linear_temperature",
    "exponential_temperature",
    "linear_rate",
    "decaying_rate",
    "growing_radius",
    "linear_strength",
    "falling_weight",
    "linear_decay",
    "curvature",
}
HYPERGRADIENTS = {
    "first_order": jnas.bilevel.first_order,
    "unrolled": jnas.bilevel.unrolled,
    "unrolled-3": lambda: jnas.bilevel.unrolled(3),
    "unrolled-finite_difference": lambda: jnas.bilevel.unrolled(
        method="finite_difference"
    ),
    "implicit": jnas.bilevel.implicit,
    "implicit-cg": lambda: jnas.bilevel.implicit("cg", terms=3),
    "mixed_level": jnas.bilevel.mixed_level,
    "single_level": jnas.bilevel.single_level,
}
REGULARIZERS = {
    "identity": jnas.regularizers.identity,
    "chain": lambda: jnas.regularizers.chain(
        jnas.regularizers.identity(), jnas.regularizers.identity()
    ),
    "zero_one": jnas.regularizers.zero_one,
    "dirichlet_anchor": jnas.regularizers.dirichlet_anchor,
    "drop_path": lambda: jnas.regularizers.drop_path(
        jnas.regularizers.linear_rate(0.3, epochs=5, steps_per_epoch=1)
    ),
    "skip_dropout": jnas.regularizers.skip_dropout,
    "random_smoothing": jnas.regularizers.random_smoothing,
    "adversarial_smoothing": lambda: jnas.regularizers.adversarial_smoothing(
        jnas.regularizers.growing_radius(epochs=3, steps_per_epoch=1)
    ),
    "hessian_norm": jnas.regularizers.hessian_norm,
    "hessian_norm-frobenius": lambda: jnas.regularizers.hessian_norm("frobenius"),
    "hessian_norm-trace": lambda: jnas.regularizers.hessian_norm(
        "trace", lambda step: 0.1 * step, samples=2
    ),
    "eigenvalue_stop": jnas.regularizers.eigenvalue_stop,
    "eigenvalue_adaptive": jnas.regularizers.eigenvalue_adaptive,
    "auxiliary_skip": jnas.regularizers.auxiliary_skip,
    "auxiliary_skip-falling": lambda: jnas.regularizers.auxiliary_skip(
        jnas.regularizers.falling_weight(epochs=3, steps_per_epoch=1)
    ),
    "beta_decay": lambda: jnas.regularizers.beta_decay(
        jnas.regularizers.linear_strength(50.0, epochs=3, steps_per_epoch=1)
    ),
    "layer_alignment": jnas.regularizers.layer_alignment,
    "layer_alignment-finite_difference": lambda: jnas.regularizers.layer_alignment(
        method="finite_difference", epsilon=0.1
    ),
    "operation_early_stop": lambda: jnas.regularizers.operation_early_stop(every=1),
    "skip_stop": jnas.regularizers.skip_stop,
    "skip_stop-stable": lambda: jnas.regularizers.skip_stop(None, stable=2),
    "entropy": jnas.regularizers.entropy,
    "entropy-uniform": lambda: jnas.regularizers.entropy(0.1, "uniform"),
    "sparsity": jnas.regularizers.sparsity,
    "cost": lambda: jnas.regularizers.cost(lambda m: m.weights["cell"][..., 2].sum()),
    "weight_decay": lambda: jnas.regularizers.weight_decay(
        jnas.regularizers.linear_decay(3e-4, 81e-4, epochs=5)
    ),
    "projection": lambda: jnas.regularizers.projection(1, 3),
    "greedy_decisions": lambda: jnas.regularizers.greedy_decisions(1, 3),
    "greedy_decisions-2": lambda: jnas.regularizers.greedy_decisions(1, 3, criterion=2),
    "expected_cost": lambda: jnas.regularizers.expected_cost(
        {"cell": [[0.0, 1.0, 4.0]] * 3}, strength=0.1
    ),
    "expected_cost-mul_log": lambda: jnas.regularizers.expected_cost(
        {"cell": [[2.0, 3.0, 4.0]] * 3},
        strength=0.2,
        kind="mul_log",
        reference=5.0,
        exponent=0.3,
    ),
}
SELECTORS = {
    "argmax": jnas.select.argmax,
    "sample": jnas.select.sample,
    "perturbation": jnas.select.perturbation,
    "perturbation-sequential": lambda: jnas.select.perturbation(
        "loss", sequential=True
    ),
    "skip_limit": lambda: jnas.select.skip_limit(1, group="cell"),
    "threshold": lambda: jnas.select.threshold(0.2),
    "validated": lambda: jnas.select.validated(3),
    "validated-sample": lambda: jnas.select.validated(3, "sample"),
    "validated-uniform": lambda: jnas.select.validated(3, "uniform"),
}
PRESETS = {
    name: getattr(jnas.presets, name)
    for name in (
        "beta_darts",
        "darts",
        "darts_ada",
        "darts_es",
        "darts_minus",
        "darts_plus",
        "darts_pt",
        "darts_rnn",
        "drnas",
        "drnas_progressive",
        "dsnas",
        "fair_darts",
        "gdas",
        "gdas_frc",
        "hessian_darts",
        "lambda_darts",
        "milenas",
        "oles",
        "p_darts",
        "pc_darts",
        "proxyless",
        "r_darts_dp",
        "r_darts_l2",
        "rsps",
        "sdarts_adv",
        "sdarts_rs",
        "setn",
        "sgas",
        "snas",
        "spos",
    )
}

ROOMS = {
    jnas.relax: RELAXATIONS,
    jnas.bilevel: HYPERGRADIENTS,
    jnas.regularizers: REGULARIZERS,
    jnas.select: SELECTORS,
}


def searches():
    """A tiny search for each plug-in, the others at their defaults."""
    for name, make in RELAXATIONS.items():
        yield f"relaxation-{name}", tiny.tiny_search(relaxation=make())
    for name, make in HYPERGRADIENTS.items():
        yield f"hypergradient-{name}", tiny.tiny_search(hypergradient=make())
    for name, make in REGULARIZERS.items():
        yield f"regularizer-{name}", tiny.tiny_search(regularizer=make())
    # Selectors take no part in a step: tests/select runs over them.
    for order in jnas.search.ORDERS:
        yield f"order-{order}", tiny.tiny_search(order=order)
    yield "recent", tiny.tiny_search(recent=3, recent_every=2)
    yield (
        "plain-optax",
        tiny.tiny_search(weight_tx=optax.adamw(1e-3), arch_tx=optax.sgd(0.1)),
    )


SEARCHES = dict(searches())


def trees_close(a, b, rtol=1e-6, atol=1e-6):
    """Asserts that two pytrees have one structure and close leaves."""
    import numpy as np

    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        if jax.dtypes.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype, path
        np.testing.assert_allclose(
            np.asarray(x), np.asarray(y), rtol=rtol, atol=atol, err_msg=str(path)
        )
