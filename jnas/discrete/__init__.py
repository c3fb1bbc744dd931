"""Strategies that choose candidates without gradients, objectives, and studies."""

from jnas.discrete.bananas import bananas
from jnas.discrete.base import Proposal, State, Strategy, build, finite, seed_axes
from jnas.discrete.evolution import regularized_evolution
from jnas.discrete.nsga2 import front, nsga2
from jnas.discrete.optuna_sampler import optuna_sampler
from jnas.discrete.pareto import hypervolume, non_dominated
from jnas.discrete.pnas import pnas
from jnas.discrete.random_search import random_search
from jnas.discrete.saving import load_state, save_state
from jnas.objective import Objective

__all__ = [
    "Objective",
    "Proposal",
    "State",
    "Strategy",
    "bananas",
    "build",
    "finite",
    "front",
    "hypervolume",
    "load_state",
    "non_dominated",
    "nsga2",
    "optuna_sampler",
    "pnas",
    "random_search",
    "regularized_evolution",
    "save_state",
    "seed_axes",
]
