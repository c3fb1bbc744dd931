"""Relaxations: from architecture parameters to mixtures, one file each."""

from jnas.relax.base import Relaxation
from jnas.relax.softmax import softmax

__all__ = ["Relaxation", "softmax"]
