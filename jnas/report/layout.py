"""Where the states, edges and labels of a drawn cell go; knows nothing of matplotlib.

States stand in columns from left to right: the inputs together in the first, then one
node per column, then the output. An edge leaves its source to the right, bends into a
horizontal lane above or below the row of nodes, and bends down to its target. Two
edges never share a lane above the same gap between columns, and labels stand where
no edge bends, in the gap just before the target. So labels can't overlap, whatever
the genotype.

Unit: inches at the natural size of the drawing.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jnas import spaces

__all__ = [
    "Layout",
    "Route",
    "State",
    "arrange",
    "drawn_states",
    "num_inputs",
    "state_names",
]

LANE = 0.30  # distance of lanes: a line of text and air
NODE = (0.36, 0.34)  # width and height of a node's box
WIDE = 0.52  # width of the boxes of inputs and output
_BEND = 0.30  # length over which an edge changes its height
_AIR = -0.02  # beside a label: bends are nearly flat where they end
_PORTS = 0.9  # part of a box's height over which its edges spread
_MARGIN = 0.12
_WRONG_SIDE = 4.0  # lanes further out that an edge goes to stay on its side


class State(NamedTuple):
    """The box of one state.

    Attributes:
      name: the text in it.
      x: centre.
      y: centre.
      width: full width; the height is that of every box.

    Example:
      >>> State("0", 1.0, 0.0, 0.4).name
      '0'
    """

    name: str
    x: float
    y: float
    width: float


class Route(NamedTuple):
    """The course of one edge.

    Attributes:
      start: where it leaves its source.
      bend_out: where it reaches its lane.
      bend_in: where it leaves its lane.
      end: where it reaches its target.
      label: centre of its label.

    Example:
      >>> Route((0, 0), (1, 1), (2, 1), (3, 0), (1.5, 1)).label
      (1.5, 1)
    """

    start: tuple[float, float]
    bend_out: tuple[float, float]
    bend_in: tuple[float, float]
    end: tuple[float, float]
    label: tuple[float, float]


class Layout(NamedTuple):
    """A cell, arranged.

    Attributes:
      states: boxes; the last one may be an output that is no state of the cell.
      routes: one for each edge of the cell, in its order.
      outputs: routes without labels, from concatenated states to the output.
      left: bounds of the drawing.
      bottom: bounds of the drawing.
      right: bounds of the drawing.
      top: bounds of the drawing.

    Example:
      >>> cell = spaces.Cell((spaces.Edge("none", 0, 1),), (1,))
      >>> [state.name for state in arrange(cell, label_width=0.5).states]
      ['in', 'out']
    """

    states: tuple[State, ...]
    routes: tuple[Route, ...]
    outputs: tuple[Route, ...]
    left: float
    bottom: float
    right: float
    top: float


def num_inputs(cell: spaces.Cell, name: str) -> int:
    """How many inputs a cell of a genotype has.

    Args:
      cell: the cell.
      name: its name; "normal" and "reduce" have two inputs.

    Returns:
      The number. Of other cells, the states before the first target are inputs,
      without those at their end that nothing reads (nodes without edges).

    Example:
      >>> num_inputs(spaces.Cell((spaces.Edge("none", 0, 2),), (2,)), "cell")
      1
    """
    first = min(edge.target for edge in cell.edges)
    if name in ("normal", "reduce") and first >= 2:
        return 2
    read = {edge.source for edge in cell.edges} | set(cell.concat)
    return 1 + max((state for state in read if state < first), default=0)


def drawn_states(cell: spaces.Cell, inputs: int) -> list[int]:
    """The states of a cell without nodes that have no edges.

    Args:
      cell: the cell.
      inputs: number of its inputs.

    Returns:
      The states, in order.

    Example:
      >>> edges = (spaces.Edge("skip", 0, 2), spaces.Edge("skip", 1, 4))
      >>> drawn_states(spaces.Cell(edges, (2, 4)), 2)
      [0, 1, 2, 4]
    """
    found = {*range(inputs), *cell.concat}
    for edge in cell.edges:
        found |= {edge.source, edge.target}
    return sorted(found)


def state_names(cell: spaces.Cell, inputs: int | None = None) -> tuple[list[str], bool]:
    """Names the states of a cell as papers do.

    Args:
      cell: the cell.
      inputs: number of its inputs; by default, the states before its first target.

    Returns:
      The names; whether the last one is an output box beside the cell's own states
      (not where the output is simply the last state).

    Example:
      >>> state_names(spaces.genotype("DARTS_V2")["normal"])
      (['c_{k-2}', 'c_{k-1}', '0', '1', '2', '3', 'c_{k}'], True)
    """
    last = max(edge.target for edge in cell.edges)
    inputs = _first_target(cell) if inputs is None else inputs
    if inputs == 2:
        names, output = ["c_{k-2}", "c_{k-1}"], "c_{k}"
    elif inputs == 1:
        names, output = ["in"], "out"
    else:
        names, output = [f"in {number}" for number in range(inputs)], "out"
    # papers number the nodes of a cell with one input like its states
    first = 1 if inputs == 1 else 0
    names += [str(first + number) for number in range(last + 1 - inputs)]
    if cell.concat == (last,):
        names[last] = output
        return names, False
    return [*names, output], True


def arrange(
    cell: spaces.Cell, *, label_width: float, inputs: int | None = None
) -> Layout:
    """Arranges a cell.

    Args:
      cell: the cell; nodes without edges are left out.
      label_width: width of the widest label.
      inputs: number of its inputs; by default, the states before its first target.

    Returns:
      The layout.

    Example:
      >>> cell = spaces.genotype("NASNet")["normal"]
      >>> len(arrange(cell, label_width=0.7).routes)
      10
    """
    inputs = _first_target(cell) if inputs is None else inputs
    names, has_output = state_names(cell, inputs)
    drawn = drawn_states(cell, inputs)
    names = [names[state] for state in drawn] + names[len(names) - has_output :]
    place = {state: number for number, state in enumerate(drawn)}
    columns = [max(0, state - inputs + 1) for state in range(len(names))]
    ends = [(place[edge.source], place[edge.target]) for edge in cell.edges]
    joins = [(place[state], len(drawn)) for state in cell.concat] if has_output else []
    lanes = _lanes(ends, joins, columns, inputs)

    boxes, left = [], 0.0
    for state, name in enumerate(names):
        width = WIDE if columns[state] in (0, columns[-1]) else NODE[0]
        if state and columns[state] != columns[state - 1]:
            # before an output box there are no labels
            last = has_output and state == len(names) - 1
            room = 2 * _AIR + label_width
            left = boxes[-1].x + boxes[-1].width / 2 + 2 * _BEND
            left += -_BEND / 2 if last else room
        y = ((inputs - 1) / 2 - state) * 3 * LANE if columns[state] == 0 else 0.0
        boxes.append(State(name, left + width / 2, y, width))

    starts = _ports(ends + joins, lanes, boxes, side=0)
    # lines of one concatenation meet in one point
    stops = _ports(ends, lanes, boxes, side=1)
    stops += [_port(boxes[target], 0.0, -1) for _, target in joins]
    routes = []
    for (_, target), lane, start, stop in zip(
        ends + joins, lanes, starts, stops, strict=True
    ):
        height = lane * LANE
        # the gap before an output box has no room for two full bends
        bend = min(_BEND, (stop[0] - start[0]) / 2)
        before = stop[0] - bend
        # the gap before the target begins after the column before it
        gap = max(
            box.x + box.width / 2
            for box, column in zip(boxes, columns, strict=True)
            if column < columns[target]
        )
        routes.append(
            Route(
                start,
                (start[0] + bend, height),
                (before, height),
                stop,
                ((gap + bend + before) / 2, height),
            )
        )
    heights = [lane * LANE for lane in lanes]
    edge = NODE[1] / 2
    return Layout(
        tuple(boxes),
        tuple(routes[: len(ends)]),
        tuple(routes[len(ends) :]),
        left=-_MARGIN,
        right=boxes[-1].x + boxes[-1].width / 2 + _MARGIN,
        bottom=min([*heights, *(box.y - edge for box in boxes)]) - _MARGIN,
        top=max([*heights, *(box.y + edge for box in boxes)]) + _MARGIN,
    )


def _first_target(cell: spaces.Cell) -> int:
    return min(edge.target for edge in cell.edges)


def _lanes(
    ends: Sequence[tuple[int, int]],
    joins: Sequence[tuple[int, int]],
    columns: Sequence[int],
    inputs: int,
) -> list[int]:
    """Gives each edge a lane that is free above all gaps that it crosses."""
    taken: set[tuple[int, int]] = set()
    lanes = {}

    def gaps(end: tuple[int, int]) -> range:
        return range(columns[end[0]], columns[end[1]])

    def best(needed: Sequence[int], side: int, *, centre: bool) -> int:
        if centre and (needed[0], 0) not in taken:
            return 0
        lane = min(
            (
                lane
                for size in range(1, len(ends) + 2)
                for lane in (size, -size)
                if not any((gap, lane) in taken for gap in needed)
            ),
            key=lambda lane: abs(lane) + _WRONG_SIDE * (lane * side < 0),
        )
        return lane

    # short edges go inside, long ones around them
    order = sorted(range(len(ends)), key=lambda index: len(gaps(ends[index])))
    for index in order:
        needed = gaps(ends[index])
        source = ends[index][0]
        # edges of upper inputs stay above, those of lower ones below
        side = inputs - 1 - 2 * source if source < inputs else 0
        lane = best(
            needed, side, centre=len(needed) == 1 and (inputs == 1 or needed[0] > 0)
        )
        lanes[index] = lane
        taken.update((gap, lane) for gap in needed)
    result = [lanes[index] for index in range(len(ends))]
    if joins:
        # one common lane, but for the last state, which is next to the output
        far = [end for end in joins if len(gaps(end)) > 1]
        needed = sorted(set(itertools.chain.from_iterable(map(gaps, far))))
        shared = best(needed, -1, centre=False) if far else 0
        result += [shared if len(gaps(end)) > 1 else 0 for end in joins]
    return result


def _ports(
    ends: Sequence[tuple[int, int]],
    lanes: Sequence[int],
    boxes: Sequence[State],
    *,
    side: int,
) -> list[tuple[float, float]]:
    """Spreads the edges of each box over its side in the order of their lanes."""
    points: list[tuple[float, float]] = [(0.0, 0.0)] * len(ends)
    for state, box in enumerate(boxes):
        mine = [index for index, end in enumerate(ends) if end[side] == state]
        heights = sorted({lanes[index] for index in mine})
        for index in mine:
            place = (heights.index(lanes[index]) + 1) / (len(heights) + 1) - 0.5
            points[index] = _port(box, place * _PORTS, 1 - 2 * side)
    return points


def _port(box: State, place: float, direction: int) -> tuple[float, float]:
    return box.x + direction * box.width / 2, box.y + place * NODE[1]
