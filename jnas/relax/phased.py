"""Different relaxations in the two half-steps: Dong & Yang, SETN, ICCV 2019.

SETN trains the weights on uniform paths, so that candidates can be compared, and the
architecture through the softmax of all candidates.
"""

import jax

from jnas.errors import JnasError
from jnas.relax import base

__all__ = ["phased"]


def phased(weights: base.Relaxation, arch: base.Relaxation) -> base.Relaxation:
    """One relaxation where the weights learn, another where the architecture does.

    Args:
      weights: of the weight half-steps; it gets the arch of the other one, so it must
        take the same structure (all that have logits ``{group: [E, O]}`` do).
      arch: of the arch half-steps, of the initial arch and of the deterministic view.

    Returns:
      The relaxation.

    Raises:
      JnasError: from ``init``: ``weights`` can't sample from the other's arch.

    Example:
      >>> import jnas
      >>> space = jnas.spaces.nasbench201()
      >>> relaxation = phased(jnas.relax.uniform_path(), jnas.relax.softmax())
      >>> logits = relaxation.init(jax.random.key(0), space)
      >>> context = {"key": jax.random.key(1), "step": 0, "space": space}
      >>> [relaxation.sample(logits, phase=phase, **context).active is None
      ...  for phase in ("weights", "arch")]
      [False, True]

    References:
      Dong, Yang, One-Shot Neural Architecture Search via Self-Evaluated Template
      Network, ICCV 2019, https://arxiv.org/abs/1910.05733
    """

    def init(key, space):
        logits = arch.init(key, space)

        def weights_sample(logits, key):
            return weights.sample(logits, key=key, step=0, phase="weights", space=space)

        try:
            jax.eval_shape(weights_sample, logits, key)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise JnasError(
                "phased: the relaxation of the weights can't sample from the arch of "
                "the other one: take two of equal structure (all but edge_normalised "
                "have logits by group)"
            ) from error
        return logits

    def sample(logits, *, phase, **context):
        chosen = weights if phase == "weights" else arch
        return chosen.sample(logits, phase=phase, **context)

    return arch._replace(init=init, sample=sample)
