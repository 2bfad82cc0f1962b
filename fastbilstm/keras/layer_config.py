"""A layer, as a config dictionary of Keras -> a graph.Layer without weights, and what is not supported.

Reads wrappers and cells with the layers inside, custom layers, and operations of Keras 3 and TensorFlow. config.py
reads models. Knows no files.
"""

from .. import layers as specification
from ..errors import FileFormatError
from ..graph import Layer
from ..layers.base import COMMON, IGNORED_SUFFIXES, REQUIRED
from ..layers.cells import CELLS
from ..layers.core import Augmentation
from ..layers.plugins import discover
from ..layers.quantized import PREFIXES
from ..layers.recurrent import backward_layer
from . import legacy, tf_ops, tf_raw
from .asked import PLAIN
from .defaults import default_of
from .nodes import CONV_LSTM, WRAPPERS, Pending, asks_for_training, read_calls
from .precision import POLICIES, policy_name, read_quantization
from .registration import count_inputs

# Packages whose classes are Keras' own, in the "module" of a layer.
_KERAS_MODULES = ("keras", "tf_keras", "tensorflow", "builtins")
RAW = "TensorFlowOpLayer"
# The name to register an Attention under that is none of Keras'; "Custom" is Keras' own package of such classes.
ATTENTION = "Custom>Attention"
TENSORFLOW = (*tf_ops.CLASSES, RAW, "ClassMethod", "InstanceMethod", "InstanceProperty")
MODELS = ("Sequential", "Functional", "Model")
_LAMBDA = (
    "would run Python code from the file; fastbilstm never does. Give a NumPy function in its place, "
    "load(..., lambdas={%r: function}), or cut the graph before it with outputs=[...]"
)
# The layers that Bidirectional can wrap.
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", *CONV_LSTM)
# Options that hold layers.
_INNER = ("layer", "backward_layer", "cell", "cells")
# Ignored options that the user is told about, as of regularizers and constraints.
_REPORTED = ("dropout", "recurrent_dropout", "rate", "stddev", "noise_shape", "l1", "l2")


