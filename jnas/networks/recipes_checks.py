"""What the fields of a recipe may be."""

import math
from typing import Any

from jnas.errors import JnasError, unknown_name
from jnas.networks import recipes_images
from jnas.supernet.build import check_positive

__all__ = ["KINDS", "OF_IMAGES", "OF_TEXT", "PENALTIES", "TRAINING", "check"]

KINDS = ("images", "text")
# The fields that only one kind has; all others are for both.
PENALTIES = ("activation", "slowness")
OF_TEXT = ("width", "bptt", "dropouts", *PENALTIES)
TRAINING = (
    *("momentum", "nesterov", "schedule", "eta_min", "decay"),
    *("drop_path", "auxiliary_weight", "label_smoothing", "mixup"),
)
OF_IMAGES = (
    *("channels", "cells", "cells_per_stage", "stem", "auxiliary", "augment"),
    *TRAINING,
)

_STEMS = ("cifar", "imagenet")
_NEEDED = {
    "images": ("epochs", "batch_size", "channels"),
    "text": ("epochs", "batch_size", "width", "bptt"),
}
_COUNTS = (*_NEEDED["images"], "cells", "cells_per_stage", "width", "bptt")
_FLAGS = ("auxiliary", "nesterov")
_TEXTS = ("name", "kind", "stem", "dtype", "schedule", "intended", "source")
_OBJECTS = ("augment", "dropouts")  # these check themselves


def check(values: dict[str, Any]) -> None:
    """Raises `JnasError` unless the fields of a recipe can be used.

    Args:
      values: all fields of its kind, by name.

    Raises:
      JnasError: names the field and what it holds.

    Example:
      >>> from jnas.networks import recipes
      >>> check({**recipes.get("quick").to_dict(), "mixup": -1})
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: mixup must be >= 0, got -1
    """
    for name, value in values.items():
        _check_type(name, value, _NEEDED[values["kind"]])
    recipes_images.check_rates(values["learning_rate"], values["weight_decay"])
    if values["clip"] is not None and not values["clip"] > 0:
        raise JnasError(f"clip must be positive or None, got {values['clip']!r}")
    for name in ("momentum", "drop_path", "label_smoothing"):
        if not 0 <= values.get(name, 0) < 1:
            raise JnasError(f"{name} must be in [0, 1), got {values[name]}")
    for name in ("auxiliary_weight", "mixup", *PENALTIES):
        if not values.get(name, 0) >= 0:
            raise JnasError(f"{name} must be >= 0, got {values[name]}")
    if values["kind"] == "text":
        if values["dropouts"] is not None:
            values["dropouts"].check()
        return
    if values["stem"] not in _STEMS:
        raise unknown_name("stem", values["stem"], _STEMS)
    _check_schedule(**{n: values[n] for n in ("schedule", "eta_min", "decay")})
    if values["eta_min"] > values["learning_rate"]:
        raise JnasError(
            f"eta_min must be in 0..learning_rate ({values['learning_rate']}), got "
            f"{values['eta_min']}"
        )


def _check_type(name: str, value: Any, needed: tuple[str, ...]) -> None:
    if name in _OBJECTS or (name, value) == ("clip", None):
        return
    if name in _COUNTS:
        if value is not None or name in needed:
            check_positive(**{name: value})
    elif name in _FLAGS:
        if not isinstance(value, bool):
            raise JnasError(f"{name} must be True or False, got {value!r}")
    elif name in _TEXTS:
        if not isinstance(value, str):
            raise JnasError(f"{name} must be a text, got {value!r:.80}")
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise JnasError(f"{name} must be a finite number, got {value!r:.80}")


def _check_schedule(schedule: str, eta_min: float, decay: float) -> None:
    if schedule not in recipes_images.SCHEDULES:
        raise unknown_name("schedule", schedule, recipes_images.SCHEDULES)
    if not 0 < decay <= 1:
        raise JnasError(f"decay must be in (0, 1], got {decay}")
    if not eta_min >= 0:
        raise JnasError(f"eta_min must be >= 0, got {eta_min}")
    if eta_min and schedule == "exponential":
        raise JnasError(
            f"eta_min is where a cosine ends, got {eta_min} with an exponential "
            "schedule: use eta_min=0"
        )
