"""Check the wheels in a folder: tags, symbols, sizes, contents, instruction sets; and run each that can be run here.

    python tools/check_wheels.py dist

`make wheels` runs it. Each wheel for this architecture runs in new environments of the Pythons that are found, with the
oldest NumPy promised and the newest, and with nothing on the PATH: a sample of the golden cases, and tests of the
kernels. A wheel for musl runs in the Pythons that are linked to musl, as Alpine's are; where there is none it is loaded
by musl's loader, if that is there (Debian: the package musl). AArch64 runs under qemu, with Debian's Python for it,
where there are qemu and debootstrap (Debian: qemu-user-static, debootstrap): their packages are unpacked to
build/arm64, nothing is installed.

What cannot be run is named. Needs auditwheel, abi3audit, ziglang and packaging; imports wheels.py.
"""

import argparse
import os
import platform as machine
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.utils import parse_wheel_filename
from wheels import PLATFORMS, PYTHONS, ROOT, installed, package_files

MOST_BYTES = 2_000_000
ISAS = {"x86_64": ("avx512", "avx2", "base"), "aarch64": ("neon", "base")}
# The oldest NumPy that each Python has wheels of, from 1.24 on, which pyproject.toml promises.
OLDEST_NUMPY = {(3, 10): "1.24.0", (3, 11): "1.24.0", (3, 12): "1.26.0", (3, 13): "2.1.0", (3, 14): "2.3.2"}
OLDEST_NUMPY_ON_MUSL = {**OLDEST_NUMPY, (3, 10): "1.25.0", (3, 11): "1.25.0"}
FOR_FILES = ("h5py", "PyYAML")  # free-threaded 3.13 has no wheels of them: it runs the tests of kernels alone
# Arguments of pytest: files, and the tests that are chosen of them.
SAMPLE = (
    (("tests/model/test_golden.py",), "test_golden_case and (guide or format or every)"),
    (
        tuple(f"tests/ext/test_{name}.py" for name in ("vector_kernels", "narrow_kernels", "lstm_loop")),
        "not largest_error and not other_threads",
    ),
)
SHOWN = """
import sys, fastbilstm
from fastbilstm import _kernels
from importlib.metadata import distribution
assert fastbilstm.sample_model().classify(["a wonderful film"])[0]["label"] == "pos"
print("gil" if getattr(sys, "_is_gil_enabled", lambda: True)() else "no-gil", *_kernels.isas(usable=False))
print(distribution("fastbilstm").read_text("WHEEL"))
"""
SUFFIX = "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"


class Failed(Exception):
    """A check that a wheel does not pass."""


