"""A Graph and its arrays -> a model of the installed Keras, made by calling Keras' own layers.

Nothing of the file reaches Keras: no config is deserialized, no class is looked up by a name from the file. The classes
are those of CLASSES alone. The framework is given as a module; this file imports none.
"""

import inspect

from .. import activations
from ..graph import map_refs
from ..layers.base import REGISTRY
from ..layers.base import activation as check_activation
from ..layers.core import Augmentation
from ..layers.einsum_dense import EinsumDense
from ..layers.quantized import PREFIXES
from .nodes import MULTIHEAD, WRAPPERS
from .rebuilt_operations import call_operation

# The layers that are built, each from the attribute of that name of the framework's module `layers`.
CLASSES = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
    CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D Dense
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Flatten GRU GRUCell
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
    Hashing Identity IntegerLookup LSTM LSTMCell LayerNormalization LeakyReLU LocallyConnected1D LocallyConnected2D
    Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply
    Normalization PReLU Permute RMSNormalization RNN RandomCrop ReLU RepeatVector Rescaling Reshape Resizing
    ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
    TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
) | {name for name, cls in REGISTRY.items() if issubclass(cls, Augmentation)}
# Layers that look up or encode: their dtype is that of the result and follows from their options, and what they learned
# in adapt() is an option, too.
_LOOKUPS = (
    *("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup"),
    "TextVectorization",
)
# Options that Keras asks for and that count in training alone.
_TRAINING = {"rate": 0.5, "stddev": 0.5}
# Names of options in tf_keras, where they differ.
_TF_KERAS_NAMES = {("LeakyReLU", "negative_slope"): "alpha"}


class CannotRebuild(Exception):
    """Says why the installed Keras cannot have such a model; names the layer."""


def rebuild(framework, graph, tensors):
    """A model of the framework with the layers of a graph and the arrays `tensors`, by name.

    Its inputs and outputs have the order of the graph: a list of tensors, or one tensor. Raises CannotRebuild for what
    Keras does not have.
    """
    return _Builder(framework, graph, tensors).model(graph)


