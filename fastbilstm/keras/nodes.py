"""The calls (nodes) of a functional config, written by Keras 1, 2, tf.keras or Keras 3 -> one form.

A call becomes `Call(layer, args, kwargs)` in which every tensor is a `Pending(layer name, call number, tensor number)`.
Knows no files and no arrays.
"""

import json
from dataclasses import dataclass
from functools import partial

from ..errors import FileFormatError
from ..graph import Constant, flatten_refs, map_refs
from ..layers.quantized import plain_class

CONV_LSTM = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
RECURRENT = {"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", *CONV_LSTM}
# Layers around one other.
WRAPPERS = ("TimeDistributed", "SpectralNormalization")
# Layers whose first argument is a query, followed by value and perhaps key.
MULTIHEAD = ("MultiHeadAttention", "GroupQueryAttention")
_MASKS = ("query_mask", "value_mask", "key_mask", "attention_mask")
# Positional arguments after the first, by class (of multi-head attention those of Keras 3).
_POSITIONAL = {
    **dict.fromkeys(RECURRENT, ("initial_state", "mask", "training")),
    **dict.fromkeys(("Attention", "AdditiveAttention"), ("mask", "training")),
    "GlobalAveragePooling1D": ("mask",),
    **dict.fromkeys(
        MULTIHEAD, ("value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores")
    ),
}
_FIRST_ARGUMENT = ("inputs", "sequences", "x", "query")
# The keyword arguments that layers use.
_KEYWORDS = {
    **dict.fromkeys(RECURRENT, {"mask", "initial_state"}),
    **dict.fromkeys(("Attention", "AdditiveAttention"), {"mask", "use_causal_mask", "return_attention_scores"}),
    "ReversibleEmbedding": {"mask", "reverse"},
    **dict.fromkeys(MULTIHEAD, {*_MASKS, "use_causal_mask", "return_attention_scores"}),
}


@dataclass(frozen=True)
class Pending:
    """A tensor by its name in Keras, before the calls have numbers."""

    layer: str
    call: int
    tensor: int


@dataclass(frozen=True)
class Call:
    layer: str
    args: tuple
    kwargs: dict


map_pending = partial(map_refs, kind=Pending)
pending_in = partial(flatten_refs, kind=Pending)


def is_reference(value, names):
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
        and all(isinstance(number, int) and not isinstance(number, bool) for number in value[1:3])
    )


def reference(value, names, where):
    """A [layer, call, tensor] triple as Pending."""
    if not is_reference(value, names):
        raise FileFormatError(f"{where}: {str(value)[:80]} is no reference to a tensor of the model")
    return Pending(value[0], value[1], value[2])


def nested_ends(entry, names, where):
    """input_layers or output_layers with lists or dicts inside a list or a dict; None if there are none.

    Returns the tensors, flat in the order of Keras, and "nested:" with the lists and dicts of their numbers as JSON.
    """

    def is_nested(part):
        return isinstance(part, dict) or (isinstance(part, list) and bool(part) and isinstance(part[0], (list, dict)))

    parts = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    if not any(map(is_nested, parts)):
        return None
    ends = []

    def number(part):
        if isinstance(part, dict):  # Keras orders a dict by its keys
            return {key: number(part[key]) for key in sorted(part)}
        if is_nested(part):
            return [number(item) for item in part]
        ends.append(reference(part, names, where))
        return len(ends) - 1

    return ends, "nested:" + json.dumps(number(entry))


def _keras2_value(value, names):
    if is_reference(value, names) and len(value) == 3:
        return Pending(*value)
    if isinstance(value, list):
        return [_keras2_value(item, names) for item in value]
    return value


def _flat_entries(entry, names):
    """The references in an entry: the entry itself, or those in its list (the states of StackedRNNCells)."""
    if not entry or is_reference(entry, names) or not all(isinstance(part, list) for part in entry):
        return [entry]
    return [found for part in entry for found in _flat_entries(part, names)]


def _keras2_call(layer, class_name, node, names, where):
    entries = [node] if node and isinstance(node[0], str) else node
    if not entries or not all(isinstance(entry, list) for entry in entries):
        raise FileFormatError(f"{where}: its inbound node is {str(node)[:80]}")
    if class_name in RECURRENT:
        entries = [part for entry in entries for part in _flat_entries(entry, names)]
    tensors = [reference(entry, names, where) for entry in entries]
    kwargs = {}
    for entry in entries:
        if len(entry) == 4 and isinstance(entry[3], dict):
            kwargs.update({key: _keras2_value(value, names) for key, value in entry[3].items()})
    return Call(layer, (tensors[0] if len(tensors) == 1 else tensors,), kwargs)


