"""A child process of the benches: converts Keras files for LiteRT with TensorFlow's converter, and says what came out.

    python litert_nets.py FOLDER NAME...

Reads NAME.keras, writes the files that `cells.litert_files` lists, each for a batch, because their shapes are fixed,
and litert_nets.json: NAME -> {kind of file: the problem}. LiteRT's wheel has no operations of TensorFlow: what does not
convert into built-in ones is a problem. A process of its own, so that those which measure import only what they
measure; `bench_weights` alone calls `convert`.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import tensorflow
from cells import inputs, litert_files


def set_unroll(model, unroll):
    """Set Keras' option `unroll` in every recurrent layer: with it no loop is left in the graph."""
    for layer in model.layers:
        for part in (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            if hasattr(part, "unroll"):
                part.unroll = unroll


def convert(model, given, batch, quantize=False):
    """The bytes of a file for `batch` rows of the inputs `given` (`nets.Input`); `quantize`: to int8, dynamic range."""
    specs = [tensorflow.TensorSpec((batch, *one.shape), one.dtype, name=one.name) for one in given]
    module = tensorflow.Module()
    module.held = [variable.value for variable in model.variables]  # which become constants
    module.call = tensorflow.function(
        lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), input_signature=specs, autograph=False
    )
    function = module.call.get_concrete_function()
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS]
    if quantize:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    return converter.convert()


def problem(error):
    """The line of the error that names the operation, or its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"does not convert: {next((line for line in lines if 'error:' in line), lines[0])}"


def main(folder, names):
    report = {}
    for name in names:
        report[name] = {}
        model = keras.models.load_model(os.path.join(folder, f"{name}.keras"), compile=False)
        for kind, (batch, unroll) in litert_files(name).items():
            set_unroll(model, unroll)
            try:
                content = convert(model, inputs(name), batch)
            except Exception as error:
                report[name][kind] = problem(error)
                continue
            with open(os.path.join(folder, f"{name}.{kind}"), "wb") as file:
                file.write(content)
        with open(os.path.join(folder, "litert_nets.json"), "w") as file:  # kept if a conversion ends the process
            json.dump(report, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
