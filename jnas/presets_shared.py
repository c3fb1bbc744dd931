"""What presets share: checks, and the learning rate of short searches."""

from jnas.errors import JnasError

__all__ = ["PUBLISHED_STEPS", "check_rates", "scaled_arch_rate"]

# The published arch learning rate belongs to this many steps: 50 epochs of 25,000
# images in batches of 64 (Liu et al., ICLR 2019, appendix A.1.1).
PUBLISHED_STEPS = 50 * 391
_PUBLISHED_ARCH_RATE = 3e-4
_MAX_ARCH_RATE = 0.02


def scaled_arch_rate(steps: int, published_steps: int = PUBLISHED_STEPS) -> float:
    """The arch learning rate for a search of ``steps`` steps.

    Adam moves alpha by about its learning rate a step, so a short search at the
    published 3e-4 ends where it began. The rate is scaled so that steps x rate stays
    what it was in the paper, at most 0.02.

    Args:
      steps: arch steps of the whole search.
      published_steps: those of the paper's search.

    Returns:
      The learning rate, 3e-4 at the published number of steps or more.

    Example:
      >>> scaled_arch_rate(19550), scaled_arch_rate(100)
      (0.0003, 0.02)
    """
    scaled = _PUBLISHED_ARCH_RATE * published_steps / max(steps, 1)
    return min(_MAX_ARCH_RATE, max(_PUBLISHED_ARCH_RATE, scaled))


def check_rates(learning_rate: float, arch_learning_rate: float | None) -> None:
    """Raises unless the learning rates are positive.

    Args:
      learning_rate: of the weights.
      arch_learning_rate: of arch; None is fine.

    Raises:
      JnasError: names the one that is not.

    Example:
      >>> check_rates(0.025, None)
    """
    for name, value in (
        ("learning_rate", learning_rate),
        ("arch_learning_rate", arch_learning_rate),
    ):
        if value is not None and not value > 0:
            raise JnasError(f"{name} must be positive, got {value!r}")
