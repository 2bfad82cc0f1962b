"""Safe access to HDF5 files: reads what Keras writes, and refuses anything else with an error of ours.

Refused: external, soft and dangling links, external and virtual datasets, object arrays, datasets that claim far more
than the file stores. Imports h5py, which is an optional extra.
"""

import contextlib
import contextvars
import io
import json
import os
import re

import numpy as np

from ..errors import FastBiLSTMError, FileFormatError, MissingExtraError, unless_missing

# Limits against files that claim more than they hold. Arrays above a harmless size may be unpacked to at most this many
# bytes for each byte stored. Keras 3.15 has the same ratio; it does not compress.
MAX_RATIO = 1000
FREE_BYTES = 1 << 20
# The same for all arrays together, or all members of an archive, and each byte of the file: compressed data may be
# compressed again.
MAX_TOTAL_RATIO = 100
# How h5py writes a dtype that HDF5 does not know and that takes two bytes.
OPAQUE = np.dtype("V2")


class Budget:
    """How many bytes may be unpacked from one file altogether."""

    def __init__(self, stored):
        self.stored, self.used = stored, 0

    def take(self, size, label):
        self.used += size
        if self.used > max(FREE_BYTES, MAX_TOTAL_RATIO * self.stored):
            raise FileFormatError(
                f"{label}: with what was read before, it claims more than {MAX_TOTAL_RATIO} times the {self.stored} "
                "bytes stored; refused"
            )


class Stored:
    """An array of a file: its shape is known, its numbers are read when they are asked for."""

    def __init__(self, shape, read):
        self.shape, self.read = tuple(map(int, shape)), read

    @property
    def ndim(self):
        return len(self.shape)

    def converted(self, function, shape=None):
        """What a function makes of the array, of another `shape` if one is given."""
        return Stored(self.shape if shape is None else shape, lambda: function(self.read()))

    @staticmethod
    def joined(parts):
        """Arrays side by side along their last axis."""
        shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        return Stored(shape, lambda: np.concatenate([part.read() for part in parts], axis=-1))


# The budget of the file that is open in this thread.
_budget = contextvars.ContextVar("budget", default=None)


def size_of(source):
    """The size in bytes of a file, given by its path or its content."""
    return len(source) if isinstance(source, bytes) else os.path.getsize(source)


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "convert", "reading a Keras file") from unless_missing(error)
    return h5py


