"""How many threads a prediction may use: affinity, OMP_NUM_THREADS, quotas of cgroups, cores."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from engine_nets import load

from fastbilstm.engine import plan, threads
from fastbilstm.scoring.loop import share_threads


def test_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs os.sched_setaffinity")
    code = (
        "import os; from fastbilstm.engine import threads\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(threads.available())"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3), ("3,2", 3), ("1", 1), ("99", 8), ("0", 8), ("-1", 8), ("many", 8), ("", 8), (None, 8)],
)
def test_omp_num_threads(value, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_own_cgroup_limits", lambda process: ())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.available() == expected


def test_the_least_limit_counts(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_own_cgroup_limits", lambda process: (5, 4))
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads.available() == 4
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available() == 1


CGROUPS = {
    "none": ("0::/a", {}, []),
    "version 2, no quota": ("0::/a", {"a/cpu.max": "max 100000"}, []),
    "version 2": ("0::/a", {"a/cpu.max": "150000 100000"}, [2]),
    "version 2, those above": ("0::/a/b", {"cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, [4, 1]),
    "version 2, inside a container": ("0::/", {"cpu.max": "300000 100000"}, [3]),
    "version 1": (
        "4:memory:/a\n3:cpu,cpuacct:/a",
        {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
        [3],
    ),
    "version 1, no quota": (
        "3:cpu:/a",
        {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"},
        [],
    ),
    "version 1, seen from a container": (
        "3:cpu:/made/up",
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        [1],
    ),
    "both versions": (
        "3:cpu:/a\n0::/b",
        {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000", "b/cpu.max": "300000 100000"},
        [2, 3],
    ),
    "of another controller": ("4:cpuset:/a", {"cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "1"}, []),
    "nonsense": ("0:/a\n\n0::/a", {"a/cpu.max": "lots"}, []),
    "period zero": ("0::/a", {"a/cpu.max": "1 0"}, []),
}


@pytest.mark.parametrize("name", CGROUPS)
def test_cgroup_quota(name, tmp_path):
    membership, files, expected = CGROUPS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert threads._cgroup_limits(str(tmp_path), str(tmp_path / "membership")) == expected


def test_without_cgroups(tmp_path):
    assert threads._cgroup_limits(str(tmp_path), str(tmp_path / "missing")) == []


def test_a_prediction_starts_no_more_threads_than_there_are_cores(workers, monkeypatch):
    """Whatever is asked for, of rows, of the directions of one row or of chunks."""
    model = load("tagger", n_threads=10**5)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(plan, "CHUNK_ROWS", 1)
    x = np.ones((2000, 3, 5), np.float32)
    for cores in (1, 3):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        before = {thread for thread in threading.enumerate() if thread.name == "fastbilstm"}
        model.predict(x), model.predict(x, n_threads=10**6), model(x[:1])
        started = {thread for thread in threading.enumerate() if thread.name == "fastbilstm"} - before
        assert len(started) == len(workers()) == cores - 1
        assert share_threads(model)[0] <= cores and share_threads(model, 10**6)[0] <= cores


def test_cores():
    assert threads.cores() == os.cpu_count()
