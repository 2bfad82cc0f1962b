"""Threads for compiled code that releases the GIL: how many, and a pool that sleeps when idle.

The pool starts threads only when they are needed, starts again after a fork, and may be used from many threads at once.
Callers ask for no more threads than the machine has cores. The pool has two kinds of threads:

workers  run Python functions. If no worker has begun a task, the thread that waits for it runs it.
helpers  run parts of compiled loops (ext/_helpers.pxi). If none is free, the caller runs all parts.

On Linux, a thread is kept off the core of its caller. Else the scheduler may wake it on that core and leave both there
for many milliseconds, longer than most predictions. A thread that waits for a running task first polls for some 50
microseconds, since waking up takes half of that; then it sleeps. Imports the standard library and, when a task runs,
`_kernels`, which gets the functions for threads from here.
"""

import functools
import os
import threading
import weakref


def available() -> int:
    """How many threads a prediction uses by default.

    The least of: the cores that this process may run on (affinity), its share of them (cgroup CPU quota, rounded up),
    and OMP_NUM_THREADS if it is set.
    """
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


class Stopped(BaseException):
    """Ends work whose result is not needed. `run_together` raises the error that caused it instead."""


class _Team:
    """Functions that run at the same time; the first error ends all of them."""

    def __init__(self, stop):
        self.above, self.stop, self.error = getattr(_local, "team", None), stop, None

    def fail(self, error):
        if self.error is None or isinstance(error, KeyboardInterrupt):
            self.error = error
        if self.stop is not None:
            self.stop()

    def call(self, function):
        before = getattr(_local, "team", None)
        _local.team = self
        try:
            if self.error is None:
                function()
        except BaseException as error:
            self.fail(error)
        finally:
            _local.team = before


# .team: the innermost team that this thread works for.
_local = threading.local()


def check():
    """Raise Stopped if the work of this thread is not needed, since another part has failed or Ctrl-C was pressed.

    Long compiled loops call it every few milliseconds.
    """
    team = getattr(_local, "team", None)
    while team is not None:
        if team.error is not None:
            raise Stopped
        team = team.above


@functools.lru_cache(maxsize=1)
def compiled():
    """The module of the kernels, after it got the functions for threads; None if this build has no kernels."""
    try:
        from .. import _kernels  # at first use: FASTBILSTM_ISA may name no instruction set, which is told then
    except ImportError:
        return None
    _kernels.connect_threads(check, free_helpers)
    return _kernels


class _Task:
    """A function of a team. One thread runs it: a worker, or the thread that waits for it.

    Ctrl-C may interrupt the main thread between any two calls here. So the owner is an RLock, which an interrupted
    thread can take again, and a task notes that it is done.
    """

    def __init__(self, function, team):
        self.function, self.team, self.finished, self.flag = function, team, False, bytearray(1)
        self.owner, self.done = threading.RLock(), threading.Lock()
        self.done.acquire()

    def run(self, worker=None):
        """Run the function; False if another thread has taken it. `worker` is marked free before the task is done."""
        if not self.owner.acquire(blocking=False):
            return False
        function, self.function = self.function, None
        if function is not None:
            self.team.call(function)
            self.finished = True
            if worker is not None:
                worker.busy = False
            if compiled():
                compiled().set_flag(self.flag)
            self.done.release()
        return True

    def finish(self):
        """Run the function, or wait for the thread that has taken it: poll for a moment, then sleep."""
        if (
            self.run()
            or self.finished
            or (compiled() and compiled().wait_for(self.flag, compiled().LOOKS_BEFORE_SLEEP))
        ):
            return
        self.done.acquire()


def _leave_signals():
    """Block signals in this thread: a signal that it received would not wake up the waiting main thread."""
    import signal

    if hasattr(signal, "pthread_sigmask"):
        faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)


def _help(helper, free):
    """The function that a helper thread runs."""
    _leave_signals()
    helper.native_id = threading.get_native_id()
    free.append(helper)
    helper.serve()


def _keep_apart(sleepers):
    """Keep threads off the core of the calling thread, if they may run on others."""
    core = compiled().current_core() if compiled() else -1
    if core < 0 or not hasattr(os, "sched_setaffinity"):
        return
    cores = None
    for sleeper in sleepers:
        if sleeper.core != core:
            cores = cores or os.sched_getaffinity(0) - {core}
            if not cores:
                return
            try:
                os.sched_setaffinity(sleeper.native_id, cores)
            except OSError:
                pass  # another process may have taken these cores away just now: any core is good
            sleeper.core = core


class _Worker:
    """A thread of the pool, the core that it is kept off, and whether it runs a task."""

    def __init__(self, tasks):
        self.tasks, self.core, self.busy = tasks, -1, False
        self.thread = threading.Thread(target=self.work, name="fastbilstm", daemon=True)
        self.thread.start()

    @property
    def native_id(self):
        return self.thread.native_id

    def work(self):
        _leave_signals()
        while True:
            task = self.tasks.get()
            self.busy = True
            task.run(self)
            task, self.busy = None, False


class _Pool:
    def __init__(self):
        self.tasks, self.lock, self.workers = None, threading.Lock(), []
        self.n_helpers, self.free_helpers = 0, []

    @property
    def size(self):
        return len(self.workers)

    def submit(self, tasks):
        """Wake a worker for each task. If no thread can be started, the thread that waits for a task runs it."""
        with self.lock:
            if self.tasks is None:
                # Imported here, like `signal` above: many processes answer once, on one thread.
                from queue import SimpleQueue

                self.tasks = SimpleQueue()
            while self.size < len(tasks):
                try:
                    self.workers.append(_Worker(self.tasks))
                except RuntimeError:
                    break
        _keep_apart([worker for worker in self.workers if not worker.busy])
        for task in tasks[: self.size]:
            self.tasks.put(task)

    def start_helpers(self, count):
        """Start helpers until there are `count`; each is free as soon as it runs."""
        with self.lock:
            while self.n_helpers < count:
                helper = compiled().Helper()
                arguments = helper, self.free_helpers
                try:
                    threading.Thread(target=_help, args=arguments, name="fastbilstm helper", daemon=True).start()
                except RuntimeError:
                    return
                self.n_helpers += 1


_pool = _Pool()
_locks = weakref.WeakSet()


def fork_safe_lock() -> threading.RLock:
    """A lock that is free in the child of a fork, even if a thread of the parent held it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _forget():
    """Start anew in the child of a fork: it has no workers, and no thread that would release a lock."""
    global _pool
    _pool = _Pool()
    for lock in _locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def free_helpers(count):
    """The list of free helpers, kept off the core of the calling thread. A caller that takes one puts it back.

    Starts helpers until there are `count`; a thread that has just been started may not be in the list yet.
    """
    if _pool.n_helpers < count:
        _pool.start_helpers(count)
    _keep_apart(_pool.free_helpers)
    return _pool.free_helpers


def run_together(functions, stop=None):
    """Call all functions at the same time, the first one in this thread, and wait for all of them.

    If one raises (or on Ctrl-C), the others end early: `stop()` is called, and `check` raises in them. The exception is
    raised when all have ended, so nothing runs on afterwards.
    """
    team = _Team(stop)
    tasks = [_Task(function, team) for function in functions]
    while True:
        try:
            if team.error is None:
                _pool.submit(tasks[1:])
            for task in tasks:
                task.finish()
            break
        except BaseException as error:
            team.fail(error)
    _local.team = team.above
    if team.error is not None:
        raise team.error
