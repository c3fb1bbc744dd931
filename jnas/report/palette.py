"""One colour for each family of operations, the same in every picture.

The colours are those of Okabe and Ito, Color Universal Design, 2008: told apart with
every kind of colour blindness. Operations are also labelled by name.
"""

import re

__all__ = ["GREY", "GROUPS", "INK", "color", "family"]

INK = "#222222"
GREY = "#8A8A8A"
# of networks or groups of runs, in their order
GROUPS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")

_COLORS = {
    "none": GREY,
    "noise": GREY,
    "skip_connect": "#D55E00",
    "max_pool": "#E69F00",
    "avg_pool": "#CC79A7",
    "sep_conv": "#0072B2",
    "dil_conv": "#009E73",
    "nor_conv": "#0072B2",
    "conv": "#56B4E9",
}


def family(operation: str) -> str:
    """The name of an operation without its kernel sizes.

    Args:
      operation: name of an operation.

    Returns:
      The name of its family.

    Example:
      >>> family("sep_conv_3x3"), family("conv_7x1_1x7"), family("none")
      ('sep_conv', 'conv', 'none')
    """
    return re.sub(r"(_\d+x\d+)+$", "", operation)


def color(operation: str) -> str:
    """The colour of an operation's family, black for families not known.

    Args:
      operation: name of an operation.

    Returns:
      A colour in hexadecimal.

    Example:
      >>> color("sep_conv_3x3") == color("sep_conv_5x5")
      True
    """
    return _COLORS.get(family(operation), "#000000")
