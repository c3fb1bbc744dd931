"""Strategies that choose candidates without gradients, objectives, and studies."""

from jnas.discrete.base import Proposal, State, Strategy, build, finite, seed_axes
from jnas.discrete.combining import combined
from jnas.discrete.evolution import regularized_evolution
from jnas.discrete.genetic import genetic
from jnas.discrete.local_search import local_search
from jnas.discrete.ppo import ppo
from jnas.discrete.q_learning import q_learning
from jnas.discrete.random_search import random_search
from jnas.discrete.registry import get, make, names
from jnas.discrete.reinforce import reinforce
from jnas.discrete.result import Curve, Result, spread
from jnas.discrete.running import run
from jnas.discrete.saving import load_state, save_state
from jnas.objective import Objective

__all__ = [
    "Curve",
    "Objective",
    "Proposal",
    "Result",
    "State",
    "Strategy",
    "build",
    "combined",
    "finite",
    "genetic",
    "get",
    "load_state",
    "local_search",
    "make",
    "names",
    "ppo",
    "q_learning",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "run",
    "save_state",
    "seed_axes",
    "spread",
]
