"""Build the compiled modules under the sanitizers of GCC and run the tests that reach every line of them.

`make sanitize`. One build has AddressSanitizer and UndefinedBehaviorSanitizer, the other ThreadSanitizer; both lie in
build/sanitize, and the package built in place stays as it is. The tests run in as many processes as there are cores.
Needs GCC and the extra `test`; imports the standard library only. What a sanitizer finds ends the process at once.
"""

import concurrent.futures
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "build" / "sanitize"
MEMORY, THREADS = "address,undefined", "thread"
LIBRARIES = {MEMORY: ("libasan.so", "libubsan.so"), THREADS: ("libtsan.so",)}
# detect_leaks=0: CPython and NumPy free much of what they hold only by ending. abort_on_error: pytest's fault handler
# then prints which test it was.
OPTIONS = {
    MEMORY: {
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1",
        "PYTHONMALLOC": "malloc",  # objects, too, have their end watched
    },
    THREADS: {
        "TSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:history_size=7",
        "FASTBILSTM_SOAK": "2000",
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's BLAS is not built for it: what its threads do looks like a race
    },
}
# Sanitizers and arguments of pytest, the longest first. The tests in `ext` and `test_plan.py` run on every instruction
# set; together they reach every line of the kernels. What is left out reaches no line that the others do not.
# Under ThreadSanitizer run those tests that use threads, but those that send signals, fork, or measure times and cores.
UNFIT = "ctrl_c or processes or affinity or cores or rest or short_parts"
JOBS = (
    (THREADS, "engine/test_parallel.py engine/test_threads.py engine/test_late_workers.py", f"not ({UNFIT})"),
    (THREADS, "engine/test_hostile_threads.py", "four_threads or counted or vector-thread"),
    (MEMORY, "ext/test_vector_kernels.py", ""),
    (MEMORY, "engine/test_replay.py engine/test_memory_reuse.py ext/test_scratch.py", "not depth"),
    (MEMORY, "ext/test_shared_steps.py", ""),
    (MEMORY, "ext/test_vector_products.py engine/test_plan.py", "not largest_error"),
    (THREADS, "engine/test_plan.py engine/test_replay.py engine/test_streaming.py", "thread"),
    (THREADS, "ext/test_shared_steps.py engine/test_pending_table.py", ""),
    (THREADS, "ext/test_vector_windows.py ext/test_vector_products.py", "attend or attention or convolve or pool"),
    (MEMORY, "engine/test_memory_errors.py layers/test_multihead.py layers/test_windows.py engine/test_fusion.py", ""),
    (MEMORY, "engine/test_hostile_threads.py", "counted or vector"),
    (MEMORY, "ext/test_activations.py ext/test_lstm_loop.py engine/test_blas_layers.py", ""),
    (MEMORY, "ext/test_vector_windows.py ext/test_vector_arguments.py engine/test_streaming.py", "not golden_models"),
    (MEMORY, "ext/test_narrow_kernels.py engine/test_narrow_nets.py", ""),
    (MEMORY, "ext/test_elementwise_kernels.py engine/test_vector_elementwise.py", ""),
)
# Reads n bytes of a buffer that has 12.
MEMORY_PROBE = """
import ctypes, sys
from fastbilstm import _kernels
x = _kernels.aligned((3,))
ctypes.string_at(x.ctypes.data, int(sys.argv[1]))
print(_kernels.__file__, *_kernels.isas())
"""
# n threads write the same numbers.
THREADS_PROBE = """
import sys, threading
import numpy as np
from fastbilstm import _kernels
matrix, x, out = _kernels.Matrix(np.ones((300, 300))), np.ones((999, 300), "f4"), np.empty((999, 300), "f4")
threads = [threading.Thread(target=matrix.product, args=(x, out)) for _ in range(int(sys.argv[1]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(_kernels.__file__, *_kernels.isas())
"""
# Sanitizers, program, an argument that is right, one that must be found.
PROBES = ((MEMORY, MEMORY_PROBE, 12, 13), (THREADS, THREADS_PROBE, 1, 2))


