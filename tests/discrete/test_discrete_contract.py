"""Every strategy keeps the contract, see `contract`.

Each class is a unit of work of its own for pytest-xdist.
"""

import pathlib
import sys

import pytest

from jnas import discrete

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from contract import SIZE, Conformance, proposes
from strategies import OTHERS, STRATEGIES

GROUPS = [
    ("bananas", "pnas"),
    ("regularized_evolution", "genetic", "nsga2"),
]


def family(name):
    return name.split("-")[0]


# One of each strategy: what all its variants share.
FIRST = list({family(name): name for name in reversed(STRATEGIES)}.values())
one_of_each = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in FIRST else pytest.mark.slow) for n in STRATEGIES],
)


def of(*families):
    """The strategies of some names; without any, all that are in no group."""
    grouped = {family for group in GROUPS for family in group}
    return pytest.mark.parametrize(
        "name",
        [
            name
            for name in STRATEGIES
            if (family(name) in families if families else family(name) not in grouped)
        ],
    )


def test_registry_is_complete():
    known = {family(name) for name in STRATEGIES}
    assert {family(name) for name in FIRST} == known
    assert set(discrete.__all__) - OTHERS == known
    assert set(discrete.names()) == known
    for name in discrete.names():
        assert discrete.make(name, "nasbench201", 30).name == name


@one_of_each
def test_any_batch_size(name):
    proposes(name, "nasbench201", [1, 1, SIZE, 1, 1, 1, SIZE])


@pytest.mark.slow
@one_of_each
def test_all_at_once(name):
    proposes(name, "nasbench201", [24])


@one_of_each
def test_genes_that_depend_on_each_other(name):
    if name.endswith("-201"):
        pytest.skip("it is of genes that may be chosen one by one")
    proposes(name, "s2", [SIZE] * 3)


@of(*GROUPS[0])
class TestPredictors(Conformance):
    """Those that train networks on what was told."""


@of(*GROUPS[1])
class TestEvolution(Conformance):
    """Those with a population."""


@of()
class TestOthers(Conformance):
    """All others; a new strategy is here unless it is named above."""
