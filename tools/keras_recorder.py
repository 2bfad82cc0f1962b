"""Calls of Keras layers, recorded on arrays and done again in fastbilstm: what tools/keras_unit_tests.py is made of."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np

# Where Keras' float32 misses the tolerance itself: how far it may be from float64, of max|k|, and we as against it.
SAME_FORMULA = 1e-3
SAME_ORDER = 4
# TensorFlow flushes the smallest numbers to zero.
FLUSHED = 1e-37
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133}


class Skipped(Exception):
    """Why a call cannot become a functional model."""


# ---- recording ------------------------------------------------------------------------------------------------------


class Call:
    """One call of a layer on arrays: what is needed to do it again, with the outputs it gave."""

    def __init__(self, layer, args, kwargs, outputs, weights):
        self.layer, self.args, self.kwargs, self.outputs, self.weights = layer, args, kwargs, outputs, weights


class Recorder:
    """Stands in for keras.Layer.__call__ and keeps the outermost calls of the classes looked at."""

    def __init__(self, keras, names):
        from keras.src import backend

        self.keras, self.names, self.backend = keras, names, backend
        self.depth, self.calls, self.skipped = 0, [], []
        self.original = keras.Layer.__call__

    def __enter__(self):
        recorder, original = self, self.original

        def call(layer, *args, **kwargs):
            if not recorder.wants(layer):
                return original(layer, *args, **kwargs)
            weights = recorder.weights(layer)
            recorder.depth += 1
            try:
                outputs = original(layer, *args, **kwargs)
            finally:
                recorder.depth -= 1
            recorder.keep(layer, args, kwargs, outputs, weights)
            return outputs

        self.keras.Layer.__call__ = call
        return self

    def __exit__(self, *_):
        self.keras.Layer.__call__ = self.original

    def wants(self, layer):
        kind = type(layer)
        return self.depth == 0 and kind.__name__ in self.names and kind.__module__.startswith("keras.src.layers.")

    def weights(self, layer):
        """Copies, because a call may change them (BatchNormalization); None for a layer that is built by the call."""
        import tensorflow as tf

        return [np.array(w) for w in layer.get_weights()] if layer.built and tf.executing_eagerly() else None

    def keep(self, layer, args, kwargs, outputs, weights):
        import tensorflow as tf

        if not tf.executing_eagerly():
            return
        leaves = self.keras.tree.flatten((args, kwargs, outputs))
        if any(isinstance(leaf, self.keras.KerasTensor) for leaf in leaves):
            return
        try:
            try:
                layer.get_config()
            except Exception as error:
                raise Skipped("no layer config") from error
            args = tuple(as_plain_array(x) for x in args)
            if (kwargs.get("training") and layer._call_has_training_arg) or (len(args) > 1 and args[-1] is True):
                raise Skipped("training")
            if any(isinstance(leaf, (tf.SparseTensor, tf.RaggedTensor)) for leaf in leaves):
                raise Skipped("sparse or ragged tensors")
            kwargs = {key: value for key, value in kwargs.items() if key != "training" and value is not None}
            masks = [self.backend.get_keras_mask(x) for x in self.keras.tree.flatten(args) if tf.is_tensor(x)]
            if any(mask is not None for mask in masks) and "mask" not in kwargs and layer._call_has_mask_arg:
                kwargs["mask"] = masks[0] if len(masks) == 1 else masks
            args, kwargs, outputs = self.keras.tree.map_structure(self.as_array, (args, kwargs, outputs))
            weights = self.weights(layer) if weights is None else weights
            self.calls.append(Call(layer, args, kwargs, outputs, weights))
        except Skipped as reason:
            self.skipped.append((type(layer).__name__, str(reason)))

    def as_array(self, x):
        import tensorflow as tf

        if tf.is_tensor(x) or isinstance(x, (np.ndarray, self.keras.Variable)):
            array = np.array(x)
            if array.dtype.kind in "OS":
                return np.array([text.decode() if isinstance(text, bytes) else text for text in array.ravel()]).reshape(
                    array.shape
                )
            return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        return x


# ---- doing it again -------------------------------------------------------------------------------------------------


def as_plain_array(x):
    """Lists of numbers or strings as an array; anything else as it is."""
    leaves, stack = [], [x]
    while stack:
        item = stack.pop()
        stack += item if isinstance(item, list) else []
        leaves += [] if isinstance(item, list) else [item]
    plain = isinstance(x, list) and leaves and all(isinstance(leaf, (int, float, str)) for leaf in leaves)
    try:
        return np.array(x) if plain else x
    except ValueError as error:
        raise Skipped("rows of different lengths") from error


def functional_model(keras, call):
    """(model, inputs): the layer of a call with its weights, called on Inputs where the test gave arrays."""
    inputs, arrays = [], []
    layer = type(call.layer).from_config(call.layer.get_config())
    fixed = getattr(layer, "stateful", False) or getattr(getattr(layer, "forward_layer", None), "stateful", False)

    def symbol(x):
        if not isinstance(x, np.ndarray):
            return x
        if x.ndim == 0:
            raise Skipped("a scalar tensor")
        kind = "string" if x.dtype.kind == "U" else x.dtype.name
        given = keras.Input(batch_shape=(x.shape[0] if fixed else None, *x.shape[1:]), dtype=kind)
        inputs.append(given)
        arrays.append(x)
        return given

    if hasattr(layer, "set_vocabulary") and not layer.get_config().get("vocabulary"):
        layer.set_vocabulary(call.layer.get_vocabulary(include_special_tokens=False))
    args, kwargs = keras.tree.map_structure(symbol, (call.args, call.kwargs))
    if not inputs:
        raise Skipped("no tensor in the call")
    outputs = layer(*args, **kwargs)
    if any(isinstance(x, (list, tuple, dict)) and not keras.tree.flatten(x) for x in [outputs]):
        raise Skipped("no output")
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)
    layer.set_weights(call.weights)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()  # Normalization
    return model, arrays


def half_precision(layer):
    names = {part.dtype_policy.name for part in layer._flatten_layers() if hasattr(part, "dtype_policy")}
    found = [half for half in ("bfloat16", "float16") if any(half in name.split("_") for name in names)]
    return found[0] if found else None


def agree(ours, theirs, half):
    """None if the outputs agree by the project's tolerances, else a sentence."""
    from fastbilstm.tolerances import HALF_RELATIVE, compare

    if len(ours) != len(theirs):
        return f"{len(ours)} outputs, expected {len(theirs)}"
    for y, k in zip(ours, theirs, strict=True):
        y, k = np.asarray(y), np.asarray(k)
        if k.dtype.kind in "SUO":
            if y.shape != k.shape or y.astype(str).tolist() != k.astype(str).tolist():
                return f"strings {y.tolist()}, expected {k.tolist()}"[:200]
            continue
        k = k.astype(np.float32) if k.dtype.kind not in "fiub" else k
        if half and y.shape == k.shape:
            # A difference below the smallest number that half precision holds is none: Keras' answer is 0 there.
            allowed = max(HALF_RELATIVE[half] * np.abs(k).max(initial=0), SMALLEST[half])
            if np.abs(y - k.astype(np.float64)).max(initial=0) > allowed:
                return f"differs by more than half precision ({half})"
            continue
        if y.shape == k.shape and y.dtype.kind == k.dtype.kind == "f":
            # TensorFlow flushes the smallest numbers to zero.
            y, k = (np.where(np.abs(x) < FLUSHED, 0, x) for x in (y, k))
        result = compare(y, k, "float64" if y.dtype == k.dtype == np.float64 else "float32")
        if not result.ok:
            return result.message
    return None


