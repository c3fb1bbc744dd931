"""Every strategy keeps the contract, see `contract`.

Each class is a unit of work of its own for pytest-xdist.
"""

import pathlib
import sys

import pytest

from jnas import discrete

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from contract import Conformance, More
from strategies import OTHERS, STRATEGIES

GROUPS = [
    ("bananas", "pnas"),
    ("regularized_evolution", "genetic", "nsga2"),
]
# Variants whose programs are large: what is their own has tests of its own.
LARGE = ("bananas-genes-201", "nsga2-redraw")


def family(name):
    return name.split("-")[0]


# One of each strategy, and the others.
FIRST = list({family(name): name for name in reversed(STRATEGIES)}.values())
VARIANTS = [name for name in STRATEGIES if name not in FIRST]


def of(names):
    return pytest.mark.parametrize("name", names)


def test_registry_is_complete():
    known = {family(name) for name in STRATEGIES}
    assert {family(name) for name in FIRST} == known
    assert set(discrete.__all__) - OTHERS == known
    assert set(discrete.names()) == known
    for name in discrete.names():
        assert discrete.make(name, "nasbench201", 30).name == name


@of([name for name in FIRST if family(name) in GROUPS[0]])
class TestPredictors(Conformance, More):
    """Those that train networks on what was told."""


@of([name for name in FIRST if family(name) in GROUPS[1]])
class TestEvolution(Conformance, More):
    """Those with a population."""


@of([name for name in FIRST if family(name) not in GROUPS[0] + GROUPS[1]])
class TestOthers(Conformance, More):
    """All others; a new strategy is here unless it is named above."""


@of([pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in VARIANTS])
class TestVariants(Conformance):
    """The same strategies with other settings."""


@pytest.mark.slow
@of(VARIANTS)
class TestMoreOfVariants(More):
    """What they share with the first ones, again."""
