"""Running: the loop that trains, with checkpoints, metrics, resume and signals."""

from jnas.run.loop import EpochInfo, LoopResult, loop
from jnas.run.retraining import RetrainResult, retrain
from jnas.run.searching import SearchResult, search
from jnas.run.signals import Interrupted

__all__ = [
    "EpochInfo",
    "Interrupted",
    "LoopResult",
    "RetrainResult",
    "SearchResult",
    "loop",
    "retrain",
    "search",
]
