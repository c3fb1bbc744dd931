"""Benchmark tables as device arrays."""

from jnas.tabular.base import Column, Table, by_code
from jnas.tabular.classes201 import classes, connected
from jnas.tabular.nasbench201 import nasbench201

__all__ = ["Column", "Table", "by_code", "classes", "connected", "nasbench201"]
