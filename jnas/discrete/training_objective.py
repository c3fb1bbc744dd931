"""Real training as an objective: every query trains a network from scratch."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import compiling, networks, spaces
from jnas import data as datasets
from jnas import supernet as supernets
from jnas.discrete import choices
from jnas.errors import JnasError, unknown_name
from jnas.networks.base import Network, logits_of
from jnas.objective import Objective
from jnas.supernet.base import Variables

__all__ = ["PROGRAMS", "training"]

PROGRAMS = ("network", "supernet")
_GENES = "genes"


def training(
    space: Any,
    data: Any = "digits",
    *,
    recipe: Any = "quick",
    program: str = "network",
    **changes: Any,
) -> Objective:
    """Scores of candidates that are trained from scratch.

    A query trains the candidate's final network on the training split and scores its
    accuracy on the validation split, in %; the test split is never seen. A fidelity is
    the share of the epochs, rounded, at least one; schedules are those of the shortened
    training. The query's key seeds the initial weights and the order of the data, so a
    candidate asked twice is trained with two seeds. A training that diverged scores
    NaN; what can't be trained raises, which a study makes NaN of, too.

    The cost is the wall time of the training steps in seconds, without compilation and
    evaluation.

    ``program`` says what is compiled:

    * "network": the candidate's own network, as for a retraining. Exact, but each
      candidate is compiled, which takes longer than a short training.
    * "supernet": the supernet at the candidate's one-hot mixture, one program for all.
      It differs from the final network in its cells' normalisations, which have no
      scale and shift there (and pools have them), and in a bias before those of
      NAS-Bench-201; rankings of published tables are not of it. There is no drop path
      and no auxiliary head, and costs are those of that program.

    Args:
      space: a space of images, or its name.
      data: name of a dataset, loaded where it is needed, or a `jnas.data.Dataset`.
      recipe: a `jnas.networks.Recipe` or its name.
      program: see above.
      **changes: fields of the recipe, such as ``epochs``, ``channels``, ``cells``,
        ``cells_per_stage``, ``batch_size``, ``learning_rate`` and ``augment``.

    Returns:
      The objective. It can be sent to other processes, where the data is loaded and
      programs are kept.

    Raises:
      JnasError: a field is unknown or out of range, or the recipe does not fit the
        space.

    Example:
      >>> objective = training("nasbench201", epochs=2, channels=4, batch_size=32)
      >>> objective.cost_unit, objective.config["recipe"]["epochs"]
      ('s', 2)

    References:
      Training from scratch as the reward of a search: Zoph & Le, Neural architecture
      search with reinforcement learning, ICLR 2017.
    """
    space = spaces.get(space) if isinstance(space, str) else space
    if not isinstance(space, spaces.Space):
        raise JnasError(f"space must be a jnas.Space, got {type(space).__name__}")
    if program not in PROGRAMS:
        raise unknown_name("program", program, PROGRAMS)
    if not isinstance(data, str | datasets.Dataset):
        raise JnasError(
            "data must be the name of a dataset or a jnas.data.Dataset, got "
            f"{type(data).__name__}"
        )
    if isinstance(recipe, str):
        recipe = networks.recipes.get(recipe)
    recipe = recipe.replace(**changes)
    recipe.network_options(space.decode(np.zeros(len(space.genes), np.int32)))
    if recipe.kind != "images":
        raise JnasError(
            f"recipe {recipe.name!r} is for {recipe.kind}: use one of images"
        )
    if program == "supernet" and (
        recipe.drop_path or recipe.auxiliary or recipe.stem != "cifar"
    ):
        raise JnasError(
            "program='supernet' has no drop path, no auxiliary head and no stem but "
            f"'cifar', but recipe {recipe.name!r} asks for one: change it, or use "
            "program='network'"
        )
    name = data if isinstance(data, str) else data.name
    return Objective(
        space,
        _Training(space, data, recipe, program).evaluate,
        "training",
        score_unit="validation accuracy, %",
        cost_unit="s",
        config={
            "objective": "training",
            "data": name,
            "program": program,
            "recipe": recipe.to_dict(),
        },
    )


@dataclasses.dataclass(frozen=True)
class _Training:
    """The description, which travels; what it needs is made and kept by a process."""

    space: spaces.Space
    data: Any
    recipe: networks.Recipe
    program: str

    def evaluate(self, genes, key, fidelity):
        genes, fidelity = np.asarray(genes, np.int32), np.asarray(fidelity)
        rows = [
            self._one(row, jax.random.fold_in(key, i), float(share))
            for i, (row, share) in enumerate(zip(genes, fidelity, strict=True))
        ]
        scores, costs = np.asarray(rows, np.float32).reshape(-1, 2).T
        return jnp.asarray(scores), jnp.asarray(costs)

    def _one(self, genes, key, share) -> tuple[float, float]:
        epochs = max(1, round(share * self.recipe.epochs))
        own = self.space.decode(genes) if self.program == "network" else None
        material = _material(self.data, self.recipe)
        run = _compiled(self, own, epochs)
        init_key, feed_key = jax.random.split(key)
        state = run.begin(init_key)
        if own is None:
            inner = {**state.model_state, _GENES: jnp.asarray(genes)}
            state = state._replace(model_state=inner)
        loss = jnp.zeros(())
        jax.block_until_ready(state)
        start = time.perf_counter()
        for step in range(epochs * material.feed.steps_per_epoch):
            state, loss = run.advance(state, material.feed, feed_key, jnp.int32(step))
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        inner = (state.weights, state.model_state)
        found = np.array([run.score(*inner, batch) for batch in material.validation])
        right, count, total = found.sum(axis=0)
        # The argmax of NaN is a class, too.
        sound = math.isfinite(float(loss)) and math.isfinite(total)
        return (100 * right / count if sound else math.nan), seconds


class _Material(NamedTuple):
    """Data on the device: the feed of the training split, validation batches."""

    feed: Any
    image: jax.ShapeDtypeStruct
    num_classes: int
    validation: list[dict[str, jax.Array]]


@functools.lru_cache(maxsize=2)
def _material(data: Any, recipe: networks.Recipe) -> _Material:
    data = datasets.load(data) if isinstance(data, str) else data
    look = (data.mean, data.std)
    feed = datasets.feed(
        data.train,
        None,
        batch_size=recipe.batch_size,
        mean=data.mean,
        std=data.std,
        augment=data.augment if recipe.augment is None else recipe.augment,
    )
    held_out = datasets.batches(data.validation, recipe.batch_size, *look)
    shape = (recipe.batch_size, *data.image_shape)
    return _Material(
        feed,
        jax.ShapeDtypeStruct(shape, feed.dtype),
        data.num_classes,
        [jax.tree.map(jnp.asarray, batch) for batch in held_out],
    )


class _Run(NamedTuple):
    """Compiled functions of one training."""

    begin: Callable[..., Any]
    advance: Callable[..., Any]
    score: Callable[..., Any]


@functools.lru_cache(maxsize=8)
def _compiled(own: _Training, genotype: Any, epochs: int) -> _Run:
    """The programs of a candidate, or with no genotype of all candidates."""
    material = _material(own.data, own.recipe)
    if genotype is None:
        network = _shared(own, material.num_classes)
    else:
        options = own.recipe.network_options(genotype)
        options["num_classes"] = material.num_classes
        network = networks.build(genotype, **options)
    trainer = own.recipe.replace(epochs=epochs).trainer(
        network, steps_per_epoch=material.feed.steps_per_epoch
    )
    options = {"compiler_options": compiling.options()}

    def advance(state, feed, key, step):
        batch, _ = feed(key, step)
        state, info = trainer.step(state, batch)
        return state, info.train_loss

    def score(weights, model_state, batch):
        outputs, _ = network.apply(weights, model_state, batch["image"], train=False)
        logits = logits_of(outputs).astype(jnp.float32)
        weight = batch["weight"]
        hit = (jnp.argmax(logits, axis=-1) == batch["label"]) * weight
        total = jnp.sum(jnp.where(weight[:, None] > 0, logits, 0))
        return jnp.stack([jnp.sum(hit), jnp.sum(weight), total])

    key, step = jax.random.key(0), jnp.int32(0)
    begin = jax.jit(lambda key: trainer.init(key, material.image), **options)
    begin = begin.lower(key).compile()
    state = jax.eval_shape(lambda key: trainer.init(key, material.image), key)
    train = jax.jit(advance, donate_argnums=0, **options)
    train = train.lower(state, material.feed, key, step).compile()
    test = jax.jit(score, **options)
    inner = (state.weights, state.model_state)
    test = test.lower(*inner, material.validation[0]).compile()
    return _Run(begin, train, test)


def _shared(own: _Training, num_classes: int) -> Network:
    """A network whose genes are part of its state."""
    genotype = own.space.decode(np.zeros(len(own.space.genes), np.int32))
    options = own.recipe.network_options(genotype)
    size = {k: v for k, v in options.items() if k not in ("stem", "auxiliary")}
    net = supernets.build(own.space, num_classes=num_classes, **size)
    mixture_of = choices.mixture_of(own.space)

    def init(key, inputs):
        weights, model_state = net.init(key, inputs)
        genes = jnp.zeros(len(own.space.genes), jnp.int32)
        return Variables(weights, {**model_state, _GENES: genes})

    def apply(weights, model_state, inputs, **options):
        inner = {k: v for k, v in model_state.items() if k != _GENES}
        genes = model_state[_GENES]
        outputs, inner = net.apply(weights, inner, mixture_of(genes), inputs, **options)
        return outputs, {**inner, _GENES: genes}

    return Network(genotype, init, apply, dict(net.config or {}))
