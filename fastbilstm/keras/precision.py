"""Dtype policies of Keras: the precision of computation, and int8 quantization. Knows no files and no arrays."""

from ..layers.quantized import PREFIX

# Keras' dtype policies, and the dtype fastbilstm computes in.
POLICIES = {
    "float16": "float32",
    "bfloat16": "float32",
    "mixed_float16": "float32",
    "mixed_bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}
# Keras 3.3 and 3.4 quantized, too; how is not known well enough.
_FIRST_VERSION = (3, 5)
_QUANTIZED = ("Dense", "Embedding")


def policy_name(dtype):
    """The name of a dtype policy, given as str or as the dictionary of tf.keras or Keras 3; None if there is none."""
    return (dtype.get("config") or {}).get("name") if isinstance(dtype, dict) else dtype


def read_quantization(class_name, config, version):
    """Turn an int8-quantized Dense or Embedding into the layer class that computes it.

    Returns
    -------
    (str, dict)
        Class name and config: as given, unless the dtype policy is a quantized one.

    Raises
    ------
    ValueError
        Says what of the quantization is not supported.
    """
    mode, source = _mode(config.get("dtype"))
    if mode is None:
        return class_name, config
    if mode != "int8":
        raise ValueError(f"is quantized as {mode}, which is not supported (int8 is)")
    if class_name not in _QUANTIZED:
        raise ValueError("is quantized; that is supported for Dense and Embedding only")
    if not version.is_keras3 or version.version < _FIRST_VERSION:
        raise ValueError(f"is quantized by {version}; files of Keras 3.5 and later are supported")
    if source not in POLICIES:
        raise ValueError(f"is quantized from {source!r}, which is not known")
    settings = config.get("quantization_config")
    config = {key: value for key, value in config.items() if key != "quantization_config"} | {"dtype": source}
    levels = _activation_levels(settings)
    if class_name == "Embedding":
        return f"{PREFIX}Embedding", config
    if levels is None:
        return f"{PREFIX}weights.Dense", config
    return f"{PREFIX}Dense", {**config, **levels}


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


def _activation_levels(settings):
    """The options of the quantizer of inputs; None if inputs are not quantized."""
    if settings is None:  # before Keras 3.13 there was but one way
        return {"quantized_low": -127, "quantized_high": 127, "quantized_epsilon": 1e-7}
    inner = settings.get("config") if isinstance(settings, dict) else None
    if not isinstance(inner, dict) or settings.get("class_name") != "Int8QuantizationConfig":
        raise ValueError(f"has the quantization_config {str(settings)[:60]}, which is not known")
    quantizer = inner.get("activation_quantizer")
    if quantizer is None:
        return None
    found = quantizer.get("config") if isinstance(quantizer, dict) else None
    if not isinstance(found, dict) or quantizer.get("class_name") != "AbsMaxQuantizer":
        raise ValueError(f"has the activation_quantizer {str(quantizer)[:60]}, which is not known")
    unknown = set(found) - {"value_range", "epsilon", "output_dtype", "axis"}
    levels = found.get("value_range")
    if unknown or found.get("output_dtype") != "int8" or not isinstance(levels, list) or len(levels) != 2:
        raise ValueError(f"has an AbsMaxQuantizer of {str(found)[:100]}, which is not known")
    return {"quantized_low": levels[0], "quantized_high": levels[1], "quantized_epsilon": found.get("epsilon")}
