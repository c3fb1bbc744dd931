"""Mixup (Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, eq. 1).

Each image is blended with another one of its batch, ``s x + (1 - s) x'``, and the loss
with it, ``s L(y) + (1 - s) L(y')``; for the cross-entropy that is the loss at the
blended labels. As in the authors' code one share ``s ~ Beta(a, a)`` serves the whole
batch, and the partners are a permutation of it.

Shape letters: `B` batch.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jnas.errors import JnasError
from jnas.supernet import base

__all__ = ["mix", "mixed"]


def mix(key: jax.Array, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
    """Blends the images of a batch with each other.

    Args:
      key: typed key; consumed.
      batch: ``{"image": [B, ...], "label": int [B]}``.
      alpha: parameter of the Beta distribution, positive; small ones blend little.

    Returns:
      The batch with blended images, the partners' labels as "partner", and the share
      of an image's own label as "share".

    Raises:
      JnasError: the batch holds no images.

    Example:
      >>> batch = {"image": jnp.ones((2, 8, 8, 1)), "label": jnp.array([0, 1])}
      >>> sorted(mix(jax.random.key(0), batch, 0.2))
      ['image', 'label', 'partner', 'share']
    """
    if not {"image", "label"} <= set(batch):
        raise JnasError(
            "mixup blends images and labels, but the batch holds "
            f"{sorted(batch)}: use mixup=0"
        )
    share_key, order_key = jax.random.split(key)
    image, label = jnp.asarray(batch["image"]), jnp.asarray(batch["label"])
    wide = jnp.promote_types(image.dtype, jnp.float32)
    share = jax.random.beta(share_key, alpha, alpha, dtype=wide)
    order = jax.random.permutation(order_key, len(label))
    blended = share * image.astype(wide) + (1 - share) * image[order].astype(wide)
    return {
        **batch,
        "image": blended.astype(image.dtype),
        "partner": label[order],
        "share": share,
    }


def mixed(task: base.Task) -> base.Task:
    """The task on blended batches.

    Args:
      task: the task on plain ones.

    Returns:
      The task whose loss is blended likewise. Its metrics are those of the labels with
      the larger share, so that an accuracy can still be 1.

    Example:
      >>> task = mixed(base.classification())
      >>> batch = {"label": jnp.array([0]), "partner": jnp.array([1]), "share": 0.75}
      >>> loss, metrics = task.loss(jnp.array([[0.0, 4.0]]), batch)
      >>> round(float(loss), 4), float(metrics["accuracy"])
      (3.0181, 0.0)
    """

    def loss(outputs, batch):
        share = batch["share"]
        own, metrics = task.loss(outputs, batch)
        other, others = task.loss(outputs, {**batch, "label": batch["partner"]})
        metrics = jax.tree.map(
            lambda a, b: jnp.where(share >= 0.5, a, b), metrics, others
        )
        return share * own + (1 - share) * other, metrics

    return task._replace(loss=loss)
