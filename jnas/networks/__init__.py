"""Final networks: the network of one genotype, weight inheritance, retraining."""

from jnas.networks import mixup, recipes
from jnas.networks.base import Network, Outputs
from jnas.networks.build import build
from jnas.networks.export import export_module
from jnas.networks.export_weights import export_variables, write_arrays
from jnas.networks.inheritance import inherit
from jnas.networks.language import evaluate_text
from jnas.networks.recipes_base import Recipe
from jnas.networks.recipes_images import darts_recipe, nasbench201_recipe
from jnas.networks.recipes_text import darts_rnn_recipe
from jnas.networks.recurrent import language_model, recurrent, vanilla_rnn
from jnas.networks.tasks import classification
from jnas.networks.training import Trainer, TrainInfo, TrainState, evaluate, trainer
from jnas.supernet.sequence import Dropouts

__all__ = [
    "Dropouts",
    "Network",
    "Outputs",
    "Recipe",
    "TrainInfo",
    "TrainState",
    "Trainer",
    "build",
    "classification",
    "darts_recipe",
    "darts_rnn_recipe",
    "evaluate",
    "evaluate_text",
    "export_module",
    "export_variables",
    "inherit",
    "language_model",
    "mixup",
    "nasbench201_recipe",
    "recipes",
    "recurrent",
    "trainer",
    "vanilla_rnn",
    "write_arrays",
]
