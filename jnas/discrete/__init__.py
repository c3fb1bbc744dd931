"""Strategies that choose candidates without gradients, objectives, and studies."""

from jnas.discrete.base import Proposal, State, Strategy, build, finite, seed_axes
from jnas.discrete.evolution import regularized_evolution
from jnas.discrete.genetic import genetic
from jnas.discrete.ppo import ppo
from jnas.discrete.q_learning import q_learning
from jnas.discrete.random_search import random_search
from jnas.discrete.reinforce import reinforce
from jnas.discrete.saving import load_state, save_state
from jnas.objective import Objective

__all__ = [
    "Objective",
    "Proposal",
    "State",
    "Strategy",
    "build",
    "finite",
    "genetic",
    "load_state",
    "ppo",
    "q_learning",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "save_state",
    "seed_axes",
]
