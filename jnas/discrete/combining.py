"""Several objectives at once."""

import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.objective import Objective

__all__ = ["combined"]


def combined(*objectives: Objective, minimize: tuple[Objective, ...] = ()) -> Objective:
    """Scores candidates by several objectives over one space, as NSGA-II needs.

    Args:
      *objectives: what is maximised; the first one counts where one score must.
      minimize: what is minimised; its scores are told with the opposite sign.

    Returns:
      An objective with scores ``[n, M]``; its costs are those of the first one.

    Raises:
      JnasError: there are fewer than two, or their spaces differ.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> up = Objective(space, lambda g, k, f: (g.sum(-1) * 1.0, f), "sum")
      >>> combined(up, minimize=(up,))(jnp.ones((1, 6), jnp.int32)).tolist()
      [[6.0, -6.0]]
    """
    parts = [(one, 1.0) for one in objectives] + [(one, -1.0) for one in minimize]
    if len(parts) < 2 or not objectives:
        raise JnasError(
            "combined needs one objective to maximise and at least one more, got "
            f"{len(objectives)} and {len(minimize)} to minimise"
        )
    first = objectives[0]
    for one, _ in parts:
        if one.space != first.space:
            raise JnasError(
                f"{first.name} is over {first.space.name}, {one.name} over "
                f"{one.space.name}: combine objectives over one space"
            )

    def evaluate(genes, key, fidelity):
        found = [one.evaluate(genes, key, fidelity) for one, _ in parts]
        columns = [
            sign * jnp.asarray(scores)
            for (scores, _), (_, sign) in zip(found, parts, strict=True)
        ]
        return jnp.stack(columns, axis=-1), found[0][1]

    return first._replace(
        evaluate=evaluate,
        name=" and ".join("-" * (s < 0) + one.name for one, s in parts),
        score_unit="; ".join("-" * (s < 0) + one.score_unit for one, s in parts),
        traceable=all(one.traceable for one, _ in parts),
        config={"combined": [{**(one.config or {}), "sign": s} for one, s in parts]},
    )
