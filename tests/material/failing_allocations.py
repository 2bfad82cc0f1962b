"""Lets each allocation of compiled code fail in turn, for test_every_allocation.py and what is beside it.

`failing_malloc.c` stands before malloc and fails the calls that the compiled modules make, or what they call: objects
of Cython, arrays of NumPy, locks, the records of a tape. What it watches runs in a process of its own (`run_here`).
"""

import ctypes
import faulthandler
import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import MATERIAL

# CPython before 3.11.7 raises an error without its message where there is no memory for it, in place of MemoryError
# (3.10 and 3.11.2 were seen to): what looks for that error goes on, and must give the right answer.
LOSES = sys.version_info < (3, 11, 7)
STEP = 1 if os.environ.get("FASTBILSTM_FAULTS") == "all" else 12


@pytest.fixture(scope="session")
def failing_malloc(tmp_path_factory):
    """Compiles failing_malloc.c; FAILING_MALLOC names its folder meanwhile."""
    if platform.libc_ver()[0] != "glibc" or shutil.which("gcc") is None:
        pytest.skip("needs gcc and glibc")
    folder = tmp_path_factory.mktemp("failing_malloc")
    source = MATERIAL / "failing_malloc.c"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", folder / "failing_malloc.so"]
    subprocess.run([*command, source], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAILING_MALLOC", str(folder))
        yield


@functools.lru_cache
class Malloc:
    """The functions of failing_malloc.c, which is preloaded; they watch the compiled modules of this package."""

    def __init__(self):
        from fastbilstm import _kernels, _recurrent  # not every build has them

        self.library = ctypes.CDLL(None)
        self.library.watch.argtypes = [ctypes.c_void_p] * 2
        self.library.fail_at.argtypes = [ctypes.c_long]
        self.library.end_of_failing.restype = ctypes.c_long
        self.library.interpreter_is.argtypes = [ctypes.c_void_p]
        run = ctypes.cast(ctypes.pythonapi._PyEval_EvalFrameDefault, ctypes.c_void_p)
        assert self.library.interpreter_is(run)
        modules = {os.path.realpath(module.__file__) for module in (_kernels, _recurrent)}
        with open("/proc/self/maps") as file:
            parts = [line.split() for line in file]
        for place, access, *_, path in (part for part in parts if len(part) == 6):
            if "x" in access and path in modules:
                modules.discard(path)
                assert self.library.watch(*(int(end, 16) for end in place.split("-")))
        assert not modules

    def failing(self, number, call):
        """Let `number` allocations pass and fail the next one: (its number or -1, the answer or None)."""
        self.library.fail_at(number)
        try:
            answer = call()
        except (MemoryError, RuntimeError) as error:
            number = self.library.end_of_failing()
            # What CPython says where there is no memory for a lock.
            if isinstance(error, RuntimeError) and str(error) != "can't allocate lock":
                raise AssertionError(f"allocation {number}: another error than MemoryError") from error
            assert number >= 0, "a MemoryError without a cause"
            return number, None
        except BaseException as error:
            number = self.library.end_of_failing()
            raise AssertionError(f"allocation {number}: another error than MemoryError") from error
        number = self.library.end_of_failing()
        assert number < 0 or LOSES, f"the MemoryError of allocation {number} was lost"
        return number, answer


def arrays_of(y):
    if isinstance(y, list | tuple):
        return [array for part in y for array in arrays_of(part)]
    return arrays_of(list(y.values())) if isinstance(y, dict) else [np.array(y)]


def same(y, k):
    return all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(arrays_of(y), arrays_of(k), strict=True)
    )


def fail_each(name, call, begin=lambda: None, step=STEP):
    """Begin, fail, call again, for every allocation or one in `step`. Prints how many failed."""
    malloc = Malloc()
    begin()
    expected = arrays_of(call())
    begin()
    assert same(call(), expected), f"{name}: not the same when nothing fails"
    number = count = 0
    while True:
        faulthandler.dump_traceback_later(60, exit=True)
        begin()
        failed, answer = malloc.failing(number, call)
        if failed < 0 or answer is not None:
            assert same(answer, expected), f"{name}: wrong while allocation {failed} failed"
        if failed < 0:
            break
        if answer is not None:
            begin()  # states went on
        assert same(call(), expected), f"{name}: wrong after allocation {failed} failed"
        number, count = failed + step, count + 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {count}", flush=True)


def run_here(function):
    """Run a function of a test file in a process of its own with failing_malloc.c before malloc; what it printed."""
    folder, module = Path(os.environ["FAILING_MALLOC"]), function.__module__
    code = f"import faulthandler, {module} as t; faulthandler.enable(); t.{function.__name__}()"
    environment = {
        **os.environ,
        "LD_PRELOAD": str(folder / "failing_malloc.so"),
        "PYTHONMALLOC": "malloc",  # objects, too, come from it
        "PYTHONPATH": os.pathsep.join([str(Path(sys.modules[module].__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    counts = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    return {name: int(count) for name, count in counts.items()}
