"""Texts: loading, vocabulary, windows, evaluation batches, and every bad input."""

import gzip
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnas
from jnas.data import text_batches, text_feed
from jnas.data.text_feeds import columns
from jnas.errors import JnasError

POEM = "to be, or not to be:\nthat is the question\n" * 20


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        content = content.encode() if isinstance(content, str) else content
        content = gzip.compress(content) if name.endswith(".gz") else content
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def text_of(data, part):
    return [data.vocabulary[token] for token in getattr(data, part)]


# --- loading


@pytest.mark.parametrize("name", ["poem.txt", "poem.txt.gz"])
def test_characters(write, name):
    data = jnas.data.load(write(name, POEM))
    assert data.name == "poem" and data.level == "char"
    parts = [text_of(data, part) for part in ("train", "validation", "test")]
    assert "".join(itertools.chain(*parts)) == POEM
    assert [len(part) for part in parts] == [len(POEM) - 84, 42, 42]
    assert data.vocabulary == tuple(sorted(set(POEM)))
    assert np.array_equal(data.full, np.concatenate([data.train, data.validation]))
    assert "cut from its end" in data.source


def test_words_end_lines_and_unknown_ones(write):
    train = write("train.txt", "a b b\n\nc b\n" * 40)
    other = write("other.txt", "b d\na\n")
    data = jnas.data.load_text(train, level="word", validation=other, test=other)
    assert text_of(data, "train")[:7] == ["a", "b", "b", "<eos>", "<eos>", "c", "b"]
    assert text_of(data, "test") == ["b", "<unk>", "<eos>", "a", "<eos>"]
    # By frequency, the unknown one last; only the training text counts.
    assert data.vocabulary == ("<eos>", "b", "a", "c", "<unk>")
    assert data.vocab_size == 5 and "cut" not in data.source
    again = jnas.data.load(f"words:{train}")
    assert again.vocabulary == data.vocabulary[:4] and again.level == "word"


def test_an_unknown_token_of_the_text_is_not_doubled(write):
    train = write("train.txt", "<unk> a b\n" * 40)
    other = write("other.txt", "z a\n")
    data = jnas.data.load_text(train, level="word", validation=other, test=other)
    assert data.vocabulary.count("<unk>") == 1
    assert text_of(data, "test") == ["<unk>", "a", "<eos>"]


def test_fingerprint_sees_every_part(write):
    first = jnas.data.load(write("a.txt", POEM))
    assert first.fingerprint() == jnas.data.load(write("a.txt", POEM)).fingerprint()
    seen = {first.fingerprint()}
    for other in (POEM + "!", "!" + POEM[1:], POEM.replace("q", "Q")):
        seen.add(jnas.data.load(write("a.txt", other)).fingerprint())
    seen.add(jnas.data.load(write("b.txt", POEM)).fingerprint())
    assert len(seen) == 5


