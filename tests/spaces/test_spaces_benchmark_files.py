"""Against real files, where the variable JNAS_DATA names a folder that holds them."""

import gzip
import json
import os
import pathlib

import numpy as np
import pytest

from jnas import spaces
from jnas.spaces import Genotype


def data_file(name: str) -> pathlib.Path:
    folder = os.environ.get("JNAS_DATA")
    if not folder:
        pytest.skip("JNAS_DATA is not set: it names the folder of benchmark files")
    path = pathlib.Path(folder) / name
    if not path.is_file():
        pytest.skip(f"JNAS_DATA has no {name}")
    return path


def published() -> dict[str, dict]:
    with gzip.open(data_file("darts_genotypes.json.gz"), "rt") as file:
        return {
            name: entry["genotype"]
            for name, entry in json.load(file)["genotypes"].items()
        }


def as_text(entry: dict) -> str:
    fields = []
    for name in ("normal", "reduce"):
        edges = [(operation, source) for operation, source in entry[name]]
        fields.append(f"{name}={edges}, {name}_concat={entry[f'{name}_concat']}")
    return f"Genotype({', '.join(fields)})"


def test_published_darts_genotypes_round_trip():
    space = spaces.darts()
    entries = published()
    assert len(entries) == 193
    inside = 0
    for name, entry in entries.items():
        genotype = Genotype.from_text(as_text(entry))
        assert str(genotype).startswith("Genotype("), name
        assert Genotype.from_text(str(genotype)) == genotype, name
        assert Genotype.from_json(genotype.to_json()) == genotype, name
        for cell in ("normal", "reduce"):
            listed = [[edge.operation, edge.source] for edge in genotype[cell].edges]
            assert listed == entry[cell], name
            assert list(genotype[cell].concat) == entry[f"{cell}_concat"], name
        operations = {edge.operation for _, c in genotype.cells for edge in c.edges}
        plain = len(entry["normal"]) == 8 and not operations & {"none", "noise"}
        if not plain:
            with pytest.raises(ValueError, match="not in space 'darts'"):
                space.encode(genotype)
            continue
        inside += 1
        again = space.decode(space.encode(genotype))
        for cell in ("normal", "reduce"):
            assert sorted(again[cell].edges) == sorted(genotype[cell].edges), name
    assert inside > 170


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("DARTS_V1", "DARTS_V1"),
        ("DARTS_V2", "DARTS_V2"),
        ("NASNet", "NASNet"),
        ("AmoebaNet", "AmoebaNet"),
        ("PC_DARTS", "PC_DARTS_cifar"),
        ("PDARTS", "PDARTS"),
    ],
)
def test_shipped_genotypes_are_the_published_ones(name, entry):
    assert spaces.genotype(name) == Genotype.from_text(as_text(published()[entry]))


def test_nasbench201_rows_are_genes():
    space = spaces.nasbench201()
    with np.load(data_file("nasbench201.npz"), allow_pickle=False) as table:
        rows, names, edges = table["ops"], table["op_names"], table["edges"]
    group = space.group("cell")
    assert group.operations == tuple(names.tolist())
    assert group.edges == tuple(map(tuple, edges.tolist()))
    assert space.valid(rows).all() and len(np.unique(rows, axis=0)) == space.size
    for row in rows:
        first, *rest = (f"{names[o]}~{e[0]}" for o, e in zip(row, edges, strict=True))
        text = f"|{first}|+|{'|'.join(rest[:2])}|+|{'|'.join(rest[2:])}|"
        assert str(space.decode(row)) == text
        np.testing.assert_array_equal(space.encode(Genotype.from_text(text)), row)
