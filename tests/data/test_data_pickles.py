"""Pickles are read as data: right for data, and never run."""

import collections
import pickle
import pickletools
import struct

import numpy as np
import pytest

from jnas import errors
from jnas.data import pickles

DATA = {
    b"batch_label": b"training batch 1 of 5",
    b"labels": [0, 1, 255, 256, 70_000, -1, 2**40],
    b"filenames": [b"a.png", b"\xff\x00.png", b""],
    b"data": np.arange(24, dtype=np.uint8).reshape(4, 6),
    "text": "Ä €",
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "scalar": np.int64(7),
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "constants": [None, True, False, 1.5, 2**70],
    3: {"inner": {}},
    ("a tuple", 7): {True: 1.5},
    "ordered": collections.OrderedDict([("b", 1), ("a", [2]), (("c", 0), {})]),
    "defaults": collections.defaultdict(list, {"x": [1], "y": []}),
    "sets": [set(), {1, "a", (2, b"b")}],
}


def same(found, expected):
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        return
    assert found == expected
    if isinstance(expected, dict):
        for key, value in expected.items():
            same(found[key], value)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(protocol):
    found = pickles.read(pickle.dumps(DATA, protocol))
    assert list(found) == list(DATA)
    for key, value in DATA.items():
        same(found[key], value)
    # The writer without C code writes other opcodes.
    found = pickles.read(pickle._dumps(DATA, protocol))
    for key, value in DATA.items():
        same(found[key], value)


def test_containers_come_as_plain_ones():
    found = pickles.read(pickle.dumps(DATA, 4))
    assert type(found["ordered"]) is dict and next(iter(found["ordered"])) == "b"
    assert type(found["defaults"]) is dict
    # As Python 2 wrote ordered dictionaries, with the items as an argument.
    old = b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'b'\naI1\naa(lp2\nS'a'\naI2\naatR."
    assert pickle.loads(old) == {"b": 1, "a": 2}
    assert list(pickles.read(old).items()) == [("b", 1), ("a", 2)]


def python2(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2's cPickle wrote the official files, protocol 2."""

    def text(value):
        return b"U" + struct.pack("<B", len(value)) + value

    def number(value):
        return b"K" + struct.pack("<B", value)

    content = data.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"data") + b"q\x02",
            b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04",
            number(0) + b"\x85" + text(b"b") + b"\x87Rq\x05",
            b"(" + number(1) + b"M" + struct.pack("<H", data.shape[0]),
            b"M" + struct.pack("<H", data.shape[1]) + b"\x86",
            b"cnumpy\ndtype\nq\x06"
            + text(b"u1")
            + number(0)
            + number(1)
            + b"\x87Rq\x07",
            b"(" + number(3) + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2,
            number(0) + b"tb\x89",
            b"T" + struct.pack("<I", len(content)) + content + b"tb",
            text(b"labels") + b"](",
            b"".join(number(label) for label in labels),
            b"eu.",
        ]
    )


def test_python_2():
    data = np.arange(256, dtype=np.uint8).reshape(4, 64)
    content = python2(data, [1, 2, 3, 0])
    # The bytes are right: the standard reader agrees.
    theirs = pickle.loads(content, encoding="bytes")
    np.testing.assert_array_equal(theirs[b"data"], data)
    found = pickles.read(content)
    np.testing.assert_array_equal(found["data"], data)
    assert found["labels"] == [1, 2, 3, 0]
    assert pickles.read(
        b"(dp0\nS'label_names'\np1\n(lp2\nS'air\\x20plane'\np3\nas."
    ) == {"label_names": ["air plane"]}


