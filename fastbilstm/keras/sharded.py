"""Sharded weights of Keras 3: NAME.weights.json, an index, with NAME_00000.weights.h5 and so on.

The index maps the path of each object, "/layers/dense/vars", to the file or files that hold its arrays. The shards are
joined in memory into one file of the layout of `.weights.h5`.
"""

import contextlib
import errno
import json
import os

from ..checks import read_file
from ..errors import FileFormatError, MissingFileError
from .backslashes import CONTAINERS, with_slashes
from .hdf5 import attribute, child, find_array, is_group, memory_file, open_file, size_of
from .other_files import what_json_is

_MAX_INDEX = 64 << 20


def read_json(source, label):
    """The JSON value of a path or of bytes."""
    try:
        if size_of(source) > _MAX_INDEX:
            raise FileFormatError(f"{label}: JSON of {size_of(source)} bytes; refused")
        return json.loads(source if isinstance(source, bytes) else read_file(source))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{label}: begins like JSON and is none ({error})") from error


def read_index(index, label):
    """The weight map of an index: {path of an object: [file name, ...]}, all names checked to stay in its folder."""
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict):
        raise FileFormatError(f"{label}: {what_json_is(index)}")
    return {_object(key, label): _shards(key, value, label) for key, value in found.items()}


def _object(key, label):
    parts = key.replace("\\", "/").strip("/").split("/")  # with backslashes: written on Windows
    if parts[-1] != "vars" or any(part in ("", ".", "..") for part in parts):
        raise FileFormatError(f"{label}: its weight_map has the entry {key[:80]!r}; expected a path that ends in vars")
    return tuple(parts)


def _shards(key, value, label):
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise FileFormatError(f"{label}: {key[:80]!r} is in {str(value)[:80]}; expected names of files, each once")
    for name in names:
        if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
            raise FileFormatError(f"{label}: the shard {name[:80]!r} is not in the folder of the index; refused")
    return names


@contextlib.contextmanager
def open_sharded(index, path, label):
    """All shards of an index joined: an open HDF5 file in memory, laid out as `.weights.h5`."""
    # Optimizer and metrics are not needed.
    index = {parts: names for parts, names in read_index(index, label).items() if parts[0] in CONTAINERS}
    folder = os.path.dirname(os.path.abspath(path))
    files = sorted({name for names in index.values() for name in names})
    missing = [name for name in files if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        text = f"{label}: the shard {missing[0]!r} is missing ({len(missing)} of {len(files)} are)"
        raise MissingFileError(text, errno.ENOENT, os.strerror(errno.ENOENT), os.path.join(folder, missing[0]))
    prefixes = sorted({parts[:size] for parts in index for size in range(1, len(parts))})
    with memory_file(label) as joined:
        for name in files:
            inside = f"{label}: shard {name}"
            with open_file(os.path.join(folder, name), inside) as file, with_slashes(file, inside) as shard:
                for prefix in prefixes:
                    _copy_name((*prefix, "vars"), shard, joined)
                for parts, names in index.items():
                    if name in names:
                        _copy_arrays(child(shard, "/".join(parts), "group", inside), parts, joined, inside)
        yield joined


def _copy_name(parts, shard, joined):
    """The name of the layer, which may be in another shard than its arrays."""
    group = shard
    for part in parts:
        if not is_group(group, part):
            return
        group = group[part]
    text = attribute(group, "name")
    if text is not None:
        joined.require_group("/".join(parts)).attrs["name"] = text


def _copy_arrays(group, parts, joined, label):
    target = joined.require_group("/".join(parts))
    for name in group:
        if name in target:
            raise FileFormatError(f"{label}: holds '/{'/'.join(parts)}/{name}', as another shard does")
        target.create_dataset(name, data=find_array(group, name, label).read())
