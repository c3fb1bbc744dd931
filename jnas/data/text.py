"""Text corpora: a file becomes tokens of characters or words in three splits.

Word level follows the language-modelling benchmarks (Zaremba et al. 2014, Merity et al.
2016): words are what blanks part, and every line ends with the token ``<eos>``. The
vocabulary is that of the training part; other tokens become ``<unk>``. Nothing is ever
downloaded.
"""

import collections
import dataclasses
import functools
import gzip
import hashlib
import os
import pathlib
import zlib

import numpy as np

from jnas import errors
from jnas.data import folders

__all__ = ["TextDataset", "is_text_file", "load_named", "load_text", "names"]

LEVELS = ("char", "word")
UNKNOWN, END_OF_LINE = "<unk>", "<eos>"
# Of a file without validation or test files of its own, from its end.
VALIDATION_SHARE = TEST_SHARE = 0.05
SUFFIXES = (".txt", ".txt.gz")

# name: (level, file of train and validation, file of test, share that is validation)
_NAMED = {
    "tinyshakespeare": ("char", "tinyshakespeare.txt.gz", None, VALIDATION_SHARE),
    "wikitext2": ("word", "wikitext2.valid.txt.gz", "wikitext2.test.txt.gz", 0.2),
}


def names() -> dict[str, str]:
    """Returns the corpora known by name, each with one line about it.

    Example:
      >>> sorted(names())
      ['tinyshakespeare', 'wikitext2']
    """
    return {
        "tinyshakespeare": "1.1 million characters of Shakespeare, by character",
        "wikitext2": "WikiText-2 by word; its validation file, split 80:20, and test",
    }


