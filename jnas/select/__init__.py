"""Selectors: from architecture parameters to a genotype."""

from jnas.select.argmax import argmax
from jnas.select.base import Selector

__all__ = ["Selector", "argmax"]
