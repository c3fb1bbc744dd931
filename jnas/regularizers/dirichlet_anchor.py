"""Distance of DrNAS' Dirichlet distribution from an anchor: Chen et al., ICLR 2021.

    strength * sum over edges of KL(Dir(beta) || Dir(anchor)),    beta = elu(alpha) + 1,

added to the loss of the architecture. It holds beta, whose size is how sure the
distribution is, near the anchor; 1 in the paper, where all mixtures are equally likely.

The authors' code has two settings: an L2 penalty on alpha through Adam's weight decay
of 1e-3 (its default; then leave this out), or this, with decay 0.
"""

import jax
import jax.numpy as jnp
from jax.scipy import special

from jnas.regularizers import base, checks
from jnas.relax.dirichlet import concentration

__all__ = ["dirichlet_anchor", "divergence"]


def divergence(
    beta: jax.Array, anchor: float, mask: jax.Array | None = None
) -> jax.Array:
    """KL(Dir(beta) || Dir(anchor, ..., anchor)) of every row.

    Args:
      beta: concentrations ``[E, O]``, positive.
      anchor: positive.
      mask: booleans ``[E, O]``: the entries that belong to the distribution; None: all.

    Returns:
      ``[E]``, at least 0 up to rounding.

    Example:
      >>> divergence(jnp.array([[1.0, 1.0, 1.0]]), 1.0).tolist()
      [0.0]
    """
    if mask is None:
        mask = jnp.ones(beta.shape, bool)
    # Entries outside are moved to a harmless place first: no gradient may be NaN.
    beta = jnp.where(mask, beta, 1.0)
    size = jnp.sum(mask, axis=-1).astype(beta.dtype)
    total = jnp.sum(jnp.where(mask, beta, 0.0), axis=-1)
    at = jnp.asarray(anchor, beta.dtype)
    each = (
        special.gammaln(at)
        - special.gammaln(beta)
        + (beta - at) * (special.digamma(beta) - special.digamma(total)[:, None])
    )
    each = jnp.sum(jnp.where(mask, each, 0.0), axis=-1)
    return each + special.gammaln(total) - special.gammaln(size * at)


def dirichlet_anchor(
    strength: checks.Scheduled = 1e-3, anchor: float = 1.0
) -> base.Regularizer:
    """Holds the concentrations of `relax.dirichlet` near an anchor.

    Args:
      strength: factor of the summed divergence; 1e-3 in the authors' code. A number or
        a function of the step; the number 0 gives `identity`.
      anchor: the concentration of every candidate in the anchor; positive.

    Returns:
      The regularizer; its state is ``{group: bool [E, O]}``, what edges can choose. It
      reads the logits of `relax.dirichlet`, also inside `relax.edge_normalised`.

    Raises:
      JnasError: an argument is out of range; ``init``: arch has no logits of the
        space's groups.

    Example:
      >>> import types, jnas
      >>> supernet = types.SimpleNamespace(space=jnas.spaces.nasbench201())
      >>> part, arch = dirichlet_anchor(), {"cell": jnp.zeros((6, 5))}
      >>> float(part.penalty(part.init(supernet, arch), arch=arch, phase="arch"))
      0.0

    References:
      Chen, Wang, Cheng, Tang, Hsieh, DrNAS: Dirichlet Neural Architecture Search, ICLR
      2021, https://arxiv.org/abs/2006.10355
    """
    checks.strength(strength)
    checks.number(anchor, "anchor", positive=True)
    if checks.is_zero(strength):
        return base.identity()

    def logits(arch, masks):
        return checks.logits(arch, masks, "dirichlet_anchor", "dirichlet")

    def init(supernet, arch, **context):
        del context
        masks = checks.choosable(supernet)
        logits(arch, masks)
        return masks

    def penalty(state, *, arch, phase, step=0, **context):
        del context
        if phase != "arch":
            return 0.0
        total = 0.0
        for name, alpha in logits(arch, state).items():
            total += jnp.sum(divergence(concentration(alpha), anchor, state[name]))
        return checks.value_at(strength, step) * total

    return base.Regularizer(init=init, penalty=penalty)
