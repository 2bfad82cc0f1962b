"""The temporal convolutional network of keras-tcn: residual blocks of dilated convolutions, as one layer.

Imports the convolutions of Keras' own layers, and NumPy.
"""

import numpy as np

from ... import activations
from ..base import Option, Spec, Tensor, activation, boolean, choice, integer, integers, optional
from ..convolution import convolve
from .base import Contributed, contributed

EPSILON = 1e-3  # of Keras' BatchNormalization and LayerNormalization
SHORTEST = 1e-12  # of the squared length of a filter in tf.nn.l2_normalize
# So many stacks, and so many dilations, are read.
_MOST = 100


def few(check):
    """`check` for a whole number, or for a list of them, that says how many blocks there are."""

    def checked(value):
        value = check(value)
        if (len(value) if isinstance(value, list) else value) > _MOST:
            raise ValueError(f"expected at most {_MOST}")
        return value

    return checked


def pair(path):
    """How files name the kernel and the bias of the convolution with the roles path/0 and path/1."""
    return {f"{path}/0": f"{path}/kernel", f"{path}/1": f"{path}/bias"}


@contributed("keras_tcn.TCN")
class TCN(Contributed):
    """Blocks x -> act(y + x'), y = act(act(norm(conv(act(norm(conv(x))))))), x' = x or a convolution of one tap.

    x (B, T, F) -> (B, T, filters), or (B, filters) of one timestep: the last one, with padding "same" the middle one.
    With use_skip_connections the output is the sum of all y, else that of the last block. go_backwards turns x round,
    and the output stays so. Written after keras-tcn 3.5.7, tcn/tcn.py, MIT, https://github.com/philipperemy/keras-tcn.

    Versions 3.1 to 3.4 compute the same where the activation is relu. Versions before have a convolution in front:
    their arrays have other names, by which they are refused. A mask does not count.

    use_weight_norm (3.1 to 3.4): each filter of the dilated convolutions is v / |v| * g, as WeightNormalization of
    TensorFlow Addons 0.23.0 (layers/wrappers.py, Apache-2.0) computes it. Its arrays are behind kernel v and bias of a
    convolution: g, whether g was set, kernel and bias of a copy that only set g. A model that was never called sets g
    from its first input; it is refused.
    """

    source = "keras-tcn 3.5.7 (3.1 to 3.4 with relu), MIT, https://github.com/philipperemy/keras-tcn"
    mask_text = "ignored, ends here"
    options = {
        "nb_filters": Option(integers),
        "kernel_size": Option(integer()),
        "nb_stacks": Option(few(integer())),
        "dilations": Option(few(integers)),
        "padding": Option(choice("causal", "same")),
        "use_skip_connections": Option(boolean),
        "return_sequences": Option(boolean),
        "activation": Option(activation),
        "use_batch_norm": Option(boolean),
        "use_layer_norm": Option(boolean),
        "use_weight_norm": Option(boolean, False),
        "go_backwards": Option(optional(boolean), None),
    }
    ignored = ("dropout_rate", "activity_regularizer")

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        filters, dilations = config["nb_filters"], config["dilations"]
        if len(filters) not in (1, len(dilations)) or not dilations or min(filters + dilations) < 1:
            yield "nb_filters", filters, f"does not fit dilations={dilations}"
        elif len(set(filters)) > 1 and config["use_skip_connections"]:
            yield "nb_filters", filters, "cannot be added up (use_skip_connections)"
        if config["activation"] != "relu" and config["go_backwards"] is None:
            text = "is computed in different ways by versions of keras-tcn before 3.5, and one of them wrote the file"
            yield "activation", config["activation"], text
        norms = [name for name in ("use_batch_norm", "use_layer_norm", "use_weight_norm") if config[name]]
        if len(norms) > 1:
            yield norms[1], True, f"is not possible with {norms[0]}"

    @classmethod
    def blocks(cls, config):
        """(filters, dilation) of each block."""
        filters, dilations = config["nb_filters"], config["dilations"]
        filters = filters * len(dilations) if len(filters) == 1 else filters
        return list(zip(filters, dilations)) * config["nb_stacks"]

    @classmethod
    def norm(cls, config):
        """Where a block keeps its norms, and how many arrays each has."""
        if config["use_batch_norm"]:
            return "batch_norm_layers/batch_normalization", 4
        return ("layer_norm_layers/layer_normalization", 2) if config["use_layer_norm"] else ("", 0)

    def weight_shapes(self, shapes):
        features = shapes[0][-1] if shapes else None
        path, arrays = self.norm(self.config)
        roles = {}
        for k, (filters, _) in enumerate(self.blocks(self.config)):
            block, before = f"residual_block_{k}", features
            for n in range(2):
                roles[f"{block}/conv1D_{n}/0"] = (self.kernel_size, before, filters)
                roles[f"{block}/conv1D_{n}/1"] = (filters,)
                if self.use_weight_norm:
                    sizes = ((filters,), (), (self.kernel_size, before, filters), (filters,))
                    roles |= {f"{block}/conv1D_{n}/{index}": size for index, size in enumerate(sizes, start=2)}
                for index in range(arrays):
                    roles[f"{block}/{path}{'_1' * n}/{index}"] = (filters,)
                before = filters
            roles[f"{block}/matching_conv1D/0"] = (1, features, filters)
            roles[f"{block}/matching_conv1D/1"] = (filters,)
            features = filters
        return roles

    @classmethod
    def names_in_file(cls, config):
        path, arrays = cls.norm(config)
        parts = ("gamma", "beta", "moving_mean", "moving_variance")[:arrays]
        names = {}
        for k in range(len(cls.blocks(config))):
            block = f"residual_block_{k}"
            for n in range(2):
                conv = f"{block}/conv1D_{n}"
                names |= pair(conv)
                if config["use_weight_norm"]:
                    more = ("g", "initialized", "data_dep_init/kernel", "data_dep_init/bias")
                    names |= {f"{conv}/{index}": f"{conv}/{part}" for index, part in enumerate(more, start=2)}
                norm = rf"{block}/(?:norm_{n}|(?:batch|layer)_normalization(?:_\d+)?)"
                names |= {f"{block}/{path}{'_1' * n}/{i}": f"{norm}/{part}" for i, part in enumerate(parts)}
            names |= pair(f"{block}/matching_conv1D")
        return names

    @classmethod
    def other_path(cls, path):
        block, _, part = path.partition("/")
        number = block.removeprefix("residual_block_")
        part = {"conv1D_0": "layers/conv1d", "conv1D_1": "layers/conv1d_1", "matching_conv1D": "shape_match_conv"}.get(
            part, part.replace("batch_norm_layers", "layers").replace("layer_norm_layers", "layers")
        )
        return f"residual_blocks/residual_block{'' if number == '0' else f'_{number}'}/{part}"

    @classmethod
    def absent(cls, config, role):
        """Where channels stay as many, there is no convolution beside the block: the same as one by the identity."""
        block, _, part = role.partition("/")
        filters = cls.blocks(config)[int(block.rpartition("_")[2])][0]
        if part == "matching_conv1D/0":
            return (1, filters, filters), lambda: np.eye(filters, dtype=np.float32)[np.newaxis]
        return ((filters,), lambda: np.zeros(filters, np.float32)) if part == "matching_conv1D/1" else None

    def bind(self, tensors, dtype):
        super().bind(tensors, dtype)
        for role, array in self.weights.items():
            if role.endswith("conv1D_0/3") and not array:
                self.fail("it was saved before its first call, which sets `g` of the weight normalization")

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, 3)
        filters = self.blocks(self.config)[-1][0]
        return [Spec((*shape[:2], filters) if self.return_sequences else (shape[0], filters))]

    def call(self, inputs, kwargs, states):
        x = inputs[0].value
        x = x[:, ::-1] if self.go_backwards else x
        outputs = []
        for k, (_, dilation) in enumerate(self.blocks(self.config)):
            block = f"residual_block_{k}"
            y = x
            for n in range(2):
                y = self.act(self.normalized(self.convolved(y, f"{block}/conv1D_{n}", dilation), block, n))
            y = self.act(y)
            x = self.act(self.convolved(x, f"{block}/matching_conv1D", 1) + y)
            outputs.append(y)
        if self.use_skip_connections:
            x = sum(outputs[1:], outputs[0])
        if not self.return_sequences:
            x = x[:, -1] if self.padding == "causal" else x[:, x.shape[1] // 2]
        return [Tensor(x)]

    def act(self, x):
        return activations.resolve(self.activation, self.version.framework)(x)

    def convolved(self, x, path, dilation):
        kernel, bias = self.weights[f"{path}/0"], self.weights[f"{path}/1"]
        if f"{path}/2" in self.weights:
            lengths = np.sum(np.square(kernel), axis=(0, 1))
            kernel = kernel / np.sqrt(np.maximum(lengths, np.asarray(SHORTEST, x.dtype))) * self.weights[f"{path}/2"]
        reach = (len(kernel) - 1) * dilation
        before = reach if self.padding == "causal" else reach // 2
        x = np.pad(x, ((0, 0), (before, reach - before), (0, 0)))
        return convolve(x, kernel, (1,), (dilation,)) + bias

    def normalized(self, x, block, n):
        path, arrays = self.norm(self.config)
        if not path:
            return x
        gamma, beta, *moving = (self.weights[f"{block}/{path}{'_1' * n}/{index}"] for index in range(arrays))
        epsilon = np.asarray(EPSILON, x.dtype)
        if moving:
            mean, variance = moving
        else:
            mean = np.mean(x, axis=-1, keepdims=True)
            variance = np.mean(np.square(x - mean), axis=-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta
