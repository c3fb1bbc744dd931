"""Running: the loop that trains, with checkpoints, metrics, resume and signals."""

from jnas.run.choosing import GridResult, grid
from jnas.run.evaluating import evaluate
from jnas.run.loop import EpochInfo, LoopResult, loop
from jnas.run.phases import Phases
from jnas.run.retraining import RetrainResult, retrain
from jnas.run.retraining_protocol import ProtocolResult, retrain_protocol
from jnas.run.searching import SearchResult, search
from jnas.run.seeding import SeedsResult
from jnas.run.signals import Interrupted
from jnas.run.staging import ProgressiveResult, progressive
from jnas.run.weights import Exported, load_weights, save_weights

__all__ = [
    "EpochInfo",
    "Exported",
    "GridResult",
    "Interrupted",
    "LoopResult",
    "Phases",
    "ProgressiveResult",
    "ProtocolResult",
    "RetrainResult",
    "SearchResult",
    "SeedsResult",
    "evaluate",
    "grid",
    "load_weights",
    "loop",
    "progressive",
    "retrain",
    "retrain_protocol",
    "save_weights",
    "search",
]
