"""Build the compiled modules under AddressSanitizer and UndefinedBehaviorSanitizer and run the tests of the kernels.

`make sanitize`. The build lies in build/sanitize; the package built in place stays as it is. Needs GCC and the extra
`test`; imports the standard library only. Whatever a sanitizer finds ends the process at once.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "build" / "sanitize"
# Tests at odd sizes of everything compiled.
TESTS = ("ext", "engine/test_plan.py", "engine/test_blas_layers.py")
# The golden cases once for each instruction set: masks, merges, attention and every option, at small sizes.
GOLDEN = ("model/test_golden.py", "-k", "test_golden_case and float32")
# detect_leaks=0: CPython and NumPy free much of what they hold only by ending. abort_on_error: pytest's fault handler
# then prints which test it was.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1",
    "PYTHONMALLOC": "malloc",  # objects, too, have their end watched
}
# Reads n bytes of a buffer that has 12.
PROBE = """
import ctypes, sys
from fastbilstm import _kernels
x = _kernels.aligned((3,))
ctypes.string_at(x.ctypes.data, int(sys.argv[1]))
print(_kernels.__file__, *_kernels.isas())
"""


def runtime_libraries():
    """Paths of the two runtime libraries of the compiler that builds the modules."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    found = []
    for name in ("libasan.so", "libubsan.so"):
        done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True)
        path = done.stdout.strip()
        if done.returncode or not os.path.isabs(path):
            raise SystemExit(f"sanitize: {compiler} has no {name}; GCC with its sanitizers is needed")
        found.append(path)
    return found


def build():
    """The folder with the package as built afresh."""
    shutil.rmtree(BASE, ignore_errors=True)
    command = [sys.executable, "setup.py", "build", "--build-base", BASE, "--build-lib", BASE / "lib"]
    env = {**os.environ, "FASTBILSTM_SANITIZE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nsanitize: the build failed")
    return BASE / "lib"


def python(*command, output=False, **variables):
    """Run Python with the sanitized build; started in its folder, it imports from there first."""
    env = {**os.environ, **OPTIONS, "LD_PRELOAD": " ".join(runtime_libraries()), **variables}
    env.pop("PYTHONPATH", None)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if output else {}
    return subprocess.run([sys.executable, *map(str, command)], cwd=BASE / "lib", env=env, **streams)


def check_that_it_works():
    """The names of the instruction sets that run here; ends the process if the sanitizers do not watch."""
    within, beyond = (python("-c", PROBE, size, output=True) for size in (12, 13))
    if within.returncode:
        raise SystemExit(f"{within.stdout}\nsanitize: the build under the sanitizers does not run")
    if beyond.returncode == 0 or "AddressSanitizer" not in beyond.stdout:
        raise SystemExit(f"{beyond.stdout}\nsanitize: a byte was read behind a buffer and AddressSanitizer kept quiet")
    file, *isas = within.stdout.split()
    if not Path(file).is_relative_to(BASE):
        raise SystemExit(f"sanitize: {file} was imported instead of the build under the sanitizers")
    return isas


def main(arguments):
    build()
    isas = check_that_it_works()
    pytest = (
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--capture=sys",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        ROOT,
    )
    tests = [ROOT / "tests" / name for name in TESTS]
    codes = [python(*pytest, *tests, *arguments).returncode]
    for isa in isas:
        print(f"golden cases, {isa}", flush=True)
        codes.append(
            python(*pytest, ROOT / "tests" / GOLDEN[0], *GOLDEN[1:], *arguments, FASTBILSTM_ISA=isa).returncode
        )
    print("the kernels alone", flush=True)
    driver = (*pytest, "-rs", ROOT / "tests" / "project" / "test_cross_compilers.py", "-k", "sanitizers")
    codes.append(subprocess.run([sys.executable, *map(str, driver)], cwd=BASE / "lib").returncode)
    print("sanitize: FAILED" if any(codes) else f"sanitize: nothing found ({', '.join(isas)})")
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
