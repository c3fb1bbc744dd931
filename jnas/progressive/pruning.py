"""What is left after a stage: Chen et al., P-DARTS, ICCV 2019, section 3.2.

Each edge keeps its most probable candidates; "none" counts like the others, as in the
authors' code. (That after the last stage "none" goes first, is the selector's matter:
it never selects "none" in their space.)
"""

import numpy as np

from jnas.errors import JnasError
from jnas.mixture import Mixture
from jnas.select import picking
from jnas.spaces import Space

__all__ = ["Candidates", "candidates_of", "strongest"]

Candidates = dict[str, list[list[str]]]


def strongest(space: Space, mixture: Mixture, keep: int) -> Candidates:
    """The most probable candidates of each edge.

    Args:
      space: the space of the stage.
      mixture: the deterministic view of its architecture.
      keep: how many each edge keeps; one with fewer keeps all of them.

    Returns:
      ``{group: [names of an edge's candidates, ...]}`` for `Space.restrict`, in the
      order of the operations. Of equals the first stay. An edge always keeps one that
      can be selected.

    Raises:
      JnasError: ``keep`` is not positive, or a weight is not finite.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> mixture = jnas.mixture.from_genotype(space, space.decode([3] * 6))
      >>> strongest(space, mixture, 2)["cell"][0]
      ['none', 'nor_conv_3x3']
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise JnasError(f"keep must be a whole number >= 1, got {keep!r}")
    found: Candidates = {}
    for group in space.groups:
        weights = picking.strengths(mixture, group)
        allowed, usable = group.allowed, space.selectable(group.name)
        found[group.name] = []
        for edge in range(group.num_edges):
            order = np.argsort(
                -np.where(allowed[edge], weights[edge], -np.inf), kind="stable"
            )
            order = [int(c) for c in order if allowed[edge, c]]
            left = order[:keep]
            if not any(usable[edge, c] for c in left):
                # Nothing that can be selected: the best of these takes the last place.
                left[-1:] = [c for c in order if usable[edge, c]][:1] or left[-1:]
            found[group.name].append([group.operations[c] for c in sorted(left)])
    return found


def candidates_of(space: Space) -> Candidates:
    """What each edge of a space can choose.

    Args:
      space: the space.

    Returns:
      As of `strongest`.

    Example:
      >>> import jnas
      >>> len(candidates_of(jnas.spaces.darts())["normal"][0])
      8
    """
    return {
        group.name: [
            list(names)
            for names in group.candidates or [group.operations] * group.num_edges
        ]
        for group in space.groups
    }
