"""Modules that call `register_layer` when they are imported: named by the user, or installed under an entry point.

They are code that somebody chose to install or to name; nothing here looks into a model file. Imports nothing else of
the package but its errors.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP = "fastbilstm.layers"
# Held while classes are registered. One for plugins and for `register_layer`, which they call: a fork that took two
# locks in the other order would wait for ever.
LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)
_state = {"discovered": False}


def check_plugins(plugins: object) -> list[str]:
    """A list of names of modules or paths of .py files, or InputError."""
    if isinstance(plugins, (str, os.PathLike)):
        plugins = [plugins]
    if not isinstance(plugins, (list, tuple)) or not all(isinstance(name, (str, os.PathLike)) for name in plugins):
        raise InputError(f"plugins are {plugins!r}; expected a list of names of modules, or paths of .py files")
    return [os.fspath(name) for name in plugins]


def load_plugins(plugins: Iterable[str]) -> None:
    """Import modules, each by its name or by the path of its .py file; those that are imported stay as they are."""
    for name in plugins:
        with LOCK:
            try:
                if name.endswith(".py"):
                    _import_file(os.path.abspath(name))
                else:
                    importlib.import_module(name)
            except Exception as error:  # whatever the module raises
                reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
                raise InputError(f"plugin {name!r} cannot be imported ({reason})") from error


def _import_file(path: str) -> None:
    name = f"fastbilstm_plugin_{os.path.splitext(os.path.basename(path))[0]}"
    if getattr(sys.modules.get(name), "__file__", None) == path:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if not os.path.isfile(path) or spec is None or spec.loader is None:
        raise ImportError("there is no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def discover() -> bool:
    """Load what installed packages name in the entry point group fastbilstm.layers; True if that was done just now.

    Once in a process, when a class is met that is not known. An entry point is a module, or a function that is called.
    """
    with LOCK:
        if _state["discovered"]:
            return False
        _state["discovered"] = True
        from importlib.metadata import entry_points  # takes longer than loading a small model

        for entry in entry_points(group=GROUP):
            try:
                found = entry.load()
                if callable(found):
                    found()
            except Exception as error:  # of a package that this model may not need
                text = f"the entry point {entry.name!r} ({entry.value}) of {GROUP} cannot be loaded"
                warnings.warn(f"{text}: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
        return True
