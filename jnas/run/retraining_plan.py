"""What retraining needs of a genotype, a dataset and a recipe, of images or text."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jnas import cost, networks
from jnas import data as datasets
from jnas.errors import JnasError
from jnas.networks import Recipe
from jnas.run import material
from jnas.spaces import Genotype

__all__ = ["Plan", "plan"]

# Of evaluation; the running statistics make the result the same for any.
EVALUATION_BATCH = 256
# Few columns: each begins without what came before it.
EVALUATION_COLUMNS = 10


class Plan(NamedTuple):
    """What differs between images and text.

    Attributes:
      network: what is trained.
      recipe: with the augmentation that is done, the dataset's where it named none.
      material: the feed and the shapes of its batches.
      parameters: of the network, without auxiliary head.
      multiply_adds: of one image, or of one token of text.
      evaluate: ``(trainer, state) -> dict``, on the test split.
    """

    network: networks.Network
    recipe: Recipe
    material: material.Material
    parameters: int
    multiply_adds: int
    evaluate: Callable[..., dict[str, Any]]


def plan(
    genotype: Genotype, data: Any, recipe: Recipe, *, stream: bool = False
) -> Plan:
    """Builds the network and the feed.

    Args:
      genotype: what to train.
      data: the dataset.
      recipe: how.
      stream: whether to read images batch by batch though they are in memory.

    Returns:
      The plan.

    Raises:
      JnasError: they don't fit each other.

    Example:
      >>> made = plan(Genotype.parse("DARTS_V2"), datasets.load("digits"),
      ...             networks.recipes.get("quick"))
      >>> made.parameters, made.material.feed.steps_per_epoch
      (36586, 23)
    """
    is_text = isinstance(data, datasets.TextDataset)
    if is_text != (genotype.names == ("recurrent",)):
        raise JnasError(
            f"{data.name!r} holds text, which needs a recurrent cell: use e.g. "
            "'DARTS_RNN_V2', or images"
            if is_text
            else f"a recurrent cell needs a text, but {data.name!r} holds images: use "
            "e.g. 'tinyshakespeare' or a .txt file"
        )
    options = recipe.network_options(genotype)
    if is_text:
        return _plan_text(genotype, data, recipe, options, stream)
    if recipe.augment is None:
        recipe = recipe.replace(augment=data.augment)
    else:
        data = dataclasses.replace(data, augment=recipe.augment)
    network = networks.build(genotype, **options, num_classes=data.num_classes)
    count = cost.count(
        genotype,
        channels=options["channels"],
        cells=network.config.get("cells"),
        cells_per_stage=network.config.get("cells_per_stage"),
        num_classes=data.num_classes,
        image_shape=data.image_shape,
        stem=options["stem"],
    )

    def evaluate(trainer, state):
        batches = datasets.batches(data.test, EVALUATION_BATCH, data.mean, data.std)
        return networks.evaluate(trainer, state, batches)

    return Plan(
        network,
        recipe,
        material.for_retraining(data, recipe.batch_size, stream=stream),
        count.parameters,
        count.multiply_adds,
        evaluate,
    )


def _plan_text(genotype, data, recipe, options, stream) -> Plan:
    network = networks.recurrent(genotype, vocab_size=data.vocab_size, **options)
    wanted = material.for_retraining(data, recipe.batch_size, recipe.bptt, stream)
    shapes = jax.eval_shape(network.init, jax.random.key(0), wanted.example).weights
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    def evaluate(trainer, state):
        columns = min(EVALUATION_COLUMNS, len(data.test) - 1)
        batches = datasets.text_batches(data.test, columns, recipe.bptt)
        return networks.evaluate_text(trainer, state, batches)

    return Plan(
        network,
        recipe,
        wanted,
        parameters,
        # A matrix entry is used once a token, the tied embedding by the decoder.
        parameters - data.vocab_size,
        evaluate,
    )
