"""Bad input through the command line: one clear line, status 2, nothing lost.

Each row: the words of the command, what the line must say. Files are made by `_world`.
"""

import contextlib
import io
import json
import os
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest

from jnas import cli
from jnas.cli import config
from jnas.cli.search import Search

SMALL = ["--epochs", "2", "--channels", "2", "--batch-size", "8"]
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|"


def _images(number=60, side=8, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, (number, side, side))
    return values.astype(dtype)


def _labels(number=60, classes=3):
    return np.arange(number) % classes


def _config(**changes):
    whole = json.loads(config.text("search", Search()))
    arguments = {**whole["arguments"], **changes.pop("arguments", {})}
    return json.dumps({**whole, "arguments": arguments, **changes})


def _world(folder: pathlib.Path) -> None:
    """Everything that a user may point at, good and bad."""
    np.savez(folder / "good.npz", image=_images(), label=_labels())
    whole = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0x10
    (folder / "flipped.npz").write_bytes(flipped)
    (folder / "text.npz").write_bytes(b"no archive")
    (folder / "empty.npz").write_bytes(b"")
    np.savez(folder / "none.npz")
    nan = _images(dtype=np.float32)
    nan[3, 2, 1] = np.nan
    bad = {
        "nan": (nan, _labels()),
        "float": (_images(dtype=np.float64) / 255, _labels()),
        "tiny": (_images(side=4), _labels()),
        "flat": (_images().reshape(60, 64), _labels()),
        "short": (_images(50), _labels()),
        "negative": (_images(), _labels() - 1),
        "gap": (_images(), _labels() * 2),
        "one_class": (_images(), _labels() * 0),
        "float_labels": (_images(), _labels() + 0.5),
        "one_hot": (_images(), np.eye(3, dtype=int)[_labels()]),
        "constant": (_images() * 0, _labels()),
    }
    for name, (image, label) in bad.items():
        np.savez(folder / f"{name}.npz", image=image, label=label)
    np.savez(folder / "pickled.npz", image=_images(), label=np.array([{}] * 60))
    np.savez(
        folder / "split.npz",
        x_train=_images(),
        y_train=_labels(),
        x_test=_images(20),
        y_test=_labels(20) + 5,
    )
    with zipfile.ZipFile(folder / "foreign.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 99)
    (folder / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00abc")
    (folder / "empty_folder").mkdir()
    (folder / "classes" / "cat").mkdir(parents=True)
    (folder / "classes" / "dog").mkdir()
    (folder / "classes" / "cat" / "a.png").write_bytes(b"\x89PNG no more")
    (folder / "classes" / "dog" / "b.png").write_bytes(b"\x89PNG no more")
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("readme")
        archive.addfile(member, io.BytesIO())
    (folder / "searched").mkdir()
    text = _config(arguments={"data": "good.npz"})
    (folder / "searched" / "config.json").write_text(text)
    (folder / "genotype.json").write_text('{"format": 9, "space": "darts"}')
    (folder / "list.json").write_text("[" * 5000)
    (folder / "file").write_text("")
    for name, text in {
        "newer.json": _config(format=7, jnas="9.9"),
        "field.json": _config(arguments={"epoch": 3}),
        "extra.json": _config(note="hello"),
        "type.json": _config(arguments={"epochs": "many"}),
        "bool.json": _config(arguments={"epochs": True}),
        "nan.json": _config(arguments={"learning_rate": float("nan")}),
        "other.json": _config(command="retrain"),
        "torn.json": _config()[:100],
        "twice.json": '{"format": 1, "format": 1}',
        "list_config.json": "[1, 2]",
    }.items():
        (folder / name).write_text(text)


SEARCH = {
    "unknown command": (["serch"], "Unrecognized options: serch"),
    "unknown option": (["search", "--epoch", "3"], "did you mean --epochs"),
    "no number": (["search", "--epochs", "three"], "Error parsing --epochs"),
    "no value": (["search", "--epochs"], "Missing value for argument '--epochs'"),
    "unknown policy": (["search", "--on-nan", "hope"], "'stop', 'skip', 'rollback'"),
    "unknown method": (["search", "--method", "dart"], "did you mean 'darts'"),
    "unknown space": (["search", "--space", "nasbench"], "did you mean 'nasbench201'"),
    "unknown data": (["search", "--data", "digit"], "did you mean 'digits'"),
    "no steps": (["search", "--epochs", "0"], "--epochs must be at least 1, got 0"),
    "huge batch": (["search", "--batch-size", "100000"], "batch_size must be at most"),
    "negative rate": (["search", "--learning-rate", "-1"], "must be positive"),
    "rate nan": (["search", "--learning-rate", "nan"], "learning_rate must be"),
    "negative seed": (["search", "--seed", "-1"], "--seed must be >= 0"),
    "wrong depth": (["search", "--cells", "8"], "use --cells-per-stage"),
    "workdir a file": (["search", *SMALL, "--workdir", "file"], "must be a folder"),
    "workdir below a file": (["search", *SMALL, "--workdir", "file/x"], "file/x"),
    "workdir read-only": (["search", *SMALL, "--workdir", "/proc/x"], "can't be writ"),
    "config absent": (["search", "--config", "no.json"], "no configuration file"),
    "config newer": (["search", "--config", "newer.json"], "written by jnas 9.9"),
    "config field": (["search", "--config", "field.json"], "did you mean 'epochs'"),
    "config extra": (["search", "--config", "extra.json"], "unknown field 'note'"),
    "config type": (["search", "--config", "type.json"], "'epochs' must be int"),
    "config bool": (["search", "--config", "bool.json"], "'epochs' must be int"),
    "config nan": (["search", "--config", "nan.json"], "'learning_rate' must be"),
    "config other": (["search", "--config", "other.json"], "for 'jnas retrain'"),
    "config torn": (["search", "--config", "torn.json"], "not valid JSON"),
    "config twice": (["search", "--config", "twice.json"], "'format' is there twice"),
    "config list": (["search", "--config", "list_config.json"], "JSON object"),
    "config deep": (["search", "--config", "list.json"], "not valid JSON"),
    "config unnamed": (["search", "--config"], "--config needs the name of a file"),
    "two configs": (
        ["search", "--config", "other.json", "--config", "newer.json"],
        "once only",
    ),
}
DATA = {
    "absent.npz": "absent.npz",
    "cut.npz": "damaged",
    "flipped.npz": "damaged",
    "text.npz": "cannot be read without pickle",
    "empty.npz": "no .npz file",
    "none.npz": "got none",
    "foreign.npz": "notes.txt",
    "pickled.npz": "pickle",
    "nan.npz": "not finite",
    "float.npz": "np.round(images * 255)",
    "tiny.npz": "at least 8x8",
    "flat.npz": "[N, H, W]",
    "short.npz": "equally many",
    "negative.npz": "got -1",
    "gap.npz": "none of class 1",
    "one_class.npz": "num_classes must be >= 2",
    "float_labels.npz": "must be integers",
    "one_hot.npz": "argmax",
    "constant.npz": "constant channel",
    "split.npz": "none of class 3",
    "empty.txt": "empty.txt",
    "latin.txt": "UTF-8",
    "cut.txt.gz": "cut.txt.gz",
    "tfds:absent_set": "absent_set",
    "empty_folder": "empty_folder",
    "classes": "a.png",
    "cifar-10-python.tar.gz": "cifar-10-python.tar.gz",
    "genotype.json": "genotype.json",
}
OTHERS = {
    "genotype unknown": (["retrain", "DARTS_V3"], "DARTS_V2"),
    "genotype code": (["retrain", "Genotype(normal=__import__('os'))"], ""),
    "genotype torn": (["retrain", CELL[:40]], ""),
    "genotype format": (["retrain", "genotype.json"], "format"),
    "genotype deep": (["retrain", "list.json"], ""),
    "data not of the search": (["retrain", "searched"], "give --data good.npz"),
    "recipe unknown": (["retrain", "DARTS_V2", "--recipe", "dartz"], "'darts'"),
    "report of nothing": (["report", "empty_folder"], "empty_folder"),
    "report of a file": (["report", "file"], "file"),
    "evaluate nothing": (["evaluate", "absent.npz"], "absent.npz"),
    "evaluate a foreign file": (["evaluate", "good.npz"], "good.npz"),
    "export unknown": (["export", "DARTS_V3"], "DARTS_V2"),
    "export style": (["export", "DARTS_V2", "--as", "torch"], "linen"),
    "prepare nothing": (["prepare", "cifar10", "--from", "no.tar.gz"], "no.tar.gz"),
    "prepare foreign": (["prepare", "cifar10", "--from", "good.npz"], "good.npz"),
}


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    _world(folder)
    before = os.getcwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
        patch.delenv("JNAS_DATA", raising=False)
        patch.setenv("XDG_DATA_HOME", str(folder / "none"))
        yield folder
    os.chdir(before)


def refused(words, message, capsys):
    with contextlib.suppress(SystemExit):
        assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jnas: "), captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert message in captured.err, captured.err
    assert len(captured.err) < 700 and "Traceback" not in captured.err


@pytest.mark.parametrize("case", SEARCH)
def test_search(case, capsys):
    refused(*SEARCH[case], capsys)


@pytest.mark.parametrize("name", DATA)
def test_data(name, capsys):
    refused(["search", "--data", name, *SMALL, "--workdir", "w"], DATA[name], capsys)
    assert not pathlib.Path("w").exists()  # nothing was begun


@pytest.mark.parametrize("case", OTHERS)
def test_other_commands(case, capsys):
    refused(*OTHERS[case], capsys)


def test_config_starts_a_run_and_options_go_before_it(world, capsys, monkeypatch):
    """What the file says is what runs; only the place of the run is left out."""
    from jnas.cli import search

    seen = []
    monkeypatch.setattr(search, "run", seen.append)
    text = config.text("search", Search(epochs=7, data="good.npz", baselines=False))
    (world / "run.json").write_text(text)
    (world / "old").mkdir()
    (world / "old" / "config.json").write_text(text)
    assert cli.main(["search", "--config", "run.json", "--epochs", "20"]) == 0
    assert cli.main(["search", "--config=old", "--baselines"]) == 0
    expected = Search(epochs=20, data="good.npz", baselines=False)
    assert seen == [expected, Search(epochs=7, data="good.npz")]
    assert capsys.readouterr().err == ""
