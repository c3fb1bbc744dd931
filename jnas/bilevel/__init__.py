"""Hypergradients: how arch is differentiated through the weights' response."""

from jnas.bilevel.base import Hypergradient, LossFn
from jnas.bilevel.first_order import first_order

__all__ = ["Hypergradient", "LossFn", "first_order"]
