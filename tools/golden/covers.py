"""What a golden model covers: its layer classes and every option that is not Keras' default, read from its config."""

import json

_LOOP = {
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "time_major": False,
    "zero_output_for_mask": False,
}
_SIMPLE_CELL = {"activation": "tanh", "use_bias": True, "dropout": 0.0, "recurrent_dropout": 0.0}
_LSTM_CELL = {**_SIMPLE_CELL, "recurrent_activation": "sigmoid", "implementation": 2}
_GRU_CELL = {**_LSTM_CELL, "reset_after": True}
_FORM = {"data_format": "channels_last"}
_WINDOWS = {"padding": "valid", **_FORM}
_CONVOLUTION = {**_WINDOWS, "activation": "linear", "use_bias": True, "depth_multiplier": 1}
_ONE, _TWO, _THREE = [1], [1, 1], [1, 1, 1]
WINDOWS = {
    **{
        f"{name}{n}D{end}": {
            **_CONVOLUTION,
            "strides": ones,
            "dilation_rate": ones,
            "groups": 1,
            "output_padding": None,
        }
        for n, ones in ((1, _ONE), (2, _TWO), (3, _THREE))
        for name, end in (("Conv", ""), ("SeparableConv", ""), ("DepthwiseConv", ""), ("Conv", "Transpose"))
    },
    **{f"{name}Pooling{n}D": _WINDOWS for name in ("Max", "Average") for n in (1, 2, 3)},
    **{f"Global{name}Pooling{n}D": {"keepdims": False, **_FORM} for name in ("Max", "Average") for n in (2, 3)},
    **{f"Adaptive{name}Pooling{n}D": _FORM for name in ("Max", "Average") for n in (1, 2, 3)},
    "LocallyConnected1D": {**_CONVOLUTION, "strides": _ONE, "implementation": 1},
    "LocallyConnected2D": {**_CONVOLUTION, "strides": _TWO, "implementation": 1},
    **{
        f"ConvLSTM{n}D": {
            **_LOOP,
            **_LSTM_CELL,
            **_WINDOWS,
            "strides": ones,
            "dilation_rate": ones,
        }
        for n, ones in ((1, _ONE), (2, _TWO), (3, _THREE))
    },
    **{f"{name}{n}D": _FORM for name in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)},
    "Convolution1D": {},
    "AtrousConvolution1D": {},
    "Convolution2D": {"dim_ordering": "tf"},
    "SpatialDropout2D": {},
    "SpatialDropout3D": {},
}
WINDOWS["UpSampling2D"] = {"interpolation": "nearest", **_FORM}
OPTIONS = {
    **WINDOWS,
    "InputLayer": {},
    "Sequential": {},
    "Functional": {},
    "Embedding": {"mask_zero": False, "input_length": None},
    "Masking": {"mask_value": 0.0},
    "LSTM": {**_LOOP, **_LSTM_CELL},
    "CuDNNLSTM": {"return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False},
    "GRU": {**_LOOP, **_GRU_CELL},
    "SimpleRNN": {**_LOOP, **_SIMPLE_CELL},
    "CuDNNGRU": {"return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False},
    "RNN": _LOOP,
    "LSTMCell": _LSTM_CELL,
    "GRUCell": _GRU_CELL,
    "SimpleRNNCell": _SIMPLE_CELL,
    "StackedRNNCells": {},
    "Bidirectional": {"merge_mode": "concat"},
    "Dense": {"activation": "linear", "use_bias": True},
    "TimeDistributed": {},
    "Dropout": {},
    "SpatialDropout1D": {},
    "GaussianNoise": {},
    "GaussianDropout": {},
    "AlphaDropout": {},
    "ActivityRegularization": {},
    "BatchNormalization": {"scale": True, "center": True, "axis": -1},
    "LayerNormalization": {"scale": True, "center": True, "axis": -1, "rms_scaling": False},
    "Activation": {"activation": None},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "LeakyReLU": {},
    "ELU": {"alpha": 1.0},
    "PReLU": {"shared_axes": None},
    "ThresholdedReLU": {},
    "MultiHeadAttention": {
        "use_bias": True,
        "dropout": 0.0,
        "output_shape": None,
        "use_gate": False,
        "sliding_window": None,
        "softmax_robust_masking": False,
    },
    "GroupQueryAttention": {"use_bias": True, "use_gate": False, "sliding_window": None, "dropout": 0.0},
    "GroupedQueryAttention": {"use_bias": True, "use_gate": False, "sliding_window": None, "dropout": 0.0},
    "GroupNormalization": {"scale": True, "center": True, "axis": -1},
    "UnitNormalization": {"axis": -1},
    "RMSNormalization": {"axis": -1},
    "Rescaling": {"offset": 0.0},
    "Normalization": {"invert": False, "mean": None},
    "Identity": {},
    "Discretization": {"output_mode": "int"},
    "CategoryEncoding": {"output_mode": "multi_hot"},
    "IntegerLookup": {"output_mode": "int", "num_oov_indices": 1, "invert": False, "mask_token": None},
    "StringLookup": {"output_mode": "int", "invert": False, "mask_token": None, "pad_to_max_tokens": False},
    "TextVectorization": {
        "output_mode": "int",
        "standardize": "lower_and_strip_punctuation",
        "split": "whitespace",
        "ngrams": None,
        "output_sequence_length": None,
        "pad_to_max_tokens": False,
    },
    "Softmax": {"axis": -1, "robust_masking": False},
    "Concatenate": {"axis": -1},
    "Add": {},
    "Subtract": {},
    "Multiply": {},
    "Average": {},
    "Maximum": {},
    "Minimum": {},
    "Dot": {"axes": None, "normalize": False},
    "Attention": {"use_scale": False, "score_mode": "dot", "dropout": 0.0},
    "AdditiveAttention": {"use_scale": True},
    "GlobalAveragePooling1D": {"keepdims": False, "data_format": "channels_last"},
    "GlobalMaxPooling1D": {"keepdims": False, "data_format": "channels_last"},
    "Flatten": {"data_format": "channels_last"},
    "Reshape": {},
    "Permute": {},
    "RepeatVector": {},
    "Lambda": {},
    "EinsumDense": {"activation": "linear", "bias_axes": None},
    "Hashing": {"mask_value": None, "salt": None, "output_mode": "int"},
    "HashedCrossing": {"output_mode": "int"},
    **{
        name: {}
        for name in (
            *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration"),
            *("RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip"),
            *("RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert"),
            *("RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness"),
            *("RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom", "Solarization"),
        )
    },
}


def covers(config, class_name=None):
    """Sorted list such as ["LSTM", "LSTM.go_backwards=true"] of a model's or layer's config."""
    found = set()
    _walk({"class_name": class_name, "config": config}, found)
    return sorted(found)


def _walk(value, found):
    if isinstance(value, list | tuple):
        for item in value:
            _walk(item, found)
    elif isinstance(value, dict):
        name, config = value.get("class_name"), value.get("config")
        if name in OPTIONS and isinstance(config, dict):
            found.add(name)
            for option, default in OPTIONS[name].items():
                given = config.get(option, default)
                if json.dumps(given, default=str) != json.dumps(default):
                    shown = given if isinstance(given, str) else json.dumps(given, default=str)
                    found.add(f"{name}.{option}={shown}")
        for item in value.values():
            _walk(item, found)