class Hostile:
    """Its pickle touches a file when it is run."""

    def __init__(self, path, function=None):
        self.path, self.function = path, function

    def __reduce__(self):
        import os

        return (self.function or os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_pickles_are_refused_and_not_run(tmp_path, protocol):
    path = tmp_path / "touched"
    for function in (None, eval, exec, __import__):
        content = pickle.dumps({b"data": Hostile(path, function)}, protocol)
        with pytest.raises(
            errors.JnasError, match=r"names .* nothing is run"
        ) as caught:
            pickles.read(content, "data_batch_1")
        assert str(caught.value).startswith("data_batch_1 is refused")
        assert "\n" not in str(caught.value)
    assert not path.exists()
    # It would have been run.
    pickle.loads(pickle.dumps(Hostile(path), protocol))
    assert path.exists()


REFUSED = {
    "build": b"cnumpy\ndtype\n}b.",
    "object": b"(i__main__\nX\n.",
    "inst": b"(ios\nsystem\n.",
    "obj": b"(cnumpy\nndarray\no.",
    "newobj": b"cnumpy\nndarray\n)\x81.",
    "persistent": b"Pid\n.",
    "extension": b"\x82\x01.",
    "class call": b"cnumpy\nndarray\n)R.",
    "object array": pickle.dumps(np.array([{}, []], object)),
    "record dtype": pickle.dumps(np.zeros(2, [("a", "u1")])),
    "codec": b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
    "frozen set": pickle.dumps(frozenset({1, 2}), 4),
    "default": b"ccollections\ndefaultdict\n(cnumpy\nndarray\ntR.",
    "counter": pickle.dumps(collections.Counter("aab")),
    "date": pickle.dumps(np.datetime64("2020-01-01")),
    "memoryview": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_plain_data_is_refused(case):
    with pytest.raises(errors.JnasError, match=r"refused: at byte \d+ it") as caught:
        pickles.read(REFUSED[case])
    assert "\n" not in str(caught.value)


DAMAGED = {
    "empty": b"",
    "no stop": b"]",
    "text": b"no pickle",
    "stack": b"a.",
    "mark": b"(.",
    "memory": b"h\x05.",
    "key": b"}]Ns.",
    "odd": b"}(Nu.",
    "two": b"NN.",
    "unfinished array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\n"
    b"tS'b'\ntR.",
    "a name": b"cnumpy\ndtype\n.",
    "a default": b"cbuiltins\nlist\n.",
    "a default in a set": b"\x8f(cbuiltins\nlist\n\x90.",
    "items of no set": b"](K\x01\x90.",
    "a list in a set": b"\x8f(]\x90.",
    "a set of a text": b"cbuiltins\nset\n(S'ab'\ntR.",
    "pairs of three": b"ccollections\nOrderedDict\n((K\x01K\x02K\x03ttR.",
    "a key of lists": b"}(](K\x01e\x85K\x01u.",
    "deep": b"]" * 300 + b"a" * 299 + b".",
    "short bytes": b"B\xff\xff\x00\x00abc.",
    "list append": b"}Na.",
    "arguments": b"cnumpy\ndtype\nNR.",
    "many arguments": b"cnumpy\ndtype\n(I1\nI2\nI3\nI4\nI5\ntR.",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_told_in_one_line(case):
    with pytest.raises(errors.JnasError, match="damaged") as caught:
        pickles.read(DAMAGED[case])
    assert "\n" not in str(caught.value)


def test_recursive_and_exploding_pickles_end():
    loop = []
    loop.append(loop)
    with pytest.raises(errors.JnasError, match="nested deeper"):
        pickles.read(pickle.dumps(loop))
    laugh = [0]
    for _ in range(60):  # 2**60 numbers, if each were visited
        laugh = [laugh, laugh]
    found = pickles.read(pickle.dumps(laugh))
    assert found[0] is found[1]


def test_shapes_must_fit_the_bytes():
    good = pickle.dumps(np.arange(6, dtype=np.uint8).reshape(2, 3), 2)
    for old, new in (
        (b"K\x02K\x03\x86", b"K\x02K\x04\x86"),
        (b"K\x02K\x03", b"NK\x03"),
    ):
        assert old in good
        with pytest.raises(errors.JnasError, match="damaged"):
            pickles.read(good.replace(old, new))


def test_flipped_bits_never_crash():
    content = pickle.dumps({b"data": DATA[b"data"], b"labels": [1, 2, 3]}, 2)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        flipped = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            flipped[place] ^= 1 << int(rng.integers(8))
        try:
            pickles.read(bytes(flipped))
        except errors.JnasError as error:
            assert "\n" not in str(error)


def test_every_opcode_is_known_or_refused():
    names = {opcode.name for opcode in pickletools.opcodes}
    assert pickles._LITERALS | pickles._MEMORY | set(pickles._CONSTANTS) <= names
    assert set(pickles._ACTIONS) <= names


def test_an_odd_escape_gives_no_warning():
    # Warnings are errors in these tests.
    assert pickles.read(b"S'\\('\n.") == "\\("
