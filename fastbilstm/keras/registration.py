"""For a class that is refused: the `register_layer` call that would describe it, with its options and its arrays.

Knows no files: the reader hands in the arrays that a file holds for a layer.
"""

from ..layers.base import COMMON, IGNORED_SUFFIXES
from .attention_family import body

# Beside those of every layer, what Keras 3 writes and `register_layer` passes over.
_NOT_OPTIONS = {*COMMON, "autocast"}
# Longer values of options are left out.
_MOST_CHARACTERS = 60


def skeleton(name, config, arrays, n_inputs):
    """The call as text.

    Parameters
    ----------
    name : str
        What the class is registered as.
    config : dict
        The layer's config in the file.
    arrays : list of (str, tuple) or None
        Role and shape of each array in the file, in its order; None where the file does not tell.
    n_inputs : int
        How many tensors the layer is called with.
    """
    arrays = list(_unique(arrays or ()))
    known = body(name, arrays) if n_inputs == 1 else None
    lines = [f"    {name!r},", f"    call,{'' if known else '  # call(x, mask, weights, config) -> array'}"]
    if arrays:
        lines.append(f"    weights={{{', '.join(f'{role!r}: {shape}' for role, shape in arrays)}}},")
    options = {
        key: value for key, value in config.items() if key not in _NOT_OPTIONS and not key.endswith(IGNORED_SUFFIXES)
    }
    if options:
        lines.append(f"    options={{{', '.join(f'{key!r}: {_short(value)}' for key, value in options.items())}}},")
    if known:
        lines.append("    output_shape=lambda shape, config: (shape[0], shape[2]),")
    else:
        lines.append("    output_shape=lambda shape, config: shape,  # of the output, from that of the input")
    if n_inputs > 1:
        lines.append(f"    n_inputs={n_inputs},")
    return (known or "") + "\n".join(["fastbilstm.register_layer(", *lines, ")"])


def _unique(arrays):
    seen = set()
    for role, shape in arrays:
        number, free = 1, role
        while free in seen:
            number += 1
            free = f"{role}_{number}"
        seen.add(free)
        yield free, shape


def _short(value):
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else "..."


def count_inputs(nodes):
    """How many tensors the first call of a layer takes, from its inbound_nodes in any version's form; 1 if unknown."""
    if not isinstance(nodes, list) or not nodes:
        return 1
    return max(1, _tensors(nodes[0]))


def _tensors(value):
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return 1
        return sum(_tensors(part) for part in value.values())
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(type(part) is int for part in value[1:3]):
            return 1 + sum(_tensors(part) for part in value[3:])
        return sum(_tensors(part) for part in value)
    return 0
