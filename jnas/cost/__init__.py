"""Exact parameter and multiply-add counts, also as functions of a mixture.

``count`` gives the cost of one final network by formula, ``count_genes`` that of many
candidates at once, ``operation_costs`` a table by cell, edge and operation whose
``expected`` cost under a mixture is differentiable.
"""

from jnas.cost.count import count, num_parameters
from jnas.cost.operations import Cost, operation_cost, operation_names
from jnas.cost.table import (
    CostTable,
    count_genes,
    operation_costs,
    supernet_parameters,
)

__all__ = [
    "Cost",
    "CostTable",
    "count",
    "count_genes",
    "num_parameters",
    "operation_cost",
    "operation_costs",
    "operation_names",
    "supernet_parameters",
]
