"""The C kernels by other compilers and for other machines: without a warning, and run against plain loops in double.

`kernels_driver.c` and `narrow_driver.c` are built natively (GCC, Clang, and under the sanitizers) and for AArch64,
where qemu runs them. For macOS and Windows the files are compiled only, against declarations of the few functions they
call. A compiler or emulator that is missing skips its tests, by name. Debian has them in the packages
gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user and clang.
"""

import os
import re
import shutil
import subprocess

import pytest
from c_headers import HEADERS
from paths import MATERIAL, ROOT

KERNELS = [ROOT / "ext" / f"fbl_{name}.c" for name in ("dispatch", "base", "avx2", "avx512", "neon")]
# What calls the kernels, without vectors of its own.
CALLERS = [ROOT / "ext" / f"fbl_{name}.c" for name in ("windows", "elementwise")]
CELLS = [ROOT / "ext" / f"fbl_cell{name}.c" for name in ("", "_avx2", "_avx512")]
# The programs that run them, with the checks that each makes of an instruction set, at least.
DRIVERS = {"kernels_driver": 600_000, "narrow_driver": 600_000}
WARNINGS = ("-Wall", "-Wextra", "-Werror")
OPTIONS = ("-fno-math-errno", "-fno-trapping-math", "-O3")  # as setup.py compiles
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
# Compiler and options, runner, instruction sets that must have run.
TARGETS = {
    "gcc": (("gcc",), (), ("base",)),
    "clang": (("clang",), (), ("base",)),
    "gcc-sanitizers": (("gcc", *SANITIZERS), (), ("base",)),
    "aarch64-gcc": (("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",), ("neon", "base")),
    "aarch64-clang": (("clang", "--target=aarch64-linux-gnu", "-static"), ("qemu-aarch64",), ("neon", "base")),
}
# An emulated CPU without dot products of bytes.
OLD_CPU = ("-cpu", "cortex-a72")
FREESTANDING = ("-ffreestanding", "-D__MM_MALLOC_H", "-nostdlibinc")
GNU_STYLE = ("clang", *WARNINGS, *OPTIONS, *FREESTANDING, "-c", "-o", "kernel.o")
COMPILED_ONLY = {
    "aarch64-linux-gnu": GNU_STYLE,
    "arm64-apple-macos11": GNU_STYLE,
    "x86_64-apple-macos11": GNU_STYLE,
    "x86_64-pc-windows-msvc": (
        "clang", "--driver-mode=cl", "/W4", "/WX", "/O2", *(f"/clang:{o}" for o in (*OPTIONS[:2], *FREESTANDING)),
        "/c", "/Fokernel.o",
    ),
}  # fmt: skip


def require(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def run(*command, cwd):
    """Output of a command, both streams together; fails with it."""
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def build_drivers(folder, command, *options):
    """The kernels with each driver as a program; a warning fails. GCC 12 for AArch64 crashes on a driver at -O3."""
    include = ("-I", ROOT / "ext")
    for source in (*KERNELS, *CALLERS, *CELLS):
        run(command[0], *WARNINGS, *OPTIONS, *command[1:], *options, *include, "-c", source, cwd=folder)
    for name in DRIVERS:
        driver = MATERIAL / f"{name}.c"
        run(command[0], *WARNINGS, "-O1", *command[1:], *options, *include, "-c", driver, cwd=folder)
        objects = [f"{path.stem}.o" for path in (*KERNELS, *CALLERS, driver)]
        run(*command, *objects, "-lm", "-o", name, cwd=folder)
    return [folder / name for name in DRIVERS]


@pytest.mark.skipif(os.name == "nt", reason="the driver needs posix_memalign")
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_against_plain_loops(target, tmp_path):
    command, runner, isas = TARGETS[target]
    require(command[0])
    if "--target=aarch64-linux-gnu" in command:
        require("aarch64-linux-gnu-gcc")  # brings the C library and the linker
    if command[1:] == SANITIZERS:
        (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
        probe = subprocess.run([*command, "empty.c"], cwd=tmp_path, capture_output=True)
        if probe.returncode:
            pytest.skip(f"needs the sanitizers of {command[0]}")
    drivers = build_drivers(tmp_path, command)
    require(*runner)
    for driver, least in zip(drivers, DRIVERS.values()):
        report = run(*runner, driver, cwd=tmp_path)
        print(report)
        ran = dict(re.findall(r"^(\w+): (\d+) checks, 0 faults", report, re.M))
        assert set(isas) <= set(ran) and all(int(checks) > least for checks in ran.values()), report
    if runner:
        assert ran.keys() == {"neondot", "neon", "base"}
        report = run(*runner, *OLD_CPU, driver, cwd=tmp_path)
        assert re.findall(r"^(\w+): does not run here", report, re.M) == ["neondot"]
        assert re.findall(r"^(\w+): \d+ checks, 0 faults", report, re.M) == ["neon", "base"]


@pytest.mark.parametrize("target", COMPILED_ONLY)
def test_kernels_compile_for(target, tmp_path):
    """Windows with clang-cl, and both kinds of Mac."""
    require("clang")
    for name, text in HEADERS.items():
        (tmp_path / name).write_text(text)
    flag = "/I" if "msvc" in target else "-I"
    include = (f"{flag}{tmp_path}", f"{flag}{ROOT / 'ext'}")
    for source in (*KERNELS, *CELLS):
        command = (*COMPILED_ONLY[target], f"--target={target}", *include)
        run(*command, *(("--",) if "msvc" in target else ()), source, cwd=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="the driver needs posix_memalign")
def test_without_vectors(tmp_path):
    """FBL_NO_VECTORS: the same files hold no kernels, as for a compiler without vector types."""
    require("gcc")
    for driver in build_drivers(tmp_path, ("gcc",), "-DFBL_NO_VECTORS"):
        assert run(driver, cwd=tmp_path) == "no kernels\n"
