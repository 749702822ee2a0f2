"""The command line: what it prints, its exit status, what it imports, and errors without tracebacks."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import graphnn
from graphnn import ir
from graphnn.cli import main
from graphnn.files import save_file
from graphnn.ir.graph import Graph
from graphnn.ir.interpret import interpret
from graphnn.runtime.state import State
from tests.inspect.networks import network, training

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A saved model whose arrays are not all zero."""
    graph, state = network(), State(0)
    state.add(graph)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=array.shape).astype(np.float32) for name, array in state.arrays().items()}
    path = tmp_path / "tiny.gnn"
    save_file(path, graphs={"model": graph}, arrays=arrays, meta={"seed": 0})
    return path


def test_show_prints_summary_and_text(model: Path, capsys: Capture) -> None:
    assert main(["show", str(model)]) == 0
    out = capsys.readouterr().out
    assert f"{model}: format 1.0" in out
    assert "meta: seed=0" in out
    assert "conv2d      conv2d, add, relu  f32[N,6,6,4]          40     160 B  2.88k*N" in out
    assert "%1 = add(%0, %conv2d/bias) : f32[N,6,6,4]" in out


def test_show_the_summary_alone(model: Path, capsys: Capture) -> None:
    assert main(["show", "--summary", str(model)]) == 0
    assert "return" not in capsys.readouterr().out


