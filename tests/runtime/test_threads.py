"""Thread counts from affinity, control groups and requests; forks, exits, and workers that come late or never."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graphnn.errors import NumericsError
from graphnn.runtime import threads
from graphnn.runtime.table import FINE
from tests.runtime.test_executor import build, network, sample, where

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def restore_default(monkeypatch):
    monkeypatch.delenv("GRAPHNN_THREADS", raising=False)
    yield
    threads.set_threads(None)


# ------------------------------------------------------------------------------------------------ how many
def test_the_default_is_what_the_process_may_use():
    assert 1 <= threads.default_threads() <= (os.cpu_count() or 1)
    assert threads.threads() == threads.default_threads()


def test_a_request_wins_over_the_environment_and_that_over_the_default(monkeypatch):
    monkeypatch.setenv("GRAPHNN_THREADS", "3")
    assert threads.threads() == 3
    threads.set_threads(5)
    assert threads.threads() == 5
    threads.set_threads(None)
    assert threads.threads() == 3


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", "100000"])
def test_a_bad_number_of_threads_is_refused(count, monkeypatch):
    with pytest.raises(NumericsError, match=r"set_threads: .* is not a number of threads from 1 to 512"):
        threads.set_threads(count)
    monkeypatch.setenv("GRAPHNN_THREADS", count)
    with pytest.raises(ValueError, match="GRAPHNN_THREADS: "):
        threads.threads()


def group(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a\n", {"a/cpu.max": "400000 100000\n", "cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a\n", {"a/cpu.max": "nonsense\n"}, None),
        (
            "4:cpu,cpuacct:/job\n3:memory:/\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_control_groups_of_both_versions(membership, files, quota, tmp_path):
    (tmp_path / "membership").write_text(membership)
    group(tmp_path / "mount", files)
    (tmp_path / "mount").mkdir(exist_ok=True)
    assert threads.cgroup_quota(tmp_path / "membership", tmp_path / "mount") == quota


def test_no_control_groups_at_all(tmp_path):
    assert threads.cgroup_quota(tmp_path / "none", tmp_path) is None


# ------------------------------------------------------------------------------------------------ forks and exits
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("rounds", range(3))
def test_a_forked_child_has_threads_of_its_own(rounds):
    table, result, _, _keep = network(np.random.default_rng(5), "f32")
    assert table.run(3) == FINE
    expected = result.copy()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            for count in (3, 1, 2):
                result[:] = np.nan
                if table.run(count) != FINE or not np.array_equal(result, expected):
                    os._exit(1)
            pool = threads.pool()
            os._exit(0 if pool is not None and len(pool._workers) == 2 else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    result[:] = np.nan
    assert table.run(3) == FINE
    np.testing.assert_array_equal(result, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_has_the_workers():
    slow = build([(sample("busy", turns=5000), [], 8)])
    counts = np.zeros(8, np.int64)
    mine = build([(sample("count_visits"), [where(counts), 1], 8)])
    stop = threading.Event()

    def keep_running() -> None:
        while not stop.is_set():
            slow.run(2)

    runner = threading.Thread(target=keep_running)
    runner.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                os._exit(0 if mine.run(2) == FINE and (counts == 1).all() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        runner.join()


@pytest.mark.parametrize(
    "ending",
    ["", "raise SystemExit(0)", "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.05)"],
    ids=["end of the program", "SystemExit", "a daemon thread still running tables"],
)
def test_the_interpreter_exits_cleanly(ending):
    code = f"""
import threading, time
from tests.runtime.test_executor import build, sample
table = build([(sample("busy", turns=1000), [], 16)])
other = build([(sample("busy", turns=1000), [], 16)])
table.run(4)
def forever():
    while True:
        other.run(3)
{ending}
"""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_after_exit_has_begun_tables_run_on_their_caller():
    code = """
import atexit
from tests.runtime.test_executor import build, sample
table = build([(sample("busy", turns=10), [], 16)])
atexit.register(lambda: print(table.run(4)))   # runs after graphnn's own handler? no: before it, last in first out
table.run(2)
from graphnn.errors import NumericsError
from graphnn.runtime import threads
threads._at_exit()
print(table.run(4), threads.pool())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["(0, -1) None", "(0, -1)"]


def test_a_keyboard_interrupt_between_calls_does_no_harm():
    code = """
import os, signal, threading, time
import numpy as np
from tests.runtime.test_executor import build, sample, where
counts = np.zeros(16, np.int64)
table = build([(sample("count_visits"), [where(counts), 1], 16), (sample("busy", turns=200), [], 16)])
table.run(3)
main, caught = os.getpid(), 0
def interrupt():
    until = time.monotonic() + 20
    while caught < 10 and time.monotonic() < until:
        time.sleep(0.01)
        os.kill(main, signal.SIGINT)
interrupter = threading.Thread(target=interrupt)
interrupter.start()
while interrupter.is_alive():
    try:
        while interrupter.is_alive():
            table.run(3)
    except KeyboardInterrupt:
        caught += 1
before = counts[0]
assert (counts == before).all()
for _ in range(100):
    assert table.run(3) == (0, -1)
assert (counts == before + 100).all()
assert caught
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ workers
def test_far_more_threads_than_cores():
    counts = np.zeros(200, np.int64)
    table = build([(sample("count_visits"), [where(counts), 1], 200)] * 3)
    for _ in range(20):
        assert table.run(40) == FINE
    assert (counts == 60).all()


def test_workers_that_never_come_are_not_missed(monkeypatch):
    """As if the system never gave them a processor."""
    pool = threads.Pool()
    monkeypatch.setattr(threads.Pool, "_work", lambda self, index: None)
    monkeypatch.setattr(threads, "_pool", pool)
    table, result, expected, _keep = network(np.random.default_rng(6), "f64")
    for _ in range(5):
        assert table.run(4) == FINE
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_parked_workers_are_woken():
    seen = set()
    table = build([(sample("busy", turns=100000), [], 8)])
    for _ in range(3):
        assert table.run(2) == FINE
        pool = threads.pool()
        assert pool is not None
        deadline = threading.Event()
        for _ in range(200):
            if pool.asleep() == len(pool._workers):
                break
            deadline.wait(0.01)
        seen.add(pool.asleep() == len(pool._workers) > 0)
    assert seen == {True}


def test_one_run_at_a_time_has_the_workers():
    pool = threads.Pool()
    assert pool.take(64)
    assert not pool.take(128), "busy"
    pool.give_back(128)
    assert not pool.take(128), "not its own to give back"
    pool.give_back(64)
    assert pool.take(128)


def test_sleepers_and_runs_that_come_at_any_moment():
    """Runs with pauses about as long as a worker's patience: some find it awake, some asleep, some on its way."""
    counts = np.zeros(64, np.int64)
    table = build([(sample("count_visits"), [where(counts), 1], 64), (sample("busy", turns=300), [], 8)])
    runs = 0
    for pause_us in np.random.default_rng(0).uniform(0, 300, 1500):
        until = time.perf_counter_ns() + 1000 * pause_us
        while time.perf_counter_ns() < until:
            pass
        assert table.run(1 + runs % 12) == FINE
        runs += 1
    assert (counts == runs).all()
