"""`Recipe`: what to build and how to train it, as plain, immutable, checked data.

What it leaves out (the normalisation, the order of the examples) belongs to the
dataset.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from jnas.data import Augment
from jnas.errors import JnasError, unknown_name
from jnas.networks import recipes_checks, recipes_images, recipes_text
from jnas.networks.base import Network
from jnas.networks.training import Trainer
from jnas.spaces import Genotype
from jnas.supernet import layers
from jnas.supernet.sequence import Dropouts

__all__ = ["FORMAT", "Recipe", "check_names"]

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a final network is built and trained.

    Attributes:
      name: what it is called.
      epochs: length of the training; it sets the schedules.
      batch_size: of the training (of text: columns read in step).
      learning_rate: at the start.
      kind: "images" or "text"; fields that are only for the other one are not used,
        not written, and must be left alone.
      channels: images: of the network's first cells.
      cells: images: number of cells, of genotypes with "normal" and "reduce"; None if
        the recipe does not say.
      cells_per_stage: images: cells per stage, of genotypes with one cell; likewise.
      stem: images: "cifar" or "imagenet".
      auxiliary: images: whether to train with the auxiliary head.
      width: text: of the embedding and the hidden state.
      bptt: text: times of a window.
      dropouts: text: of the network; a `Dropouts` or a mapping.
      dtype: of what the network computes; its name, as in `build`.
      weight_decay: coupled L2 on every parameter.
      clip: maximal global norm of the gradient, or None.
      momentum: images: of SGD.
      nesterov: images: whether in Nesterov's form.
      schedule: images: "cosine_epoch", "cosine_step" or "exponential" (per epoch); of
        text it is a cosine per step.
      eta_min: images: where a cosine ends.
      decay: images: factor from epoch to epoch of "exponential".
      drop_path: images: rate towards the end; it grows linearly from 0, per epoch.
      auxiliary_weight: images: of the auxiliary head's loss.
      label_smoothing: images: share of the label that is spread over all classes.
      mixup: images: parameter of the Beta distribution; 0 for none.
      augment: images: an `Augment`, or a mapping; None for the dataset's own.
      activation: text: weight of the activation penalty.
      slowness: text: weight of the slowness penalty.
      intended: one line: which data the authors used it for.
      source: one line: where it comes from, and deviations.

    Raises:
      JnasError: a field is out of range or does not fit the kind.

    Example:
      >>> from jnas.networks.recipes import get
      >>> recipe = get("darts").replace(epochs=50, channels=16, cells=8)
      >>> recipe.epochs, recipe.drop_path, recipe.augment.cutout
      (50, 0.2, 16)
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    kind: str = "images"
    channels: int | None = None
    cells: int | None = None
    cells_per_stage: int | None = None
    stem: str = "cifar"
    auxiliary: bool = False
    width: int | None = None
    bptt: int | None = None
    dropouts: Dropouts | None = None
    dtype: str = "float32"
    weight_decay: float = 3e-4
    clip: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "cosine_step"
    eta_min: float = 0.0
    decay: float = 0.97
    drop_path: float = 0.0
    auxiliary_weight: float = 0.4
    label_smoothing: float = 0.0
    mixup: float = 0.0
    augment: Augment | None = None
    activation: float = 0.0
    slowness: float = 0.0
    intended: str = ""
    source: str = ""

    def __post_init__(self):
        if self.kind not in recipes_checks.KINDS:
            raise unknown_name("kind of recipe", self.kind, recipes_checks.KINDS)
        self._read("augment", Augment)
        self._read("dropouts", Dropouts)
        for name, default in _foreign(self.kind).items():
            if getattr(self, name) != default:
                other = recipes_checks.KINDS[self.kind == "images"]
                raise JnasError(
                    f"{name} is for {other}, but recipe {self.name!r} is for "
                    f"{self.kind}: leave it out"
                )
        object.__setattr__(self, "dtype", layers.check_dtype(self.dtype).name)
        recipes_checks.check(_fields(self))

    def _read(self, name: str, kind: type) -> None:
        """Makes the object of a field that was given as a mapping."""
        value = getattr(self, name)
        if isinstance(value, Mapping):
            for part in value:
                if part not in kind.__annotations__:
                    raise unknown_name(f"field of {name}", part, kind.__annotations__)
            object.__setattr__(self, name, kind(**value))
        elif not isinstance(value, kind | None):
            raise JnasError(
                f"{name} must be of type {kind.__name__} or a mapping of its fields, "
                f"got {value!r:.80}"
            )

    def replace(self, **changes: Any) -> "Recipe":
        """A recipe with some fields changed, checked like any other.

        Args:
          **changes: new values by field.

        Returns:
          The recipe.

        Raises:
          JnasError: a field is unknown or its value can't be used.

        Example:
          >>> from jnas.networks.recipes import get
          >>> get("quick").replace(epoch=3)  # doctest: +ELLIPSIS
          Traceback (most recent call last):
            ...
          jnas.errors.JnasError: unknown field of a recipe 'epoch': did you mean \
