"""Versions and device: what a number was measured with."""

import platform
from typing import Any

import numpy as np

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Versions and device, for the record.

    Returns:
      A dict of strings.

    Example:
      >>> sorted(environment())[:3]
      ['device', 'flax', 'jax']
    """
    import flax
    import jax
    import optax

    import jnas

    device = jax.devices()[0]
    return {
        "jnas": jnas.__version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "device": f"{device.platform}: {device.device_kind}",
        "machine": f"{platform.system()} {platform.machine()}",
    }
