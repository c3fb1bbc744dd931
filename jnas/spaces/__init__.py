"""What can be searched: spaces, their candidates, and genotypes in readable forms.

Nothing here needs JAX: a genotype can be read and written anywhere.
"""

from jnas.spaces.base import Space
from jnas.spaces.builtin import darts, darts_frc, darts_rnn, nasbench201
from jnas.spaces.cells import Cell, Edge
from jnas.spaces.genotypes import Genotype, genotype, genotype_names
from jnas.spaces.groups import Group
from jnas.spaces.registry import get, names, register
from jnas.spaces.robust import robust_darts

__all__ = [
    "Cell",
    "Edge",
    "Genotype",
    "Group",
    "Space",
    "darts",
    "darts_frc",
    "darts_rnn",
    "genotype",
    "genotype_names",
    "get",
    "names",
    "nasbench201",
    "register",
    "robust_darts",
]
