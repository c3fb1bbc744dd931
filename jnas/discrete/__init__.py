"""Strategies that choose candidates without gradients, objectives, and studies."""

from jnas.discrete.base import Proposal, State, Strategy, build, finite, seed_axes
from jnas.discrete.evolution import regularized_evolution
from jnas.discrete.executors import built_by, dask_executor
from jnas.discrete.finalists import (
    Agreement,
    Finalists,
    kendall_tau,
    listed,
    train_top,
)
from jnas.discrete.player import Trials
from jnas.discrete.random_search import random_search
from jnas.discrete.saving import load_state, save_state
from jnas.discrete.study import study
from jnas.discrete.supernet_objective import supernet
from jnas.discrete.training_objective import training
from jnas.objective import Objective

__all__ = [
    "Agreement",
    "Finalists",
    "Objective",
    "Proposal",
    "State",
    "Strategy",
    "Trials",
    "build",
    "built_by",
    "dask_executor",
    "finite",
    "kendall_tau",
    "listed",
    "load_state",
    "random_search",
    "regularized_evolution",
    "save_state",
    "seed_axes",
    "study",
    "supernet",
    "train_top",
    "training",
]
