"""Weight-sharing networks: the contract, mixed operations, cells, skeletons."""

from jnas.supernet.base import Supernet, Task, Variables, classification
from jnas.supernet.build import build
from jnas.supernet.mixed import Mixed, choosing, from_linen
from jnas.supernet.operations import operation_names, register_operation

__all__ = [
    "Mixed",
    "Supernet",
    "Task",
    "Variables",
    "build",
    "choosing",
    "classification",
    "from_linen",
    "operation_names",
    "register_operation",
]
