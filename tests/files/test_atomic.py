"""Saving is all or nothing: a full disk, an error, an interrupt or a killed process leave the old file or the new one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from graphnn.files import atomic, load_file, save_file


class Failing:
    """A file that takes `room` bytes, then fails."""

    def __init__(self, file: BinaryIO, room: int, error: BaseException) -> None:
        self.file, self.room, self.error = file, room, error

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *args: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, chunk: bytes | memoryview) -> int:
        if len(chunk) > self.room:
            self.file.write(chunk[:self.room])
            raise self.error
        self.room -= len(chunk)
        return self.file.write(chunk)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error"),
                                   KeyboardInterrupt()], ids=["ENOSPC", "EIO", "interrupt"])
@pytest.mark.parametrize("room", [0, 10, 64, 500, 5000])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException,
                                                    room: int) -> None:
    path = tmp_path / "a.gnn"
    save_file(path, arrays={"a": np.zeros(1000)})
    old = path.read_bytes()
    create = atomic.create
    monkeypatch.setattr(atomic, "create", lambda p: Failing(create(p), room, error))
    with pytest.raises(type(error)):
        save_file(path, arrays={"a": np.ones(1000)})
    with pytest.raises(type(error)):
        save_file(tmp_path / "new.gnn", arrays={"a": np.ones(1000)})
    assert os.listdir(tmp_path) == ["a.gnn"]
    assert path.read_bytes() == old


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failure_at_the_last_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.gnn"
    save_file(path, arrays={"a": np.zeros(3)})
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, step)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=step):
        save_file(path, arrays={"a": np.ones(3)})
    assert os.listdir(tmp_path) == ["a.gnn"]
    assert path.read_bytes() == old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_really_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "create", lambda path: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        save_file(tmp_path / "a.gnn", arrays={"a": np.zeros(3)})


def test_a_missing_or_unwritable_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        save_file(tmp_path / "none" / "a.gnn")
    assert caught.value.filename == str(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|not a directory"):
        save_file(tmp_path / "file" / "a.gnn")


def test_a_link_is_followed_and_the_mode_of_the_file_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.gnn", tmp_path / "link.gnn"
    save_file(real)
    os.chmod(real, 0o640)
    link.symlink_to(real)
    save_file(link, meta={"a": 1})
    assert link.is_symlink()
    assert load_file(real).meta == {"a": 1}
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save_file(tmp_path / "a.gnn")
    finally:
        os.umask(old)
    assert (tmp_path / "a.gnn").stat().st_mode & 0o777 == 0o640


def test_a_relative_name_and_one_without_suffix_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file("plain", meta={"a": 1})
    assert load_file("plain").meta == {"a": 1}


def test_what_killed_saves_left_is_removed_in_time_and_nothing_else(tmp_path: Path) -> None:
    old = [f".a.gnn.12.{'0f' * 8}.tmp", f".a.gnn.99999.{'12' * 8}.tmp"]
    kept = [f".b.gnn.12.{'0f' * 8}.tmp", f".a.gnn.12.{'0f' * 8}.tmp~", ".a.gnn.tmp",
            f".axgnn.12.{'0f' * 8}.tmp", f"a.gnn.12.{'0f' * 8}.tmp"]
    young = f".a.gnn.13.{'ab' * 8}.tmp"
    for name in (*old, *kept, young):
        (tmp_path / name).write_text("x")
        if name != young:
            os.utime(tmp_path / name, (0, 0))
    save_file(tmp_path / "a.gnn", meta={"a": 1})
    assert sorted(os.listdir(tmp_path)) == sorted(["a.gnn", *kept, young])


KILLER = """
import os, random, signal, sys, time
import numpy as np
from graphnn.files import load_file, save_file
path, rounds = sys.argv[1], int(sys.argv[2])
rng = random.Random(3)
save_file(path, arrays={"a": np.zeros(200_000)}, meta={"n": 0})
for round in range(rounds):
    said, says = os.pipe()
    child = os.fork()
    if child == 0:
        n = load_file(path).meta["n"]
        while True:
            n += 1
            save_file(path, arrays={"a": np.full(200_000, n)}, meta={"n": n})
            os.write(says, n.to_bytes(8, "little"))
    time.sleep(rng.uniform(0.005, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(says)
    acknowledged = 0
    while part := os.read(said, 1 << 16):
        acknowledged = int.from_bytes(part[-8:], "little")
    os.close(said)
    file = load_file(path)
    assert file.meta["n"] >= acknowledged, (file.meta, acknowledged)
    assert (file.arrays["a"] == file.meta["n"]).all()
print("saved", file.meta["n"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_killed_while_saving_loses_nothing_that_it_said_was_saved(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLER, str(tmp_path / "a.gnn"), "40"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 0
