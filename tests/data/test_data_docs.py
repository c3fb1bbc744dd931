"""Every Python line of docs/data.md runs, in order, on small files."""

import pathlib
import re

import cifar_archives as archives
import numpy as np
import pytest
import test_data_images as files

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JNAS_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    archives.official(tmp_path, "cifar10", "python")
    files.folder_of(tmp_path / "flowers", height=40, width=50)
    files.write_imagenet16(tmp_path / "ImageNet16")
    np.savez("scans.npz", **files.blobs())
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) >= 10
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert names["train_batch"]["image"].shape == (8, 16, 16, 3)
    assert names["third"][1]["label"].shape == (8,)
    assert len(names["rows"]) == 110
