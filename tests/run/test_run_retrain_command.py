"""``jnas retrain`` and ``jnas evaluate`` as a user meets them."""

import json

import numpy as np
import pytest
import run_networks
from run_networks import CELL

from jnas import cli
from jnas.networks import recipes


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def toy(tmp_path):
    data = run_networks.images()
    parts = (data.train, data.validation, data.test)
    image = np.concatenate([part.image for part in parts])
    label = np.concatenate([part.label for part in parts])
    np.savez(tmp_path / "toy.npz", image=image, label=label)
    return str(tmp_path / "toy.npz")


SMALL = ["--epochs", "4", "--channels", "2", "--batch-size", "16"]


def test_a_searchs_folder_is_retrained_exported_and_evaluated(toy, tmp_path, capsys):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "genotype.json").write_text(CELL.to_json())
    arguments = ["retrain", "found", "--data", toy, "--recipe", "quick", *SMALL]
    arguments += ["--seeds", "1", "--workdir", "x", "--export", "net.npz"]
    arguments += ["--cutout", "2", "--mixup", "0.2", "--label-smoothing", "0.1"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "test accuracy" in out and "exported to net.npz" in out
    about = json.loads((tmp_path / "x" / "seed0" / "result.json").read_text())
    assert about["recipe"]["augment"]["cutout"] == 2
    assert about["recipe"]["mixup"] == 0.2 and about["recipe"]["epochs"] == 4
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["command"] == "retrain" and config["arguments"]["recipe"] == "quick"
    evaluate = ["evaluate", "net.npz", "--data", toy, "--predictions", "p.csv"]
    assert cli.main(evaluate) == 0
    out = capsys.readouterr().out
    assert f"accuracy {about['test_accuracy']:.2%} ±" in out and "12 images" in out
    assert (tmp_path / "p.csv").read_text().count("\n") == 13
    assert cli.main(["evaluate", "x/seed0", "--data", toy, "--split", "train"]) == 0
    assert "train: accuracy" in capsys.readouterr().out


def test_protocol_with_a_recipe_file(toy, tmp_path, capsys, monkeypatch):
    # One of the nine: what they are is tested elsewhere.
    module = "jnas.run.retraining_protocol"
    monkeypatch.setattr(f"{module}._DECAYS", (2.0,))
    monkeypatch.setattr(f"{module}._RATES", (1.0,))
    mine = recipes.get("quick", name="mine", epochs=4, channels=2, batch_size=16)
    (tmp_path / "mine.json").write_text(mine.to_json())
    arguments = ["retrain", str(CELL), "--data", toy, "--recipe", "mine.json"]
    arguments += ["--protocol", "--seeds", "2", "--learning-rate", "0.2"]
    assert cli.main([*arguments, "--workdir", "x"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for part in ("1 settings", "learning_rate=0.2", "weight_decay=0.0006", "±"):
        assert part in out
    assert "to pick the best setting here is to pick on the test split" in out
    about = json.loads((tmp_path / "x" / "protocol.json").read_text())
    assert about["recipe"]["name"] == "mine"
    assert len(about["settings"][0]["test_accuracies"]) == 2
    assert (tmp_path / "x" / "setting1" / "seed1" / "weights.npz").exists()


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--recipe", "dart"], "unknown recipe 'dart': did you mean 'darts'"),
        (["--recipe", "no.json"], "there is no recipe file no.json"),
        (["--recipe", "toy.npz"], "unknown recipe 'toy.npz'"),
        (["--width", "9"], "--width is for recurrent cells only"),
        (["--cells", "3"], "use --cells-per-stage"),
        (["--recipe", "quick", "--cells", "3"], "use cells_per_stage="),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--cutout", "9"], "cutout must be at most the image side (8), got 9"),
        (["--mixup", "-1"], "mixup must be >= 0"),
        (["--auxiliary", "--without-auxiliary"], "exclude each other"),
        (["--protocol", "--export", "n.npz"], "not those of --protocol"),
        (["--export", "n.txt"], "must end in .npz or .safetensors"),
    ],
)
def test_bad_options(toy, more, match, capsys):
    arguments = ["retrain", str(CELL), "--data", toy, *SMALL[2:], *more]
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("jnas: ") and match in lines[-1]


def test_bad_genotypes(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "g.json").write_bytes(b"\xff\xfe\x00")
    for given, match in (
        ("empty", "empty has no genotype.json"),
        ("g.json", "is not a genotype's text or JSON"),
        ("DARTS_V9", "did you mean"),
    ):
        assert cli.main(["retrain", given]) == 2
        assert match in capsys.readouterr().err


def test_evaluating_nothing(capsys):
    assert cli.main(["evaluate", "no.npz"]) == 2
    assert "jnas: there is no file or folder no.npz" in capsys.readouterr().err