def is_ill_conditioned(theirs, ours, exact):
    """Whether Keras' float32 is as far from float64 as ours, roughly, and both near enough to be the same formula."""
    if [np.shape(x) for x in theirs] != [np.shape(x) for x in ours]:
        return False
    for k, y, e in zip(theirs, ours, exact, strict=True):
        peak = np.abs(e).max(initial=0)
        error, own = (np.abs(x - e).max(initial=0) for x in (np.asarray(k, np.float64), np.asarray(y, np.float64)))
        if own > SAME_ORDER * error or error > SAME_FORMULA * peak:
            return False
    return True


def do_again(keras, call, folder):
    """(outcome, reason) of one recorded call."""
    import fastbilstm
    from fastbilstm.errors import FastBiLSTMError, InputError, UnsupportedLayerError

    path = Path(folder) / "model.keras"
    try:
        model, arrays = functional_model(keras, call)
        theirs = [np.asarray(k) for k in keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0]))]
        model.save(path)
    except Skipped as reason:
        return "skipped", str(reason)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        return "skipped", f"no functional model in Keras ({type(error).__name__}: {first[:80]})"
    half = half_precision(call.layer)
    given = arrays if len(arrays) > 1 else arrays[0]
    try:
        ours = keras.tree.flatten(fastbilstm.load(path)(given))
    except FastBiLSTMError as error:
        first = getattr(error, "problems", None) or [str(error)]
        outcome = "refused" if isinstance(error, (InputError, UnsupportedLayerError)) else "unread"
        return outcome, re.sub(r"_\d+\b", "", str(first[0]).replace(str(path), "the file"))[:200]
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    problem, note = agree(ours, theirs, half), ""
    if problem and not half:
        exact = keras.tree.flatten(fastbilstm.load(path, dtype="float64")(given))
        if is_ill_conditioned(theirs, ours, exact):
            problem, note = None, "Keras' own float32 is as far from float64 as ours (ill-conditioned)"
    if problem is None and not getattr(call.layer, "stateful", False):
        recorded = [k for k in keras.tree.flatten(call.outputs) if isinstance(k, np.ndarray)]
        problem = agree(theirs, recorded, half)
        if problem:
            return "skipped", "the functional model in Keras gives other numbers than the call in the test"
    return ("passed", note) if problem is None else ("failed", problem)


def fingerprint(call):
    parts = [type(call.layer).__name__, json.dumps(call.layer.get_config(), sort_keys=True, default=str)]
    digest = hashlib.sha256("".join(parts).encode())
    for x in [*_arrays(call.args), *_arrays(call.kwargs), *call.weights]:
        digest.update(f"{x.dtype}{x.shape}".encode() + x.tobytes())
    return digest.digest()


def _arrays(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value] if isinstance(value, np.ndarray) else [x for item in items for x in _arrays(item)]
