"""The command ``jnas tables``: what it prints, writes and refuses."""

import compact
import numpy as np
import official
import pytest

from jnas import cli, tabular
from jnas.tabular import files


@pytest.fixture
def folder(tmp_path):
    return official.nats_folder(
        tmp_path / "NATS-tss-simple", official.ARCHS, official.CONTENTS
    )


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the program; returns its status and what it printed."""
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        status = cli.main(["tables", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_command_converts_and_lists(command, folder, tmp_path, monkeypatch):
    status, out, _ = command("list")
    assert status == 0 and out.count("jnas tables convert") == 2
    status, out, _ = command("convert", "nasbench201", folder)
    written = tmp_path / "user" / "jnas" / "tables" / "nasbench201.npz"
    assert status == 0 and out == f"wrote {written}\n" and written.is_file()
    status, out, _ = command("list")
    assert status == 0 and "cifar10, cifar100, imagenet16" in out
    assert str(written) in out.replace("\n", "") and " 4 " in out
    # Elsewhere, where JNAS_DATA finds it first.
    path = official.write101(tmp_path / "t.tfrecord", official.records101()[0])
    status, out, _ = command("convert", "nasbench101", path, "--to", tmp_path / "there")
    assert status == 0
    monkeypatch.setenv("JNAS_DATA", str(tmp_path / "there"))
    assert len(tabular.nasbench101()) == 7 and len(tabular.nasbench201()) == 4
    written.write_bytes(b"broken")
    status, out, _ = command("list")
    assert status == 0 and "damaged or no .npz file" in out and " 7 " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "nasbench301", "."], "unknown table to convert 'nasbench301'"),
        (["convert", "nasbench201", "nothing"], "there is no nothing"),
        (["convert", "nasbench201", "."], "no folder with meta.pickle.pbz2"),
        (["convert", "nasbench101", "."], "cannot read ."),
        (["convert", "nasbench201", "bad.npz"], "damaged or no .npz file"),
        (["convert", "nasbench201", "good.npz", "--to", "bad.npz"], "is no folder"),
        (["convert", "nasbench201", "good.npz", "--workers", "0"], "workers must be"),
        (["convert"], "Missing from jnas tables convert"),
        ([], "Expected one of {convert, list}"),
        (["remove"], "remove"),
    ],
)
def test_command_errors_are_one_line(
    command, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"bad")
    np.savez("good.npz", **compact.arrays201())
    before = sorted(tmp_path.rglob("*"))
    status, out, err = command(*arguments)
    assert status == 2 and not out
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("jnas: ") and message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_default_folder_is_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("JNAS_DATA", raising=False)
    path = files.write(files.default_folder() / "x.npz", {"a": np.zeros(2)})
    assert files.find(["y.npz", "x.npz"]) == path
