"""show_config(): what this installation can do. Imports nothing outside the standard library and NumPy."""

import importlib.metadata
import platform

import numpy as np

from . import plan
from ._version import __version__

_EXTRAS = {"h5py": "reads Keras files", "PyYAML": "reads YAML architectures", "scipy": "backend blas"}


def show_config(print_fn=print):
    """Print the version, the platform, the backends and the optional packages that are installed."""
    lines = [
        f"fastbilstm {__version__}, Python {platform.python_version()}, {platform.machine()}, NumPy {np.__version__}"
    ]
    problem = plan.blas_problem()
    lines.append(f"backend blas: {'available' if problem is None else problem}")
    lines.append("backend numpy: available")
    for package, purpose in _EXTRAS.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        lines.append(f"{package} ({purpose}): {version}")
    print_fn("\n".join(lines))
