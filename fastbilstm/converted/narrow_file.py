"""Narrow weights in a converted file: the codes in place of the floats, their scales, and what narrowing costs.

    int8       codes as I8, and an array weight-scale/NAME as F32 that multiplies them
    bfloat16   the upper halves of the floats, as U16
    float16    F16

The entry `weights` of the metadata is JSON: form, arrays (the names of those that are narrow), measured. Imports NumPy.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.narrow_layers import narrow_arrays
from ..engine.weight_forms import FORMS, LARGEST, codes_of, widened
from ..errors import FileFormatError
from ..record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..engine.narrow_layers import Narrow
    from ..graph import Graph

NARROW = tuple(form for form in FORMS if form != "float32")
SCALE = "weight-scale/"
_DTYPES = {"int8": np.int8, "bfloat16": np.uint16, "float16": np.float16}
# Scales have 16 significant bits of 24, and none is smaller.
_LOW_BITS, _SMALLEST = 0xFF, 2.0**-107


class Measured(Record):
    """How far a narrowed model is from its float32 twin on some rows.

    Attributes
    ----------
    rows : str
        Which rows these are.
    largest : tuple of float
        For each output the largest difference.
    relative : tuple of float
        The same over the largest element of the float32 output.
    flips, labels : int
        How many labels differ, of how many: the largest of several classes, the side of 0.5 of one probability.
    """

    rows: str
    largest: tuple[float, ...]
    relative: tuple[float, ...]
    flips: int
    labels: int

    def __str__(self) -> str:
        text = f"on {self.rows} it differs from float32 by up to {max(self.largest, default=0):.3g}"
        return f"{text}, {self.flips} of {self.labels} labels differ" if self.labels else text


# ---- writing --------------------------------------------------------------------------------------------------------


def stored(
    graph: Graph, tensors: Mapping[str, NDArray[Any]], form: str, measured: tuple[Measured, ...]
) -> tuple[dict[str, NDArray[Any]], str]:
    """(the arrays with codes for the narrow ones, the entry `weights`) of tensors that are narrowed already."""
    arrays, names = dict(tensors), []
    for name, this in narrow_arrays(graph).items():
        array = tensors[name]
        if array.dtype.kind != "f":
            continue
        names.append(name)
        arrays[name], scale = codes_of(array, form, this.axes(array))
        if scale is not None:
            arrays[SCALE + name] = scale
    found = [{key: getattr(one, key) for key in Measured._fields} for one in measured]
    return arrays, json.dumps({"form": form, "arrays": names, "measured": found})


# ---- reading --------------------------------------------------------------------------------------------------------


def opened(text: str | None, arrays: dict[str, NDArray[Any]], graph: Graph, label: str) -> dict[str, Any]:
    """Widen the narrow arrays in place; {"weights": form, "measured": tuple of Measured}, for a Model.

    `text` is the entry `weights`. The floats are private memory, four or two times as large as the codes in the file.

    Raises
    ------
    FileFormatError
        For each way in which codes and scales can be malformed. What passes is what `stored` writes of these floats.
    """
    try:
        entry = json.loads(text or "null")
        form, names = entry["form"], entry["arrays"]
        if form not in NARROW:
            raise ValueError(f"form is {form!r}; expected one of {', '.join(NARROW)}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("arrays is no list of names")
        if len(set(names)) != len(names):
            raise ValueError("a name stands twice")
        measured = tuple(_measured(one, len(graph.outputs)) for one in entry["measured"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{label}: its entry weights is missing or malformed ({error})") from error
    known = narrow_arrays(graph)
    for name in names:
        if name not in arrays or name not in known:
            what = "is not in it" if name not in arrays else "is no kernel and no embedding of its graph"
            raise FileFormatError(f"{label}: the narrow array {name!r} {what}")
        try:
            arrays[name] = _widened(name, arrays, form, known[name])
        except ValueError as error:
            raise FileFormatError(f"{label}: the narrow array {name!r} {error}") from error
    return {"weights": form, "measured": measured}


def _measured(entry: dict[str, Any], outputs: int) -> Measured:
    largest, relative = (tuple(float(number) for number in entry[key]) for key in ("largest", "relative"))
    flips, labels = entry["flips"], entry["labels"]
    if not isinstance(flips, int) or not isinstance(labels, int) or not 0 <= flips <= labels:
        raise ValueError(f"{flips!r} of {labels!r} labels differ")
    right = len(largest) == len(relative) == outputs and all(number >= 0 for number in (*largest, *relative))
    if not right:
        raise ValueError(f"measured differences are {largest[:5]} and {relative[:5]}; expected {outputs} of each")
    return Measured(str(entry["rows"]), largest, relative, flips, labels)


def _widened(name: str, arrays: dict[str, NDArray[Any]], form: str, this: Narrow) -> NDArray[np.float32]:
    """The floats of an array; ValueError for codes or a scale that no float32 array is narrowed to."""
    codes, scale = arrays[name], None
    if codes.dtype != _DTYPES[form]:
        raise ValueError(f"has dtype {codes.dtype}; {form} is stored as {np.dtype(_DTYPES[form])}")
    if form == "int8":
        scale = arrays.pop(SCALE + name, None)
        _check_scale(codes, scale, this.axes(codes))
    floats = widened(codes, scale)
    floats.flags.writeable = False
    return floats


def _check_scale(codes: NDArray[np.int8], scale: NDArray[Any] | None, axes: tuple[int, ...]) -> None:
    if scale is None:
        raise ValueError("has no scale")
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(codes.shape))
    if scale.dtype != np.float32 or scale.shape != shape:
        raise ValueError(f"has a scale of shape {scale.shape} and dtype {scale.dtype}; expected {shape}, float32")
    if (codes < -LARGEST).any():
        raise ValueError(f"holds the code -128; codes are -{LARGEST} to {LARGEST}")
    with np.errstate(over="ignore"):
        if not (np.isfinite(scale * np.float32(LARGEST)) & (scale >= 0)).all():
            raise ValueError("has a scale that is NaN, negative or too large")
    largest = np.abs(codes).max(axis=axes, keepdims=True, initial=0)
    empty = (scale == 0) & (largest == 0)
    fits = (largest == LARGEST) & (scale >= _SMALLEST) & (scale.view(np.uint32) & _LOW_BITS == 0)
    if not (empty | fits).all():
        raise ValueError(f"has a scale that does not bring its largest code to {LARGEST}: it is not as it was written")
