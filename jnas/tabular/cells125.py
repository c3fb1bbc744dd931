"""The space of 125 cells; its table follows."""

import functools

from jnas import spaces
from jnas.spaces import text


@functools.cache
def cells125_space() -> spaces.Space:
    """TODO."""
    group = spaces.Group(
        name="cell",
        operations=text.NASBENCH201_OPERATIONS,
        edges=((0, 1), (0, 2), (1, 2)),
        inputs=1,
        concat=(2,),
    )
    return spaces.Space("cells125", (group,))
