"""Benchmark tables as device arrays."""

from jnas.tabular.base import Column, Table, by_code
from jnas.tabular.classes201 import classes, connected
from jnas.tabular.registry import get, names
from jnas.tabular.space101 import NasBench101Space, Spec
from jnas.tabular.table101 import nasbench101
from jnas.tabular.table125 import cells125, cells125_meta, cells125_space
from jnas.tabular.table201 import nasbench201

__all__ = [
    "Column",
    "NasBench101Space",
    "Spec",
    "Table",
    "by_code",
    "cells125",
    "cells125_meta",
    "cells125_space",
    "classes",
    "connected",
    "get",
    "names",
    "nasbench101",
    "nasbench201",
]
