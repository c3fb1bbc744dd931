"""Robustification plug-ins: the contract, its composition, and one file each."""

from jnas.regularizers import curvature
from jnas.regularizers.adversarial_smoothing import adversarial_smoothing
from jnas.regularizers.auxiliary_skip import auxiliary_skip, falling_weight
from jnas.regularizers.base import Action, Regularizer, chain, identity
from jnas.regularizers.beta_decay import beta_decay, linear_strength
from jnas.regularizers.cost import cost
from jnas.regularizers.dirichlet_anchor import dirichlet_anchor
from jnas.regularizers.drop_path import drop_path, linear_rate
from jnas.regularizers.eigenvalue import eigenvalue_adaptive, eigenvalue_stop
from jnas.regularizers.entropy import entropy
from jnas.regularizers.expected_cost import expected_cost
from jnas.regularizers.greedy_decisions import greedy_decisions
from jnas.regularizers.hessian_norm import hessian_norm
from jnas.regularizers.layer_alignment import layer_alignment
from jnas.regularizers.operation_early_stop import operation_early_stop
from jnas.regularizers.projection import projection
from jnas.regularizers.random_smoothing import random_smoothing
from jnas.regularizers.skip_dropout import decaying_rate, skip_dropout
from jnas.regularizers.skip_stop import skip_stop
from jnas.regularizers.smoothing import growing_radius
from jnas.regularizers.sparsity import sparsity
from jnas.regularizers.weight_decay import linear_decay, weight_decay
from jnas.regularizers.zero_one import zero_one

__all__ = [
    "Action",
    "Regularizer",
    "adversarial_smoothing",
    "auxiliary_skip",
    "beta_decay",
    "chain",
    "cost",
    "curvature",
    "decaying_rate",
    "dirichlet_anchor",
    "drop_path",
    "eigenvalue_adaptive",
    "eigenvalue_stop",
    "entropy",
    "expected_cost",
    "falling_weight",
    "greedy_decisions",
    "growing_radius",
    "hessian_norm",
    "identity",
    "layer_alignment",
    "linear_decay",
    "linear_rate",
    "linear_strength",
    "operation_early_stop",
    "projection",
    "random_smoothing",
    "skip_dropout",
    "skip_stop",
    "sparsity",
    "weight_decay",
    "zero_one",
]