@contextlib.contextmanager
def open_file(source, label, stored=None):
    """Open a path or bytes. Errors of the HDF5 library become FileFormatError; MemoryError stays as it is.

    `stored`: the size of the file that contains this one, if it is part of another.
    """
    h5py = _h5py()
    try:
        stored = size_of(source) if stored is None else stored
        handle = h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r")
    except (OSError, ValueError, RuntimeError, LookupError, OverflowError, TypeError) as error:
        raise FileFormatError(f"{label}: not a readable HDF5 file ({error})") from error
    outer = _budget.set(Budget(stored))
    try:
        with handle:
            yield handle
    except FastBiLSTMError:
        raise
    except (OSError, RuntimeError, LookupError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise FileFormatError(f"{label}: damaged HDF5 file ({type(error).__name__}: {error})") from error
    finally:
        _budget.reset(outer)


@contextlib.contextmanager
def memory_file(label):
    """An empty file in memory, to be filled with arrays that were read."""
    with _h5py().File(f"<{label}>", "w", driver="core", backing_store=False) as handle:
        yield handle


def _text(value, group, name):
    """Decode one string of an attribute: bytes, str, or a NumPy scalar of either."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    try:
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, str):
            value.encode("utf-8")  # h5py turns bytes that are no UTF-8 into surrogates
            return str(value)
    except UnicodeError as error:
        raise FileFormatError(f"attribute {name!r} of group {group.name!r} is not UTF-8 text ({error})") from error
    raise FileFormatError(f"attribute {name!r} of group {group.name!r} holds {str(value)[:60]}; expected strings")


def attribute(group, name):
    """An attribute as str, or None where it is missing."""
    return _text(group.attrs[name], group, name) if name in group.attrs else None


def name_list(group, name, optional=False):
    """A list of strings, also where Keras split it: name, or name0, name1, ...; empty if it may be missing and is."""
    if name in group.attrs:
        chunks = [group.attrs[name]]
    else:
        pattern = re.compile(re.escape(name) + r"[0-9]{1,9}")
        numbers = sorted(int(key[len(name) :]) for key in group.attrs if pattern.fullmatch(key))
        if not numbers and optional:
            return []
        if not numbers:
            raise FileFormatError(f"group {group.name!r} has no attribute {name!r}")
        if numbers != list(range(len(numbers))):
            missing = min(set(range(len(numbers))) - set(numbers))
            raise FileFormatError(f"group {group.name!r} has {name}{numbers[-1]} but no {name}{missing}")
        chunks = [group.attrs[f"{name}{number}"] for number in numbers]
    return [_text(item, group, name) for chunk in chunks for item in np.ravel(chunk)]


def json_attribute(group, name, label):
    """An attribute that holds JSON."""
    try:
        return json.loads(attribute(group, name))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{label}: attribute {name!r} is not valid JSON ({error})") from error


def child(group, path, kind, label):
    """The group or dataset at a relative path below `group`, followed over hard links only."""
    h5py = _h5py()
    where = group
    for part in str(path).split("/"):
        if part in ("", ".", ".."):
            raise FileFormatError(f"{label}: {path!r} is no path of a {kind} below {group.name!r}")
        if not isinstance(where, h5py.Group) or part not in where:
            raise FileFormatError(f"{label}: {kind} {path!r} is missing below {group.name!r}")
        if not isinstance(where.get(part, getlink=True), h5py.HardLink):
            raise FileFormatError(f"{label}: {part!r} below {where.name!r} is a soft or external link; refused")
        where = where[part]
    expected = h5py.Group if kind == "group" else h5py.Dataset
    if not isinstance(where, expected):
        raise FileFormatError(f"{label}: {path!r} below {group.name!r} is no {kind}")
    return where


def find_array(group, path, label):
    """The dataset at a relative path, Stored as an array of float, int or bool; bfloat16 becomes float32.

    What it claims is checked here, before it is read. In .h5 files a dataset does not say that its two opaque bytes are
    bfloat16: then they stay so (dtype V2).
    """
    dataset = child(group, path, "dataset", label)
    name = f"{label}: dataset {dataset.name!r}"
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{name} is stored in other files; refused")
    dtype = dataset.dtype
    is_opaque = dtype == OPAQUE and attribute(dataset, "dtype") in (None, "bfloat16")
    if dtype.kind not in "fiub" and not is_opaque:
        raise FileFormatError(f"{name} has dtype {dtype}; expected numbers")
    if dataset.shape is None:
        raise FileFormatError(f"{name} is empty")
    size = dtype.itemsize
    for length in dataset.shape:
        size *= int(length)
    stored = dataset.id.get_storage_size()
    if size > FREE_BYTES and size > MAX_RATIO * stored:
        raise FileFormatError(f"{name} claims {size} bytes where the file stores {stored}; refused")
    if size and not stored:
        raise FileFormatError(f"{name} claims {size} bytes and the file stores none; refused")
    if (budget := _budget.get()) is not None:
        budget.take(size, name)

    def read():
        array = dataset[()]
        if is_opaque:
            return array if attribute(dataset, "dtype") is None else from_bfloat16(array)
        return np.asarray(array).astype(dtype.newbyteorder("="), copy=False)

    return Stored(dataset.shape, read)


def from_bfloat16(array):
    """The float32 values of bfloat16 bits, which are their upper halves."""
    bits = np.frombuffer(array.tobytes(), "<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(array.shape)


def is_group(group, name):
    """Whether `name` is a group directly below, reached over a hard link."""
    h5py = _h5py()
    return (
        name in group
        and group.get(name, getclass=True, getlink=True) is h5py.HardLink
        and isinstance(group[name], h5py.Group)
    )
