"""Weight-sharing networks: the contract, mixed operations, cells, skeletons."""

from jnas.supernet.base import Supernet, Task, Variables, classification
from jnas.supernet.build import build
from jnas.supernet.language import language_modelling
from jnas.supernet.mixed import Mixed, choosing, from_linen
from jnas.supernet.operations import operation_names, register_operation
from jnas.supernet.recurrent import recurrent
from jnas.supernet.sequence import Dropouts, SequenceOutputs

__all__ = [
    "Dropouts",
    "Mixed",
    "SequenceOutputs",
    "Supernet",
    "Task",
    "Variables",
    "build",
    "choosing",
    "classification",
    "from_linen",
    "language_modelling",
    "operation_names",
    "recurrent",
    "register_operation",
]