class LayerReader:
    """Turns config dictionaries into graph objects; collects all problems instead of raising the first.

    Attributes
    ----------
    problems : dict of str to list of str
        {name of the top-level layer: its problems, also of layers inside}.
    trainable : dict of tuple to bool
        By layer path; Keras 2 orders the weights of nested models by it.
    unknown : dict of tuple to tuple
        {path: (name to register, config, inbound_nodes)} of each class that is none of Keras' own.
    lambda_names : list of str
        Those of Lambda layers, as `Asked.lambdas` names them.
    """

    def __init__(self, version, label, asked=PLAIN):
        self.version, self.label, self.asked = version, label, asked
        self.lambda_names = []
        self.problems, self.trainable = {}, {}
        self.dtypes, self.notes, self.stores_bfloat16 = set(), [], False
        self.input_dtypes, self.unknown = set(), {}

    def problem(self, path, class_name, option, value, text):
        name = "/".join(path)
        detail = f"option {option}={value!r} " if option else ""
        self.problems.setdefault(path[0] if path else "", []).append(f"layer {name!r} ({class_name}): {detail}{text}")

    def malformed(self, text):
        raise FileFormatError(f"{self.label}: {text}")

    # ---- layers -----------------------------------------------------------------------------------------------------

    def read_layer(self, entry, path, name=None):
        """A layer, with those inside it, as graph.Layer; `problems` records what is not supported."""
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), (dict, list)):
            self.malformed(f"a layer below {'/'.join(path) or 'the model'} has no class_name and config")
        class_name, config = str(entry.get("class_name")), entry["config"]
        stored = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
        name = str(name or stored or class_name.lower())
        path = (*path, name)
        if class_name in MODELS:
            self._note_trainable(path, config if isinstance(config, dict) else {})
            return Layer(name, "Functional", graph=self.read_model(class_name, config, path, name))
        if not isinstance(config, dict):
            self.malformed(f"layer {'/'.join(path)!r} ({class_name}): its config is no dictionary")
        self._note_trainable(path, config)
        custom, foreign = _own_class(entry, class_name, config)
        if custom is None and foreign is not None and discover():
            custom, foreign = _own_class(entry, class_name, config)
        if custom is None and foreign is not None:
            own_name, *problem = foreign
            self.problem(path, class_name, *problem)
            self.unknown[path] = (own_name, config, entry.get("inbound_nodes"))
            return Layer(name, class_name)
        if custom is not None:
            class_name = custom
        elif self._is_operation(entry, class_name, config):
            return self._read_operation(class_name, config, path)
        else:
            if class_name in TENSORFLOW:
                return self._read_tensorflow(class_name, config, path)
            class_name, config = legacy.modernize(class_name, config, self.version)
        try:
            class_name, config = read_quantization(class_name, config, self.version)
        except ValueError as error:
            self.problem(path, class_name, "dtype", _short(config["dtype"]), str(error))
            return Layer(name, class_name)
        cls = specification.find_class(class_name)
        if class_name == "Lambda":
            self._read_lambda(config, path)
        elif cls is None:
            mode = ("mode", config.get("mode")) if class_name == "Merge" else (None, None)
            self.problem(path, class_name, *mode, "is not supported")
            if mode == (None, None):
                self.unknown[path] = (class_name, config, entry.get("inbound_nodes"))
        if cls is None or class_name in ("Lambda", "InputLayer"):
            return Layer(name, class_name)
        inner = self._read_inner(class_name, config, path)
        self._read_dtype(class_name, config.get("dtype"), path)
        options, ignored = self._read_options(class_name, cls, config, path)
        layer = Layer(name, class_name, options, {}, inner or (), ignored=tuple(ignored))
        if inner is None or options is None:
            return layer.replace(config=options or {})
        return layer.replace(weights={role: "/".join((*path, role)) for role in self._roles(layer)})

    def _read_lambda(self, config, path):
        key = "/".join(path)
        self.lambda_names.append(key)
        if key not in self.asked.lambdas:
            self.problem(path, "Lambda", None, None, _LAMBDA % key)
        elif config.get("mask") is not None:
            self.problem(path, "Lambda", "mask", "...", "is Python code from the file, too; it is not supported")
        else:
            self._read_dtype("Lambda", config.get("dtype"), path)

    def _note_trainable(self, path, config):
        """Note if a layer is trainable: not inside a frozen layer, of which in Keras 3 only the outermost counts."""
        holder = path[:1] if self.version.is_keras3 else path[:-1]
        own = config.get("trainable", True) is not False
        self.trainable[path] = own and (len(path) == 1 or self.trainable.get(holder, True))

    def _roles(self, layer):
        if layer.layers:
            return []
        return list(specification.REGISTRY[layer.class_name](layer, self.version).weight_shapes(()))

    def _is_operation(self, entry, class_name, config):
        """Whether this is a `keras.ops` node. In .h5 there is no "module", but Keras' layers store "trainable"."""
        module = entry.get("module")
        if module is not None:
            return str(module).startswith(("keras.src.ops", "keras.ops"))
        # The layers that do not store it:
        without = class_name.startswith(("InputLayer", "SpatialDropout", "Discretization"))
        without |= class_name in specification.REGISTRY and f"ops.{class_name}" not in specification.REGISTRY
        return self.version.is_keras3 and "trainable" not in config and not without

    def _read_operation(self, class_name, config, path):
        key, options = f"ops.{class_name}", {}
        cls = specification.REGISTRY.get(key)
        if cls is None:
            self.problem(path, f"keras.ops.{class_name}", None, None, "is not supported")
            return Layer(path[-1], key)
        for name, value in config.items():
            if name in cls.parameters and not (name == "dtype" and isinstance(value, dict)):
                options[name] = value
            elif name not in ("name", "dtype", "trainable") and value is not None:
                self.problem(path, f"keras.ops.{class_name}", name, _short(value), "is not known to fastbilstm")
        return Layer(path[-1], key, options)

    def _read_tensorflow(self, class_name, config, path):
        """A TensorFlow function or op as a layer: the operation that computes it."""
        function = config.get("function")
        found = tf_ops.find(function) if class_name in tf_ops.CLASSES else None
        operation = found[0] if found else None
        name = {"function": function, "method": config.get("method_name"), "attribute": config.get("attr_name")}
        if class_name == RAW:
            name["op"], operation = tf_raw.find(config, f"{self.label}: layer {'/'.join(path)!r}")
        if operation is None:
            shown = ", ".join(f"{key} {value}" for key, value in name.items() if value)
            self.problem(path, f"{class_name}, {shown}" if shown else class_name, None, None, "is not supported")
            return Layer(path[-1], class_name)
        self._read_dtype(class_name, config.get("dtype"), path)
        return Layer(path[-1], f"ops.{operation}")

    def _read_op_calls(self, layer, entry, known, where, path):
        """The calls of a layer; those of an operation are checked against what it takes."""
        nodes, name = entry.get("inbound_nodes"), entry.get("class_name")
        if name in TENSORFLOW and not layer.class_name.startswith("ops."):
            return tf_ops.unread_calls(layer.name, nodes, known)
        if name in tf_ops.CLASSES:
            found, problems = tf_ops.read_calls(layer.name, entry["config"]["function"], nodes, known, where)
        elif name == RAW:
            found, problems = tf_raw.read_calls(layer.name, entry["config"], nodes, known, where)
        else:
            custom = specification.find_custom(layer.class_name) is not None
            trains = custom or _trains(entry)
            # In Keras 3 `predict` says training=False to all layers, whatever stands in the call.
            counts = trains and not self.version.is_keras3 and not self.asked.inference
            found, problems = read_calls(layer.name, layer.class_name, nodes, known, where, custom, counts)
            cls = specification.REGISTRY.get(layer.class_name)
            # Layers that change images are called so by default.
            if trains and not counts and asks_for_training(nodes) and not (cls and issubclass(cls, Augmentation)):
                reason = "predict of Keras 3 ignores" if self.version.is_keras3 else "inference=True switches off"
                self.notes.append(f"layer {layer.name!r} is called with training=True, which {reason}")
        cls = specification.REGISTRY.get(layer.class_name)
        if cls is not None and layer.class_name.startswith("ops."):
            for call in found:
                problems = [*problems, *cls.check_call(layer.config, call.args, call.kwargs, Pending)]
        for option, value, text in problems:
            self.problem(path, layer.class_name, option, value, text)
        return found

    def _read_options(self, class_name, cls, config, path):
        options, ignored, good = {}, [], True
        for name, option in cls.options.items():
            try:
                value = config[name] if name in config else default_of(class_name, cls, name, self.version)
            except ValueError as error:
                self.malformed(f"layer {'/'.join(path)!r} ({class_name}): option {name!r} is missing: {error}")
            if value is REQUIRED:
                self.malformed(f"layer {'/'.join(path)!r} ({class_name}): option {name!r} is missing")
            try:
                options[name] = option.check(value)
            except (ValueError, TypeError) as error:
                self.problem(path, class_name, name, config.get(name), f"is not supported: {error}")
                good = False
        for name, value in config.items():
            custom = issubclass(cls, specification.CustomLayer)
            wraps = name in _INNER and not custom
            if name in cls.options or name in COMMON or value is None or wraps:
                continue
            if name in cls.ignored or name.endswith(IGNORED_SUFFIXES):
                if value and (name in _REPORTED or name.endswith(("_regularizer", "_constraint"))):
                    ignored.append(f"{name}={_short(value)}")
            elif custom or value not in (False, [], {}, "auto"):
                self.problem(path, class_name, name, _short(value), "is not known to fastbilstm")
                good = False
        if good:
            for name, value, text in cls.check_config(options, self.version):
                self.problem(path, class_name, name, value, text)
        return (options if good else None), ignored

    def _read_inner(self, class_name, config, path):
        """The layers inside a wrapper; None if the wrapper cannot hold them."""
        if class_name in ("RNN", "StackedRNNCells"):
            return self._read_cells(class_name, config, path)
        if class_name not in ("Bidirectional", *WRAPPERS):
            return ()
        if not isinstance(config.get("layer"), dict):
            self.malformed(f"layer {'/'.join(path)!r} ({class_name}): it wraps no layer")
        if class_name in WRAPPERS:
            inner = self.read_layer(config["layer"], path)
            if inner.class_name.startswith(PREFIXES):
                # Keras 3.15 does not call quantized_call here, so it returns whole numbers that are not scaled back.
                text = "is a quantized layer, which Keras itself computes without its scale here"
                self.problem(path, class_name, "layer", inner.class_name, text)
            return (inner,)
        inner_name = str((config["layer"].get("config") or {}).get("name") or "layer")
        base = inner_name.removeprefix("forward_")
        forward = self.read_layer(config["layer"], path, f"forward_{base}")
        if forward.class_name not in _RECURRENT:
            if forward.class_name in specification.REGISTRY:
                self.problem(path, class_name, "layer", forward.class_name, "is not supported")
            return None
        custom = config.get("backward_layer")
        if custom is None or not forward.config:
            name = f"backward_{base}"
            if not forward.config:
                return None
            return forward, self._renamed(backward_layer(forward, name, self.version), path, (*path, forward.name))
        custom_name = str((custom.get("config") or {}).get("name") or "layer").removeprefix("backward_")
        backward = self.read_layer(custom, path, f"backward_{custom_name}")
        if backward.class_name not in _RECURRENT or not backward.config:
            self.problem(path, class_name, "backward_layer", backward.class_name, "is not supported")
            return None
        return forward, backward

    def _renamed(self, layer, path, copied):
        """A copy of the layer at `copied` under its own name below `path`, with weights of its own."""
        path = (*path, layer.name)
        self.trainable[path] = self.trainable[copied]
        parts = tuple(self._renamed(part, path, (*copied, part.name)) for part in layer.layers)
        return layer.replace(weights={role: "/".join((*path, role)) for role in layer.weights}, layers=parts)

    def _read_cells(self, class_name, config, path):
        """The cell of an RNN, or those above each other."""
        option = "cell" if class_name == "RNN" else "cells"
        cells = config.get(option) if option == "cells" else [config.get(option)]
        if not isinstance(cells, list) or not cells or not all(isinstance(cell, dict) for cell in cells):
            self.malformed(f"layer {'/'.join(path)!r} ({class_name}): it holds no {option}")
        known = [str(cell.get("class_name")) in CELLS for cell in cells]
        for cell, good in zip(cells, known):
            if not good:
                self.problem(path, class_name, option, str(cell.get("class_name")), "is not supported")
        if not all(known):
            return None
        names = [str((cell.get("config") or {}).get("name") or cell["class_name"].lower()) for cell in cells]
        # Versions that did not name cells: two of a class above each other.
        unique = len(set(names)) == len(names)
        names = names if unique else [f"{name}_{number}" for number, name in enumerate(names)]
        read, first = [], {}
        for cell, name in zip(cells, names):
            shared = cell.get("shared_object_id")
            if shared is not None and shared in first:  # one cell object again: it has the weights of the first
                read.append(first[shared].replace(name=name))
                self.trainable[(*path, name)] = self.trainable[(*path, first[shared].name)]
                continue
            read.append(self.read_layer(cell, path, name))
            first[shared] = read[-1]
        return tuple(read)

    def _read_dtype(self, class_name, dtype, path):
        if dtype is None:
            return
        name = policy_name(dtype)
        if name in POLICIES:
            self.dtypes.add(POLICIES[name])
            self.stores_bfloat16 |= name == "bfloat16"
            if name not in ("float32", "float64"):
                note = f"dtype policy {name}: computed in float32"
                if note not in self.notes:
                    self.notes.append(note)
        elif name not in ("int32", "int64", "bool", "uint8", "string"):
            self.problem(path, class_name, "dtype", name, "is not supported")


