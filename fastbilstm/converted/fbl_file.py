"""The converted model: one file in safetensors layout, with the graph as JSON in its metadata.

    8 bytes      length N of the header, little-endian
    N bytes      JSON: {name: {dtype, shape, data_offsets}, ..., "__metadata__": {str: str}}
    the rest     the arrays, end to end, without holes

`__metadata__` holds fastbilstm_format (the version of this layout), graph, keras, sha256 and, where there are such,
vector, labels (JSON), text (the name of an array that holds the JSON of a TextEncoder) and weights (narrow_file.py).
Every malformed case has its own error. Imports NumPy; knows nothing of Keras' files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import safe_files
from ..errors import FileFormatError
from ..graph import graph_from_json, graph_to_json
from ..record import Record
from .mapped_file import content_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..graph import Graph
    from .narrow_file import Measured

# The version that is written: of float32 weights, which every release reads, and of narrow ones.
FORMAT_VERSION, NARROW_VERSION = 1, 2
SUFFIX = ".fbl"
_MAX_HEADER = 100_000_000
_MAX_DIGITS = 100
# NumPy has no array of more axes.
_MAX_AXES = 64
_VECTOR = "self-check/"
_TEXT = "text-encoder/json"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class Vector(Record):
    """Inputs and outputs recorded at conversion, and what computed the outputs.

    Attributes
    ----------
    inputs, outputs : tuple of ndarray
        In the order of the model's.
    computed_by : str
        Keras with its version, or the specification of fastbilstm.
    roundings : tuple of float
        For each output, how far NumPy's float32 is from float64, relative to its largest element; () for a model in
        which rounding errors stay small. See `tolerances.ROUNDINGS`.
    quantized : tuple of float
        Of a model with int8 weights, for each output, how far the int8 kernels are from `outputs`, relative to its
        largest element; () where it was not measured. See `tolerances.NARROW_ROOM`.
    """

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]
    computed_by: str
    roundings: tuple[float, ...] = ()
    quantized: tuple[float, ...] = ()


def looks_converted(head: bytes) -> bool:
    """Whether a file that begins with these bytes may be in safetensors layout."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def _digest(header: dict[str, Any], data: Any) -> str:
    """SHA-256 of the arrays and of all the header says, however its JSON is spaced."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "sha256"}
    canonical = json.dumps({**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode())
    digest.update(data)
    return digest.hexdigest()


# ---- writing --------------------------------------------------------------------------------------------------------


def to_bytes(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    vector: Vector | None = None,
    text: bytes | None = None,
    labels: list[str] | None = None,
    weights: str = "float32",
    measured: tuple[Measured, ...] = (),
) -> bytes:
    """The content of a converted file; `text` is the JSON of a TextEncoder in bytes, `labels` a list of str.

    `tensors` are narrowed to the form `weights`; `measured` is what that costs.
    """
    arrays = dict(tensors)
    narrow = weights != "float32"
    metadata = {
        "fastbilstm_format": str(NARROW_VERSION if narrow else FORMAT_VERSION),
        "keras": str(graph.keras),
        "graph": json.dumps(graph_to_json(graph), separators=(",", ":")),
    }
    if narrow:
        from . import narrow_file  # few files hold narrow weights: saves time at start

        arrays, metadata["weights"] = narrow_file.stored(graph, tensors, weights, measured)
    if vector is not None:
        given = {f"input/{k}": array for k, array in enumerate(vector.inputs)}
        given |= {f"output/{k}": array for k, array in enumerate(vector.outputs)}
        counts = {"inputs": len(vector.inputs), "outputs": len(vector.outputs), "computed_by": vector.computed_by}
        strings = [name for name, array in given.items() if array.dtype == object]
        counts |= {"strings": strings} if strings else {}
        counts |= {key: list(getattr(vector, key)) for key in ("roundings", "quantized") if getattr(vector, key)}
        metadata["vector"] = json.dumps(counts)
        arrays.update(
            {_VECTOR + name: _from_strings(array) if name in strings else array for name, array in given.items()}
        )
    if text is not None:
        metadata["text"] = _TEXT
        arrays[_TEXT] = np.frombuffer(text, np.uint8)
    if labels is not None:
        metadata["labels"] = json.dumps(labels)
    header: dict[str, Any] = {"__metadata__": metadata}
    chunks, offset = [], 0
    # Wide elements first, so that every array is aligned to its own size.
    for name in sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key)):
        array = np.ascontiguousarray(arrays[name])
        dtype = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
        if dtype not in _CODES:
            raise FileFormatError(f"array {name!r} has dtype {array.dtype}, which the format does not hold")
        chunk = array.astype(dtype, copy=False).tobytes()
        span = [offset, offset + len(chunk)]
        header[name] = {"dtype": _CODES[dtype], "shape": list(np.shape(arrays[name])), "data_offsets": span}
        chunks.append(chunk)
        offset += len(chunk)
    data = b"".join(chunks)
    metadata["sha256"] = _digest(header, data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text + data


def _from_strings(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Strings (bytes without NUL) as an array of their bytes, padded with NUL."""
    fixed = np.array(array.ravel().tolist() or [b""], np.bytes_)
    return np.frombuffer(fixed.tobytes(), np.uint8).reshape((*array.shape, fixed.dtype.itemsize or 1))


