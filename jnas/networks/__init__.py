"""Final networks: the network of one genotype, weight inheritance, retraining."""

from jnas.networks.base import Network, Outputs
from jnas.networks.build import build
from jnas.networks.inheritance import inherit
from jnas.networks.recipes import darts_recipe, nasbench201_recipe
from jnas.networks.tasks import classification
from jnas.networks.training import Trainer, TrainInfo, TrainState, evaluate, trainer

__all__ = [
    "Network",
    "Outputs",
    "TrainInfo",
    "TrainState",
    "Trainer",
    "build",
    "classification",
    "darts_recipe",
    "evaluate",
    "inherit",
    "nasbench201_recipe",
    "trainer",
]
