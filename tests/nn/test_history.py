"""History: columns and rows, CSV both ways, the best epoch, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import graphnn as gnn
from graphnn import nn


def filled() -> nn.History:
    history = nn.History()
    history.append({"loss": 0.9, "digit_loss": 0.5, "parity_loss": 0.4})
    history.append({"loss": 0.7, "digit_loss": 0.4, "parity_loss": 0.3, "val_loss": 0.8, "val_digit_accuracy": 0.5})
    history.append({"loss": 0.1 + 0.2, "digit_loss": math.inf, "parity_loss": math.nan, "val_loss": 0.8,
                    "val_digit_accuracy": 1 / 3})
    return history


def test_rows_and_columns() -> None:
    history = filled()
    assert len(history) == 3
    assert history["loss"] == [0.9, 0.7, 0.1 + 0.2]
    np.testing.assert_array_equal(history["val_loss"], [math.nan, 0.8, 0.8])
    assert "val_digit_accuracy" in history
    assert "lr" not in history
    history.amend({"lr": 0.01, "loss": 5})
    np.testing.assert_array_equal(history["lr"], [math.nan, math.nan, 0.01])
    assert (len(history), history.last()["loss"]) == (3, 5.0)
    assert list(history) == list(history.columns)
    assert list(history)[-1] == "lr"
    assert "3 epochs" in repr(history)
    assert repr(nn.History()) == "<History of 0 epochs: empty>"
    assert nn.History().last() == {}


def test_columns_given_are_copied_and_filled() -> None:
    given = {"loss": [1, 2], "late": [3]}
    history = nn.History(given)  # pyright: ignore[reportArgumentType]
    history.append({"loss": 3})
    assert given == {"loss": [1, 2], "late": [3]}
    np.testing.assert_array_equal(history["late"], [3, math.nan, math.nan])


def test_the_best_epoch() -> None:
    history = filled()
    assert history.best("val_loss") == (2, 0.8)
    assert history.best("val_digit_accuracy", "max") == (2, 0.5)
    assert history.best("digit_loss", mode="max") == (3, math.inf)
    history.amend({"never": math.nan})
    for call, words in ((lambda: history.best("never"), "no number for 'never'"), (lambda: history.best("speed"), "no 'speed'"),
                        (lambda: history.best("loss", "least"), "mode is 'least'"),
                        (lambda: nn.History().amend({"lr": 1}), "no epoch yet")):
        with pytest.raises(gnn.errors.VerifyError, match=words):
            call()


def test_csv_both_ways(tmp_path: Path) -> None:
    history = filled()
    history.to_csv(tmp_path / "h.csv")
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,digit_loss,parity_loss,val_loss,val_digit_accuracy"
    assert lines[1] == "1,0.9,0.5,0.4,nan,nan"
    again = nn.History.from_csv(tmp_path / "h.csv")
    assert list(again.columns) == list(history.columns)
    for name, values in history.columns.items():
        np.testing.assert_array_equal(again[name], values)
    nn.History().to_csv(tmp_path / "empty.csv")
    assert len(nn.History.from_csv(tmp_path / "empty.csv")) == 0


@pytest.mark.parametrize(("text", "words"), [
    ("", "must name columns, epoch first"), ("loss,epoch\n1,2\n", "'loss,epoch'"), ("epoch,loss,loss\n", "name columns"),
    ("epoch,loss\n1,0.5\n2\n", "line 3 has 1 fields, the first line 2"),
    ("epoch,loss\n1,fast\n", "line 2: loss is 'fast', no number"),
    ("epoch,\xff\n", "no CSV file"),
])
def test_files_that_are_no_history(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(gnn.errors.FileFormatError, match=words):
        nn.History.from_csv(tmp_path / "h.csv")


def test_a_picture_has_each_quantity_once(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = filled().plot(tmp_path / "h.svg")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "digit_loss", "parity_loss", "digit_accuracy"]
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [
        ["training", "validation"], ["training"], ["training"], ["validation"]]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata()[:, 0], [1, 2, 3])
    assert (tmp_path / "h.svg").read_text().lstrip().startswith("<?xml")


def test_nothing_to_draw_and_nothing_to_draw_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(gnn.errors.VerifyError, match="empty"):
        nn.History().plot()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(gnn.errors.UnsupportedError, match="matplotlib") as caught:
        filled().plot()
    assert "graphnn[train]" in "".join(caught.value.__notes__)