def test_show_one_graph_of_several(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "two.gnn"
    save_file(path, graphs={"a": network(), "b": training()})
    assert main(["show", "--graph", "b", str(path)]) == 0
    out = capsys.readouterr().out
    assert "sgd" in out
    assert "graph tiny" not in out
    assert main(["show", "--graph", "c", str(path)]) == 1
    assert "has no graph 'c'; it has a, b" in capsys.readouterr().err
    assert main(["plot", str(path)]) == 1
    assert "--graph NAME" in capsys.readouterr().err


def test_a_graph_as_text_can_be_shown_and_drawn(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "g.txt"
    path.write_text(f"# the graph before a pass\n{training()}\n", encoding="utf-8")
    assert main(["show", str(path)]) == 0
    assert "sgd" in capsys.readouterr().out
    assert main(["plot", str(path)]) == 0
    assert ET.parse(tmp_path / "g.svg").getroot().tag.endswith("svg")


def test_plot_writes_an_svg(model: Path, tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "out.svg"
    assert main(["plot", str(model), "-o", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    assert "conv2d" in "".join(ET.parse(target).getroot().itertext())


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_run_gives_what_the_graph_means(model: Path, tmp_path: Path, backend: str, capsys: Capture) -> None:
    image = np.random.default_rng(1).normal(size=(3, 8, 8, 1))          # float64: converted at the door
    np.savez(tmp_path / "in.npz", image=image)
    target = tmp_path / "out.npz"
    assert main(["run", str(model), str(tmp_path / "in.npz"), "-o", str(target), "--backend", backend]) == 0
    assert "output: f32[3,10], 120 B" in capsys.readouterr().out
    file = graphnn.files.load_file(model)
    expected = interpret(file.graphs["model"], {"image": image.astype(np.float32), **file.arrays}).outputs[0]
    with np.load(target) as results:
        np.testing.assert_allclose(results["output"], expected, rtol=1e-5, atol=1e-5)


def test_run_with_a_bare_array_and_several_outputs(tmp_path: Path, capsys: Capture) -> None:
    x = ir.placeholder("x", "f32[N]")
    save_file(tmp_path / "two.gnn", graphs={"g": Graph.of("g", [x], [x + 1, x * 2])})
    np.save(tmp_path / "x.npy", np.arange(3, dtype=np.float32))
    model, given, target = (str(tmp_path / name) for name in ("two.gnn", "x.npy", "y.npz"))
    assert main(["run", model, given, "-o", target, "--backend", "numpy"]) == 0
    assert capsys.readouterr().out.splitlines() == ["output_0: f32[3], 12 B", "output_1: f32[3], 12 B"]
    with np.load(tmp_path / "y.npz") as results:
        assert results["output_1"].tolist() == [0.0, 2.0, 4.0]


def test_verify(model: Path, capsys: Capture) -> None:
    assert main(["verify", str(model)]) == 0
    assert "good" in capsys.readouterr().out
    data = bytearray(model.read_bytes())
    data[-70] ^= 1
    model.write_bytes(data)
    assert main(["verify", str(model)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "graphnn: FileFormatError" in captured.err


def save_objects(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(("name", "make", "words"), [
    ("wrong.npz", lambda p: np.savez(p, picture=np.zeros(3)), "'image' is missing"),
    ("more.npz", lambda p: np.savez(p, image=np.zeros((1, 8, 8, 1)), x=np.zeros(1)), "'x' is none of them"),
    ("shape.npz", lambda p: np.savez(p, image=np.zeros((1, 9, 8, 1))), "image"),
    ("words.npz", lambda p: np.savez(p, image=np.array(["a"])), "no numbers"),
    ("noise.npz", lambda p: p.write_bytes(b"PK\x03\x04 nothing"), "no readable .npz"),
    ("empty.npz", lambda p: p.write_bytes(b""), "no readable .npz"),
    ("pickle.npy", save_objects, "no readable .npz"),
    ("absent.npz", lambda p: None, "No such file"),
])
def test_bad_inputs_are_one_message(model: Path, tmp_path: Path, capsys: Capture, name: str, make: object, words: str) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    status = main(["run", str(model), str(tmp_path / name), "-o", str(tmp_path / "o.npz"), "--backend", "numpy"])
    err = capsys.readouterr().err
    assert status == 1
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"graph ", b"graph g(%x: f32[N]) { return %y }", b"graph \xff", b"# nothing"])
def test_files_that_are_no_models(tmp_path: Path, capsys: Capture, content: bytes) -> None:
    path = tmp_path / "bad.gnn"
    path.write_bytes(content)
    for command in ("show", "verify", "plot"):
        assert main([command, str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("graphnn: ")
        assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["show"], ["paint", "x"], ["run", "a", "b"], ["cache"], ["cache", "burn"]])
def test_commands_that_are_not_understood(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_version_and_help(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert graphnn.__version__ in out
    assert all(word in out for word in ("show", "plot", "run", "verify", "cache"))


def test_the_kernel_store_can_be_looked_at_checked_and_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("GRAPHNN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("GRAPHNN_CACHE", raising=False)
    assert main(["cache", "info"]) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "kernels") in out
    assert "kernels   0" in out
    entry = tmp_path / "kernels" / ("ab" * 32)
    entry.mkdir(parents=True, mode=0o700)
    (tmp_path / "kernels").chmod(0o700)
    (entry / "kernel.o").write_bytes(b"not a kernel")
    assert main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert "1 kernels, 1 damaged" in captured.out
    assert "ab" * 32 in captured.err
    assert main(["cache", "clear"]) == 0
    assert "1 kernels removed" in capsys.readouterr().out
    assert main(["cache", "verify"]) == 0


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "graphnn", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_as_a_process(model: Path) -> None:
    good = process("show", str(model))
    assert (good.returncode, good.stderr) == (0, "")
    bad = process("show", str(model) + ".nothing")
    assert bad.returncode == 1
    assert "No such file" in bad.stderr
    assert process("nonsense").returncode == 2


def test_show_plot_and_verify_import_nothing_heavy(model: Path, tmp_path: Path) -> None:
    code = ("import sys; from graphnn.cli import main; a = sys.argv[1:]; "
            "assert main(['show', a[0]]) == main(['plot', a[0], '-o', a[1]]) == main(['verify', a[0]]) == 0; "
            "print([m for m in ('numba', 'llvmlite', 'networkx') if m in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code, str(model), str(tmp_path / "g.svg")], capture_output=True, text=True,
                            timeout=120, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_stops_early_is_no_error(model: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", (
        "import sys; from graphnn.cli import main; "
        "sys.exit([main(['show', sys.argv[1]]) for _ in range(300)][-1])"), str(model)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert "Traceback" not in child.stderr.read()
