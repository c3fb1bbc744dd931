"""Recipes of retraining by name, and from JSON; `recipes_table` has the papers'."""

import json
from typing import Any

from jnas.errors import JnasError, unknown_name
from jnas.networks.recipes_base import FORMAT, Recipe, check_names
from jnas.networks.recipes_table import TABLE

__all__ = ["Recipe", "from_json", "get", "names"]


def from_json(text: str) -> Recipe:
    """Reads what `Recipe.to_json` wrote, or a recipe of the user's own.

    Args:
      text: the JSON; what it leaves out has its default.

    Returns:
      The recipe.

    Raises:
      JnasError: it is no JSON, of a newer version, or a field is unknown, missing or
        can't be used.

    Example:
      >>> from_json('{"name": "mine", "epochs": 2, "batch_size": 8, "channels": 4, '
      ...           '"learning_rate": 0.1}').momentum
      0.9
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise JnasError(f"not a recipe's JSON: {text!r:.60}: {reason}") from None
    if not isinstance(values, dict):
        raise JnasError(f"a recipe's JSON must be an object, got {text!r:.60}")
    form = values.pop("format", FORMAT)
    if type(form) is not int or form != FORMAT:
        newer = type(form) is int and form > FORMAT
        fix = "update jnas to read it" if newer else f'set "format": {FORMAT}'
        raise JnasError(f"recipe format must be {FORMAT}, got {form!r:.40}: {fix}")
    check_names(values)
    for name in ("name", "epochs", "batch_size", "learning_rate"):
        if name not in values:
            raise JnasError(f"a recipe needs the field {name!r}, got {sorted(values)}")
    return Recipe(**values)


def get(name: str, /, **changes: Any) -> Recipe:
    """A recipe by its name.

    Args:
      name: one of `names()`.
      **changes: fields to change.

    Returns:
      The recipe.

    Raises:
      JnasError: there is no such recipe or field, or a value can't be used.

    Example:
      >>> get("darts_imagenet").label_smoothing, get("darts", epochs=5).epochs
      (0.1, 5)
    """
    if name not in TABLE:
        raise unknown_name("recipe", name, TABLE)
    return Recipe(name=name, **TABLE[name]).replace(**changes)


def names() -> dict[str, str]:
    """What `get` knows, with one line for each.

    Returns:
      Which data it is for, by name.

    Example:
      >>> list(names())
      ['darts', 'darts_imagenet', 'nasbench201', 'nasbench201_12', 'nasbench301', \
'darts_rnn', 'quick']
    """
    return {name: values["intended"] for name, values in TABLE.items()}
