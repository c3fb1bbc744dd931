"""Benchmark tables as device arrays."""

from jnas.tabular.base import Column, Table, by_code
from jnas.tabular.cells125 import cells125_space

__all__ = ["Column", "Table", "by_code", "cells125_space"]