@dataclasses.dataclass(frozen=True, eq=False)
class TextDataset:
    """A corpus as numbers of tokens, in three contiguous splits.

    ``train`` and ``validation`` are the two halves of the bilevel search; retraining
    uses both (``full``). ``test`` is for the final report only.

    Attributes:
      name: the name users load it by.
      train: int32 ``[N]``, tokens that train the weights of a search.
      validation: int32 ``[N]``, tokens that train the architecture.
      test: int32 ``[N]``, held out.
      vocabulary: the tokens' texts by number.
      level: "char" or "word".
      source: one line: where it comes from and how it was split.

    Example:
      >>> part = np.array([0, 1, 1], np.int32)
      >>> TextDataset("mine", part, part, part, ("a", "b")).vocab_size
      2
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...]
    level: str = "char"
    source: str = ""

    def __post_init__(self):
        if self.level not in LEVELS:
            raise errors.unknown_name("level", self.level, LEVELS)
        size = len(self.vocabulary)
        if size < 2 or len(set(self.vocabulary)) != size:
            raise errors.JnasError(
                f"a vocabulary needs at least 2 distinct tokens, got {size}"
            )
        for part in ("train", "validation", "test"):
            tokens = getattr(self, part)
            if not isinstance(tokens, np.ndarray) or tokens.dtype != np.int32:
                raise errors.JnasError(
                    f"{part} must be a NumPy array of int32, got "
                    f"{getattr(tokens, 'dtype', type(tokens).__name__)}"
                )
            if tokens.ndim != 1 or len(tokens) < 2:
                raise errors.JnasError(
                    f"{part} must have at least 2 tokens [N], got {list(tokens.shape)}"
                )
            if tokens.min() < 0 or tokens.max() >= size:
                raise errors.JnasError(
                    f"tokens of {part} must be in 0..{size - 1}, the vocabulary, got "
                    f"{tokens.min()} to {tokens.max()}"
                )

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self.vocabulary)

    @property
    def full(self) -> np.ndarray:
        """Train followed by validation: what a final network is retrained on."""
        return np.concatenate([self.train, self.validation])

    def fingerprint(self) -> str:
        """Returns 16 hex digits that change when any token, its text or a split does.

        Example:
          >>> part = np.array([0, 1, 1], np.int32)
          >>> len(TextDataset("mine", part, part, part, ("a", "b")).fingerprint())
          16
        """
        digest = hashlib.sha256(f"{self.name}|{self.level}".encode())
        digest.update("\0".join(self.vocabulary).encode())
        for tokens in (self.train, self.validation, self.test):
            digest.update(f"|{tokens.shape}|".encode())
            digest.update(np.ascontiguousarray(tokens, "<i4").data)
        return digest.hexdigest()[:16]


def is_text_file(name: str) -> bool:
    """Tells whether a path is that of a text, by its suffix.

    Args:
      name: the path.

    Returns:
      Whether it ends in ``.txt`` or ``.txt.gz``.

    Example:
      >>> is_text_file("book.txt.gz"), is_text_file("images.npz")
      (True, False)
    """
    return name.endswith(SUFFIXES)


def load_text(
    path: str | os.PathLike[str],
    *,
    level: str = "char",
    validation: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    name: str | None = None,
    validation_share: float = VALIDATION_SHARE,
) -> TextDataset:
    """Loads a corpus from text files.

    Args:
      path: UTF-8 text, gzipped if it ends in ``.gz``; the training part.
      level: "char" or "word".
      validation: file of the validation part; None cuts it from the end of ``path``.
      test: file of the test part; None cuts it (5 %) from the very end of ``path``.
      name: of the dataset; None takes the file's.
      validation_share: of ``path``, where there is no file for it.

    Returns:
      The corpus. Characters are sorted by code point, words by frequency.

    Raises:
      JnasError: a file is missing, damaged, empty, not UTF-8, or too short to split.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "mine.txt")
      ...     _ = path.write_text("to be or not to be, " * 10)
      ...     data = load_text(path)
      >>> data.name, data.vocabulary, len(data.train), len(data.validation)
      ('mine', (' ', ',', 'b', 'e', 'n', 'o', 'r', 't'), 180, 10)
    """
    if level not in LEVELS:
        raise errors.unknown_name("level", level, LEVELS)
    if not 0 < validation_share < 1:
        raise errors.JnasError(
            f"validation_share must be between 0 and 1, got {validation_share!r}"
        )
    path = pathlib.Path(path).expanduser()
    tokens = _split(_read(path), level)
    parts = {}
    shares = [("test", test, TEST_SHARE), ("validation", validation, validation_share)]
    size = len(tokens)
    for part, given, share in shares:
        if given is not None:
            parts[part] = _split(_read(pathlib.Path(given).expanduser()), level)
            continue
        count = int(size * share)
        if count < 2:
            raise errors.JnasError(
                f"{path} is too short to cut a {part} part from it ({size} tokens): "
                f"give a longer text or a file for {part}"
            )
        tokens, parts[part] = tokens[:-count], tokens[-count:]
    vocabulary = _vocabulary(tokens, level)
    known = set(vocabulary)
    if UNKNOWN not in known and not known.issuperset(
        parts["validation"] + parts["test"]
    ):
        vocabulary = (*vocabulary, UNKNOWN)
    number = {token: i for i, token in enumerate(vocabulary)}
    unknown = number.get(UNKNOWN, -1)  # -1 is never used

    def encoded(listed) -> np.ndarray:
        return np.array([number.get(token, unknown) for token in listed], np.int32)

    cut = [part for part, given, _ in shares if given is None]
    return TextDataset(
        name=name or path.name.removesuffix(".gz").removesuffix(".txt"),
        train=encoded(tokens),
        validation=encoded(parts["validation"]),
        test=encoded(parts["test"]),
        vocabulary=vocabulary,
        level=level,
        source=f"{path.name} by {level}"
        + (f"; {' and '.join(reversed(cut))} cut from its end" if cut else ""),
    )


def load_named(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> TextDataset:
    """Loads a corpus known by name from files on this machine.

    Args:
      name: one of `names`.
      data_dir: where its files are; by default ``$JNAS_DATA`` and the user's folder.

    Returns:
      The corpus. WikiText-2 has its official test part; training and validation part
      are the first 80 % and the rest of its official *validation* file, so its figures
      can't be compared with published ones.

    Raises:
      JnasError: the files are not found, or damaged.

    Example:
      >>> load_named("tinyshakespeare", "no/such/folder")
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: tinyshakespeare.txt.gz is not on this machine (searched \
no/such/folder, no/such/folder/tinyshakespeare): put it there, or set JNAS_DATA to its \
folder
    """
    level, first, test, share = _NAMED[name]
    find = functools.partial(_find, folders.candidates(name, data_dir))
    return load_text(
        find(first),
        level=level,
        test=None if test is None else find(test),
        name=name,
        validation_share=share,
    )


def _find(searched: list[pathlib.Path], file: str) -> pathlib.Path:
    for folder in searched:
        for path in (folder / file, folder / file.removesuffix(".gz")):
            if path.is_file():
                return path
    raise errors.JnasError(
        f"{file} is not on this machine (searched {', '.join(map(str, searched))}): "
        "put it there, or set JNAS_DATA to its folder"
    )


def _read(path: pathlib.Path) -> str:
    """Reads a file, turning every way it can be bad into one line."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        raise errors.JnasError(f"there is no file {path}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise errors.JnasError(
            f"{path} is damaged or no gzip file ({error}): fetch it again"
        ) from error
    except OSError as error:
        raise errors.JnasError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise errors.JnasError(
            f"{path} is not UTF-8 (byte {error.start}): convert it, e.g. with iconv"
        ) from error
    if not text.strip():
        raise errors.JnasError(f"{path} is empty: give a text")
    return text.replace("\r\n", "\n")


def _split(text: str, level: str) -> list[str]:
    if level == "char":
        return list(text)
    lines = text.removesuffix("\n").split("\n")
    return [token for line in lines for token in (*line.split(), END_OF_LINE)]


def _vocabulary(tokens: list[str], level: str) -> tuple[str, ...]:
    counts = collections.Counter(tokens)
    if level == "char":
        return tuple(sorted(counts))
    return tuple(sorted(counts, key=lambda token: (-counts[token], token)))
