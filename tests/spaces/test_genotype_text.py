"""Genotypes and their texts: round trips, and one clear line for every bad input."""

import hashlib
import json
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jnas import spaces
from jnas.errors import JnasError
from jnas.spaces import Cell, Edge, Genotype

quick = settings(deadline=None, derandomize=True, max_examples=100)

DARTS = spaces.genotype("DARTS_V2")
DARTS_TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), "
    "('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
RNN_TEXT = (
    "Genotype(recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3), "
    "('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)], concat=range(1, 9))"
)
RECURRENT = ("DARTS_RNN_V1", "DARTS_RNN_V2", "ENAS_RNN")
NB201_TEXT = (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
)


def one_line(call, *args) -> str:
    """Returns the message of the JnasError that the call must raise."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(JnasError) as caught:
            call(*args)
    assert not warned
    message = str(caught.value)
    assert message and message.isprintable() and len(message) < 600, message
    return message


def test_darts_text_is_the_published_one():
    assert str(DARTS) == DARTS_TEXT
    assert Genotype.from_text(DARTS_TEXT) == DARTS
    assert Genotype.from_text(DARTS_TEXT.replace(", ", ",\n   ")) == DARTS
    assert (
        Genotype.from_text(DARTS_TEXT.replace("range(2, 6)", "[2, 3, 4, 5]")) == DARTS
    )
    assert DARTS["normal"].edges[7] == Edge("dil_conv_3x3", 2, 5)
    assert DARTS["reduce"].concat == (2, 3, 4, 5)


def test_nasbench201_text_is_the_published_one():
    genotype = Genotype.from_text(f" {NB201_TEXT}\n")
    assert genotype.space == "nasbench201"
    assert genotype["cell"] == Cell(
        (
            Edge("nor_conv_3x3", 0, 1),
            Edge("none", 0, 2),
            Edge("skip_connect", 1, 2),
            Edge("avg_pool_3x3", 0, 3),
            Edge("nor_conv_1x1", 1, 3),
            Edge("none", 2, 3),
        ),
        (3,),
    )
    assert str(genotype) == NB201_TEXT


def test_json_schema():
    genotype = Genotype("mine", (("cell", Cell((Edge("a", 0, 1),), (1,))),))
    assert json.loads(genotype.to_json()) == {
        "format": 1,
        "space": "mine",
        "cells": {"cell": {"edges": [["a", 0, 1]], "concat": [1]}},
    }
    assert "\n" not in genotype.to_json()


# Start of the SHA-256 of each genotype's JSON, once compared with its source.
DIGESTS = {
    "DARTS_V1": "257e9cfce15cd1fa",
    "DARTS_V2": "3b032bcbfe4ada95",
    "NASNet": "a6c165106f16d55a",
    "AmoebaNet": "f702bb2d3352eb9e",
    "PC_DARTS": "1deee3097481aa50",
    "PDARTS": "4e24a95caa81bd30",
    "PNASNet5": "12830533311b5003",
    "DARTS_RNN_V1": "0ede57dd4157ec74",
    "DARTS_RNN_V2": "9e00f60eb6f6fdae",
    "ENAS_RNN": "8b22aeb93eb0047b",
}


def test_published_genotypes_are_as_once_checked():
    assert spaces.genotype_names() == tuple(DIGESTS)
    for name, digest in DIGESTS.items():
        content = spaces.genotype(name).to_json().encode()
        assert hashlib.sha256(content).hexdigest().startswith(digest), name


@pytest.mark.parametrize("name", RECURRENT)
def test_published_recurrent_cells_round_trip(name):
    genotype = spaces.genotype(name)
    assert genotype.space == "darts_rnn" and genotype.names == ("recurrent",)
    assert str(genotype).startswith("Genotype(recurrent=[(")
    for text in (str(genotype), genotype.to_json(), name, f"  {name}\n"):
        assert Genotype.parse(text) == genotype
    if name != "ENAS_RNN":
        space = spaces.darts_rnn()
        assert space.decode(space.encode(genotype)) == genotype


def test_recurrent_text_is_the_published_one():
    assert str(spaces.genotype("DARTS_RNN_V1")) == RNN_TEXT
    spaced = RNN_TEXT.replace(", ", ",\n  ").replace("Genotype(", "Genotype(\n  ")
    assert Genotype.parse(spaced) == spaces.genotype("DARTS_RNN_V1")
    # The authors' own order of fields, and theirs of ENAS.
    swapped = "Genotype(concat=[2, 1], recurrent=[('tanh', 0), ('relu', 0)])"
    assert Genotype.parse(swapped)["recurrent"].concat == (2, 1)
    enas = spaces.genotype("ENAS_RNN")
    assert str(enas).endswith("('relu', 8)], concat=[2, 5, 6, 9, 10, 11])")


@pytest.mark.parametrize("name", [n for n in DIGESTS if n not in RECURRENT])
def test_published_genotypes_round_trip(name):
    genotype = spaces.genotype(name)
    assert genotype.space == "darts" and genotype.names == ("normal", "reduce")
    assert str(genotype).startswith("Genotype(normal=[(")
    for text in (str(genotype), genotype.to_json(), name, f"  {name}\n"):
        assert Genotype.parse(text) == genotype
    nodes = 4 if "DARTS" in name else 5
    assert [len(genotype[cell].edges) for cell in genotype.names] == [2 * nodes] * 2
    assert hash(genotype) == hash(Genotype.parse(genotype.to_json()))


def test_complete_cells_are_read_as_such():
    """SNAS publishes all 14 edges of a cell, in the same form."""
    edges = [("none", source) for node in range(2, 6) for source in range(node)]
    text = f"Genotype(normal={edges}, normal_concat=range(2, 6), reduce={edges}, " + (
        "reduce_concat=range(2, 6))"
    )
    genotype = Genotype.from_text(text)
    assert [edge.target for edge in genotype["normal"].edges] == (
        [2] * 2 + [3] * 3 + [4] * 4 + [5] * 5
    )
    assert str(genotype) == text
    # Seven nodes of two edges happen to list the same sources; the concat tells.
    seven = text.replace("range(2, 6)", "range(2, 9)")
    assert [edge.target for edge in Genotype.from_text(seven)["normal"].edges] == [
        2 + i // 2 for i in range(14)
    ]


def test_lists_and_numpy_integers_become_hashable():
    edges = [["skip_connect", np.int64(0), np.int32(1)]]
    genotype = Genotype("mine", [["cell", [edges, [np.int8(1)]]]])  # type: ignore
    assert genotype == Genotype(
        "mine", (("cell", Cell((Edge("skip_connect", 0, 1),), (1,))),)
    )
    assert Genotype.from_text(str(genotype)) == genotype
    assert isinstance(genotype["cell"].edges[0], Edge)
    hash(genotype)
    assert "unknown cell 'cel'" in one_line(genotype.__getitem__, "cel")


# Quotes, brackets and the separators of every form, which must all survive.
NAMES = st.text("ab0_ é漢~|+'\"\\[({", min_size=1, max_size=6)


@st.composite
def genotypes(draw):
    """Any well-formed genotype, of any shape."""

    def edge():
        target = draw(st.integers(1, 9))
        return Edge(draw(NAMES), draw(st.integers(0, target - 1)), target)

    def cell():
        edges = tuple(edge() for _ in range(draw(st.integers(1, 6))))
        states = st.integers(0, max(e.target for e in edges))
        concat = draw(st.lists(states, min_size=1, max_size=4, unique=True))
        return Cell(edges, tuple(concat))

    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    space = draw(NAMES)
    return Genotype(space, tuple((name, cell()) for name in names))


@quick
@given(genotypes())
def test_any_genotype_round_trips(genotype):
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert genotype.to_text() == genotype.to_json() == str(genotype)
    assert Genotype.from_text(genotype.to_text()) == genotype
    assert Genotype.parse(genotype.to_text()) == genotype


@quick
@given(genotypes(), st.sampled_from(spaces.names()), st.randoms())
def test_any_shape_in_a_published_space_round_trips(genotype, space, random):
    """Cells that the published form can't tell fall back to JSON."""
    operations = spaces.get(space).groups[0].operations
    names = spaces.get(space).names
    cells = tuple(
        (
            name,
            Cell(
                tuple(e._replace(operation=random.choice(operations)) for e in c.edges),
                c.concat,
            ),
        )
        for name, c in ((n, genotype.cells[0][1]) for n in names)
    )
    moved = Genotype(space, cells)
    assert Genotype.parse(str(moved)) == moved


