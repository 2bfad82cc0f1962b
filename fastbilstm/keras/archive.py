"""Archives with limits: .keras, a zip of config.json, metadata.json and model.weights.h5; zips of a SavedModel folder.

Imports no h5py.
"""

import contextlib
import io
import json
import struct
import zipfile
import zlib

from ..errors import FileFormatError
from .hdf5 import FREE_BYTES, MAX_RATIO, Budget, size_of
from .other_files import Seen, what_it_is

_MAX_JSON = 256 << 20
_ASSETS, _VOCABULARY = "assets/", "/vocabulary.txt"


@contextlib.contextmanager
def open_archive(source, label, kind):
    """Give (names of the members, a function that reads one: name, limit in bytes or None -> bytes).

    Raises FileFormatError for damaged archives, members that unpack to far more than is stored, and paths that leave
    the archive. `kind`: what messages call it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            names = archive.namelist()
            for name in names:
                if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
                    raise FileFormatError(f"{label}: member {name!r} leaves the archive; refused")
            if len(set(names)) != len(names):
                raise FileFormatError(f"{label}: the archive holds a member twice")
            budget = Budget(size_of(source))
            members = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.compress_size for info in members) > budget.stored:
                raise FileFormatError(f"{label}: its members claim more stored bytes than the archive has; refused")
            yield names, lambda name, limit: _member(archive, name, limit, budget, label)
    except FileFormatError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, struct.error) as error:
        # zipfile says of a file that could not be read that it is no archive.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        raise FileFormatError(f"{label}: damaged {kind} ({cause})") from cause
    except (OverflowError, LookupError, TypeError) as error:
        raise FileFormatError(f"{label}: damaged {kind} ({type(error).__name__})") from error


def read_archive(source, label):
    """Return (config, metadata, weights, vocabularies) of a .keras archive: two dictionaries, the bytes of the HDF5
    file inside, and the vocabularies of lookup layers by their path, such as {"layers/string_lookup": bytes}.

    Raises FileFormatError as `open_archive` does, and for weights stored as .npz with pickled objects.
    """
    with open_archive(source, label, ".keras archive") as (names, read):
        if not {"config.json", "metadata.json", "model.weights.h5"} & set(names):
            raise FileFormatError(f"{label}: {what_it_is(Seen(b'', members=tuple(names)))}")
        config = _json(read, "config.json", label)
        metadata = _json(read, "metadata.json", label)
        if "model.weights.h5" not in names:
            hint = " (model.weights.npz is not supported)" if "model.weights.npz" in names else ""
            raise FileFormatError(f"{label}: the archive has no model.weights.h5{hint}")
        slashed = {name: name.replace("\\", "/") for name in names}  # with backslashes: written on Windows
        vocabularies = {
            path[len(_ASSETS) : -len(_VOCABULARY)]: read(name, _MAX_JSON)
            for name, path in slashed.items()
            if path.startswith(_ASSETS) and path.endswith(_VOCABULARY)
        }
        return config, metadata, read("model.weights.h5", None), vocabularies


def _member(archive, name, limit, budget, label):
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise FileFormatError(f"{label}: the archive has no {name}") from error
    if info.flag_bits & 1:
        raise FileFormatError(f"{label}: {name} is encrypted; Keras does not encrypt")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(f"{label}: {name} has compression method {info.compress_type}; Keras stores or deflates")
    too_long = limit is not None and info.file_size > limit
    if too_long or info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
        raise FileFormatError(
            f"{label}: {name} claims {info.file_size} bytes from {info.compress_size} stored ones; refused"
        )
    budget.take(info.file_size, f"{label}: {name}")
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise FileFormatError(f"{label}: {name} holds {len(content)} bytes, its entry says {info.file_size}")
    return content


def _json(read, name, label):
    try:
        return json.loads(read(name, _MAX_JSON))
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{label}: {name} is not valid JSON ({error})") from error
