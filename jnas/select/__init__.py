"""Selectors: from architecture parameters to a genotype."""

from jnas.select.argmax import argmax
from jnas.select.base import Selector
from jnas.select.perturbation import perturbation
from jnas.select.sample import sample
from jnas.select.skip_limit import skip_limit
from jnas.select.threshold import threshold
from jnas.select.validated import validated

__all__ = [
    "Selector",
    "argmax",
    "perturbation",
    "sample",
    "skip_limit",
    "threshold",
    "validated",
]
