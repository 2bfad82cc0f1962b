"""The compiled part of the build: the table of extensions and the one dict of Cython directives.

Everything else about the package is in pyproject.toml. A warning or performance hint of Cython fails the build: the
usual one means that a nogil function takes the GIL. Where there is no C compiler, the package is installed without the
compiled modules, with one warning: models run in NumPy then. A compiler that fails is an error. Environment variables:

    FASTBILSTM_COMPILE=0      without compiled modules and without a warning; the wheel fits every platform
    FASTBILSTM_COMPILE=1      a compiler that is missing is an error, too
    FASTBILSTM_DEBUG=1        bounds checks, -O1 and -g
    FASTBILSTM_SANITIZE=names the same under these sanitizers of GCC, such as address,undefined; see tools/sanitize.py
    FASTBILSTM_NO_VECTORS=1   without the vector kernels, as compilers other than GCC and Clang build it
    FASTBILSTM_CLANG_CL=path  on Windows: compile with clang-cl, for MSVC has no vector types
"""

import contextlib
import io
import os
import pathlib
import shutil

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

COMPILE = os.environ.get("FASTBILSTM_COMPILE", "")
DEBUG = os.environ.get("FASTBILSTM_DEBUG") == "1"
SANITIZE = os.environ.get("FASTBILSTM_SANITIZE")
CHECKED = DEBUG or bool(SANITIZE)
NO_VECTORS = os.environ.get("FASTBILSTM_NO_VECTORS") == "1"
CLANG_CL = os.environ.get("FASTBILSTM_CLANG_CL")

EXTENSIONS = [
    Extension(
        "fastbilstm._recurrent",
        ["ext/_recurrent.pyx", "ext/fbl_cell.c", "ext/fbl_cell_avx2.c", "ext/fbl_cell_avx512.c"],
        include_dirs=["ext"],
    ),
    Extension(
        "fastbilstm._kernels",
        [
            "ext/_kernels.pyx",
            "ext/fbl_dispatch.c",
            "ext/fbl_elementwise.c",
            "ext/fbl_windows.c",
            *(f"ext/fbl_{isa}.c" for isa in ("base", "avx2", "avx512", "neon")),
        ],
        include_dirs=["ext"],
        define_macros=[("FBL_NO_VECTORS", "1")] if NO_VECTORS else [],
    ),
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": CHECKED,
    "initializedcheck": CHECKED,
    "wraparound": False,
    "cdivision": True,
    "autotestdict": False,
    "show_performance_hints": not CHECKED,  # they would ask for boundscheck=False
}

# Errno and the floating-point exception flags are never read after an operation; the loops become vector code only when
# the compiler knows. Neither option changes a value. No -march, -Ofast or -ffast-math: NaN and inf keep their meaning,
# and a wheel runs on every CPU of its architecture.
VECTORIZABLE = ["-fno-math-errno", "-fno-trapping-math"]
SANITIZERS = [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"] if SANITIZE else []
COMPILE_ARGS = {
    "unix": [
        "-Wall",
        "-Wextra",
        *VECTORIZABLE,
        *(["-O1", "-g", "-fno-omit-frame-pointer"] if CHECKED else ["-O3", "-g0"]),
        *SANITIZERS,
    ],
    "msvc": ["/W3", *(["/Od", "/Zi"] if DEBUG else ["/O2"])],
    "clang-cl": ["/W3", *(f"/clang:{arg}" for arg in VECTORIZABLE), *(["/Od", "/Zi"] if DEBUG else ["/O2"])],
}

# Cython 3.3 writes a function that drops the item of a list comprehension where the list cannot grow, and drops it
# again in what calls the function: the item is freed while others use it. Other versions do not write these lines.
APPEND_TO_LIST = (
    b"    int result = PyList_Append(list, x);\n    Py_DECREF(x);\n    return result;\n",
    b"    if (PyList_Append(list, x) < 0)\n        return -1;\n    Py_DECREF(x);\n    return 0;\n",
)


class BuildExt(build_ext):
    """Translate with Cython into the build folder, always afresh: a change of directives changes no time stamp."""

    def build_extensions(self):
        problem = missing_compiler(self.compiler)
        if problem and COMPILE == "1":
            raise SystemExit(f"setup.py: {problem}, and FASTBILSTM_COMPILE is 1")
        if problem:
            self.warn(
                f"{problem}: fastbilstm is installed without its compiled modules. There is no backend 'vector' and "
                "no 'blas'; models run in NumPy, with the same numbers and many times slower."
            )
            self.extensions = []
            return
        kind = self.compiler.compiler_type
        if CLANG_CL and kind == "msvc":
            use_clang_cl(self.compiler)
            kind = "clang-cl"
        for extension in self.extensions:
            extension.sources = translate(extension, self.build_temp)
            extension.extra_compile_args += COMPILE_ARGS.get(kind, COMPILE_ARGS["unix"])
            extension.extra_link_args += SANITIZERS
        try:
            super().build_extensions()
        except CompileError as error:
            hint = "FASTBILSTM_COMPILE=0 installs without the compiled modules: models run in NumPy then"
            raise CompileError(f"{error}; {hint}") from error


def missing_compiler(compiler):
    """Why nothing can be compiled here; None if there is a compiler."""
    if compiler.compiler_type != "msvc":
        program = compiler.compiler_so[0]
        return None if shutil.which(program) else f"there is no C compiler {program!r} on the PATH"
    try:
        if not compiler.initialized:
            compiler.initialize()
    except PlatformError as error:
        return f"there is no C compiler ({error})"
    return None


def use_clang_cl(compiler):
    """Let setuptools' MSVC class run clang-cl, which takes the same options; its `initialize` would find cl.exe."""
    if not compiler.initialized:
        compiler.initialize()
    compiler.cc = shutil.which(CLANG_CL)
    if compiler.cc is None:
        raise SystemExit(f"setup.py: FASTBILSTM_CLANG_CL is {CLANG_CL!r}, which is no program on the PATH")


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
    for source in translated.sources:
        if pathlib.PurePath(build_dir) in pathlib.PurePath(source).parents:
            path = pathlib.Path(source)
            path.write_bytes(path.read_bytes().replace(*APPEND_TO_LIST))
    return translated.sources


if __name__ == "__main__":
    setup(ext_modules=[] if COMPILE == "0" else EXTENSIONS, cmdclass={"build_ext": BuildExt})
