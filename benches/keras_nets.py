"""A child process of the benches: builds the nets in Keras 3, saves, exports and converts them, and says what came out.

    python keras_nets.py FOLDER NAME...

Reads NAME.npz (weights; of a net of `around_nets` it writes them), writes NAME.keras, NAME.saved (a SavedModel) and
NAME.converted.onnx (tf2onnx's command line on that SavedModel, no edit), and keras_nets.json: NAME -> {"saved": None or
the problem, "converted": the same}. A process of its own, so that those which measure import only what they measure.
"""

import importlib.util
import json
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import around_nets
import keras
from keras import layers
from nets import AROUND, NETS, layer_parts, load_weights, save_weights

CONVERSIONS = 2  # at a time: each is a process with TensorFlow


def build(net, weights):
    shape, dtype = ((None,), "int32") if net.features is None else ((None, net.features), "float32")
    x = given = keras.Input(shape, dtype=dtype, name="x")
    for number, (layer, _, parts) in enumerate(layer_parts(net)):
        kind, name = layer[0], f"{layer[0]}_{number}"
        if kind == "embedding":
            x = layers.Embedding(layer[1], layer[2], mask_zero=layer[3], name=name)(x)
        elif kind in ("lstm", "gru"):
            x = getattr(layers, kind.upper())(layer[1], name=name)(x)
        elif kind in ("bilstm", "bigru"):
            inner = getattr(layers, kind[2:].upper())(layer[1], return_sequences=layer[2])
            x = layers.Bidirectional(inner, merge_mode=layer[3], name=name)(x)
        elif kind == "lstm_pair":
            halves = [layers.LSTM(layer[1], go_backwards=back, name=part[0])(x) for back, part in enumerate(parts)]
            x = layers.Concatenate(name=name)(halves)
        elif kind == "batchnorm":
            x = layers.BatchNormalization(name=name)(x)
        elif kind == "attention_mean":
            x = layers.GlobalAveragePooling1D()(layers.Attention(name=name)([x, x]))
        else:
            x = layers.Dense(layer[1], activation=layer[2], name=name)(x)
    model = keras.Model(given, x)
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    return model


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def main(folder, names):
    report, running = {}, []

    def finish():
        name, process = running.pop(0)
        errors = process.communicate()[1]
        if process.returncode:
            report[name]["converted"] = f"tf2onnx failed: {last_line(errors)}"

    for name in names:
        path = os.path.join(folder, name)
        if name in AROUND:
            model = around_nets.build(name)
            save_weights(f"{path}.npz", {layer.name: layer.get_weights() for layer in model.layers if layer.weights})
        else:
            model = build(NETS[name], load_weights(f"{path}.npz"))
        model.save(f"{path}.keras")
        report[name] = {"saved": None, "converted": None}
        try:
            model.export(f"{path}.saved", verbose=False)
        except Exception as error:
            problem = f"export failed: {error}"
            report[name] = {"saved": problem, "converted": problem}
            continue
        if importlib.util.find_spec("tf2onnx") is None:
            report[name]["converted"] = "tf2onnx is not installed"
            continue
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", f"{path}.saved", "--opset", "18"]
        command += ["--output", f"{path}.converted.onnx"]
        if len(running) == CONVERSIONS:
            finish()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        running.append((name, process))
    while running:
        finish()
    with open(os.path.join(folder, "keras_nets.json"), "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
