"""Strategies that choose candidates without gradients, objectives, and studies."""

from jnas.discrete.bananas import bananas
from jnas.discrete.base import Proposal, State, Strategy, build, finite, seed_axes
from jnas.discrete.combining import combined
from jnas.discrete.evolution import regularized_evolution
from jnas.discrete.executors import built_by, dask_executor
from jnas.discrete.finalists import (
    Agreement,
    Finalists,
    kendall_tau,
    listed,
    train_top,
)
from jnas.discrete.genetic import genetic
from jnas.discrete.local_search import local_search
from jnas.discrete.nsga2 import front, nsga2
from jnas.discrete.optuna_sampler import optuna_sampler
from jnas.discrete.pareto import hypervolume, non_dominated
from jnas.discrete.player import Trials
from jnas.discrete.pnas import pnas
from jnas.discrete.ppo import ppo
from jnas.discrete.q_learning import q_learning
from jnas.discrete.random_search import random_search
from jnas.discrete.registry import get, make, names
from jnas.discrete.reinforce import reinforce
from jnas.discrete.result import Curve, Result, spread
from jnas.discrete.running import check_fit, run
from jnas.discrete.saving import load_state, save_state
from jnas.discrete.study import study
from jnas.discrete.supernet_objective import supernet
from jnas.discrete.training_objective import training
from jnas.objective import Objective

__all__ = [
    "Agreement",
    "Curve",
    "Finalists",
    "Objective",
    "Proposal",
    "Result",
    "State",
    "Strategy",
    "Trials",
    "bananas",
    "build",
    "built_by",
    "check_fit",
    "combined",
    "dask_executor",
    "finite",
    "front",
    "genetic",
    "get",
    "hypervolume",
    "kendall_tau",
    "listed",
    "load_state",
    "local_search",
    "make",
    "names",
    "non_dominated",
    "nsga2",
    "optuna_sampler",
    "pnas",
    "ppo",
    "q_learning",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "run",
    "save_state",
    "seed_axes",
    "spread",
    "study",
    "supernet",
    "train_top",
    "training",
]
