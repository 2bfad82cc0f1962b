"""The compiled part of the build: the table of extensions and the one dict of Cython directives.

Everything else about the package is in pyproject.toml. `FASTBILSTM_DEBUG=1` builds with bounds checks, -O1 and -g.
A warning or performance hint of Cython fails the build: the usual one means that a nogil function takes the GIL.
"""

import contextlib
import io
import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTBILSTM_DEBUG") == "1"

EXTENSIONS = [
    Extension(
        "fastbilstm._recurrent",
        ["ext/_recurrent.pyx", "ext/fbl_cell.c", "ext/fbl_cell_avx2.c", "ext/fbl_cell_avx512.c"],
        include_dirs=["ext"],
    ),
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "autotestdict": False,
    "show_performance_hints": not DEBUG,  # they would ask for boundscheck=False
}

# Errno and the floating-point exception flags are never read after an operation; the loops become vector code only when
# the compiler knows. Neither option changes a value. No -march, -Ofast or -ffast-math: NaN and inf keep their meaning,
# and a wheel runs on every CPU of its architecture.
COMPILE_ARGS = {
    "unix": [
        "-Wall",
        "-Wextra",
        "-fno-math-errno",
        "-fno-trapping-math",
        *(["-O1", "-g"] if DEBUG else ["-O3", "-g0"]),
    ],
    "msvc": ["/W3", *(["/Od", "/Zi"] if DEBUG else ["/O2"])],
}


class BuildExt(build_ext):
    """Translate with Cython into the build folder, always afresh: a change of directives changes no time stamp."""

    def build_extensions(self):
        for extension in self.extensions:
            extension.sources = translate(extension, self.build_temp)
            extension.extra_compile_args += COMPILE_ARGS.get(self.compiler.compiler_type, COMPILE_ARGS["unix"])
        super().build_extensions()


def translate(extension, build_dir):
    """Cython sources of an extension to C; the paths of the C files."""
    from Cython.Build import cythonize

    log = io.StringIO()
    try:
        with contextlib.redirect_stderr(log):
            (translated,) = cythonize(
                [extension], include_path=["ext"], compiler_directives=DIRECTIVES, build_dir=build_dir, force=True
            )
    finally:
        print(log.getvalue(), end="", flush=True)
    if "warning:" in log.getvalue() or "performance hint:" in log.getvalue():
        raise SystemExit(f"setup.py: Cython warned about {extension.sources}, see above")
    return translated.sources


setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildExt})
