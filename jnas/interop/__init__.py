"""Checkpoints of the papers' PyTorch code, loaded and exported; torch is not needed."""

from jnas.interop.darts import arch_from_darts, from_darts, to_darts
from jnas.interop.nasbench201 import (
    arch_from_nasbench201,
    from_nasbench201,
    to_nasbench201,
)

__all__ = [
    "arch_from_darts",
    "arch_from_nasbench201",
    "from_darts",
    "from_nasbench201",
    "to_darts",
    "to_nasbench201",
]
