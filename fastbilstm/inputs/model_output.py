"""The structure in which a model returns its outputs, and the arrays that a user gives for them (`out=`): as a list in
the graph's order, checked and filled.

Imports NumPy; knows graphs, not what computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..graph import Graph


def given(graph: Graph, out: Any) -> list[NDArray[Any]]:
    """The arrays of `out`, which has the structure of what the model returns, in the order of the graph's outputs.

    Raises
    ------
    InputError
        If the structure is another one, or an array cannot be written.
    """
    keys, nesting = graph.output_keys, graph.output_nesting
    if type(out) is np.ndarray and keys is nesting is None and len(graph.outputs) == 1 and out.flags.writeable:
        return [out]  # at once, for who counts microseconds
    arrays: list[Any] = [None] * len(graph.outputs)
    if keys is not None:
        if not isinstance(out, dict) or set(out) != set(keys):
            raise InputError(f"out is {_described(out)}; expected a dict with the keys {list(keys)}")
        arrays = [out[key] for key in keys]
    elif nesting is not None:
        _place(nesting, out, arrays)
    elif len(arrays) == 1:
        arrays = [out]
    elif isinstance(out, (list, tuple)) and len(out) == len(arrays):
        arrays = list(out)
    else:
        raise InputError(f"out is {_described(out)}; expected a list of {len(arrays)} arrays")
    for name, array in zip(graph.output_names, arrays):
        if not isinstance(array, np.ndarray) or not array.flags.writeable:
            raise InputError(f"out: for output {name!r} is {_described(array)}; expected an array that can be written")
    return arrays


def fill(graph: Graph, outs: Sequence[NDArray[Any]], outputs: Sequence[Any]) -> None:
    """Copy outputs into the arrays of `given`; InputError if one does not fit, with nothing written."""
    for name, out, y in zip(graph.output_names, outs, outputs):
        if isinstance(y, list):
            raise InputError(f"out: output {name!r} is a list, since rows differ in length; leave out= away")
        if out.shape != y.shape or out.dtype != y.dtype:
            raise InputError(f"out: output {name!r} has shape {y.shape}, {y.dtype}; got {_described(out)}")
    for out, y in zip(outs, outputs):
        out[...] = y


def nested(nesting: Any, outputs: Sequence[Any]) -> Any:
    """The outputs in the lists or dicts of their numbers."""
    if isinstance(nesting, dict):
        return {key: nested(part, outputs) for key, part in nesting.items()}
    return [nested(part, outputs) for part in nesting] if isinstance(nesting, list) else outputs[nesting]


def _place(nesting: Any, out: Any, arrays: list[Any]) -> None:
    """Put the arrays of lists and dicts inside each other where their numbers are."""
    if isinstance(nesting, dict):
        if not isinstance(out, dict) or set(out) != set(nesting):
            raise InputError(f"out: in it is {_described(out)}; expected a dict with the keys {list(nesting)}")
        for key, part in nesting.items():
            _place(part, out[key], arrays)
        return
    if not isinstance(nesting, list):
        arrays[nesting] = out
        return
    if not isinstance(out, (list, tuple)) or len(out) != len(nesting):
        raise InputError(f"out: in it is {_described(out)}; expected a list of {len(nesting)}")
    for part, item in zip(nesting, out):
        _place(part, item, arrays)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, dict)) else ""
    return f"a {type(value).__name__}{size}"
