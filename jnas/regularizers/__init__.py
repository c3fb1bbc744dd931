"""Robustification plug-ins: the contract, its composition, and one file each."""

from jnas.regularizers import curvature
from jnas.regularizers.adversarial_smoothing import adversarial_smoothing
from jnas.regularizers.base import Action, Regularizer, chain, identity
from jnas.regularizers.dirichlet_anchor import dirichlet_anchor
from jnas.regularizers.drop_path import drop_path, linear_rate
from jnas.regularizers.eigenvalue import eigenvalue_adaptive, eigenvalue_stop
from jnas.regularizers.expected_cost import expected_cost
from jnas.regularizers.hessian_norm import hessian_norm
from jnas.regularizers.random_smoothing import random_smoothing
from jnas.regularizers.skip_dropout import decaying_rate, skip_dropout
from jnas.regularizers.smoothing import growing_radius
from jnas.regularizers.zero_one import zero_one

__all__ = [
    "Action",
    "Regularizer",
    "adversarial_smoothing",
    "chain",
    "curvature",
    "decaying_rate",
    "dirichlet_anchor",
    "drop_path",
    "eigenvalue_adaptive",
    "eigenvalue_stop",
    "expected_cost",
    "growing_radius",
    "hessian_norm",
    "identity",
    "linear_rate",
    "random_smoothing",
    "skip_dropout",
    "zero_one",
]
