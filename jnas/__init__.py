"""jnas: differentiable neural architecture search in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    "bilevel",
    "compiling",
    "cost",
    "data",
    "discrete",
    "domain",
    "errors",
    "interop",
    "mixture",
    "networks",
    "numerics",
    "objective",
    "optimizers",
    "presets",
    "progressive",
    "regularizers",
    "relax",
    "report",
    "run",
    "search",
    "select",
    "spaces",
    "supernet",
    "tabular",
)
_NAMES = {
    "Genotype": "spaces",
    "JnasError": "errors",
    "Mixture": "mixture",
    "Space": "spaces",
}

if TYPE_CHECKING:
    from jnas.errors import JnasError as JnasError
    from jnas.mixture import Mixture as Mixture
    from jnas.spaces import Genotype as Genotype
    from jnas.spaces import Space as Space

__all__ = sorted([*_ROOMS, *_NAMES, "__version__"])


def __getattr__(name: str) -> Any:
    # Rooms are imported when first used, so that `import jnas` is quick and reading a
    # genotype needs neither JAX nor Flax.
    if name in _ROOMS:
        return importlib.import_module(f"jnas.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"jnas.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
