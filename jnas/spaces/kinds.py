"""Operations that have nothing to learn, by kind: what collapsed searches choose.

A skip of stride 2 has weights, but is one of them in every paper on collapse.
"""

import re

__all__ = ["KINDS", "SKIPS", "kind"]

# Operations that pass their input on; a collapsed search selects little else.
SKIPS = ("skip_connect", "skip", "identity")
KINDS = {
    "skip": SKIPS,
    "pool": ("max_pool", "avg_pool"),
    "none": ("none",),
    "noise": ("noise",),
}


def kind(operation: str) -> str | None:
    """Which kind of operation without anything to learn one is.

    Args:
      operation: its name, which may end in a size.

    Returns:
      "skip", "pool", "none" or "noise"; None for all that learn.

    Example:
      >>> kind("avg_pool_3x3"), kind("identity"), kind("sep_conv_3x3")
      ('pool', 'skip', None)
    """
    plain = re.sub(r"_\dx\d$", "", operation)
    return next((kind for kind, names in KINDS.items() if plain in names), None)