def _keras3_value(value, names, where):
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return reference((value.get("config") or {}).get("keras_history"), names, where)
        if value.get("class_name") in ("__tensor__", "__numpy__", "__slice__", "__ellipsis__"):
            return _keras3_constant(value["class_name"], value.get("config") or {}, names, where)
        return {key: _keras3_value(item, names, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_keras3_value(item, names, where) for item in value]
    return value


def flat(values):
    """The items of nested lists, in order."""
    return [item for value in values for item in (flat(value) if isinstance(value, list) else [value])]


def _keras3_constant(class_name, config, names, where):
    """An array or slice among the arguments, as a constant."""
    if class_name == "__ellipsis__":
        return "..."
    if class_name == "__slice__":
        return {"slice": [_keras3_value(config.get(part), names, where) for part in ("start", "stop", "step")]}
    dtype = str(config.get("dtype", "float32"))
    if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise FileFormatError(f"{where}: a constant has dtype {dtype!r}")
    # Half precision has float32 values.
    constant = Constant(config.get("value"), "float32" if dtype in ("float16", "bfloat16") else dtype)
    try:
        constant.array  # noqa: B018
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{where}: a constant is no array of {dtype} ({error})") from error
    return constant


def read_calls(layer, class_name, nodes, names, where, custom=False, trains=True):
    """Read the inbound nodes of one layer.

    `custom`: its class is registered, so that all tensors of a call are its inputs; `trains`: whether it computes
    otherwise in training.

    Returns
    -------
    (list of Call, list of (str, object, str))
        The calls, and a (option, value, reason) for each thing in a call that is not supported.
    """
    calls, problems = [], []
    if not isinstance(nodes, list):
        raise FileFormatError(f"{where}: inbound_nodes is no list")
    for node in nodes:
        if isinstance(node, dict) and "args" in node:
            args = _keras3_value(node["args"], names, where)
            kwargs = _keras3_value(node.get("kwargs") or {}, names, where)
            call = Call(layer, tuple(args), kwargs)
        elif isinstance(node, list):
            call = _keras2_call(layer, class_name, node, names, where)
        else:
            problems.append(("inbound_nodes", str(node)[:60], "is a call with a dict of tensors"))
            continue
        if not class_name.startswith("ops."):
            call = _normalize(call, class_name, problems, custom, trains)
        calls.append(call)
    return calls, problems


def asks_for_training(nodes):
    """Whether a call says training=True."""
    kwargs = [node.get("kwargs") for node in nodes or () if isinstance(node, dict)]
    kwargs += [entry[3] for node in nodes or () if isinstance(node, list) for entry in node if len(entry or ()) == 4]
    return any(isinstance(found, dict) and found.get("training") in (True, 1) for found in kwargs)


def _shown(value):
    """A value in a call for a message."""
    tensors = pending_in(value)
    if not tensors:
        return str(value)[:60]
    return "a tensor of " + ", ".join(dict.fromkeys(tensor.layer for tensor in tensors))[:60]


def _normalize(call, class_name, problems, custom, trains):
    """Bring a call of a layer to one positional argument; move initial states to their keyword."""
    args, kwargs = list(call.args), dict(call.kwargs)
    if custom:
        # The tensors of the call, in its order, whatever their keywords.
        named = [name for name, value in kwargs.items() if isinstance(value, Pending) and name != "mask"]
        tensors = [*args, *(kwargs.pop(name) for name in named)]
        tensors = flat(tensors) if len(tensors) > 1 else tensors
        args = [tensors] if len(tensors) > 1 and all(isinstance(part, Pending) for part in tensors) else args
    if not args:
        first = next((name for name in _FIRST_ARGUMENT if name in kwargs), None)
        args = [kwargs.pop(first)] if first else []
    names = _POSITIONAL.get(class_name, ())
    for name, value in zip(names, args[1:]):
        kwargs[name] = value
    for value in args[1 + len(names) :]:
        if value is not None:
            problems.append(("call", _shown(value), "is a positional argument that fastbilstm does not know"))
    first = args[0] if args else None
    if class_name in RECURRENT and isinstance(first, list) and first:
        if len(first) > 1:
            kwargs["initial_state"] = first[1:]
        first = first[0]
    if isinstance(kwargs.get("initial_state"), list):
        # The states of StackedRNNCells are nested: one list for each cell.
        kwargs["initial_state"] = flat(kwargs["initial_state"])
    if class_name in MULTIHEAD:
        first = [first, *(kwargs.pop(name) for name in ("value", "key") if kwargs.get(name) is not None)]
    training = kwargs.pop("training", None)
    if training not in (None, False, 0) and trains:
        problems.append(
            (
                "training",
                training if training in (True, 1) else _shown(training),
                "asks for training behaviour at inference; load(..., inference=True) (--inference) switches it off",
            )
        )
    allowed = _KEYWORDS.get(plain_class(class_name), {"mask"})
    for key in list(kwargs):
        if kwargs[key] is None or kwargs[key] is False:
            del kwargs[key]
        elif key not in allowed:
            problems.append((f"call argument {key}", _shown(kwargs[key]), "is not supported"))
    return Call(call.layer, (first,), kwargs)
