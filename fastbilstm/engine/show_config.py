"""show_config(): what this installation can do. Imports nothing outside the standard library and NumPy."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from . import backends, threads

if TYPE_CHECKING:
    from collections.abc import Callable

_EXTRAS = {"h5py": "reads Keras files", "PyYAML": "reads YAML architectures", "scipy": "backend blas"}


def config() -> dict[str, Any]:
    """What `show_config` prints, as a dict that goes into JSON."""
    import importlib.metadata  # imports half of the standard library

    vector: dict[str, Any] = {"isa": None, "isas": [], "built": []}
    problem = backends.vector_problem()
    if problem is None:
        from .. import _kernels  # not every build has it

        vector = {"isa": _kernels.isa(), "isas": list(_kernels.isas()), "built": list(_kernels.isas(usable=False))}
    blas = backends.blas_problem()
    packages: dict[str, str | None] = {}
    for package in _EXTRAS:
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            packages[package] = None
    return {
        "fastbilstm": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "backends": {
            "vector": {"problem": None if problem is None else str(problem), **vector},
            "blas": {"problem": None if blas is None else str(blas)},
            "numpy": {"problem": None},
        },
        "threads": threads.available(),
        "packages": packages,
    }


def show_config(print_fn: Callable[[str], Any] = print) -> None:
    """Print the version, the platform, the backends and the optional packages that are installed."""
    found = config()
    vector, blas = found["backends"]["vector"], found["backends"]["blas"]
    lines = [f"fastbilstm {found['fastbilstm']}, Python {found['python']}, {found['machine']}, NumPy {found['numpy']}"]
    if vector["problem"] is None:
        here = ", ".join(vector["isas"])
        lines.append(f"backend vector: available, instruction set {vector['isa']} (FASTBILSTM_ISA: {here})")
        if others := [name for name in vector["built"] if name not in vector["isas"]]:
            lines.append(f"  also built, not for this CPU: {', '.join(others)}")
    else:
        lines.append(f"backend vector: {vector['problem']}")
    lines.append(f"backend blas: {blas['problem'] or 'available'}")
    lines.append("backend numpy: available")
    lines.append(f"threads: {found['threads']} (affinity, cgroup quota, OMP_NUM_THREADS)")
    lines += [
        f"{package} ({purpose}): {found['packages'][package] or 'not installed'}"
        for package, purpose in _EXTRAS.items()
    ]
    print_fn("\n".join(lines))
