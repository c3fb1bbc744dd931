"""Every method through the command line, on digits, in a space that compiles soon."""

import json

import pytest

from jnas import cli, presets, spaces
from jnas.spaces import registry

METHODS = sorted(set(presets.names()) - {"darts_rnn", "gdas_frc"})


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    """Each command in a folder of its own; NAS-Bench-201's cell with one edge."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("COLUMNS", "100")
    operations = spaces.nasbench201().groups[0].operations
    group = spaces.Group("cell", operations, ((0, 1),), 1, (1,))
    space = spaces.Space("small", (group,))
    factories = {**registry._FACTORIES, "small": lambda: space}
    monkeypatch.setattr(registry, "_FACTORIES", factories)


def arguments(method, **options):
    given = {
        "space": "small",
        "epochs": 2,
        "channels": 4,
        "batch_size": 256,
        "retrain_epochs": 0,
        "workdir": "run",
        **options,
    }
    words = ["search", "--method", method]
    for name, value in given.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words


@pytest.mark.parametrize("method", METHODS)
def test_every_method_searches_digits(method, tmp_path, capsys):
    assert cli.main(arguments(method)) == 0
    out = capsys.readouterr().out
    assert f"{method} in space small on digits" in out and "found" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["config"]["search"]["method"] == method
    for name in ("cells.png", "history.png", "arch.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "run" / "report.html").read_text()
    assert method in page
    rows = (tmp_path / "run" / "search" / "metrics.jsonl").read_text().splitlines()
    stages = {"p_darts": 3, "drnas_progressive": 2}.get(method, 1)
    assert len(rows) == 2 * stages
    row = json.loads(rows[-1])
    learns = method not in ("spos", "rsps")
    assert ("arch_entropy" in row) == learns == ("genotype" in row)
    # A published learning rate of other batches is told.
    meant = summary["config"]["search"]["published_batch_size"]
    assert (f"was published for batches of {meant}" in out) == (meant != 256)


@pytest.mark.slow
def test_the_same_command_goes_on_and_keeps_its_result(tmp_path, capsys):
    words = arguments("p_darts")
    assert cli.main(words) == 0
    before = (tmp_path / "run" / "genotype.json").read_text()
    capsys.readouterr()
    assert cli.main(words) == 0
    assert (tmp_path / "run" / "genotype.json").read_text() == before
    assert cli.main(arguments("p_darts", epochs=3)) == 2
    assert "epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_gdas_with_a_fixed_reduction_cell(tmp_path, capsys):
    words = arguments("gdas_frc", space="darts_frc", channels=2, cells=3, epochs=1)
    assert cli.main(words) == 0
    genotype = str(tmp_path / "run" / "genotype.json")
    more = ["--epochs", "1", "--seeds", "1", "--channels", "2", "--cells", "3"]
    assert cli.main(["retrain", genotype, *more, "--data", "digits"]) == 0
    assert "test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("gdas", {"order": 2}, "--order 2 is for methods that have a second order"),
        ("snas", {"second_order": "finite_difference"}, "--second-order"),
        ("gdas_frc", {}, "use space darts_frc"),
        ("gdass", {}, "did you mean 'gdas'"),
        ("pc_darts", {"channels": 3}, "partial_channels"),
    ],
)
def test_bad_options_are_one_line(method, options, message, capsys):
    assert cli.main(arguments(method, **options)) == 2
    err = capsys.readouterr().err.strip()
    assert message in err and len(err.splitlines()) == 1


def test_old_configurations_with_an_order_go_on(tmp_path, capsys):
    config = {
        "format": 1,
        "jnas": "0.1.0",
        "command": "search",
        "arguments": {
            "method": "gdas",
            "space": "small",
            "order": 1,
            "second_order": "exact",
            "epochs": 1,
            "channels": 4,
            "batch_size": 256,
            "retrain_epochs": 0,
        },
    }
    (tmp_path / "old.json").write_text(json.dumps(config))
    assert cli.main(["search", "--config", "old.json", "--workdir", "run"]) == 0
    assert "found" in capsys.readouterr().out
