"""Progressive search: stages of deeper networks with fewer candidates, as data."""

from jnas.progressive.base import Progressive, Stage
from jnas.progressive.pruning import Candidates, candidates_of, strongest
from jnas.progressive.widening import widen

__all__ = [
    "Candidates",
    "Progressive",
    "Stage",
    "candidates_of",
    "strongest",
    "widen",
]
