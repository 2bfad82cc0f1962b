"""Which backends can compute here, and which one does.

"vector" needs the kernels, which want a C compiler when the package is built, and computes in float32. "blas" needs
SciPy. "numpy" is always there. Imports NumPy; the rest at first use.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from typing import Any

import numpy as np

from ..errors import InputError, MissingExtraError
from . import threads

BACKENDS = ("auto", "vector", "blas", "numpy")
WITHOUT_COMPILED_MODULES = "this fastbilstm was installed without its compiled modules, as it is without a C compiler"


@contextlib.contextmanager
def naming_isa() -> Any:
    """An instruction set in the environment that there is not is an error of ours."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from None


def vector_problem() -> Any:
    """Why backend "vector" cannot be used here: None, or an exception to raise."""
    if not threads.has_compiled_modules():
        return RuntimeError(WITHOUT_COMPILED_MODULES)
    with naming_isa():
        from .. import _kernels  # at first use: FASTBILSTM_ISA may name no instruction set, which is told then

    if _kernels.isa() is None:
        return RuntimeError("this fastbilstm was built without vector kernels: they need GCC or Clang")
    return None


def blas_problem() -> Any:
    """Why backend "blas" cannot be used here: None, or an exception to raise."""
    if not threads.has_compiled_modules():
        return RuntimeError(WITHOUT_COMPILED_MODULES)
    for module, package in (("scipy", "SciPy"), ("threadpoolctl", "threadpoolctl")):
        if importlib.util.find_spec(module) is None:
            return MissingExtraError(package, "blas", 'backend="blas"')
    return None


def choose_backend(backend, dtype, has_products):
    """The backend that computes where `backend` is asked for; an error says what it misses."""
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
    if backend == "auto":
        if dtype == np.float32 and vector_problem() is None:
            return "vector"
        if not threads.has_compiled_modules():
            warnings.warn(  # Python shows it once
                f"{WITHOUT_COMPILED_MODULES}. Models run in NumPy: the same numbers, many times slower. Install a "
                "wheel for this platform, or where there is a C compiler; backend='numpy' says that this is meant",
                RuntimeWarning,
                stacklevel=2,
            )
        return "blas" if has_products and blas_problem() is None else "numpy"
    if backend == "vector" and dtype != np.float32:
        raise InputError(f"backend 'vector' computes in float32, not in {dtype.name}; use 'blas', 'numpy' or 'auto'")
    problem = {"vector": vector_problem, "blas": blas_problem}.get(backend, lambda: None)()
    if problem is not None:
        raise problem
    return backend
