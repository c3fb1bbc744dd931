"""What is shown: a bar on a terminal, a few lines elsewhere, or nothing."""

import sys

import pytest
import run_toy as toy

from jnas.run import loop, progress


def run(epochs, **options):
    options = {"steps_per_epoch": toy.STEPS, "images_per_step": 8, **options}
    return loop(toy.step_fn, toy.init_fn, toy.make_feed(), epochs=epochs, **options)


def test_a_line_an_epoch(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    run(3, label="toy")
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"toy: epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert "train_loss " in lines[0] and "train_accuracy " in lines[0]
    assert lines[0].endswith(" images/s") and "noise" not in lines[0]


@pytest.mark.parametrize("epochs", [20, 50, 101])
def test_no_more_than_twenty_lines(capsys, epochs):
    shown = progress.Progress("x", epochs=epochs, steps_per_epoch=1)
    with shown:
        for epoch in range(1, epochs + 1):
            shown.epoch({"epoch": epoch, "step": epoch, "seconds": 1.0})
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 20
    assert lines[-1].startswith(f"x: epoch {epochs}/{epochs}, step {epochs}, 1.0 s")


def test_silent(capfd):
    run(2, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")

    def fail(info):
        print("take care", file=sys.stderr)  # as a warning is shown
        if info.epoch == 3:
            raise RuntimeError("fault")

    with pytest.raises(RuntimeError, match="fault"):
        run(4, label="toy", on_epoch=fail)
    shown = capsys.readouterr().err
    assert "train_loss" in shown and "images/s" in shown and "75%" in shown
    assert shown.count("take care\n") == 3
    assert shown.endswith("\x1b[?25h")  # the cursor is back: the bar was closed