class _Builder:
    """Builds one model from the framework, the dtype of computation and the arrays."""

    def __init__(self, framework, graph, tensors):
        self.framework, self.tensors = framework, tensors
        self.version, self.dtype = graph.keras, graph.dtype

    # ---- models

    def model(self, graph, shapes=()):
        """The model of a graph; `shapes` are those of what it is called with, for inputs that have none."""
        inputs = []
        for number, given in enumerate(graph.inputs):
            dtype = self.dtype if given.dtype.startswith(("float", "bfloat")) else given.dtype
            shape = shapes[number] if given.shape is None else given.shape
            inputs.append(self.framework.Input(batch_shape=tuple(shape), dtype=dtype))
        values, made = {number: [tensor] for number, tensor in enumerate(inputs)}, {}
        for number, node in enumerate(graph.nodes, start=len(inputs)):
            layer = graph.layers[node.layer]
            args, kwargs = (map_refs(lambda r: values[r.node][r.tensor], part) for part in (node.args, node.kwargs))
            try:
                if layer.class_name.startswith("ops."):
                    result = call_operation(self.framework, self.version.is_keras3, layer, args, kwargs)
                elif layer.class_name == "ForgetMask":  # Keras itself takes the mask off
                    result = args[0]
                else:
                    if node.layer not in made:
                        made[node.layer] = self.layer(layer, _shapes(args[0]))
                    result = _call(made[node.layer], layer, args[0], kwargs)
            except CannotRebuild:
                raise
            except Exception as error:
                raise CannotRebuild(_naming(layer, reason_of(error))) from error
            values[number] = flat(result)
        for number, keras_layer in made.items():
            self.assign(keras_layer, graph.layers[number])
        outputs = [values[ref.node][ref.tensor] for ref in graph.outputs]
        return self.framework.Model(*(part[0] if len(part) == 1 else part for part in (inputs, outputs)))

    # ---- layers

    def layer(self, layer, shapes=()):
        """The Keras layer of a graph.Layer, without its weights."""
        if layer.graph is not None:
            return self.model(layer.graph, shapes)
        name, quantized = layer.class_name, {}
        if name.startswith(PREFIXES):
            name, quantized = self.quantization(layer)
        if name not in CLASSES:
            raise CannotRebuild(_naming(layer, "is not among the layers of Keras that are built here"))
        if issubclass(REGISTRY[name], Augmentation):
            return self.framework.layers.Activation("linear", dtype=self.dtype)
        if not hasattr(self.framework.layers, name):
            raise CannotRebuild(_naming(layer, f"{self.framework.__name__} has no such layer"))
        cls = getattr(self.framework.layers, name)
        options = {**self.options(layer, name, cls), **quantized}
        if name == "Bidirectional":
            forward, backward = map(self.layer, layer.layers)
            return cls(forward, backward_layer=backward, **options)
        if name == "TimeDistributed":
            return cls(self.layer(layer.layers[0], [(*shape[:1], *shape[2:]) for shape in shapes]), **options)
        if name in ("RNN", "SpectralNormalization"):
            return cls(self.layer(layer.layers[0], shapes), **options)
        if name == "StackedRNNCells":
            return cls([self.layer(cell) for cell in layer.layers], **options)
        if name == "EinsumDense" and "output_shape" not in options:
            options["output_shape"] = self.output_shape_of(layer)
        return cls(**options)

    def output_shape_of(self, layer):
        """What EinsumDense is told of its output: the sizes of the axes behind the batch that its kernel has."""
        *_, kernel, output = EinsumDense(layer, self.version).parts
        sizes = dict(zip(kernel, self.tensors[layer.weights["kernel"]].shape))
        return [sizes.get(letter) for letter in (output if "..." in layer.config["equation"] else output[1:])]

    def options(self, layer, name, cls):
        """The keyword arguments of a class from our options; CannotRebuild if one that counts has no place there."""
        known = inspect.signature(cls.__init__).parameters
        found = {} if name in _LOOKUPS else {"dtype": self.dtype}
        found.update({key: value for key, value in _TRAINING.items() if key in known})
        for key, value in layer.config.items():
            option = REGISTRY[layer.class_name].options[key]
            there = key if self.version.is_keras3 else _TF_KERAS_NAMES.get((name, key), key)
            if key == "dtype":  # of Masking
                if value is not None:
                    raise CannotRebuild(
                        _naming(layer, f"it compares in {value}, and Keras is given a model in {self.dtype}")
                    )
            elif option.check is check_activation:
                found[there] = self.activation(layer, value)
            elif key in ("causal", "block_size") or key.startswith("quantized_"):
                continue  # an argument of the call; options of the quantization
            elif there in known or value != option.default:
                # One that is not in the signature is for a base class, or Keras refuses it by its name.
                found[there] = _as_keras(key, value)
        found.update(self.stored(layer, name))
        return found

    def stored(self, layer, name):
        """The options that hold what a layer learned in adapt()."""
        arrays = {role: self.tensors[tensor] for role, tensor in layer.weights.items()}
        if name == "Normalization" and arrays:
            return {"mean": arrays["mean"], "variance": arrays["variance"]}
        if "idf_weights" in arrays:
            # The weights include those of the mask and OOV tokens, so the vocabulary must contain these.
            words, oov = list(layer.config["vocabulary"]), layer.config.get("oov_token", "[UNK]")
            count = layer.config.get("num_oov_indices", 1)
            if words[:count] != [oov] * count:
                words = [oov] * count + words
            return {"vocabulary": words, "idf_weights": arrays["idf_weights"][: len(words)]}
        return {}

    def activation(self, layer, value):
        """The framework's function for a name of our table, or its layer for a class with options."""
        if activations.resolve(value, self.version.framework) is None:
            raise CannotRebuild(_naming(layer, f"{value!r} is no activation of {self.version.framework}"))
        if isinstance(value, str):
            function = getattr(self.framework.activations, value, None)
            # tf_keras has some functions that are no attributes.
            return self.framework.activations.get(value) if function is None else function
        class_name, config = value
        names = {} if self.version.is_keras3 else _TF_KERAS_NAMES
        config = {names.get((class_name, key), key): item for key, item in config.items()}
        return getattr(self.framework.layers, class_name)(**config)

    def quantization(self, layer):
        """(class name, options) of a layer with int8 or int4 weights."""
        mode, *_, name = layer.class_name.split(".")
        quantizers, config = getattr(self.framework, "quantizers", None), layer.config
        settings = getattr(quantizers, f"{mode.capitalize()}QuantizationConfig", None)
        if settings is None:
            raise CannotRebuild(
                _naming(layer, f"{self.framework.__name__} has no {mode.capitalize()}QuantizationConfig")
            )
        given, quantizer = {}, None
        if mode == "int4":
            given, mode = {"block_size": config["block_size"]}, f"int4/{config['block_size']}"
        if "quantized_low" in config:
            low, high, epsilon = (config[f"quantized_{key}"] for key in ("low", "high", "epsilon"))
            quantizer = quantizers.AbsMaxQuantizer(axis=-1, value_range=(low, high), epsilon=epsilon)
        options = {"dtype": f"{mode}_from_{self.dtype}"}
        if quantizer is None or given.get("block_size", -1) == -1:
            # With groups, inputs are quantized where a layer has no settings.
            options["quantization_config"] = settings(activation_quantizer=quantizer, **given)
        return name, options

    # ---- weights

    def assign(self, made, layer):
        """Give a layer and those inside it their arrays, by the roles of the weights."""
        if layer.graph is not None:
            return  # a model gave them to its layers
        if layer.layers:
            for part, inner in zip(_parts(made, layer), layer.layers):
                self.assign(part, inner)
            return
        if layer.class_name in (*_LOOKUPS, "Normalization"):
            return  # they are options
        left = [(_path(variable), variable) for variable in made.weights]
        left = [(path, variable) for path, variable in left if not path[-1].startswith("rnn_state")]
        for role, tensor in layer.weights.items():
            tail, array = role.split("/"), self.tensors[tensor]
            found = [(path, variable) for path, variable in left if path[-len(tail) :] == tail]
            if len(found) != 1 or tuple(found[0][1].shape) != array.shape:
                shapes = [tuple(variable.shape) for _, variable in found]
                raise CannotRebuild(_naming(layer, f"its {role} of shape {array.shape} has there the shapes {shapes}"))
            variable = found[0][1]
            variable.assign(array.astype(getattr(variable.dtype, "name", variable.dtype)))
            left = [pair for pair in left if pair[1] is not variable]
        if left:
            names = ", ".join(path[-1] for path, _ in left)
            raise CannotRebuild(_naming(layer, f"it has weights there that the file does not hold: {names}"))


