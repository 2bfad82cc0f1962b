"""Functional, the specification of a whole network, and TimeDistributed.

`Functional` runs the nodes of a Graph in order. It passes masks on as the version of Keras that wrote the file does.
The model itself is a Functional, and so is a model inside it. Imports NumPy; knows nothing of files.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FastBiLSTMError, FileFormatError, InputError
from ..graph import Layer, flatten_refs, map_refs
from .base import REGISTRY, BaseLayer, Spec, Tensor, register
from .operation import Operation
from .plugins import discover

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..graph import Graph


def find_class(class_name):
    """The class of that name, or None; if it is not known, what installed packages register is loaded first, once."""
    if class_name not in REGISTRY:
        discover()
    return REGISTRY.get(class_name)


def build(layer, version):
    """Make the layer object of a graph.Layer, with those inside it; they get their weights later, by `bind`."""
    cls = find_class(layer.class_name)
    if cls is None:
        raise FileFormatError(
            f"layer {layer.name!r}: class {layer.class_name!r} is unknown to this fastbilstm; one of your own "
            "is made known by fastbilstm.register_layer first, or by a module that calls it (--plugin, plugins=)"
        )
    inner = tuple(build(part, version) for part in layer.layers)
    if layer.graph is not None:
        return Functional(layer, version)
    for name in cls.options:
        if name not in layer.config:
            raise FileFormatError(f"layer {layer.name!r} ({layer.class_name}): option {name!r} is missing")
        try:
            cls.options[name].check(layer.config[name])
        except ValueError as error:
            raise FileFormatError(
                f"layer {layer.name!r} ({layer.class_name}): option {name}={layer.config[name]!r}: {error}"
            ) from None
    for name, value, text in cls.check_config(layer.config, version):
        raise FileFormatError(f"layer {layer.name!r} ({layer.class_name}): option {name}={value!r} {text}")
    built = cls(layer, version, inner)
    if set(built.weight_shapes(())) != set(layer.weights):
        built.fail(f"it has weights {list(layer.weights)}; expected {list(built.weight_shapes(()))}")
    return built


@contextlib.contextmanager
def faults_of(graph):
    """Raise FileFormatError for an error that no check foresaw: the graph comes from a file, which must be wrong."""
    try:
        yield
    except FastBiLSTMError:
        raise
    except (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        text = f"model {graph.name!r} contradicts itself ({type(error).__name__}: {error})"
        raise FileFormatError(text) from error


def sized(graph, shapes, dtype):
    """The network of a graph, without weights, and the Specs of its outputs.

    `shapes` are those of all arrays by name: FileFormatError if one is missing or does not fit its layer.
    """
    for given in graph.inputs:
        if given.shape is None:
            raise FileFormatError(f"model {graph.name!r}: input {given.name!r} has no shape")
    network = Functional(Layer(graph.name, "Functional", graph=graph), graph.keras)
    missing = sorted({name for _, layer in graph.walk() for name in layer.weights.values()} - set(shapes))
    if missing:
        raise FileFormatError(f"model {graph.name!r}: the weights {missing[:5]} are missing")
    network.set_sizes(shapes)
    network.set_dtype(dtype)
    return network, tuple(network.infer([Spec(given.shape) for given in graph.inputs], {}))


# Sets of inputs that are tried; with more than seven inputs not all sets are.
_MOST_SETS = 128


def with_any_length(graph: Graph, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Graph:
    """The graph with inputs that leave the timesteps (their axis 1) free: as many inputs as the layers allow.

    FileFormatError, which names a layer, if the layers need the timesteps of every input.
    """
    fixed = [k for k, given in enumerate(graph.inputs) if len(given.shape or ()) > 1 and given.shape[1] is not None]
    sets = (chosen for size in range(len(fixed), 0, -1) for chosen in itertools.combinations(fixed, size))
    reason = None
    for chosen in itertools.islice(sets, _MOST_SETS):
        try:
            # With one timestep more: an axis 1 of features is not free, though layers may accept None there.
            sized(_resized(graph, chosen, lambda size: size + 1), shapes, dtype)
            free = _resized(graph, chosen, lambda size: None)
            sized(free, shapes, dtype)
            return free
        except FileFormatError as error:
            reason = reason or error
    if reason is None:
        return graph
    raise FileFormatError(f"any_length=True: the model needs the timesteps that its file fixes: {reason}") from reason


def _resized(graph, chosen, new_size):
    """The graph with another size of axis 1 in the inputs of these numbers."""

    def resized(given):
        return given.replace(shape=(given.shape[0], new_size(given.shape[1]), *given.shape[2:]))

    return graph.replace(inputs=tuple(resized(i) if k in chosen else i for k, i in enumerate(graph.inputs)))


def keeps_masks(part):
    """Whether a tensor keeps its mask if a call gives None as mask: so do models in Keras 3 (functional.py, call)."""
    return isinstance(part, Functional) and part.version.is_keras3


def given_masks(mask, kind):
    """The `mask` of a call as a list. It may be one mask of type `kind`, or a list of masks and None."""
    return list(mask) if isinstance(mask, (list, tuple)) and not isinstance(mask, kind) else [mask]


def explicit_masks(inputs, mask, keep=False):
    """The inputs with the masks given in the call (an array, or one for each input) instead of their own.

    `keep`: a tensor for which None is given keeps its own mask.
    """
    masks = given_masks(mask, Tensor)
    masks = [m.value if isinstance(m, Tensor) else m for m in masks]
    masks = [None if m is None else np.asarray(m).astype(bool, copy=False) for m in masks]
    masks += [None] * (len(inputs) - len(masks))
    return [Tensor(tensor.value, tensor.mask if keep and m is None else m) for tensor, m in zip(inputs, masks)]


def as_float(value, dtype):
    if value.dtype == object:
        raise InputError("a layer that computes with numbers is given strings")
    return value.astype(dtype, copy=False)


def autocast(tensors, layer, dtype):
    """Cast floats, and whole numbers if the layer computes with them, as Keras does before every call."""
    if all(tensor.value.dtype == dtype for tensor in tensors):
        return tensors
    if layer.casts_input:
        return [Tensor(as_float(value, dtype), mask) for value, mask in tensors]
    return [Tensor(as_float(v, dtype) if v.dtype.kind == "f" else v, mask) for v, mask in tensors]


def autocast_spec(spec, layer):
    """The Spec of what `autocast` gives a layer."""
    return in_dtype(spec, "float" if layer.casts_input else spec.dtype)


def in_dtype(spec, dtype):
    """The Spec of what has a dtype; every float is run in that of computation."""
    dtype = None if dtype is None or is_float(dtype) else dtype
    return spec if spec.dtype == dtype else spec._replace(dtype=dtype)


def is_float(dtype):
    return dtype.startswith(("float", "bfloat"))


def cast_input(value, declared, dtype, whole=False):
    """Cast an input to the dtype that the Input declares; floats get the dtype of computation.

    Whole numbers keep their dtype. With `whole` they are cast, too, if they fit, since operations compute in that
    dtype, or it is that of an output.
    """
    if is_float(declared):
        return value.astype(dtype, copy=False)
    if declared == "string":
        return value
    if declared == "bool":
        return value.astype(bool, copy=False)
    if value.dtype.kind == "f":
        value = value.astype(np.int64, copy=False)
    if not whole or value.dtype == declared:
        return value
    limits = np.iinfo(declared)
    fits = not value.size or (limits.min <= value.min() and value.max() <= limits.max)
    return value.astype(declared) if fits else value


class Watched(dict):
    """The states of a run whose calls are watched: `see(network, part, inputs, kwargs, outputs)` after each one."""

    def __init__(self, see):
        super().__init__()
        self.see = see


def watched(states, network, part, inputs, kwargs, outputs):
    """The outputs of a call, shown to who watches."""
    if isinstance(states, Watched):
        states.see(network, part, inputs, kwargs, outputs)
    return outputs


@register
class Functional(BaseLayer):
    """A graph of layers: the whole model, or a model inside it."""

    n_inputs = None
    casts_input = False

    def __init__(self, layer, version, inner=()):
        graph = layer.graph
        super().__init__(layer, version, [build(part, version) for part in graph.layers])
        self.graph = graph
        self.has_operations = any(isinstance(part, Operation) for part in self.inner)
        last = {}
        for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
            last.update({ref.node: number for ref in flatten_refs((node.args, node.kwargs))})
        last.update({ref.node: None for ref in graph.outputs})
        self.last_use = last

    def infer(self, inputs, kwargs):
        if len(inputs) != len(self.graph.inputs):
            self.fail(f"it is called with {len(inputs)} inputs; it has {len(self.graph.inputs)}")
        specs = []
        for spec, given in zip(inputs, self.graph.inputs):
            if given.shape is None:
                pass
            elif len(spec.shape) != len(given.shape) or any(
                a is not None and b is not None and a != b for a, b in zip(spec.shape[1:], given.shape[1:])
            ):
                self.fail(f"input {given.name!r} of shape {given.shape} is called with shape {spec.shape}")
            specs.append([in_dtype(spec, given.dtype)])
        self.node_specs = []
        for node in self.graph.nodes:
            part = self.inner[node.layer]
            args = map_refs(lambda ref: self.pick(specs, ref), node.args)
            kwargs = map_refs(lambda ref: self.pick(specs, ref), node.kwargs)
            if isinstance(part, Operation):
                outputs = part.infer_operation(args, kwargs)
            else:
                call_inputs = self.call_inputs(part, args, kwargs, Spec)
                if kwargs.get("mask") is not None:
                    masks = given_masks(kwargs["mask"], Spec)
                    if not all(mask is None or isinstance(mask, Spec) for mask in masks):
                        part.fail(f"it is called with mask={str(kwargs['mask'])[:60]}; expected a tensor of the model")
                    flags = [m is not None for m in masks] + [False] * len(call_inputs)
                    keep = keeps_masks(part)
                    call_inputs = [
                        s._replace(masked=flag or (keep and s.masked)) for s, flag in zip(call_inputs, flags)
                    ]
                outputs = part.checked_infer([autocast_spec(spec, part) for spec in call_inputs], kwargs)
            self.node_specs.append(outputs)
            specs.append(outputs)
        outputs = [self.pick(specs, ref) for ref in self.graph.outputs]
        self.casts_whole = self.has_operations or any(spec.dtype is not None for spec in outputs)
        return outputs

    def pick(self, values, ref):
        outputs = values[ref.node]
        if not 0 <= ref.tensor < len(outputs):
            self.fail(f"output {ref.tensor} of node {ref.node} is used; it has {len(outputs)}")
        return outputs[ref.tensor]

    def call_inputs(self, part, args, kwargs, kind):
        """The tensors of a call in one list: those of the first argument, then the initial states."""
        first = args[0] if len(args) == 1 else None
        inputs = list(first) if isinstance(first, (list, tuple)) and not isinstance(first, kind) else [first]
        given = kwargs.get("initial_state")
        if given is not None:
            inputs += list(given) if isinstance(given, (list, tuple)) and not isinstance(given, kind) else [given]
        if not inputs or not all(isinstance(tensor, kind) for tensor in inputs):
            part.fail("it is called with something else than tensors of the graph")
        if part.n_inputs is not None and len(inputs) != part.n_inputs:
            part.fail(f"it is called with {len(inputs)} tensors; expected {part.n_inputs}")
        return inputs

    def call(self, inputs, kwargs, states):
        values = {
            number: [Tensor(cast_input(tensor.value, given.dtype, self.dtype, self.casts_whole), tensor.mask)]
            for number, (tensor, given) in enumerate(zip(inputs, self.graph.inputs))
        }
        for number, node in enumerate(self.graph.nodes, start=len(inputs)):
            part = self.inner[node.layer]
            args = map_refs(lambda ref: values[ref.node][ref.tensor], node.args)
            kwargs = map_refs(lambda ref: values[ref.node][ref.tensor], node.kwargs)
            values[number] = self.call_part(part, args, kwargs, states)
            for ref in flatten_refs((node.args, node.kwargs)):
                if self.last_use.get(ref.node) == number:
                    values.pop(ref.node, None)
        return [values[ref.node][ref.tensor] for ref in self.graph.outputs]

    def call_part(self, part, args, kwargs, states):
        """Run one node: call a layer or an operation; the arguments may be nested and hold Tensors."""
        if isinstance(part, Operation):
            return watched(states, self, part, (), {}, part.call_operation(args, kwargs))
        inputs = self.call_inputs(part, args, kwargs, Tensor)
        explicit, attached = kwargs.get("mask") is not None, inputs[0].mask
        if explicit:
            inputs = explicit_masks(inputs, kwargs["mask"], keeps_masks(part))
        inputs = autocast(inputs, part, self.dtype)
        outputs = part.call(inputs, {**kwargs, "mask": explicit}, states)
        if explicit and self.drops_given_masks:
            outputs = [Tensor(y, attached if mask is not None else None) for y, mask in outputs]
        return watched(states, self, part, inputs, {**kwargs, "mask": explicit}, outputs)

    @property
    def drops_given_masks(self):
        """Keras 3 up to 3.10: a layer uses the mask given in a call, but passes on the mask attached to its input."""
        return self.version.is_keras3 and self.version.version < (3, 11)


def is_stateful(layer):
    """Whether a layer, or any layer inside it, is stateful."""
    return bool(layer.config.get("stateful")) or any(map(is_stateful, layer.inner))


class Wrapper(BaseLayer):
    """A layer around one other, `inner[0]`, that gives each row of its answer by the same row of its input."""


@register
class TimeDistributed(Wrapper):
    """Applies the layer inside it to every timestep: (B, T, ...) becomes a batch (B*T, ...)."""

    @property
    def casts_input(self):
        (layer,) = self.inner
        return layer.casts_input and (layer.casts_in_wrappers or not self.version.is_keras3)

    def infer(self, inputs, kwargs):
        (layer,) = self.inner
        shape = inputs[0].shape
        if len(shape) < 3:
            self.fail(f"its input has shape {shape}; expected at least 3 axes")
        if is_stateful(layer):
            self.fail("the layer inside it is stateful")
        step = (None, *shape[2:])
        outputs = layer.checked_infer([inputs[0]._replace(shape=step)], {})
        if len(outputs) != 1:
            self.fail(
                f"the layer inside it, {layer.name!r} ({layer.class_name}), has {len(outputs)} outputs; expected 1"
            )
        (inner,) = outputs
        # With a fixed batch size, Keras 2 up to 2.3.1 gives the layer no mask (keras 2.3.1, layers/wrappers.py, call).
        self.hides_masks = self.version.is_multi_backend and (self.version.version < (2, 2) or shape[0] is not None)
        early = self.version.framework == "tf_keras" and self.version.version < (2, 3)
        if early and shape[0] is not None and (inputs[0].masked or inner.masked):
            self.fail(f"what {self.version} does with a mask and a fixed batch size is not known to fastbilstm")
        masked = inputs[0].masked or (inner.masked and not self.version.is_keras3 and not self.hides_masks)
        return [Spec((*shape[:2], *inner.shape[1:]), masked, inner.dtype)]

    def call(self, inputs, kwargs, states):
        (layer,) = self.inner
        x, mask = inputs[0]
        lead = x.shape[:2]
        if lead[1] == 0:
            raise InputError(f"layer {self.name!r} (TimeDistributed): its input has no timesteps, shape {x.shape}")
        hidden = mask is None or self.hides_masks
        flat_mask = None if hidden else np.reshape(mask, (lead[0] * lead[1], *mask.shape[2:]))
        flat = Tensor(np.reshape(x, (lead[0] * lead[1], *x.shape[2:])), flat_mask)
        y, inner_mask = layer.call([flat], {"mask": flat_mask is not None}, states)[0]
        y = np.reshape(y, (*lead, *y.shape[1:]))
        if self.hides_masks or self.version.is_keras3:
            return [Tensor(y, mask)]
        if inner_mask is not None:
            return [Tensor(y, np.reshape(inner_mask, (*lead, *inner_mask.shape[1:])))]
        return [Tensor(y, None if mask is None else np.any(mask, axis=tuple(range(2, mask.ndim))))]
