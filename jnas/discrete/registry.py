"""Strategies by name."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from jnas import errors
from jnas.discrete.base import Strategy

__all__ = ["get", "make", "names", "options"]

# The module of each strategy; the function has the strategy's name.
_STRATEGIES = {
    "random_search": ("random_search", "uniform draws"),
    "local_search": ("local_search", "hill climbing with restarts"),
    "regularized_evolution": ("evolution", "tournaments, the oldest dies"),
    "genetic": ("genetic", "crossovers and mutants of the best so far"),
    "reinforce": ("reinforce", "policy gradient: softmax policy or LSTM controller"),
    "ppo": ("ppo", "LSTM controller, clipped surrogate"),
    "q_learning": ("q_learning", "epsilon-greedy values of genes, replay"),
    "bananas": ("bananas", "ensemble on path encodings, Thompson sampling"),
    "pnas": ("pnas", "node by node, ranked by a surrogate"),
    "nsga2": ("nsga2", "Pareto front of several scores"),
    "optuna_sampler": (
        "optuna_sampler",
        "Optuna, by default TPE (jnas[optuna])",
    ),
}


def names() -> dict[str, str]:
    """The names of all strategies, each with a line on it.

    Example:
      >>> names()["random_search"]
      'uniform draws'
    """
    return {name: line for name, (_, line) in _STRATEGIES.items()}


def get(name: str) -> Callable[..., Strategy]:
    """The function that makes a strategy.

    Args:
      name: one of `names`.

    Returns:
      ``(space, **options) -> Strategy``.

    Raises:
      JnasError: there is none of that name.

    Example:
      >>> get("random_search")("nasbench201").name
      'random_search'
    """
    if name not in _STRATEGIES:
        raise errors.unknown_name("strategy", name, _STRATEGIES)
    module = importlib.import_module(f"jnas.discrete.{_STRATEGIES[name][0]}")
    return getattr(module, name)


def options(name: str) -> list[str]:
    """The names of a strategy's hyper-parameters.

    Args:
      name: one of `names`.

    Returns:
      The names, in their order.

    Raises:
      JnasError: there is no strategy of that name.

    Example:
      >>> options("local_search")[:2]
      ['initial', 'query']
    """
    return list(inspect.signature(get(name)).parameters)[1:]


def make(name: str, space: Any, evaluations: int, **given: Any) -> Strategy:
    """Makes a strategy with room for a number of evaluations.

    Args:
      name: one of `names`.
      space: a space or its name.
      evaluations: the capacity, where the strategy has one and ``given`` does not say.
      **given: its hyper-parameters.

    Returns:
      The strategy.

    Raises:
      JnasError: the name or an option is unknown, or a value is wrong.

    Example:
      >>> make("local_search", "nasbench201", 300).capacity
      300
    """
    known = options(name)
    for option in given:
        if option not in known:
            raise errors.unknown_name(f"option of {name}", option, known)
    if "capacity" in known:
        given.setdefault("capacity", evaluations)
    return get(name)(space, **given)
