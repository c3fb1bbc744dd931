"""Relaxations: from architecture parameters to mixtures, one file each."""

from jnas.relax.base import Relaxation
from jnas.relax.binary_gates import binary_gates
from jnas.relax.dirichlet import dirichlet
from jnas.relax.dsnas import dsnas
from jnas.relax.edge_normalised import edge_normalised
from jnas.relax.gumbel_hard import gumbel_hard
from jnas.relax.gumbel_soft import concrete, gumbel_soft
from jnas.relax.phased import phased
from jnas.relax.reinmax import reinmax
from jnas.relax.schedules import exponential_temperature, linear_temperature
from jnas.relax.sigmoid import sigmoid
from jnas.relax.softmax import softmax
from jnas.relax.top_k import top_k
from jnas.relax.uniform_path import uniform_path

__all__ = [
    "Relaxation",
    "binary_gates",
    "concrete",
    "dirichlet",
    "dsnas",
    "edge_normalised",
    "exponential_temperature",
    "gumbel_hard",
    "gumbel_soft",
    "linear_temperature",
    "phased",
    "reinmax",
    "sigmoid",
    "softmax",
    "top_k",
    "uniform_path",
]