@quick
@given(
    st.text(max_size=60) | st.text("Genotype(nrmalduc=[]'0123, |~+{}\":", max_size=60)
)
def test_noise_is_a_clear_error(text):
    assume(text.strip() not in spaces.genotype_names())
    for read in (Genotype.parse, Genotype.from_text, Genotype.from_json):
        one_line(read, text)


@settings(quick, max_examples=300)
@given(
    st.sampled_from([DARTS_TEXT, DARTS.to_json(), NB201_TEXT, RNN_TEXT]),
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.text("([{'\",|+~0129.abc_= -\\\n\0é", max_size=3),
)
def test_damaged_texts_never_raise_anything_else(text, at, cut, extra):
    at %= len(text)
    damaged = text[:at] + extra + text[at + cut :]
    try:
        genotype = Genotype.parse(damaged)
    except JnasError as error:
        assert str(error).isprintable()
    else:
        assert Genotype.parse(str(genotype)) == genotype


DEEP = 5_000
BAD_TEXTS = {
    "empty": ("", "not a genotype"),
    "unknown name": ("DARTS_V3", "did you mean 'DARTS_V"),
    "unknown operation": (
        DARTS_TEXT.replace("dil_conv_3x3", "dil_conv_3x4"),
        "did you mean 'dil_conv_3x3'",
    ),
    "wrong source": (
        DARTS_TEXT.replace("('sep_conv_3x3', 1), (", "('sep_conv_3x3', 2), (", 1),
        "normal[1]: wrong source 2 of node 2",
    ),
    "negative source": (
        DARTS_TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', -2)"),
        "character '-'",
    ),
    "boolean source": (
        DARTS_TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"),
        "normal[7]: expected a state number",
    ),
    "odd edges": (
        DARTS_TEXT.replace(", ('dil_conv_3x3', 2)", ""),
        "wrong node count: 7 edges",
    ),
    "concat too long": (
        DARTS_TEXT.replace("range(2, 6)", "range(2, 7)", 1),
        "concat must list distinct states of 0..5",
    ),
    "concat endless": (
        DARTS_TEXT.replace("range(2, 6)", "range(2, 999999999999)", 1),
        "normal_concat must be in",
    ),
    "concat empty": (
        DARTS_TEXT.replace("range(2, 6)", "range(6, 2)", 1),
        "concat must list distinct",
    ),
    "concat repeated": (
        DARTS_TEXT.replace("range(2, 6)", "[2, 2]", 1),
        "concat must list distinct",
    ),
    "trailing junk": (DARTS_TEXT + " and more", "can't read"),
    "second genotype": (DARTS_TEXT + "\n" + DARTS_TEXT, "can't read"),
    "cut short": (DARTS_TEXT[:100], "can't read"),
    "field missing": (
        DARTS_TEXT.replace(", reduce_concat=range(2, 6)", ""),
        "expected",
    ),
    "field twice": (
        DARTS_TEXT.replace("reduce_concat", "normal_concat"),
        "can't read",
    ),
    "triples": (
        DARTS_TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 2)"),
        "expected ('operation', source)",
    ),
    "import": (
        "Genotype(normal=__import__('os').system('x'), normal_concat=[2])",
        "character '.'",
    ),
    "call": (
        DARTS_TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', __import__('os'))"),
        "expected a state number",
    ),
    "unpacking": ("Genotype(*[1])", "character '*'"),
    "bare import": ("__import__('os')", "not a genotype"),
    "comprehension": (
        DARTS_TEXT.replace("range(2, 6)", "[a for a in b]", 1),
        "normal_concat",
    ),
    "escape": (DARTS_TEXT.replace("sep_conv", "\\d", 1), "character"),
    "doubtful literal": (DARTS_TEXT.replace(" 0)", " 1if 2else 3)", 1), "normal[0]"),
    "nested brackets": (f"Genotype(normal={'[' * DEEP}{']' * DEEP})", "can't read"),
    "nested calls": (f"Genotype(normal={'a(' * DEEP}{')' * DEEP})", "can't read"),
    "long": ("Genotype(" + " " * 30_000 + "a)", "at most 20000 characters"),
    "NUL": ("Genotype(normal=\0)", "character"),
    "NB201 unknown operation": (
        NB201_TEXT.replace("nor_conv_3x3", "nor_conv_5x5"),
        "did you mean 'nor_conv_",
    ),
    "NB201 wrong source": (
        NB201_TEXT.replace("skip_connect~1", "skip_connect~2"),
        "wrong source",
    ),
    "NB201 no source": (NB201_TEXT.replace("skip_connect~1", "x"), "wrong source"),
    "NB201 two nodes": ("|none~0|+|none~0|none~1|", "wrong node count 2"),
    "NB201 four nodes": (NB201_TEXT + "+|none~0|", "wrong node count 4"),
    "NB201 edge missing": (
        NB201_TEXT.replace("|none~2|", "|"),
        "expected 3 'operation~source'",
    ),
    "NB201 trailing junk": (NB201_TEXT + "x", "node 3"),
    "RNN wrong source": (
        RNN_TEXT.replace("('relu', 1)", "('relu', 2)", 1),
        "recurrent[1]: wrong source 2 of node 2: expected 0..1",
    ),
    "RNN unknown operation": (RNN_TEXT.replace("tanh", "tan"), "did you mean 'tanh'"),
    "RNN no nodes": ("Genotype(recurrent=[], concat=[1])", "at least one edge"),
    "RNN concat beyond": (RNN_TEXT.replace("9)", "10)"), "distinct states of 0..8"),
    "RNN field missing": (
        "Genotype(recurrent=[('tanh', 0)])",
        "expected one Genotype(...) with recurrent, concat",
    ),
    "RNN cut short": (RNN_TEXT[:40], "expected Genotype(recurrent="),
    "RNN call": (RNN_TEXT.replace("0)", "open)", 1), "expected a state number"),
    "NB201 code": (NB201_TEXT.replace("none~0", "__import__('os')~0"), "unknown"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_malformed_text(case):
    text, expected = BAD_TEXTS[case]
    assert expected in one_line(Genotype.parse, text)


def json_with(**changes) -> str:
    data = json.loads(DARTS.to_json())
    for key, value in changes.items():
        if key in data:
            data[key] = value
        else:
            data["cells"]["normal"][key] = value
    return json.dumps(data)


BAD_JSON = {
    "not JSON": ("{normal}", "not a genotype's JSON"),
    "not an object": ("[1, 2]", "must be an object"),
    "trailing junk": (DARTS.to_json() + "}", "not a genotype's JSON"),
    "nested": ('{"format":' + "[" * 100_000, "nested too deeply"),
    "nested objects": ('{"a":' * 100_000, "nested too deeply"),
    "long": ('{"format":' + " " * 2_000_000 + "1}", "at most"),
    "long number": ('{"format":' + "1" * 10_000 + "}", "not a genotype's JSON"),
    "NaN": (json_with(format=float("nan")), "can't hold NaN"),
    "future format": (json_with(format=2), "format must be 1, got 2: update jnas"),
    "old format": (json_with(format=0), 'got 0: set "format": 1'),
    "boolean format": (json_with(format=True), "got True"),
    "no format": ("{}", "format must be 1, got None"),
    "repeated key": (DARTS.to_json().replace('"reduce"', '"normal"'), "repeats a key"),
    "key too many": (json_with(format=1)[:-1] + ', "weights": 1}', "exactly the keys"),
    "key missing": ('{"format": 1, "space": "darts"}', "exactly the keys"),
    "cells a list": (json_with(cells=[]), "cells must be a JSON object"),
    "no cells": (json_with(cells={}), "at least one cell"),
    "cell a list": (json_with(cells={"normal": []}), "cell 'normal' must have exactly"),
    "space a number": (json_with(space=3), "space must be a name, got 3"),
    "edges a number": (json_with(edges=3), "must be a list of edges"),
    "no edges": (json_with(edges=[]), "at least one edge"),
    "edge a pair": (
        json_with(edges=[["none", 0]]),
        "must be (operation, source, target",
    ),
    "unknown operation": (json_with(edges=[["nonne", 0, 5]]), "did you mean 'none'"),
    "operation a list": (json_with(edges=[[[], 0, 5]]), "an operation must be"),
    "line break": (json_with(edges=[["a\nb", 0, 5]]), "an operation must be printable"),
    "source a float": (json_with(edges=[["none", 0.0, 5]]), "must be a state number"),
    "source a boolean": (
        json_with(edges=[["none", True, 5]]),
        "must be a state number",
    ),
    "source negative": (json_with(edges=[["none", -1, 5]]), "must be in 0..9999"),
    "target huge": (json_with(edges=[["none", 0, 10**30]]), "must be in 0..9999"),
    "source = target": (json_with(edges=[["none", 5, 5]]), "wrong source 5 of node 5"),
    "target an input": (json_with(edges=[["none", 0, 0]]), "wrong target 0"),
    "concat beyond": (json_with(concat=[6]), "distinct states of 0..5"),
    "concat text": (json_with(concat="2345"), "must be a list of states"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_malformed_json(case):
    text, expected = BAD_JSON[case]
    assert expected in one_line(Genotype.from_json, text)


@pytest.mark.parametrize("value", [None, 3, b"DARTS_V2", ["x"], {"a": 1}])
def test_only_text_is_read(value):
    for read in (Genotype.parse, Genotype.from_text, Genotype.from_json):
        assert "pass a str" in one_line(read, value)


def test_published_name_is_checked():
    assert "did you mean 'PC_DARTS'" in one_line(spaces.genotype, "PCDARTS")
    assert " or 'PC_DARTS'" in one_line(Genotype.parse, "pc-DARTS")
