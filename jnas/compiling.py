"""How programs are compiled: what the backend's own defaults cost."""

import functools
import os
from typing import Any

import jax

__all__ = ["options"]

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def options() -> dict[str, Any] | None:
    """The compiler's options for a search step, for ``jax.jit(compiler_options=...)``.

    The CPU backend of jaxlib 0.10 hands products, convolutions and sums to a library
    (YNNPACK) one by one, and prepares each of these thousands of calls anew in every
    process when the program first runs. Its own code is as fast or faster (measured in
    ``benchmarks/speed/RESULTS.md``), so it is used. Other backends, a jaxlib that does
    not know the option, and a user who sets it in ``XLA_FLAGS`` get the defaults.

    Returns:
      The options, or None for the defaults.

    Example:
      >>> double = jax.jit(lambda x: 2 * x, compiler_options=options())
      >>> float(double(1.0))
      2.0
    """
    if jax.default_backend() != "cpu" or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return None
    return dict(_of_cpu()) or None


@functools.cache
def _of_cpu() -> tuple[tuple[str, Any], ...]:
    found = {_LIBRARY: ""}
    try:
        jax.jit(_nothing, compiler_options=found).lower().compile()
    except (RuntimeError, ValueError):  # no such option
        return ()
    return tuple(found.items())


def _nothing() -> float:
    return 0.0