def _to_strings(array: NDArray[Any]) -> NDArray[np.object_]:
    """Inverse of `_from_strings`."""
    rows = array.reshape(-1, array.shape[-1])
    strings = np.empty(len(rows), object)
    strings[:] = [row.tobytes().rstrip(b"\0") for row in rows]
    return strings.reshape(array.shape[:-1])


def write_file(path: str | os.PathLike[str], content: bytes, overwrite: bool) -> None:
    """Write bytes under a temporary name beside `path` and rename it: whole or not at all.

    Raises
    ------
    FileFormatError
        If `path` exists and `overwrite` is false, or cannot be written.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise FileFormatError(f"{path}: is a folder; give the name of a file")
    _refuse_existing(path, overwrite)
    temporary = None
    try:
        with safe_files.create_temporary(path) as file:
            temporary = file.name
            file.write(content)
            safe_files.to_disk(file)
        _refuse_existing(path, overwrite)
        safe_files.publish(temporary, path)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            safe_files.remove(temporary)


def _refuse_existing(path: str, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise FileFormatError(f"{path}: exists already; allow it with overwrite=True (--overwrite) or choose another")


# ---- reading --------------------------------------------------------------------------------------------------------


def _number(digits: str) -> int:
    """A whole number of JSON; one of millions of digits would take minutes, and no size or option has so many."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _option(digits: str) -> int:
    """A whole number of the graph, which NumPy must be able to hold."""
    if not -(2**63) <= (value := _number(digits)) < 2**63:
        raise ValueError(f"the number {digits} is beyond 64 bits")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def read(source: str | bytes, label: str) -> tuple[Graph, dict[str, NDArray[Any]], Vector | None, dict[str, Any]]:
    """Read a converted model from a path or from bytes.

    A file of at most MAPPED_FROM bytes is read into memory: what its SHA-256 was taken of is what runs, whatever
    becomes of the file. A larger one is mapped; whoever keeps its arrays calls `check` of the Mapped after taking over
    what they hold, and again before and after reading them where they lie.

    Returns
    -------
    (Graph, dict of str to ndarray, Vector or None, dict)
        The arrays are read-only views of the content; narrow ones are floats of their own. The dict holds `text`, the
        JSON of a TextEncoder as bytes or None, `labels`, a list of str or None, `mapped`, a Mapped or None, and of a
        file with narrow weights `weights` and `measured`.

    Raises
    ------
    FileFormatError
        For every way in which the file can be malformed, and if its SHA-256 does not match.
    """
    content, mapped = content_of(source, label)
    header, start = _read_header(content, label)
    arrays = _read_arrays(header, content[start:], label)
    metadata = header["__metadata__"]
    if _digest(header, content[start:]) != metadata.get("sha256"):
        raise FileFormatError(f"{label}: its SHA-256 does not match: the file was damaged or changed; convert it again")
    try:
        entry = json.loads(metadata["graph"], parse_int=_option)
    except (KeyError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{label}: its graph is missing or no valid JSON ({error})") from error
    graph = graph_from_json(entry)
    vector = _read_vector(metadata, arrays, label)
    bundle = {**_read_bundle(metadata, arrays, label), "mapped": mapped}
    if int(metadata["fastbilstm_format"]) >= NARROW_VERSION:
        from . import narrow_file  # as in to_bytes

        bundle |= narrow_file.opened(metadata.get("weights"), arrays, graph, label)
    elif "weights" in metadata:
        raise FileFormatError(f"{label}: has an entry weights, which format version {FORMAT_VERSION} does not")
    return graph, arrays, vector, bundle


def _read_header(content: NDArray[np.uint8], label: str) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise FileFormatError(f"{label}: {len(content)} bytes are no converted model (truncated?)")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > _MAX_HEADER:
        raise FileFormatError(f"{label}: claims a header of {length} bytes; at most {_MAX_HEADER} are read")
    if 8 + length > len(content):
        raise FileFormatError(f"{label}: claims a header of {length} bytes, the file has {len(content)} (truncated?)")
    try:
        text = content[8 : 8 + length].tobytes().decode("utf-8")
        header = json.loads(text, object_pairs_hook=_no_duplicates, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{label}: its header is no valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{label}: its header is no JSON object")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"{label}: a safetensors file without fastbilstm's metadata; convert the Keras model")
    version = metadata.get("fastbilstm_format")
    if version is None or not re.fullmatch("[0-9]{1,9}", version):
        raise FileFormatError(f"{label}: a safetensors file, but no converted model (fastbilstm_format is {version!r})")
    if not 1 <= int(version) <= NARROW_VERSION:
        raise FileFormatError(
            f"{label}: has format version {version}; this fastbilstm reads up to {NARROW_VERSION}: upgrade it"
        )
    return header, 8 + length


def _read_arrays(header: dict[str, Any], data: NDArray[np.uint8], label: str) -> dict[str, NDArray[Any]]:
    entries = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise FileFormatError(f"{label}: array {name!r} has no dtype, shape and data_offsets")
        dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise FileFormatError(f"{label}: array {name!r} has dtype {entry['dtype']!r}, which is not supported")
        shape, offsets = entry["shape"], entry["data_offsets"]
        sized = isinstance(shape, list) and len(shape) <= _MAX_AXES
        if not sized or not all(_is_size(size) and size < 2**63 for size in shape):
            raise FileFormatError(f"{label}: array {name!r} has shape {str(shape)[:80]}")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(size) for size in offsets):
            raise FileFormatError(f"{label}: array {name!r} has data_offsets {str(offsets)[:80]}")
        begin, end = offsets
        if not begin <= end <= len(data):
            raise FileFormatError(f"{label}: array {name!r} lies at {begin}..{end}, the data has {len(data)} bytes")
        size = dtype.itemsize
        for length in shape:
            size *= length
        if size != end - begin:
            raise FileFormatError(f"{label}: array {name!r} of shape {shape} needs {size} bytes, it has {end - begin}")
        entries.append((begin, end, name, dtype, shape))
    arrays, position = {}, 0
    for begin, end, name, dtype, shape in sorted(entries, key=lambda item: item[:2]):
        if begin != position:
            what = "overlaps the one before it" if begin < position else "leaves a hole before it"
            raise FileFormatError(f"{label}: array {name!r} at {begin}..{end} {what}")
        array = np.frombuffer(data, dtype, (end - begin) // dtype.itemsize, begin)
        if not array.flags.aligned:
            # Other writers of the layout need not align.
            array = array.copy()
            array.flags.writeable = False
        try:
            arrays[name] = array.reshape(shape)
        except (ValueError, OverflowError) as error:
            raise FileFormatError(f"{label}: array {name!r} has shape {str(shape)[:80]} ({error})") from error
        position = end
    if position != len(data):
        raise FileFormatError(f"{label}: {len(data) - position} bytes at its end belong to no array")
    return arrays


def _read_bundle(metadata: dict[str, str], arrays: dict[str, NDArray[Any]], label: str) -> dict[str, Any]:
    text = labels = None
    if "text" in metadata:
        stored = arrays.pop(metadata["text"], None)
        if stored is None or stored.dtype != np.uint8 or stored.ndim != 1:
            raise FileFormatError(f"{label}: its text encoder {metadata['text'][:40]!r} is no array of bytes in it")
        text = stored.tobytes()
    if "labels" in metadata:
        from ..preprocessing.labels import check_labels  # few files hold labels: saves time at start

        try:
            labels = check_labels(json.loads(metadata["labels"], parse_int=_number))
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{label}: its labels are malformed ({error})") from error
    return {"text": text, "labels": labels}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _errors(entry: dict[str, Any], key: str) -> tuple[float, ...]:
    """One of the entries `roundings` and `quantized` of a vector."""
    found = tuple(float(number) for number in entry.get(key, ()))
    if found and (len(found) != entry["outputs"] or not all(0 <= number <= 1 for number in found)):
        raise ValueError(f"{key} are {list(found)[:5]}")
    return found


def _read_vector(metadata: dict[str, str], arrays: dict[str, NDArray[Any]], label: str) -> Vector | None:
    if "vector" not in metadata:
        return None
    try:
        entry = json.loads(metadata["vector"], parse_int=_number)
        for name in entry.get("strings", ()):
            arrays[_VECTOR + name] = _to_strings(arrays[_VECTOR + name])
        return Vector(
            tuple(np.array(arrays.pop(f"{_VECTOR}input/{k}")) for k in range(entry["inputs"])),
            tuple(np.array(arrays.pop(f"{_VECTOR}output/{k}")) for k in range(entry["outputs"])),
            str(entry["computed_by"]),
            *(_errors(entry, key) for key in ("roundings", "quantized")),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{label}: its self-check vector is malformed ({error})") from error