'epochs'? (known: ...)
        """
        check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields of its kind, made of JSON's types.

        Returns:
          The values by field.

        Example:
          >>> recipe = Recipe("mine", 10, 64, 0.1, channels=8)
          >>> recipe.to_dict()["epochs"], "bptt" in recipe.to_dict()
          (10, False)
        """
        values = _fields(self)
        if self.augment is not None:
            values["augment"] = dataclasses.asdict(self.augment)
        if self.dropouts is not None:
            values["dropouts"] = self.dropouts._asdict()
        return values

    def to_json(self) -> str:
        """Writes one line of JSON, which `recipes.from_json` reads back exactly.

        Returns:
          ``{"format": 1, "name": ..., ...}``.

        Example:
          >>> Recipe("mine", 10, 64, 0.1, channels=8).to_json()[:41]
          '{"format": 1, "name": "mine", "epochs": 1'
        """
        return json.dumps({"format": FORMAT, **self.to_dict()}, allow_nan=False)

    def network_options(self, genotype: Genotype) -> dict[str, Any]:
        """What `build` or `recurrent` needs beside the genotype and the outputs.

        Args:
          genotype: of the network.

        Returns:
          The keyword arguments.

        Raises:
          JnasError: the recipe is not for such genotypes.

        Example:
          >>> from jnas.networks.recipes import get
          >>> get("nasbench201").network_options(Genotype.parse("DARTS_V2"))
          Traceback (most recent call last):
            ...
          jnas.errors.JnasError: recipe 'nasbench201' does not say how many cells a \
network of the cells normal, reduce has: give cells=..., or take another recipe
        """
        recurrent = genotype.names == ("recurrent",)
        if recurrent != (self.kind == "text"):
            raise JnasError(
                f"recipe {self.name!r} is for {self.kind}, but the genotype is "
                f"{'a' if recurrent else 'not a'} recurrent one: use "
                f"recipe={'darts_rnn' if recurrent else 'darts'!r}"
            )
        if recurrent:
            own = ("width", "dropouts", "dtype")
            return {name: getattr(self, name) for name in own}
        depth = "cells" if genotype.is_darts_like else "cells_per_stage"
        if getattr(self, depth) is None:
            raise JnasError(
                f"recipe {self.name!r} does not say how many cells a network of the "
                f"cells {', '.join(genotype.names)} has: give {depth}=..., or take "
                "another recipe"
            )
        own = ("channels", depth, "stem", "auxiliary", "dtype")
        return {name: getattr(self, name) for name in own}

    def trainer(self, network: Network, *, steps_per_epoch: int) -> Trainer:
        """The training of a network by this recipe.

        Args:
          network: what is trained; the recipe's size is not looked at.
          steps_per_epoch: steps of one epoch.

        Returns:
          The trainer.

        Raises:
          JnasError: ``steps_per_epoch`` is not positive.

        Example:
          >>> import jnas
          >>> net = jnas.networks.build("DARTS_V2", channels=4, cells=3)
          >>> recipe = jnas.networks.recipes.get("darts")
          >>> recipe.trainer(net, steps_per_epoch=521).config["schedule"]
          'cosine_epoch'
        """
        config = self.to_dict()
        config = {"recipe": config.pop("name"), **config}
        config["steps_per_epoch"] = steps_per_epoch
        shared = ("epochs", "learning_rate", "weight_decay", "clip")
        if self.kind == "text":
            options = {
                n: getattr(self, n)
                for n in (*shared, "bptt", *recipes_checks.PENALTIES)
            }
            made = recipes_text.darts_rnn_recipe(
                network, steps_per_epoch=steps_per_epoch, **options
            )
            return made._replace(config={**config, "network": network.config})
        options = {n: getattr(self, n) for n in (*shared, *recipes_checks.TRAINING)}
        return recipes_images.image_trainer(
            network, steps_per_epoch=steps_per_epoch, **options, config=config
        )


def _foreign(kind: str) -> dict[str, Any]:
    """The fields of the other kind, with their defaults."""
    others = recipes_checks.OF_TEXT
    if kind == "text":
        others = recipes_checks.OF_IMAGES
    fields = {field.name: field.default for field in dataclasses.fields(Recipe)}
    return {name: fields[name] for name in others}


def _fields(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe's kind."""
    foreign = _foreign(recipe.kind)
    every = [field.name for field in dataclasses.fields(Recipe)]
    return {name: getattr(recipe, name) for name in every if name not in foreign}


def check_names(given: Mapping[str, Any]) -> None:
    """Raises `JnasError` unless all keys are names of a recipe's fields.

    Args:
      given: by name.

    Raises:
      JnasError: with close matches.

    Example:
      >>> check_names({"epochs": 3})
    """
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in given:
        if name not in known:
            raise unknown_name("field of a recipe", name, known)
