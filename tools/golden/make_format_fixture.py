"""Write tests/golden/format_v1.fbl, the file that proves that every later release still reads format version 1.

Run once for a format version and never again for the same one: `python tools/golden/make_format_fixture.py`, and with
`--weights int8`, `bfloat16` or `float16` for format_v2_int8.fbl and so on, of format version 2. The model is small and
made of fixed numbers, so that its output can be worked out without this package (test_fbl_file.py does): two inputs, an
Embedding with a mask, a Bidirectional LSTM with two layers inside, a model inside the model.
Imports fastbilstm, h5py and NumPy.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# In the place of this folder, whose modules are those of the package golden.
sys.path[:1] = [str(ROOT), str(ROOT / "tests" / "material")]

import make_files as mf  # noqa: E402

import fastbilstm  # noqa: E402
from fastbilstm.converted.fbl_file import FORMAT_VERSION, NARROW_VERSION  # noqa: E402
from fastbilstm.engine.weight_forms import FORMS  # noqa: E402


def steps(*shape, scale=0.5):
    """Numbers that need no generator: a sine over the elements in order."""
    return (np.sin(np.arange(np.prod(shape)) + len(shape)) * scale).astype(np.float32).reshape(shape)


def keras_file():
    """The model as a Keras .h5, as bytes."""
    inner = mf.sequential(mf.dense("inner_dense", units=2, activation="relu"))
    inner["config"]["layers"][0]["config"]["batch_input_shape"] = [None, 4]
    inner |= {"name": "inner", "inbound_nodes": [[["bidirectional", 0, 0, {}]]]}
    half = mf.lstm("lstm", units=2)
    # tf.keras counts the calls of a model inside a model from 1.
    add = mf.layer("Add", "add", ["inner", "extra"])
    add["inbound_nodes"] = [[["inner", 1, 0, {}], ["extra", 0, 0, {}]]]
    config = mf.functional(
        mf.input_layer("ids", (None, None), "int32", functional=True),
        mf.input_layer("extra", (None, 2), "float32", functional=True),
        mf.embedding("embedding", ["ids"], input_dim=5, output_dim=3),
        mf.layer("Bidirectional", "bidirectional", ["embedding"], merge_mode="concat", layer=half),
        inner,
        add,
        inputs=("ids", "extra"),
        outputs=("add", "bidirectional"),
    )
    halves = {
        f"{side}_lstm/lstm_cell/{role}": steps(*shape, scale=0.5 if side == "forward" else -0.4)
        for side in ("forward", "backward")
        for role, shape in mf.lstm_weights(3, 2).items()
    }
    arrays = {
        "embedding": {"embeddings": steps(5, 3)},
        "bidirectional": halves,
        "inner": {"inner_dense/kernel": steps(4, 2), "inner_dense/bias": steps(2)},
    }
    return mf.h5(config, arrays)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path)
    parser.add_argument("--weights", default="float32", choices=FORMS)
    given = parser.parse_args()
    of = FORMAT_VERSION if given.weights == "float32" else f"{NARROW_VERSION}_{given.weights}"
    target = given.target or ROOT / "tests" / "golden" / f"format_v{of}.fbl"
    model = fastbilstm.convert(keras_file(), target, weights=given.weights)
    print(f"{target}: {target.stat().st_size} bytes")
    model.summary()
    print([y.tolist() for y in model.predict([[[1, 2, 4], [3, 0, 0]], [[0.5, -0.25], [1.0, 2.0]]])])


if __name__ == "__main__":
    main()
