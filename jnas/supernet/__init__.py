"""Weight-sharing networks: the contract, mixed operations, cells, skeletons."""

from jnas.supernet.base import Supernet, Task, Variables, classification
from jnas.supernet.build import build
from jnas.supernet.operations import operation_names, register_operation

__all__ = [
    "Supernet",
    "Task",
    "Variables",
    "build",
    "classification",
    "operation_names",
    "register_operation",
]
