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
RELAXATIONS = {"softmax": jnas.relax.softmax}
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
}
SELECTORS = {"argmax": jnas.select.argmax}
PRESETS = {"darts": jnas.presets.darts, "darts_rnn": jnas.presets.darts_rnn}

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
    for name, make in SELECTORS.items():
        yield f"selector-{name}", tiny.tiny_search(selector=make())
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
