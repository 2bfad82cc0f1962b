"""show_config(): what this installation can do. Imports nothing outside the standard library and NumPy."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from . import plan, threads

if TYPE_CHECKING:
    from collections.abc import Callable

_EXTRAS = {"h5py": "reads Keras files", "PyYAML": "reads YAML architectures", "scipy": "backend blas"}


def show_config(print_fn: Callable[[str], Any] = print) -> None:
    """Print the version, the platform, the backends and the optional packages that are installed."""
    import importlib.metadata  # imports half of the standard library

    lines = [
        f"fastbilstm {__version__}, Python {platform.python_version()}, {platform.machine()}, NumPy {np.__version__}"
    ]
    problem = plan.vector_problem()
    if problem is None:
        from .. import _kernels  # not every build has it

        here, built = _kernels.isas(), _kernels.isas(usable=False)
        lines.append(f"backend vector: available, instruction set {_kernels.isa()} (FASTBILSTM_ISA: {', '.join(here)})")
        if here != built:
            lines.append(f"  also built, not for this CPU: {', '.join(name for name in built if name not in here)}")
    else:
        lines.append(f"backend vector: {problem}")
    problem = plan.blas_problem()
    lines.append(f"backend blas: {'available' if problem is None else problem}")
    lines.append("backend numpy: available")
    lines.append(f"threads: {threads.available()} (affinity, cgroup quota, OMP_NUM_THREADS)")
    for package, purpose in _EXTRAS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        lines.append(f"{package} ({purpose}): {version}")
    print_fn("\n".join(lines))
