"""The supernet as an objective: candidates with inherited weights, without training."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas import cost
from jnas import data as datasets
from jnas.discrete import choices
from jnas.discrete.checks import count
from jnas.errors import JnasError, unknown_name
from jnas.networks.base import logits_of
from jnas.objective import Objective
from jnas.supernet import layers
from jnas.supernet.base import Supernet

__all__ = ["STATISTICS", "recalibrated", "supernet"]

STATISTICS = ("recalibrated", "batch", "running")
_COLLECTION = "batch_stats"


def supernet(
    net: Supernet,
    weights: Any,
    model_state: Any,
    data: Any,
    *,
    statistics: str = "recalibrated",
    recalibration: int = 20,
    validation: int | None = None,
    batch_size: int = 64,
    together: int = 1,
    seed: int = 0,
    name: str = "supernet",
) -> Objective:
    """One-shot scores: validation accuracy of candidates with a supernet's weights.

    A candidate is the supernet at its one-hot mixture, of which only the chosen
    operations are computed. Its BatchNorm statistics are not those of the supernet,
    which belong to mixtures or to other paths; ``statistics`` says what is used:

    * "recalibrated": running statistics are reset, then the averages over
      ``recalibration`` training batches (with the dataset's augmentation), as Guo et
      al., Single path one-shot neural architecture search with uniform sampling (ECCV
      2020) do, with 200 batches of 128.
    * "batch": those of each validation batch, as RSPS, SETN and ENAS in the code of
      NAS-Bench-201 (Dong & Yang, ICLR 2020).
    * "running": the supernet's own, as Li & Talwalkar, Random search and
      reproducibility for NAS (UAI 2019) do.

    The score is the accuracy in %, the cost the multiply-adds of one image in the
    candidate's final network (of supernets that were not built by
    `jnas.supernet.build`: 1 for each). Fidelities are not looked at. Batches stay on
    the device, as float32.

    Args:
      net: the supernet.
      weights: its weights, such as ``state.weights`` of a search.
      model_state: its statistics, such as ``state.model_state``.
      data: a `jnas.data.Dataset`; or two iterables of batches ``{"image": [B, H, W,
        C], "label": [B]}``, for recalibration and for validation, the latter with a
        "weight" of 0 for padding if need be.
      statistics: see above.
      recalibration: number of training batches.
      validation: number of validation batches, by default the whole split.
      batch_size: of both, of a dataset.
      together: candidates that are computed side by side. From 2 on every operation of
        the supernet is computed for each, which pays on accelerators only.
      seed: of the order and augmentation of training batches.
      name: of the objective.

    Returns:
      The objective, traceable. It can't be sent to other processes: there, let
      `jnas.discrete.built_by` make it.

    Raises:
      JnasError: an option is out of range, or the supernet is not one of images.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> net = jnas.supernet.build(space, channels=2, cells_per_stage=1)
      >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
      >>> objective = supernet(net, *variables, jnas.data.load("digits"),
      ...                      recalibration=2, validation=2)
      >>> 0 <= float(objective(jnp.array([[3, 3, 1, 0, 3, 2]]))[0]) <= 100
      True
    """
    if statistics not in STATISTICS:
        raise unknown_name("kind of statistics", statistics, STATISTICS)
    if net.per_stream:
        raise JnasError(
            "a supernet objective is one of images: this supernet carries "
            f"{', '.join(net.per_stream)} from batch to batch"
        )
    together, seed = count("together", together), count("seed", seed, 0)
    used = statistics == "recalibrated"
    steps = count("recalibration", recalibration) if used else 0
    most = None if validation is None else count("validation", validation)
    train, held_out = _batches(data, count("batch_size", batch_size), steps, most, seed)
    inner = _OneShot(
        net, weights, model_state, train, held_out, statistics, together,
        *_costs(net, held_out["image"].shape[2:]),
    )  # fmt: skip
    known = inner.table is not None
    return Objective(
        net.space,
        inner.evaluate,
        name,
        score_unit="validation accuracy, %",
        cost_unit="multiply-adds" if known else "evaluations",
        traceable=True,
        config={
            "objective": "supernet",
            "supernet": net.config,
            "data": getattr(data, "name", None),
            "statistics": statistics,
            "recalibration": steps,
            "validation": int(held_out["weight"].sum()),
            "batch_size": int(held_out["weight"].shape[1]),
            "seed": seed,
        },
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _OneShot:
    """What is evaluated: the supernet, its weights and the stacked batches."""

    net: Supernet
    weights: Any
    model_state: Any
    train: Any
    validation: Any
    statistics: str
    together: int
    base: float
    table: dict[str, np.ndarray] | None

    def evaluate(self, genes, key, fidelity):
        genes = jnp.asarray(genes, jnp.int32)
        scores = _scores(
            self.net.apply, self.net.space, self.statistics, self.together,
            self.weights, self.model_state, self.train, self.validation, genes, key,
        )  # fmt: skip
        if self.table is None:
            return scores, jnp.ones(len(genes), jnp.float32)
        return scores, jax.vmap(self._cost)(genes)

    def _cost(self, genes):
        tables, total = self.table or {}, jnp.asarray(self.base, jnp.float32)
        for i, edges, operations in choices.picks_of(self.net.space)(genes):
            table = jnp.asarray(tables[self.net.space.names[i]], jnp.float32)
            total = total + jnp.sum(table[edges, operations])
        return total


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _scores(
    apply, space, statistics, together,
    weights, model_state, train, validation, genes, key,
):  # fmt: skip
    """Accuracies in %, float32 ``[n]``."""
    mixture_of = choices.mixture_of(space)

    def one(row):
        mixture = mixture_of(row)
        state = model_state
        if statistics == "recalibrated":
            state = recalibrated(apply, weights, state, mixture, train, key)

        def add(right, numbered):
            number, batch = numbered
            outputs, _ = apply(
                weights,
                state,
                mixture,
                batch["image"],
                train=False,
                statistics="batch" if statistics == "batch" else "running",
                key=jax.random.fold_in(key, -1 - number),
            )
            hit = jnp.argmax(logits_of(outputs), axis=-1) == batch["label"]
            # The argmax of NaN is a class, too.
            hit &= jnp.all(jnp.isfinite(logits_of(outputs)), axis=-1)
            return right + jnp.sum(hit * batch["weight"]), None

        numbers = jnp.arange(len(validation["label"]))
        right, _ = jax.lax.scan(add, jnp.float32(0), (numbers, validation))
        return 100 * right / jnp.sum(validation["weight"])

    return jax.lax.map(one, genes, batch_size=together if together > 1 else None)


def recalibrated(
    apply: Any, weights: Any, model_state: Any, mixture: Any, train: Any, key: Any
) -> Any:
    """Running statistics that are averages over training batches, and of nothing else.

    Args:
      apply: of the supernet.
      weights: its weights.
      model_state: its statistics.
      mixture: the candidate's.
      train: stacked batches ``{"image": [K, B, H, W, C]}``.
      key: of operations that draw.

    Returns:
      The model state; statistics of what the candidate does not use are 0.
    """
    if _COLLECTION not in model_state:
        return model_state
    # From 0, a pass leaves the batch's statistics times the momentum.
    zeros = jax.tree.map(jnp.zeros_like, model_state[_COLLECTION])
    start = {**model_state, _COLLECTION: zeros}

    def add(total, numbered):
        number, image = numbered
        _, new = apply(
            weights,
            start,
            mixture,
            image,
            train=True,
            statistics="batch",
            key=jax.random.fold_in(key, number),
        )
        return jax.tree.map(jnp.add, total, new[_COLLECTION]), None

    steps = len(train["image"])
    numbers = jnp.arange(steps)
    total, _ = jax.lax.scan(add, zeros, (numbers, train["image"]))
    means = jax.tree.map(lambda x: x / (steps * layers.MOMENTUM), total)
    return {**model_state, _COLLECTION: means}


def _batches(data, batch_size, steps, validation, seed) -> tuple[Any, Any]:
    """Training and validation batches, each stacked."""
    if isinstance(data, datasets.Dataset):
        look = (data.mean, data.std)
        held_out: Iterable[Any] = datasets.batches(data.validation, batch_size, *look)
        train: Iterable[Any] = ()
        if steps:
            feed = datasets.feed(
                data.train,
                None,
                batch_size=batch_size,
                mean=data.mean,
                std=data.std,
                augment=data.augment,
            )
            draw = jax.jit(lambda feed, key, step: feed(key, step)[0])
            key = jax.random.key(seed)
            train = (draw(feed, key, jnp.int32(step)) for step in range(steps))
    elif isinstance(data, tuple | list) and len(data) == 2:
        train, held_out = data
    else:
        raise JnasError(
            "data must be a jnas.data.Dataset or two iterables of batches (training, "
            f"validation), got {type(data).__name__}: use jnas.data.load(name)"
        )
    train = list(itertools.islice(train, steps))
    held_out = list(itertools.islice(held_out, validation))
    if len(train) < steps or not held_out:
        raise JnasError(
            f"got {len(train)} training and {len(held_out)} validation batches, "
            f"expected {steps} and at least 1: use a smaller recalibration, or give "
            "more"
        )
    held_out = [{"weight": np.ones(len(b["label"]), np.float32), **b} for b in held_out]
    return _stacked(train, ("image",)), _stacked(held_out, ("image", "label", "weight"))


def _stacked(batches: list[Any], names: tuple[str, ...]) -> dict[str, jax.Array]:
    return {
        n: jnp.stack([jnp.asarray(b[n]) for b in batches]) for n in names if batches
    }


def _costs(net: Supernet, shape: Any) -> tuple[float, Any]:
    """Multiply-adds: those of all candidates, and a table ``[E, O]`` by group."""
    config = net.config or {}
    names = ("channels", "cells", "cells_per_stage", "num_classes")
    if not all(name in config for name in names):
        return 0.0, None
    height, width, colours = shape[-3:]
    table = cost.operation_costs(
        net.space,
        **{name: config[name] for name in names},
        image_shape=(height, width, colours),
    )
    # As float32, in which costs are told; exact up to 2^24 and good to seven digits.
    summed = {name: rows.sum(0) for name, rows in table.multiply_adds.items()}
    return float(table.base_multiply_adds), summed
