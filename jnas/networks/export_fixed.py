"""The source of the fixed reduction cell in exported modules of both styles."""

from jnas.networks import export_cells as parts
from jnas.supernet import fixed_reduction

__all__ = ["PLAN", "linen_cell", "most_paths", "nnx_cell"]

PLAN = parts.Plan((), (0, 1), ())  # both inputs are read; there are no edges


def most_paths(edges: int, is_fixed: bool) -> int:
    """How many factors of drop path a cell of a network needs at most.

    Args:
      edges: of the cells of the genotype at most.
      is_fixed: whether the reduction cells are fixed.

    Returns:
      The number.

    Example:
      >>> most_paths(2, True), most_paths(8, True)
      (4, 8)
    """
    return max(edges, fixed_reduction.PATHS) if is_fixed else edges


def linen_cell(drop_path: bool) -> str:
    """Writes the cell in Linen.

    Args:
      drop_path: whether training can drop paths.

    Returns:
      The source.

    Example:
      >>> "GroupedHalving" in linen_cell(False)
      True
    """
    terms = [f'GroupedHalving(c, name="halving{i}")(s{i}, train)' for i in (0, 1)]
    terms += [f'BatchNorm(name="pool{i}")(max_pool(s{i}, 2), train)' for i in (0, 1)]
    lines = [
        "class ReductionCell(nn.Module):",
        '    """The fixed cell of GDAS (FRC), between the two before it and the next.',
        "",
        "    Attributes:",
        "      channels: of each state.",
        "      halve: whether state 0 has twice the size of state 1.",
        '    """',
        "",
        "    channels: int",
        "    halve: bool",
        "",
        "    @nn.compact",
        f"    def __call__(self, s0, s1, train{', scales' * drop_path}):",
        '        """Halves the image."""',
        "        c = self.channels",
        "        if self.halve:",
        '            s0 = FactorizedReduce(c, name="preprocess0")(s0, train)',
        "        else:",
        '            s0 = ReluConvNorm(c, name="preprocess0")(s0, train)',
        '        s1 = ReluConvNorm(c, name="preprocess1")(s1, train)',
    ]
    return "\n".join([*lines, *_joined(terms, drop_path)]) + "\n\n\n"


def nnx_cell(drop_path: bool) -> str:
    """Writes the cell in NNX.

    Args:
      drop_path: whether training can drop paths.

    Returns:
      The source.

    Example:
      >>> "scales" in nnx_cell(False), "scales" in nnx_cell(True)
      (False, True)
    """
    terms = [f"self.halving{i}(s{i})" for i in (0, 1)]
    terms += [f"self.pool{i}(max_pool(s{i}, 2))" for i in (0, 1)]
    lines = [
        "class ReductionCell(nnx.Module):",
        '    """The fixed cell of GDAS (FRC), between the two before it and the next.',
        "",
        "    Args:",
        "      before: channels of the output of the cell before the last.",
        "      last: channels of the last cell's output.",
        "      channels: of each state.",
        "      halve: whether state 0 has twice the size of state 1.",
        "      rngs: for the initial values.",
        '    """',
        "",
        f"    outputs = {fixed_reduction.PATHS}  # states that are concatenated",
        "",
        "    def __init__(self, before, last, channels, halve, *, rngs):",
        "        c = channels",
        "        kind = FactorizedReduce if halve else ReluConvNorm",
        "        self.preprocess0 = kind(before, c, rngs=rngs)",
        "        self.preprocess1 = ReluConvNorm(last, c, rngs=rngs)",
        *(f"        self.halving{i} = GroupedHalving(c, rngs=rngs)" for i in (0, 1)),
        *(f"        self.pool{i} = BatchNorm(c)" for i in (0, 1)),
        "",
        f"    def __call__(self, s0, s1{', scales' * drop_path}):",
        '        """Halves the image."""',
        "        s0, s1 = self.preprocess0(s0), self.preprocess1(s1)",
    ]
    return "\n".join([*lines, *_joined(terms, drop_path)]) + "\n\n\n"


def _joined(terms: list[str], drop_path: bool) -> list[str]:
    """The lines that evaluate the terms and concatenate them."""
    lines = [
        f"        x{i} = {parts.drop(term, i, drop_path)}"
        for i, term in enumerate(terms)
    ]
    return [*lines, "        return jnp.concatenate([x0, x1, x2, x3], axis=-1)"]