def run(*command, env=None, **options):
    """The output of a command, both streams together; PYTHONPATH is kept from it, where this project may lie."""
    command = [str(part) for part in command]
    env = env or {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, **options)
    if done.returncode:
        raise Failed(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def expect(condition, message):
    if not condition:
        raise Failed(message)


def target_of(wheel):
    """(Python, name of the platform) of a wheel by its tags; (None, None) of the one for any platform."""
    tags = parse_wheel_filename(wheel.name)[3]
    for python in PYTHONS:
        for name, platform in PLATFORMS.items():
            if {str(tag) for tag in tags} == {f"{python.tag}-{tag}" for tag in platform.tags}:
                return python, name
    expect({str(tag) for tag in tags} == {"py3-none-any"}, f"tags {sorted(map(str, tags))}")
    return None, None


def check_contents(wheel, python, name):
    """Size, files, instruction sets."""
    expect(wheel.stat().st_size <= MOST_BYTES, f"{wheel.stat().st_size} bytes, more than {MOST_BYTES}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modules = {path: archive.read(path) for path in names if path.endswith((".so", ".pyd"))}
    sources = package_files()
    rest = {path for path in names - set(modules) - sources if not re.match(r"fastbilstm-[^/]*\.dist-info/", path)}
    expect(not rest and sources <= names, f"files that do not belong there: {sorted(rest)}")
    if python is None:
        expect(not modules, f"compiled modules: {sorted(modules)}")
        return
    suffix = python.suffix(PLATFORMS[name])
    expected = {f"fastbilstm/{module}{suffix}" for module in ("_kernels", "_recurrent")}
    expect(set(modules) == expected, f"compiled modules {sorted(modules)}, expected {sorted(expected)}")
    for isa in ISAS[name.split("-")[1]]:
        expect(f"\0{isa}\0".encode() in modules[f"fastbilstm/_kernels{suffix}"], f"no kernels of {isa}")


def check_symbols(wheel, python, name):
    """auditwheel finds the tag, abi3audit no function that the stable ABI lacks."""
    told = " ".join(run(sys.executable, "-m", "auditwheel", "show", wheel).split())
    tag = PLATFORMS[name].tags[-1]
    expect(f'platform tag: "{tag}"' in told, f"auditwheel does not find {tag}: {told}")
    if python.abi == "abi3":
        told = run(sys.executable, "-m", "abi3audit", "--strict", "--verbose", wheel)
        told = " ".join(told.split())
        expect("0 ABI version mismatches and 0 ABI violations found" in told, told)


# ---- run -------------------------------------------------------------------------------------------------------------


def interpreters():
    """{(tag of the wheel, whether for musl): {(major, minor): interpreter}} of the Pythons found here."""
    found = {}
    for path in installed("bin/python3.*"):
        number = re.fullmatch(r"python3\.(\d+)(t?)", os.path.basename(path))
        minor, threads = (int(number[1]), number[2]) if number else (0, "")
        for python in PYTHONS:
            fits = python.first <= (3, minor) <= python.last
            if fits and bool(threads) == python.abi.endswith("t"):
                is_musl = "linux-musl" in run(path, "-c", SUFFIX)
                found.setdefault((python.tag, is_musl), {}).setdefault((3, minor), path)
    return found


def check_shown(shown, python, name):
    """pip chose the wheel, its kernels are those of the architecture, and without a GIL it stays so."""
    expected = ["no-gil" if python.abi.endswith("t") else "gil", *ISAS[name.split("-")[1]]]
    tag = f"{python.tag}-{PLATFORMS[name].tags[0]}"
    expect(
        shown.splitlines()[0].split() == expected and f"Tag: {tag}\n" in shown, f"{shown}\nexpected {expected}, {tag}"
    )


def run_sample(python, env, folder, tests):
    """The tests of the sample, by an interpreter (a command) that finds the packages; how many passed."""
    options = ("-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "-o", "addopts=", "-o", "filterwarnings=")
    passed = 0
    for files, chosen in tests:
        report = run(*python, "-m", "pytest", *options, "-k", chosen, *(ROOT / f for f in files), cwd=folder, env=env)
        count = re.search(r"(\d+) passed", report)
        expect(count is not None, report)
        passed += int(count[1])
    return passed


def check_runs(dist, interpreter, version, numpy, target):
    """In a new environment, where pip chooses the wheel: right tag, instruction sets, sample of tests."""
    with tempfile.TemporaryDirectory() as folder:
        run(interpreter, "-m", "venv", folder)
        python = Path(folder, "bin", "python")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:")
        for_files, tests = ((), SAMPLE[1:]) if target[0].abi.endswith("t") else (FOR_FILES, SAMPLE)
        run(*pip, numpy, "pytest", *for_files)
        run(*pip, "--no-index", "--find-links", dist, "fastbilstm")
        env = {"PATH": "/nonexistent", "HOME": folder, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        check_shown(run(python, "-c", SHOWN, cwd=folder, env=env), *target)
        passed = run_sample((python,), env, folder, tests)
        found = run(python, "-c", "import numpy; print(numpy.__version__)").strip()
    return f"Python {'.'.join(map(str, version))}, NumPy {found}: {passed} tests"


ARM64 = ROOT / "build" / "arm64"
DEBIAN = ("--variant=minbase", "--include=python3.11,libpython3.11-stdlib,musl", "bookworm")


def emulator():
    return shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def debian_for_arm64():
    """The folder that holds Debian's Python and musl for arm64; None, and a line that says why, without programs."""
    missing = [name for name in ("debootstrap", "dpkg") if not shutil.which(name)]
    missing += [] if emulator() else ["qemu-aarch64"]
    if missing:
        print(f"wheels for AArch64 are not run: there is no {', '.join(missing)}", flush=True)
        return None
    if not ARM64.exists():
        unfinished = ARM64.with_name("arm64-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        run("debootstrap", "--foreign", "--arch=arm64", *DEBIAN, unfinished)
        for package in sorted(unfinished.glob("var/cache/apt/archives/*.deb")):
            run("dpkg", "-x", package, unfinished)
        unfinished.rename(ARM64)
    return ARM64


def check_aarch64(dist, root, target):
    """Under qemu, with the Python of a Debian root."""
    (interpreter,) = (path for path in Path(root, "usr/bin").glob("python3.*") if path.name[8:].isdecimal())
    version = interpreter.name[6:]
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", folder)
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)]
        pip = (*pip, "--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *platforms)
        run(*pip, "--platform=manylinux2014_aarch64", "numpy", "pytest", *FOR_FILES)
        run(*pip, "--no-index", "--no-deps", "--find-links", dist, "fastbilstm")
        env = {"PATH": "/nonexistent", "HOME": folder, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        python = (emulator(), "-L", root, interpreter)
        check_shown(run(*python, "-c", SHOWN, cwd=folder, env=env), *target)
        passed = run_sample(python, env, folder, SAMPLE)
    return f"AArch64, Python {version}, under qemu: {passed} tests"


LOADER = """#include <dlfcn.h>
#include <stdio.h>
%s
int main(int argc, char** argv) {
    for (int k = 1; k < argc; k++)
        if (!dlopen(argv[k], RTLD_NOW)) {
            puts(dlerror());
            return 1;
        }
    return 0;
}
"""


def check_musl_loads(wheel, arch, loader):
    """musl's loader (a command) finds all but Python's functions, which the program that loads has in name alone."""
    from elftools.elf.elffile import ELFFile

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        paths = [archive.extract(name, folder) for name in archive.namelist() if name.endswith(".so")]
        needed = set()
        for path in paths:
            with open(path, "rb") as file:
                symbols = ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
                needed |= {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and re.match("_?Py", s.name)}
        source, program = Path(folder, "loader.c"), Path(folder, "loader")
        source.write_text(LOADER % "\n".join(f"char {name}[64];" for name in sorted(needed)))
        zig = (sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl", "-O2", "-dynamic", "-rdynamic")
        run(*zig, "-fno-sanitize=undefined", source, "-o", program)
        run(*loader, program, *paths)
        return f"loaded by {Path(loader[-1]).name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dist", type=Path, help="the folder of the wheels")
    args = parser.parse_args()
    dist, failed = args.dist.resolve(), 0
    loaders = {machine.machine(): (f"/lib/ld-musl-{machine.machine()}.so.1",)}
    try:
        here = interpreters()
        arm64 = debian_for_arm64() if machine.machine() == "x86_64" else None
    except Failed as error:
        raise SystemExit(f"check_wheels.py: {error}") from None
    if arm64:
        loaders["aarch64"] = (emulator(), f"{arm64}/lib/ld-musl-aarch64.so.1")
    for wheel in sorted(dist.glob("*.whl")):
        told = []
        try:
            python, name = target_of(wheel)
            check_contents(wheel, python, name)
            if python is not None:
                check_symbols(wheel, python, name)
                arch, is_musl = name.split("-")[1], PLATFORMS[name].is_musl
                if arch == machine.machine():
                    oldest = OLDEST_NUMPY_ON_MUSL if is_musl else OLDEST_NUMPY
                    for version, interpreter in here.get((python.tag, is_musl), {}).items():
                        for numpy in (f"numpy=={oldest[version]}", "numpy"):
                            told.append(check_runs(dist, interpreter, version, numpy, (python, name)))
                elif arm64 and not is_musl and python.tag == "cp311-cp311":
                    told.append(check_aarch64(dist, arm64, (python, name)))
                loader = loaders.get(arch, ("/nowhere",))
                if is_musl and not told and os.path.exists(loader[-1]):
                    told.append(check_musl_loads(wheel, arch, loader))
            print(f"{wheel.name}: {'; '.join(told) or 'contents and symbols; not run'}", flush=True)
        except Failed as error:
            failed += 1
            print(f"{wheel.name}: FAILED: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