BAD = {
    "missing": (None, "there is no file"),
    "empty": ("", "is empty"),
    "blank": (" \n\n", "is empty"),
    "not UTF-8": (b"caf\xe9 " * 20, r"not UTF-8 \(byte 3\)"),
    "short": ("abc", "too short to cut a test part"),
    "one character": ("a" * 100, "at least 2 distinct tokens"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(case, write, tmp_path):
    content, message = BAD[case]
    path = tmp_path / "bad.txt"
    if content is not None:
        write("bad.txt", content)
    with pytest.raises(JnasError, match=message) as error:
        jnas.data.load(path)
    assert "\n" not in str(error.value)


def test_bad_gzip_and_options(write, tmp_path):
    good = write("good.txt", POEM)
    (tmp_path / "text.txt.gz").write_bytes(b"no gzip")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(POEM.encode())[:-20])
    for name in ("text.txt.gz", "cut.txt.gz"):
        with pytest.raises(JnasError, match="damaged or no gzip file"):
            jnas.data.load(tmp_path / name)
    with pytest.raises(JnasError, match="cannot read"):
        (tmp_path / "folder.txt").mkdir()
        jnas.data.load(tmp_path / "folder.txt")
    with pytest.raises(JnasError, match="did you mean 'word'"):
        jnas.data.load_text(good, level="words")
    with pytest.raises(JnasError, match="validation_share must be between"):
        jnas.data.load_text(good, validation_share=1.0)
    with pytest.raises(JnasError, match="there is no file"):
        jnas.data.load_text(good, test=tmp_path / "absent.txt")


def test_datasets_check_their_arrays():
    good = np.array([0, 1, 1], np.int32)
    parts = {"train": good, "validation": good, "test": good}
    for part, array, message in (
        ("train", good.astype(np.int64), "must be a NumPy array of int32"),
        ("test", good[:1], "at least 2 tokens"),
        ("validation", good + 1, r"must be in 0..1, the vocabulary, got 1 to 2"),
        ("train", good - 1, "must be in 0..1"),
    ):
        with pytest.raises(JnasError, match=message):
            jnas.data.TextDataset("x", **{**parts, part: array}, vocabulary=("a", "b"))
    with pytest.raises(JnasError, match="2 distinct tokens"):
        jnas.data.TextDataset("x", **parts, vocabulary=("a", "a"))


def test_named_corpora(data_folder):
    shakespeare = jnas.data.load("tinyshakespeare")
    assert shakespeare.vocab_size == 65 and len(shakespeare.full) == 1_059_625
    assert "".join(text_of(shakespeare, "train")[:14]) == "First Citizen:"
    wiki = jnas.data.load("wikitext2", data_dir=data_folder)
    assert text_of(wiki, "train")[:6] == [
        "<eos>",
        "=",
        "Homarus",
        "gammarus",
        "=",
        "<eos>",
    ]
    # The official number of test tokens.
    assert len(wiki.test) == 245_569 and len(wiki.full) == 217_646
    assert "<unk>" in wiki.vocabulary


# --- windows


def windows(feed, epoch, key=0):
    """The training windows of an epoch, as (start, length) and the batches."""
    steps = feed.steps_per_epoch
    draw = jax.jit(lambda feed, key, step: feed(key, step))
    return [
        jax.device_get(draw(feed, jax.random.key(key), epoch * steps + i))
        for i in range(steps)
    ]


@pytest.mark.parametrize(
    ("tokens", "batch_size", "bptt"),
    [(1000, 3, 7), (997, 4, 2), (211, 1, 9), (29, 4, 7)],
)
@pytest.mark.parametrize("short", [0.0, 0.05, 0.3])
def test_every_prediction_comes_once_an_epoch(tokens, batch_size, bptt, short):
    text = np.random.default_rng(0).permutation(tokens).astype(np.int32)
    feed = text_feed(text, None, batch_size=batch_size, bptt=bptt, short=short)
    for epoch in (0, 3):
        seen = [[] for _ in range(batch_size)]
        for i, (batch, val) in enumerate(windows(feed, epoch)):
            assert val is None
            length = int(batch["length"])
            assert 1 <= length <= bptt and bool(batch["reset"]) == (i == 0)
            assert batch["tokens"].shape == (batch_size, bptt)
            for row in range(batch_size):
                pairs = zip(batch["tokens"][row], batch["target"][row], strict=True)
                seen[row] += list(pairs)[:length]
        expected = list(itertools.pairwise(text))
        size = (tokens - 1) // batch_size
        for row in range(batch_size):
            assert seen[row] == expected[row * size : (row + 1) * size]


def test_lengths_are_halved_at_the_published_rate():
    text = np.zeros(35 * 300, np.int32)
    feed = text_feed(text, text[:400], batch_size=1, bptt=35)
    epochs = [[int(b["length"]) for b, _ in windows(feed, e)] for e in range(3)]
    for lengths in epochs:
        assert set(lengths[:-1]) == {35, 17}
        share = lengths[:-1].count(17) / len(lengths)
        assert abs(share - 0.05) < 0.5 / len(lengths) + 1e-9
    assert epochs[0] != epochs[1] != epochs[2]


def test_streams_are_apart_and_depend_on_the_key_alone():
    text = np.arange(900, dtype=np.int32)
    feed = text_feed(text, text[::-1][:300].copy(), batch_size=2, bptt=5, short=0.3)
    run = windows(feed, 0)
    again, other = windows(feed, 0), windows(feed, 0, key=1)
    jax.tree.map(np.testing.assert_array_equal, run, again)
    lengths = [[int(b["length"]) for b, _ in r] for r in (run, other)]
    assert lengths[0] != lengths[1]
    # The validation text is a third as long: its own epochs, each with a reset.
    resets = [i for i, (_, val) in enumerate(run) if val["reset"]]
    assert len(resets) >= 3 and resets[0] == 0
    starts = {int(run[i][1]["tokens"][0, 0]) for i in resets}
    assert starts == {899}
    with_longer_validation = text_feed(text, text, batch_size=2, bptt=5, short=0.3)
    for (a, _), (b, _) in zip(run, windows(with_longer_validation, 0), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_feed_is_a_pytree_under_scan_and_vmap():
    text = np.arange(500, dtype=np.int32)
    feed = text_feed(text, text, batch_size=2, bptt=6, short=0.3)
    key = jax.random.key(3)

    @jax.jit
    def run(feed, key):
        return jax.lax.scan(lambda c, i: (c, feed(key, i)), 0, jnp.arange(12))[1]

    train, val = run(feed, key)
    for i in (0, 5, 11):
        picked = [{k: x[i] for k, x in batch.items()} for batch in (train, val)]
        jax.tree.map(np.testing.assert_array_equal, list(feed(key, i)), picked)
    keys = jax.random.split(key, 3)
    many = jax.vmap(lambda key: feed(key, 4))(keys)
    one = feed(keys[1], 4)
    jax.tree.map(np.testing.assert_array_equal, one, jax.tree.map(lambda x: x[1], many))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 30}, "too few for 30 columns of at least one window of 5"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"bptt": 1}, "bptt must be a whole number >= 2"),
        ({"bptt": True}, "bptt must be"),
        ({"short": 1.0}, "short must be a share"),
        ({"validation": np.zeros(3, np.int32)}, "the validation text has 3 tokens"),
    ],
)
def test_bad_feeds_are_one_line(options, message):
    options = {"validation": None, "batch_size": 2, "bptt": 5, **options}
    with pytest.raises(JnasError, match=message) as error:
        text_feed(np.zeros(100, np.int32), **options)
    assert "\n" not in str(error.value)


# --- evaluation


@pytest.mark.parametrize("tokens", [2, 11, 50])
@pytest.mark.parametrize(("batch_size", "bptt"), [(1, 4), (3, 4), (5, 7), (10, 3)])
def test_evaluation_counts_every_prediction_once(tokens, batch_size, bptt):
    text = np.arange(1, tokens + 1, dtype=np.int32)
    pairs = []
    for i, batch in enumerate(text_batches(text, batch_size, bptt)):
        assert bool(batch["reset"]) == (i == 0)
        assert batch["tokens"].shape == batch["weight"].shape == (batch_size, bptt)
        hit = batch["weight"] > 0
        late = np.arange(bptt)[None] >= batch["length"]
        assert not np.any(hit & late)
        pairs += list(zip(batch["tokens"][hit], batch["target"][hit], strict=True))
    assert sorted(pairs) == list(itertools.pairwise(text))
    with pytest.raises(JnasError, match="at least 2 tokens"):
        text_batches(text[:1], batch_size, bptt)


def test_columns_are_padded_with_zeros():
    text = np.arange(1, 6, dtype=np.int32)
    assert columns(text, 2, 3, 2).tolist() == [[1, 2, 3, 4, 0, 0], [4, 5, 0, 0, 0, 0]]