def fail(message):
    raise SystemExit(f"sanitize: {message}")


def compiler():
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]


def folder(sanitizers):
    """Where a build lies."""
    return BASE / sanitizers.replace(",", "-")


def preloaded(sanitizers):
    """Paths of the runtime libraries of the compiler that builds the modules, and of what they lack."""
    found = []
    for name in LIBRARIES[sanitizers]:
        done = subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True)
        path = done.stdout.strip()
        if done.returncode or not os.path.isabs(path):
            fail(f"{compiler()} has no {name}; GCC with its sanitizers is needed")
        found.append(path)
    if sanitizers == THREADS:
        found.append(str(folder(sanitizers) / "sem_clockwait.so"))
    return found


def build(sanitizers):
    """The package as built afresh."""
    place = folder(sanitizers)
    command = [sys.executable, "setup.py", "build", "--build-base", place, "--build-lib", place / "lib"]
    commands = [command]
    if sanitizers == THREADS:
        library = place / "sem_clockwait.so"
        commands.append([compiler(), "-O1", "-shared", "-fPIC", "-o", library, "tools/sem_clockwait.c"])
    env = {**os.environ, "FASTBILSTM_SANITIZE": sanitizers}
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            fail(f"the build failed\n{done.stdout}")


def python(sanitizers, *command):
    """Run Python with a build, both streams in one; started in its folder, it imports from there first."""
    env = {**os.environ, **OPTIONS[sanitizers], "LD_PRELOAD": " ".join(preloaded(sanitizers))}
    env.pop("PYTHONPATH", None)
    # ThreadSanitizer does not start where the system puts libraries at any address.
    before = ["setarch", "-R"] if sanitizers == THREADS and shutil.which("setarch") else []
    return subprocess.run(
        [*before, sys.executable, *map(str, command)],
        cwd=folder(sanitizers) / "lib",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_that_they_watch(sanitizers, probe, right, wrong):
    """The names of the instruction sets that run here; ends the process if the sanitizers do not watch."""
    good, bad = (python(sanitizers, "-c", probe, argument) for argument in (right, wrong))
    if good.returncode:
        fail(f"the build under {sanitizers} does not run\n{good.stdout}")
    if bad.returncode == 0 or f"{sanitizers.partition(',')[0].title()}Sanitizer" not in bad.stdout:
        fail(f"{sanitizers}: what must be found was not\n{bad.stdout}")
    file, *isas = good.stdout.split()
    if not Path(file).is_relative_to(BASE):
        fail(f"{file} was imported instead of the build under the sanitizers")
    return isas


def run(job):
    """One process of pytest: what it is, its exit status, what it printed, its seconds."""
    sanitizers, files, chosen = job
    start, tests = time.monotonic(), [ROOT / "tests" / name for name in files.split()]
    options = ["-q", "-p", "no:cacheprovider", "--capture=sys", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT]
    done = python(sanitizers, "-m", "pytest", *options, *tests, *(["-k", chosen] if chosen else []))
    return f"{sanitizers}: {files}", done.returncode, done.stdout, time.monotonic() - start


def run_driver():
    """The kernels alone, in C."""
    start, file = time.monotonic(), ROOT / "tests" / "project" / "test_cross_compilers.py"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", file, "-k", "sanitizers"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return "the kernels alone", done.returncode, done.stdout, time.monotonic() - start


def main():
    start, failed = time.monotonic(), 0
    shutil.rmtree(BASE, ignore_errors=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(build, LIBRARIES))
        (isas, _) = pool.map(check_that_they_watch, *zip(*PROBES))
        running = [pool.submit(run, job) for job in JOBS] + [pool.submit(run_driver)]
        for done in concurrent.futures.as_completed(running):
            what, code, output, seconds = done.result()
            last = output.strip().rpartition("\n")[2]
            print(f"{what}: {output if code else last} [{seconds:.0f} s]", flush=True)
            failed += code != 0
    result = f"{failed} of {len(running)} FAILED" if failed else f"nothing found ({', '.join(isas)})"
    print(f"sanitize: {result}, {time.monotonic() - start:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
