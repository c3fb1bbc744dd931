"""Final networks: the network of one genotype, weight inheritance, retraining."""

from jnas.networks.base import Network, Outputs
from jnas.networks.build import build
from jnas.networks.inheritance import inherit
from jnas.networks.language import evaluate_text
from jnas.networks.recipes import darts_recipe, darts_rnn_recipe, nasbench201_recipe
from jnas.networks.recurrent import language_model, recurrent, vanilla_rnn
from jnas.networks.tasks import classification
from jnas.networks.training import Trainer, TrainInfo, TrainState, evaluate, trainer
from jnas.supernet.sequence import Dropouts

__all__ = [
    "Dropouts",
    "Network",
    "Outputs",
    "TrainInfo",
    "TrainState",
    "Trainer",
    "build",
    "classification",
    "darts_recipe",
    "darts_rnn_recipe",
    "evaluate",
    "evaluate_text",
    "inherit",
    "language_model",
    "nasbench201_recipe",
    "recurrent",
    "trainer",
    "vanilla_rnn",
]