def _trains(value):
    """Whether a layer, or one inside it, computes otherwise in training: by dropout, noise, statistics of the batch."""
    if isinstance(value, list):
        return any(map(_trains, value))
    if not isinstance(value, dict):
        return False
    name = value.get("class_name")
    if isinstance(name, str) and name.startswith(("BatchNormalization", "Random", "SpectralNormalization")):
        return True
    return any(
        (key in _REPORTED[:4] or key in ("sigma", "p")) and isinstance(part, (int, float)) and bool(part)
        if not isinstance(part, (dict, list))
        else _trains(part)
        for key, part in value.items()
    )


def _own_class(entry, class_name, config):
    """What computes a class that is none of Keras', and why it is none.

    Returns
    -------
    str or None
        The name under which it is registered with fastbilstm, or known as one of another package.
    tuple or None
        Its name to register, and what says that it is none of Keras': option, value, words.
    """
    registered, module = entry.get("registered_name") or "", entry.get("module")
    names, says = (class_name,), None
    packaged = next((text for text in (registered, class_name) if isinstance(text, str) and ">" in text), None)
    if packaged is not None:
        names, says = (packaged, packaged.rsplit(">", 1)[1]), ("registered_name", registered or class_name)
    elif isinstance(module, str) and module.split(".")[0] not in _KERAS_MODULES:
        names, says = (f"{module}>{class_name}", class_name), ("module", module)
    custom = specification.find_custom(*names) or specification.find_contributed(class_name, config)
    if says is not None:
        words = "is a class of its author; fastbilstm.register_layer describes it"
        return custom, (_own_name(entry, class_name), *says, words)
    if custom is None and _is_another_attention(entry, class_name):
        words = "is called with one tensor, so it is a class of its author; register_layer describes it"
        return specification.find_custom(ATTENTION), (ATTENTION, None, None, words)
    return custom, None


def _is_another_attention(entry, class_name):
    """Whether this Attention is none of Keras', which takes at least a query and a value."""
    return (
        class_name == "Attention" and entry.get("inbound_nodes") != [] and count_inputs(entry.get("inbound_nodes")) == 1
    )


def _own_name(entry, class_name):
    """The name under which a class that is none of Keras' would be registered."""
    registered = entry.get("registered_name") or class_name
    if ">" in str(registered):
        return str(registered)
    return f"{entry.get('module')}>{class_name}" if class_name in specification.REGISTRY else class_name


def _short(value):
    if isinstance(value, dict) and "class_name" in value:
        return str(value["class_name"])
    return str(value)[:60]
