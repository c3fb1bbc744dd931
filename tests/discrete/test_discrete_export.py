"""The compiled search lowers for every platform: nothing in it is the CPU's own."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jnas import discrete, tabular
from jnas.discrete import running

SLOW = ("ppo", "bananas", "pnas")  # seconds to trace
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in discrete.names()
    if name != "optuna_sampler"  # lives on the host
]


@pytest.mark.parametrize("name", NAMES)
def test_search_lowers_for_accelerators(name):
    table = tabular.cells125()
    strategy = discrete.make(name, table.space, 20)
    metric = "val" if strategy.scores is None else ("val", "-flops")
    objective = table.objective("fashion_mnist", metric)
    discrete.check_fit(strategy, objective, 20)
    program = running._program(
        strategy.init, strategy.ask, strategy.tell, objective.evaluate, 20, 8
    )
    seeds = jax.ShapeDtypeStruct((4,), jnp.int32)
    found = export.export(program, platforms=("tpu", "cuda", "cpu"))(seeds)
    assert found.out_avals[0].shape == (4, 20, 3)
