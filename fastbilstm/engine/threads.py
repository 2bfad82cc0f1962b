"""How many threads a prediction uses, and locks that survive a fork.

The pool of threads itself is compiled (ext/_threads.pxi). Callers ask for no more threads than the machine has cores.
Imports the standard library and, to call functions on several threads, `_kernels`.
"""

import functools
import importlib.util
import os
import threading
import weakref


@functools.lru_cache(maxsize=1)
def has_compiled_modules() -> bool:
    """Whether fastbilstm was installed with them; where there was no C compiler, it was not."""
    return importlib.util.find_spec("fastbilstm._kernels") is not None


def available() -> int:
    """How many threads a prediction uses by default.

    The least of: the cores that this process may run on (affinity), its share of them (cgroup CPU quota, rounded up),
    and OMP_NUM_THREADS if it is set. One without the compiled modules, which the pool of threads is in.
    """
    if not has_compiled_modules():
        return 1
    try:
        limits = [len(os.sched_getaffinity(0))]
    except AttributeError:
        limits = [os.cpu_count() or 1]
    limits += _own_cgroup_limits(os.getpid())
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if threads.isdecimal() and int(threads) > 0:
        limits.append(int(threads))
    return max(1, min(limits))


@functools.lru_cache(maxsize=1)
def cores():
    """The number of cores of the machine: more threads never gain anything."""
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _own_cgroup_limits(process):
    """The limits of this process, read once: reading takes longer than a small prediction."""
    return tuple(_cgroup_limits())


def _cgroup_limits(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """CPU quotas of this process's cgroup (version 2, or 1) and of those above it, in cores rounded up."""
    limits = []
    try:
        with open(membership) as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except (OSError, ValueError):
        return limits
    for group in groups:
        if len(group) != 3 or (group[1] and "cpu" not in group[1].split(",")):
            continue
        base, parts = root if not group[1] else f"{root}/cpu", [p for p in group[2].split("/") if p]
        for depth in range(len(parts) + 1):
            quota, period = _quota("/".join([base, *parts[:depth]]), not group[1])
            if quota > 0 and period > 0:
                limits.append(-(-quota // period))
    return limits


def _quota(folder, unified):
    """(quota, period) of one cgroup in microseconds; (0, 0) if it has no quota."""
    try:
        if unified:
            with open(f"{folder}/cpu.max") as file:
                quota, period = file.read().split()
        else:
            with open(f"{folder}/cpu.cfs_quota_us") as file, open(f"{folder}/cpu.cfs_period_us") as other:
                quota, period = file.read(), other.read()
        return int(quota), int(period)
    except (OSError, ValueError):  # "max" among them
        return 0, 0


_locks = weakref.WeakSet()


def fork_safe_lock() -> threading.RLock:
    """A lock that is free in the child of a fork, even if a thread of the parent held it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _free_locks():
    for lock in _locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)


def run_together(function, count: int, n_threads: int) -> None:
    """Call function(k) for each k in range(count), in this thread and up to n_threads - 1 others, in any order.

    If one raises (or on Ctrl-C), the others end early; the error is raised when all have ended.
    """
    if n_threads > 1 and has_compiled_modules():
        from .. import _kernels  # many processes do without

        _kernels.run_together(function, count, n_threads)
    else:
        for k in range(count):
            function(k)
