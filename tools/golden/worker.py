"""One framework, in its own process: build the golden models, save them, run them in float32 and in float64.

    python -m golden.worker FRAMEWORK LABEL STAGE TITLE...

FRAMEWORK is the module (keras or tf_keras), LABEL what the rows' `on` names (keras, tf_keras, 3.3, ...), STAGE a folder
that gets one folder a case and rows.jsonl. make_golden.py starts it.
"""

import importlib
import io
import json
import os
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np

from . import keras2
from .covers import covers
from .models import SPECS
from .registry import case_name, flat, is_keras3, make_inputs

SUFFIX = {"h5": "h5", "keras": "keras", "weights_h5": "h5", "weights.h5": "weights.h5", "weights.json": "weights.json"}


# What adapt() learned, and the group of each row of an int4 kernel: they stay as they are.
KEPT = ("mean", "variance", "count", "idf_weights", "g_idx")


def random_value(name, shape, rng, dtype="float32"):
    """A value for the variable called `name`: variances that keep LSTMs away from chaos, positive statistics."""
    if name.endswith("_zero"):
        return rng.integers(-8, 8, shape)
    if "int8" in str(dtype):
        return rng.integers(-127, 128, shape)
    if name in ("kernel_scale", "embeddings_scale", "reverse_embeddings_scale"):
        # Two axes are those of int4 in groups, whose numbers are multiplied by the scale, not divided.
        return rng.uniform(0.02, 0.1, shape) if len(shape) == 2 else rng.uniform(80, 200, shape)
    if name.startswith("lora_"):
        return rng.normal(0, 0.3, shape)
    if name in ("recurrent_kernel",):
        return rng.normal(0, np.sqrt(1 / (4 * shape[0])), shape)
    if name in ("kernel", "depthwise_kernel", "pointwise_kernel", "real_kernel", "imag_kernel"):
        return rng.normal(0, np.sqrt(1 / np.prod(shape[:-1])), shape)
    if name in ("bias", "beta"):
        return rng.normal(0, 0.5, shape)
    if name in ("embeddings", "reverse_embeddings", "vector_u"):
        return rng.normal(0, 1, shape)
    if name in ("gamma", "moving_variance", "moving_stddev", "renorm_stddev", "scale", "concat_score_weight"):
        return rng.uniform(0.5, 1.5, shape)
    if name in ("moving_mean", "renorm_mean"):
        return rng.uniform(0.1, 1, shape)
    if name == "alpha":
        return rng.uniform(-0.2, 0.6, shape)
    raise ValueError(f"no rule for a variable called {name!r}")


def is_state(variable):
    path = getattr(variable, "path", variable.name)
    return "rnn_state" in path or "seed_generator" in path or path.split("/")[-1].startswith("Variable")


def variables(model):
    """The weights of a model; the vocabularies that tf_keras lists among them are none."""
    found = [w for w in model.weights if hasattr(w, "name") and hasattr(w, "shape")]
    return [w for w in found if not is_state(w)]


def renew(model):
    """Let Normalization layers, which work with a copy of their weights, take it again."""
    for layer in model._flatten_layers() if hasattr(model, "_flatten_layers") else ():
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()


def randomise(model, rng):
    for variable in variables(model):
        name = getattr(variable, "path", variable.name).split("/")[-1].split(":")[0]
        if name in KEPT:
            continue
        value = random_value(name, tuple(variable.shape), rng, variable.dtype)
        variable.assign(value.astype(np_dtype(variable)))


def np_dtype(variable):
    return variable.dtype if isinstance(variable.dtype, str) else variable.dtype.as_numpy_dtype


def set_weights(values, model):
    targets = variables(model)
    if [v.shape for v in values] != [tuple(v.shape) for v in targets]:
        raise ValueError("the reference model's weights are not those of the saved model")
    for value, target in zip(values, targets, strict=True):
        target.assign(value.astype(np_dtype(target)))
    renew(model)


def build(k, make, floatx="float32", policy=None):
    """Call `make` in a clean session, so that layer names do not depend on what was built before."""
    k.backend.clear_session()
    k.backend.set_floatx(floatx)
    k.mixed_precision.set_global_policy(policy or floatx)
    k.utils.set_random_seed(0)
    return make(k)


def run(model, calls, floatx, predict):
    """Outputs of successive calls, each as (kind, {key: array})."""
    results = []
    for inputs in calls:
        cast = lambda x: x.astype(floatx) if x.dtype.kind == "f" else x  # noqa: E731
        if isinstance(inputs, dict):
            inputs = {name: cast(x) for name, x in inputs.items()}
        elif isinstance(inputs, list):
            inputs = [cast(x) for x in inputs]
        else:
            inputs = cast(inputs)
        y = model.predict(inputs, verbose=0) if predict else model(inputs, training=False)
        if isinstance(y, (list, tuple)):
            results.append([np.asarray(a) for a in y])
        elif isinstance(y, dict):
            results.append({name: np.asarray(a) for name, a in y.items()})
        else:
            results.append(np.asarray(y))
    return results


