"""Readers of genotypes: any text gives a genotype or one clear line."""

import json

import pytest
from fuzz.damage import JSON, changed_json, damaged_text, edits, fuzz, result_or_error
from hypothesis import given
from hypothesis import strategies as st

from jnas import Genotype, spaces
from jnas.spaces import Cell, Edge

SPACES = {name: spaces.get(name) for name in spaces.names()}
TEXTS = [
    spaces.genotype("DARTS_V2").to_text(),
    spaces.genotype("DARTS_RNN_V1").to_text(),
    spaces.genotype("NASNet").to_json(),
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|none~2|",
]
# Words that the readers know, to get past their first checks.
WORDS = [
    *("Genotype(", "normal=", "recurrent=", "concat=", "range(", "[", "]", "(", ")"),
    *(",", "'sep_conv_3x3'", "'tanh'", "0", "1", "2", "-1", "|", "+", "~", "none"),
    *("{", "}", '"format"', ":", '"cells"', " ", "\n", "1e9", "9" * 20),
]
TOKENS = st.lists(st.sampled_from(WORDS), max_size=25).map("".join)


def check(text):
    for read in (Genotype.parse, Genotype.from_text, Genotype.from_json):
        found = result_or_error(read, text)
        if found is not None:
            assert isinstance(found, Genotype)
            # Whatever could be read can be written, and is the same again.
            assert Genotype.from_text(found.to_text()) == found
            assert Genotype.from_json(found.to_json()) == found


@fuzz(300)
@given(st.one_of(st.text(max_size=60), TOKENS))
def test_any_text(text):
    check(text)


@fuzz(300)
@given(st.sampled_from(TEXTS), edits)
def test_damaged_genotypes(text, edits):
    check(damaged_text(text, edits))


@fuzz(200)
@given(st.data())
def test_changed_json(data):
    whole = json.loads(spaces.genotype("DARTS_V2").to_json())
    check(json.dumps(data.draw(changed_json(whole))))


@fuzz(50)
@given(JSON)
def test_any_json(value):
    check(json.dumps(value))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "(" * 10_000])
def test_deep_nesting(text):
    check(text)


@fuzz(60)
@given(st.data())
def test_every_candidate_of_a_space_comes_back(data):
    space = SPACES[data.draw(st.sampled_from(sorted(SPACES)))]
    genes = [data.draw(st.integers(0, count - 1)) for count in space.genes]
    genotype = space.decode(genes)
    for text in (genotype.to_text(), genotype.to_json(), str(genotype)):
        assert Genotype.parse(text) == genotype
    assert space.encode(genotype).tolist() == genes


names = st.text(min_size=1, max_size=12)


@st.composite
def genotypes(draw):
    """Genotypes of no known space, with any names."""
    cells = []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        edges = [
            Edge(draw(names), source, draw(st.integers(source + 1, source + 4)))
            for source in draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
        ]
        targets = sorted({edge.target for edge in edges})
        cells.append((name, Cell(tuple(edges), tuple(targets))))
    return Genotype(draw(names), tuple(cells))


@fuzz(150)
@given(st.data())
def test_genotypes_of_any_names_come_back(data):
    genotype = result_or_error(data.draw, genotypes())
    if genotype is not None:
        assert Genotype.from_json(genotype.to_json()) == genotype
        assert Genotype.from_text(genotype.to_text()) == genotype
