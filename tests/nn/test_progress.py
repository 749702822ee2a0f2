"""Progress: plain lines, a bar on a terminal, and silence."""

from __future__ import annotations

import contextlib
import re
import sys

import pytest

from graphnn.nn.progress import Progress, _duration, _numbers


def run(progress: Progress, first: int = 0) -> list[bool]:
    asked: list[bool] = []

    def values() -> dict[str, float]:
        asked.append(True)
        return {"loss": 0.5, "accuracy[0]": 0.75}

    with progress:
        for epoch in range(first, first + 2):
            progress.start_epoch(epoch)
            for done in (3, 6, 7):
                progress.step(done, values)
            progress.end_epoch({"loss": 0.25, "accuracy[0]": 1.0, "lr": 1e-5}, 7)
    return asked


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Progress(2, 7, first_epoch=3), 3) == []                      # numbers are asked for by a bar alone
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    numbers = r"loss 0\.2500  accuracy\[0\] 1\.0000  lr 1\.000e-05"
    assert re.fullmatch(rf"epoch 4/5  {numbers}  [\d,]+ examples/s  \d+\.\d s left", lines[0])
    assert lines[1].startswith("epoch 5/5 ")
    assert lines[1].endswith(" 0.0 s left")


@pytest.mark.parametrize("terminal", [False, True])
def test_silence(terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert run(Progress(2, None, verbose=False)) == []
    assert capsys.readouterr() == ("", "")


def test_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run(Progress(2, 7)) == []


@pytest.mark.parametrize("examples", [7, None])
def test_a_bar_on_a_terminal(examples: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(Progress(2, examples)) == [True]                             # one drawing within a tenth of a second
    shown = capsys.readouterr().out
    for word in ("epoch 1/2", "epoch 2/2", "loss 0.2500", "accuracy[0] 1.0000", "examples/s", "left"):
        assert word in shown
    assert shown.count("left") == 2


def test_lines_on_a_terminal_without_rich(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    run(Progress(2, 7))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_error_inside_stops_the_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    progress = Progress(2, 7)
    with contextlib.suppress(KeyboardInterrupt), progress:
        progress.start_epoch(0)
        raise KeyboardInterrupt
    assert progress._bar.finished or not progress._bar.live.is_started


def test_numbers_and_times_as_people_read_them() -> None:
    assert _numbers({"loss": 0.123456, "lr": 1e-4, "perplexity": 123456.7, "none": 0.0, "bad": float("nan")}) == (
        "loss 0.1235  lr 1.000e-04  perplexity 1.235e+05  none 0.0000  bad nan")
    assert [_duration(s) for s in (0, 4.24, 59.94, 185, 9600)] == ["0.0 s", "4.2 s", "59.9 s", "3 min 5 s", "2 h 40 min"]