def as_yaml(k, model):
    """What Keras 1 and 2's `to_yaml` wrote: PyYAML's dump of the config, tuples tagged as Python's."""
    import yaml

    config = {"class_name": type(model).__name__, "config": model.get_config()}
    return yaml.dump(config | {"keras_version": k.__version__, "backend": "tensorflow"})


def save(k, model, form, folder, rewrite):
    """Save as `form`; return (file name, config name or None)."""
    kind, _, config = form.partition("+")
    path = folder / f"model.{SUFFIX[kind]}"
    if kind in ("h5", "keras"):
        model.save(
            path, **({"save_format": "keras_v3"} if k.__version__.startswith("2.12") and kind == "keras" else {})
        )
    elif kind == "weights.json":
        largest = max(np.asarray(variable).nbytes for variable in model.weights)
        model.save_weights(path, max_shard_size=largest / 1024**3)
    else:
        model.save_weights(path)
    if rewrite:
        rewrite(path)
    if not config:
        return path.name, None
    (folder / f"config.{config}").write_text(model.to_json() if config == "json" else as_yaml(k, model))
    return path.name, f"config.{config}"


def pick_form(spec, keras3):
    number = zlib.crc32(spec.title.encode())
    return spec.form or (("keras", "h5")[number % 2] if keras3 else ("keras", "h5", "h5")[number % 3])


def record(spec, k, label, stage):
    rng = np.random.default_rng(zlib.crc32(spec.title.encode()))
    calls = [make_inputs(call, rng) for call in spec.calls]
    name = case_name(spec.title, label)
    folder = stage / name
    folder.mkdir(parents=True, exist_ok=True)
    make = spec.reference or spec.build

    model = build(k, spec.build, policy=spec.policy)
    randomise(model, rng)
    found = covers(model.get_config(), type(model).__name__)
    file, config = save(k, model, pick_form(spec, is_keras3(k)), folder, spec.rewrite)
    model32, half = model, []
    if spec.family in ("precision", "sharded") and "float16" in (spec.policy or ""):
        half = run(model, calls, "float32", predict=False)
    if spec.reference:
        model32 = build(k, make)
        if spec.reference_loads:
            model32.load_weights(folder / file)
        else:
            set_weights([np.asarray(w) for w in variables(model)], model32)
    weights = [np.asarray(w) for w in variables(model32 if spec.reference_loads else model)]
    predict = spec.family == "guide"
    answers = {"float32": run(model32, calls, "float32", predict)}
    model64 = build(k, make, "float64")
    set_weights(weights, model64)
    answers["float64"] = run(model64, calls, "float64", predict)

    values = {}
    for i, inputs in enumerate(calls):
        values |= {f"{i}/inputs/{key}": x for key, x in flat(inputs).items()}
        for dtype, results in answers.items():
            for key, y in flat(results[i]).items():
                if y.dtype.kind == "f" and y.dtype != dtype:
                    raise ValueError(f"{name}: {dtype} run answers {y.dtype}")
                values[f"{i}/{dtype}/{key}"] = y
        if half:
            values |= {f"{i}/half/{key}": np.asarray(y).astype(np.float32) for key, y in flat(half[i]).items()}
    buffer = io.BytesIO()
    np.savez(buffer, **values)
    (folder / "values.npz").write_bytes(buffer.getvalue())
    return {
        "name": name,
        "why": spec.why,
        "writer": f"{k.__name__} {k.__version__}",
        "pack": f"{spec.family}.zip",
        "file": file,
        "config": config,
        "outputs": spec.outputs,
        "derived": False,
        "source": None,
        "covers": sorted({*found, *spec.tags}),
    }


def main(framework, label, stage, titles):
    import logging

    import tensorflow as tf

    logging.getLogger("absl").setLevel(logging.ERROR)

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if label.startswith("2."):
        k = keras2.load(f"{label}.0")
    else:
        k = importlib.import_module(framework)
    if not hasattr(k.layers, "CuDNNLSTM") and framework == "tf_keras":
        from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
        from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

        k.layers.CuDNNLSTM, k.layers.CuDNNGRU = CuDNNLSTM, CuDNNGRU
    if not hasattr(k, "__version__"):
        k.__version__ = k.version()
    stage, failed = Path(stage), 0
    with open(stage / "rows.jsonl", "a") as rows:
        for title in titles:
            try:
                row = record(SPECS[title], k, label, stage)
            except Exception:
                failed += 1
                print(f"FAILED {title} {label}\n{traceback.format_exc(limit=-4)}", flush=True)
                continue
            rows.write(json.dumps(row) + "\n")
            print(f"{row['name']}: {row['file']}", flush=True)
    return failed


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(1 if main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]) else 0)
