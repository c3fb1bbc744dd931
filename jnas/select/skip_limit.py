"""Selection with few skip connections: Chen et al., P-DARTS, ICCV 2019, section 3.3.2.

While a cell has more skip connections than are let, the weakest of them gets the
strength zero and the cell is derived anew. Only the normal cell is limited, as in the
authors' code. Where the candidates leave nothing else to select, skips remain.
"""

from collections.abc import Sequence
from typing import Any

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.select import base, picking
from jnas.spaces import Genotype, Space, kinds
from jnas.spaces.groups import distinct_names

__all__ = ["skip_limit"]


def skip_limit(
    count: int = 2, group: str = "normal", exclude: Sequence[str] = ()
) -> base.Selector:
    """The strongest candidates, with a limit on skip connections.

    Args:
      count: the number of skip connections that the cell may have.
      group: name of the cell.
      exclude: operations that are not selected, as for ``argmax``.

    Returns:
      The selector.

    Raises:
      JnasError: an option is out of range; from ``select``, when there is no such
        group or a weight is not finite.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> mixture = jnas.mixture.from_genotype(space, space.decode([1] * 6))
      >>> str(skip_limit(4, "cell").select(None, mixture, space=space))[:25]
      '|none~0|+|none~0|skip_con'

    References:
      Chen, Xie, Wu, Tian, Progressive Differentiable Architecture Search, ICCV 2019,
      https://arxiv.org/abs/1904.12760
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise JnasError(f"count must be an integer >= 0, got {count!r}")
    exclude = distinct_names(exclude, "exclude")

    def select(arch: Any, mixture: Mixture, *, space: Space, **context) -> Genotype:
        del arch, context
        space.group(group)  # raises for an unknown name
        picking.check_excluded(exclude, space)
        picks = {}
        for each in space.groups:
            weights = picking.strengths(mixture, each).copy()
            zeroed: set[tuple[int, int]] = set()
            while True:
                found = picking.pick(weights, space, each, exclude=exclude)
                picks[each.name] = found
                skips = [
                    place for place in found if each.operations[place[1]] in kinds.SKIPS
                ]
                left = [place for place in sorted(skips) if place not in zeroed]
                if each.name != group or len(skips) <= count or not left:
                    break
                weakest = min(left, key=lambda place: weights[place])
                zeroed.add(weakest)
                weights[weakest] = 0.0
        return picking.genotype(space, picks)

    return base.Selector(select)
