"""Dtype policies of Keras: the precision of computation, and int8 and int4 weights. Knows no files and no arrays."""

import re

# Keras' dtype policies, and the dtype fastbilstm computes in.
POLICIES = {
    "float16": "float32",
    "bfloat16": "float32",
    "mixed_float16": "float32",
    "mixed_bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}
# Keras 3.3 and 3.4 quantized, too; how is not known well enough. Before 3.14 int4 kernels were packed in another way.
_FIRST_VERSION = {"int8": (3, 5), "int4": (3, 14)}
_QUANTIZED = ("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding")
_SETTINGS = {"int8": "Int8QuantizationConfig", "int4": "Int4QuantizationConfig"}
_DEFAULT_LEVELS = {"quantized_low": -127, "quantized_high": 127, "quantized_epsilon": 1e-7}


def policy_name(dtype):
    """The name of a dtype policy, given as str or as the dictionary of tf.keras or Keras 3; None if there is none."""
    return (dtype.get("config") or {}).get("name") if isinstance(dtype, dict) else dtype


def read_quantization(class_name, config, version):
    """Turn a layer quantized to int8 or int4 into the layer class that computes it.

    Returns
    -------
    (str, dict)
        Class name and config: as given, unless the dtype policy is a quantized one.

    Raises
    ------
    ValueError
        Says what of the quantization is not supported.
    """
    policy, source = _mode(config.get("dtype"))
    if policy is None:
        return class_name, config
    mode, block_size = _block_size(policy)
    if class_name not in _QUANTIZED:
        raise ValueError(f"is quantized; that is supported for {', '.join(_QUANTIZED)} only")
    if not version.is_keras3 or version.version < _FIRST_VERSION[mode]:
        first = ".".join(map(str, _FIRST_VERSION[mode]))
        raise ValueError(f"is quantized as {mode} by {version}; files of Keras {first} and later are supported")
    if source not in POLICIES:
        raise ValueError(f"is quantized from {source!r}, which is not known")
    settings = _settings(config.get("quantization_config"), mode)
    config = {key: value for key, value in config.items() if key != "quantization_config"} | {"dtype": source}
    if mode == "int4":
        config["block_size"] = block_size if settings is None else settings.get("block_size") or -1
    reverse = class_name == "ReversibleEmbedding"
    if reverse:
        config["reverse_dtype"] = None  # is for float tables
    if class_name == "Embedding":
        return f"{mode}.Embedding", config
    if settings is None:  # before Keras 3.13 there was but one way
        levels = _DEFAULT_LEVELS if mode == "int8" or reverse else None
    else:
        levels = _activation_levels(settings, any_axis=not reverse)
    if levels is None or (config.get("block_size", -1) > 0 and not reverse):
        return f"{mode}.weights.{class_name}", config
    return f"{mode}.{class_name}", {**config, **levels}


def _block_size(policy):
    """(mode, size of the groups or -1) of a mode as policies write it: "int8", "int4", "int4/128"."""
    mode, _, size = policy.partition("/")
    if mode not in _FIRST_VERSION or (size and (mode != "int4" or not re.fullmatch("-1|[1-9][0-9]{0,8}", size))):
        raise ValueError(f"is quantized as {policy}, which is not supported (int8 and int4 are)")
    return mode, int(size or -1)


def _mode(dtype):
    """(mode, source policy) of a quantized dtype policy; (None, None) of any other."""
    if isinstance(dtype, str) and "_from_" in dtype:
        return tuple(dtype.split("_from_", 1))
    if not isinstance(dtype, dict):
        return None, None
    inner = dtype.get("config") if isinstance(dtype.get("config"), dict) else {}
    if isinstance(inner.get("name"), str) and "_from_" in inner["name"]:
        return tuple(inner["name"].split("_from_", 1))
    if "mode" in inner:
        return str(inner["mode"]), inner.get("source_name")
    name = str(dtype.get("class_name"))
    return (name, None) if "Quantized" in name or name == "DTypePolicyMap" else (None, None)


def _settings(stored, mode):
    """The options in a layer's quantization_config; None if it has none."""
    if stored is None:
        return None
    inner = stored.get("config") if isinstance(stored, dict) else None
    if not isinstance(inner, dict) or stored.get("class_name") != _SETTINGS[mode]:
        raise ValueError(f"has the quantization_config {str(stored)[:60]}, which is not known for {mode}")
    return inner


def _activation_levels(settings, any_axis):
    """The options of the quantizer of inputs; None if inputs are not quantized.

    `any_axis`: whether Keras overrules the axis of the quantizer.
    """
    quantizer = settings.get("activation_quantizer")
    if quantizer is None:
        return None
    found = quantizer.get("config") if isinstance(quantizer, dict) else None
    if not isinstance(found, dict) or quantizer.get("class_name") != "AbsMaxQuantizer":
        raise ValueError(f"has the activation_quantizer {str(quantizer)[:60]}, which is not known")
    unknown = set(found) - {"value_range", "epsilon", "output_dtype", "axis"}
    if not any_axis and found.get("axis") not in (None, -1, [-1]):
        unknown.add("axis")
    levels = found.get("value_range")
    if unknown or found.get("output_dtype") != "int8" or not isinstance(levels, list) or len(levels) != 2:
        raise ValueError(f"has an AbsMaxQuantizer of {str(found)[:100]}, which is not known")
    return {"quantized_low": levels[0], "quantized_high": levels[1], "quantized_epsilon": found.get("epsilon")}
