"""What removals cost: Wang et al., DARTS-PT, ICLR 2021.

The weight of a candidate says little of what it is worth. Here an operation's strength
is what its removal costs: the supernet is evaluated on validation data with one entry
of the mixture set to 0 (the rest is not renormalised), and the operation whose removal
hurts most is kept. Topology likewise: of a node's edges those are dropped whose removal
hurts least.

`regularizers.projection` does this while a search goes on and tunes the supernet in
between, as the paper does; `select.perturbation` selects from a finished one.

Quirks kept from the authors' code: of equal operations the first is chosen, of equal
edges the last is dropped; and edges that are dropped stay in the evaluations of the
later ones of their node, so that one ranking decides (``sequential`` zeroes them).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jnas.errors import JnasError, unknown_name
from jnas.mixture import Mixture, over_cells
from jnas.select.decisions import Decisions, apply
from jnas.spaces import Group, Space

__all__ = [
    "Evaluate",
    "Measured",
    "check_space",
    "decide_node",
    "decide_operation",
    "edge_losses",
    "nodes_to_thin",
    "operation_losses",
    "score",
    "without",
]

Evaluate = Callable[[Mixture], Mapping[str, Any]]


class Measured(NamedTuple):
    """What was measured when one edge was decided.

    Attributes:
      magnitude: float ``[O]``, weights of the mixture then.
      strength: float ``[O]``, by how much the metric got worse without each operation;
        NaN for what was not measured.
    """

    magnitude: np.ndarray
    strength: np.ndarray


def without(
    mixture: Mixture, group: str, edge: int, operation: int | None = None
) -> Mixture:
    """A mixture with one operation of an edge removed, or the edge.

    Args:
      mixture: any with all its candidates active.
      group: the group's name.
      edge: the edge.
      operation: its column; None: all of them.

    Returns:
      The mixture with 0 there; nothing is renormalised.

    Example:
      >>> import jnas
      >>> uniform = jnas.mixture.uniform(jnas.spaces.nasbench201())
      >>> float(without(uniform, "cell", 0, 1).weights["cell"][0].sum())
      0.800000011920929
    """
    weights = np.array(mixture.weights[group])
    columns = slice(None) if operation is None else operation
    weights[..., edge, columns] = 0
    changed = mixture._replace(weights={**mixture.weights, group: weights})
    if operation is None and mixture.edges is not None:
        edges = np.array(mixture.edges[group])
        edges[edge] = 0
        changed = changed._replace(edges={**mixture.edges, group: edges})
    return changed


def score(result: Mapping[str, Any], metric: str | None) -> float:
    """What is to be as large as possible.

    Args:
      result: of an ``evaluate``.
      metric: its entry; the smaller a "loss" the better. None: "accuracy" if there is
        one, else "loss".

    Returns:
      The value, negated if it is a loss.

    Raises:
      JnasError: there is no such entry.

    Example:
      >>> score({"loss": 0.5, "accuracy": 0.75}, None), score({"loss": 0.5}, None)
      (0.75, -0.5)
    """
    return float(_scores(result, metric))


def operation_losses(
    mixture: Mixture, space: Space, group: str, edge: int, evaluate: Evaluate
) -> dict[str, np.ndarray]:
    """What remains without each operation of an edge.

    Args:
      mixture: what is evaluated otherwise.
      space: its space.
      group: the group's name.
      edge: the edge.
      evaluate: ``(mixture) -> metrics`` on validation data.

    Returns:
      ``{metric: float64 [O]}``, NaN where the edge has no such candidate.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> skips = lambda mixture: {"loss": mixture.weights["cell"][:, 1].sum()}
      >>> uniform = jnas.mixture.uniform(space)
      >>> losses = operation_losses(uniform, space, "cell", 0, skips)["loss"]
      >>> losses.round(3).tolist()
      [1.2, 1.0, 1.2, 1.2, 1.2]
    """
    group_ = space.group(group)
    columns = np.flatnonzero(group_.allowed[edge]).tolist()
    results = {c: evaluate(without(mixture, group, edge, c)) for c in columns}
    return _table(results, group_.num_operations)


def edge_losses(
    mixture: Mixture, space: Space, group: str, edges: list[int], evaluate: Evaluate
) -> dict[str, np.ndarray]:
    """What remains without each of some edges.

    Args:
      mixture: what is evaluated otherwise.
      space: its space.
      group: the group's name.
      edges: which.
      evaluate: ``(mixture) -> metrics`` on validation data.

    Returns:
      ``{metric: float64 [E]}``, NaN for edges that are not among them.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> total = lambda mixture: {"loss": mixture.weights["cell"].sum()}
      >>> uniform = jnas.mixture.uniform(space)
      >>> edge_losses(uniform, space, "cell", [3], total)["loss"].round(2).tolist()
      [nan, nan, nan, 5.0, nan, nan]
    """
    results = {edge: evaluate(without(mixture, group, edge)) for edge in edges}
    return _table(results, space.group(group).num_edges)


def decide_operation(
    decisions: Decisions,
    mixture: Mixture,
    space: Space,
    group: str,
    edge: int,
    evaluate: Evaluate,
    metric: str | None = None,
) -> tuple[Decisions, Measured]:
    """Decides an edge for the operation whose removal hurts most.

    Args:
      decisions: those before.
      mixture: the deterministic view, decisions or not.
      space: the space.
      group: the group's name.
      edge: the edge.
      evaluate: ``(mixture) -> metrics`` on validation data.
      metric: see `score`.

    Returns:
      The decisions and what was measured; the first of equal operations is chosen.

    Raises:
      JnasError: no measured value is finite.

    Example:
      >>> import jnas
      >>> from jnas.select.decisions import nothing
      >>> space = jnas.spaces.nasbench201()
      >>> needs = lambda mixture: {"accuracy": mixture.weights["cell"][0, 3]}
      >>> uniform = jnas.mixture.uniform(space)
      >>> decided, _ = decide_operation(
      ...     nothing(space), uniform, space, "cell", 0, needs)
      >>> int(decided.chosen["cell"][0])
      3
    """
    now = apply(decisions, mixture)
    losses = operation_losses(now, space, group, edge, evaluate)
    left = _scores(losses, metric)
    mask = (space.group(group).allowed & space.selectable(group))[edge]
    if not np.isfinite(left[mask]).any():
        raise JnasError(
            f"no evaluation without an operation of {group} edge "
            f"{space.group(group).edge_names[edge]} is finite: the search diverged"
        )
    best = int(np.argmin(np.where(mask & np.isfinite(left), left, np.inf)))
    magnitude = over_cells(now, group)[edge]
    strength = score(evaluate(now), metric) - left
    return decisions.choose(group, edge, best), Measured(magnitude, strength)


def decide_node(
    decisions: Decisions,
    mixture: Mixture,
    space: Space,
    group: str,
    node: int,
    evaluate: Evaluate,
    metric: str | None = None,
    *,
    sequential: bool = False,
) -> Decisions:
    """Drops edges of a node until it has as many as the space keeps.

    Args:
      decisions: those before.
      mixture: the deterministic view.
      space: the space.
      group: the group's name.
      node: the node.
      evaluate: ``(mixture) -> metrics`` on validation data.
      metric: see `score`.
      sequential: whether each edge is removed from the evaluations of the next, as the
        paper says; else one ranking decides, as in the authors' code.

    Returns:
      The decisions; the last of equal edges is dropped.

    Example:
      >>> import jnas
      >>> from jnas.select.decisions import nothing
      >>> space = jnas.spaces.darts()
      >>> first = lambda mixture: {"loss": -mixture.weights["normal"][2:4].sum()}
      >>> uniform = jnas.mixture.uniform(space)
      >>> decided = decide_node(nothing(space), uniform, space, "normal", 3, first)
      >>> decided.kept["normal"][2:5].tolist()
      [True, True, False]
    """
    group_ = space.group(group)
    kept = [e for e in group_.incoming(node) if bool(decisions.kept[group][e])]
    left = None
    while space.keep is not None and len(kept) > space.keep:
        if left is None or sequential:
            now = apply(decisions, mixture)
            left = _scores(edge_losses(now, space, group, kept, evaluate), metric)
        # Those that are not finite are the first to go.
        values = [np.inf if not np.isfinite(left[e]) else left[e] for e in kept]
        worst = kept[len(kept) - 1 - int(np.argmax(values[::-1]))]
        decisions = decisions.drop(group, [worst])
        kept.remove(worst)
    return decisions


def nodes_to_thin(space: Space, group: Group) -> list[int]:
    """The nodes with more incoming edges than the space keeps.

    Args:
      space: the space.
      group: one of its groups.

    Returns:
      The nodes, ascending.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.darts()
      >>> nodes_to_thin(space, space.group("normal"))
      [3, 4, 5]
    """
    if space.keep is None:
        return []
    return [n for n in group.nodes if len(group.incoming(n)) > space.keep]


def check_space(space: Space) -> None:
    """Raises unless every edge of a space must have an operation.

    Args:
      space: the space.

    Raises:
      JnasError: its edges are optional.

    Example:
      >>> import jnas
      >>> check_space(jnas.spaces.darts())
    """
    if space.optional:
        raise JnasError(
            f"space {space.name!r} may leave edges out, which decisions edge by edge "
            "can't: use a space whose edges are not optional"
        )


def _scores(found: Mapping[str, Any], metric: str | None) -> Any:
    """What was found of a metric, negated if it is a loss."""
    name = metric or ("accuracy" if "accuracy" in found else "loss")
    if name not in found:
        raise unknown_name("metric of evaluate", name, found)
    return -found[name] if name == "loss" else found[name]


def _table(results: dict[int, Mapping[str, Any]], size: int) -> dict[str, np.ndarray]:
    """Results by place as one array for each metric."""
    columns: dict[str, np.ndarray] = {}
    for place, result in results.items():
        for name, value in result.items():
            columns.setdefault(name, np.full(size, np.nan))[place] = float(value)
    return columns