def _as_keras(key, value):
    """Lists where Keras wants another form."""
    if key in ("axis", "axes") and isinstance(value, list) and len(value) == 1:
        return value[0]
    return tuple(value) if key == "ngrams" and isinstance(value, list) else value


def _parts(made, layer):
    """The Keras layers inside a wrapper: some wrappers make copies of what they are given."""
    if layer.class_name == "Bidirectional":
        return made.forward_layer, made.backward_layer
    if layer.class_name == "StackedRNNCells":
        return made.cells
    return (made.layer if layer.class_name in WRAPPERS else made.cell,)


def _path(variable):
    return getattr(variable, "path", variable.name).split(":")[0].split("/")


def _call(made, layer, first, kwargs):
    """Call a Keras layer as the graph does."""
    kwargs = dict(kwargs)
    if layer.config.get("causal"):
        kwargs["use_causal_mask"] = True
    if "initial_state" in kwargs:
        kwargs["initial_state"] = _by_cell(layer, list(flat(kwargs["initial_state"])))
    if layer.class_name in MULTIHEAD:
        query, *others = first
        return made(query, **dict(zip(("value", "key"), others)), **kwargs)
    return made(first, **kwargs)


def _by_cell(layer, states):
    """A flat list of states as the lists that Keras expects: one for each cell of StackedRNNCells."""
    if layer.class_name == "Bidirectional":
        half = len(states) // 2
        return _by_cell(layer.layers[0], states[:half]) + _by_cell(layer.layers[1], states[half:])
    if layer.class_name != "RNN" or layer.layers[0].class_name != "StackedRNNCells":
        return states
    found = []
    for cell in layer.layers[0].layers:
        count = 2 if cell.class_name == "LSTMCell" else 1
        own, states = states[:count], states[count:]
        found.append(own if count > 1 else own[0])
    return found


def flat(result):
    """Tensors in nested lists or dicts, in order."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [tensor for part in result for tensor in flat(part)]
    return [result]


def _shapes(first):
    return [tuple(getattr(tensor, "shape", ())) for tensor in flat(first)]


def _naming(layer, text):
    return f"layer {layer.name!r} ({layer.class_name}): {text}"


def reason_of(error):
    """The message of an error of Keras, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
