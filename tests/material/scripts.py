"""A script of tools/ or examples/ as a module, as if it were started where it lies. Imports the standard library."""

import importlib.util
import sys


def load_script(path):
    """The module of a script; its folder comes first on sys.path meanwhile, which is as before afterwards."""
    name, before = f"script_{path.stem.strip('_')}", list(sys.path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for the module of their class
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module
