"""Robustification plug-ins: the contract, its composition, and one file each."""

from jnas.regularizers.base import Action, Regularizer, chain, identity
from jnas.regularizers.dirichlet_anchor import dirichlet_anchor
from jnas.regularizers.drop_path import drop_path, linear_rate
from jnas.regularizers.expected_cost import expected_cost
from jnas.regularizers.skip_dropout import decaying_rate, skip_dropout
from jnas.regularizers.zero_one import zero_one

__all__ = [
    "Action",
    "Regularizer",
    "chain",
    "decaying_rate",
    "dirichlet_anchor",
    "drop_path",
    "expected_cost",
    "identity",
    "linear_rate",
    "skip_dropout",
    "zero_one",
]
