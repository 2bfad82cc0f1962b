"""Run Keras 3's own unit tests of layers and do in fastbilstm what they did (needs TensorFlow and keras 3).

    python tools/keras_unit_tests.py [--tests DIR] [--only PATTERN] [--json FILE]

Each test method of keras/src/layers/**/*_test.py runs as it is, while every call of a layer on arrays is recorded: the
layer with its weights, the inputs, masks and states, the outputs (which the test itself checks against what it
expects). Each call becomes a functional model in Keras, is saved as .keras, loaded with fastbilstm and run on the same
inputs; the numbers must be those of the Keras model and of the recorded call. Counted by layer class:

  passed    same numbers           refused   an error of ours that names what is not supported, or the input
  failed    other numbers, or an error that is none of ours
  skipped   no functional model can do it: training, random numbers, sparse or ragged tensors, scalars, no layer config

Which classes are looked at comes from fastbilstm's registry and from the list ISSUE below.
"""

import argparse
import collections
import contextlib
import fnmatch
import hashlib
import importlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
import types
import unittest
import warnings
from pathlib import Path

import numpy as np

# Classes that sequence models hold, beside those that fastbilstm knows.
ISSUE = """
    GRU SimpleRNN RNN StackedRNNCells Bidirectional TimeDistributed Conv1D SeparableConv1D DepthwiseConv1D
    Conv1DTranspose MaxPooling1D AveragePooling1D ZeroPadding1D Cropping1D UpSampling1D Conv2D MaxPooling2D
    AveragePooling2D Permute Reshape MultiHeadAttention GroupNormalization UnitNormalization RMSNormalization PReLU
    Softmax Rescaling Normalization StringLookup IntegerLookup TextVectorization Identity
""".split()
FOLDERS = "activations attention convolutional core merging normalization pooling regularization reshaping rnn".split()
PREPROCESSING = "normalization rescaling string_lookup integer_lookup text_vectorization".split()
# Methods that train or calibrate, and take most of the time; they call no layer that the others do not.
LEFT_OUT = ("*float8*", "*gptq*", "*awq*", "*_fit*", "*train*", "*export*", "*gradient*")
# Where Keras' float32 misses the tolerance itself: how far it may be from float64, of max|k|.
SAME_FORMULA = 1e-3
FLUSHED = 1e-37
OUTCOMES = ("passed", "refused", "failed", "skipped")


class Skipped(Exception):
    """Why a call cannot become a functional model."""


def test_files(keras, folder=None):
    """The *_test.py files of the chosen families, below the installed keras or `folder` (keras/src/layers)."""
    root = Path(folder) if folder else Path(keras.__file__).parent / "src" / "layers"
    files = [path for name in FOLDERS for path in sorted((root / name).glob("*_test.py"))]
    files += [root / "preprocessing" / f"{name}_test.py" for name in PREPROCESSING]
    return [path for path in files if path.exists()]


def chosen_classes():
    from fastbilstm.layers import REGISTRY

    return {name for name in REGISTRY if "." not in name} | set(ISSUE)


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
            if kwargs.get("training") or (len(args) > 1 and args[-1] is True):
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

    args, kwargs = keras.tree.map_structure(symbol, (call.args, call.kwargs))
    if not inputs:
        raise Skipped("no tensor in the call")
    outputs = layer(*args, **kwargs)
    if any(isinstance(x, (list, tuple, dict)) and not keras.tree.flatten(x) for x in [outputs]):
        raise Skipped("no output")
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)
    layer.set_weights(call.weights)
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
        k = k.astype(np.float32) if k.dtype.kind not in "fiub" else k
        if half and y.shape == k.shape:
            if np.abs(y - k.astype(np.float64)).max(initial=0) > HALF_RELATIVE[half] * np.abs(k).max(initial=0):
                return f"differs by more than half precision ({half})"
            continue
        if y.shape == k.shape and y.dtype.kind == k.dtype.kind == "f":
            # TensorFlow flushes the smallest numbers to zero.
            y, k = (np.where(np.abs(x) < FLUSHED, 0, x) for x in (y, k))
        result = compare(y, k, "float64" if y.dtype == k.dtype == np.float64 else "float32")
        if not result.ok:
            return result.message
    return None


def is_less_exact(theirs, ours, exact):
    """Whether Keras' float32 is further from float64 than ours, and near enough to be the same formula."""
    if [np.shape(x) for x in theirs] != [np.shape(x) for x in ours]:
        return False
    for k, y, e in zip(theirs, ours, exact, strict=True):
        peak = np.abs(e).max(initial=0)
        error, own = (np.abs(x - e).max(initial=0) for x in (np.asarray(k, np.float64), np.asarray(y, np.float64)))
        if not own <= error <= SAME_FORMULA * peak:
            return False
    return True


def do_again(keras, call, folder):
    """(outcome, reason) of one recorded call."""
    import fastbilstm
    from fastbilstm.errors import FastBiLSTMError

    path = Path(folder) / "model.keras"
    try:
        model, arrays = functional_model(keras, call)
        theirs = [np.asarray(k) for k in keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0]))]
        model.save(path)
    except Skipped as reason:
        return "skipped", str(reason)
    except Exception as error:
        return "skipped", f"no functional model in Keras ({type(error).__name__})"
    half = half_precision(call.layer)
    given = arrays if len(arrays) > 1 else arrays[0]
    try:
        ours = as_list(fastbilstm.load(path)(given))
    except FastBiLSTMError as error:
        first = getattr(error, "problems", None) or [str(error)]
        return "refused", str(first[0]).replace(str(path), "the file")[:200]
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    problem, note = agree(ours, theirs, half), ""
    if problem and not half:
        exact = as_list(fastbilstm.load(path, dtype="float64")(given))
        if is_less_exact(theirs, ours, exact):
            problem, note = None, "Keras' own float32 is further from float64 than the tolerance"
    if problem is None and not getattr(call.layer, "stateful", False):
        recorded = [k for k in keras.tree.flatten(call.outputs) if isinstance(k, np.ndarray)]
        problem = agree(theirs, recorded, half)
        if problem:
            return "skipped", "the functional model in Keras gives other numbers than the call in the test"
    return ("passed", note) if problem is None else ("failed", problem)


def as_list(outputs):
    return list(outputs.values()) if isinstance(outputs, dict) else outputs if isinstance(outputs, list) else [outputs]


def fingerprint(call):
    parts = [type(call.layer).__name__, json.dumps(call.layer.get_config(), sort_keys=True, default=str)]
    digest = hashlib.sha256("".join(parts).encode())
    for x in [*_arrays(call.args), *_arrays(call.kwargs), *call.weights]:
        digest.update(f"{x.dtype}{x.shape}".encode() + x.tobytes())
    return digest.digest()


def _arrays(value):
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value] if isinstance(value, np.ndarray) else [x for item in items for x in _arrays(item)]


# ---- the run --------------------------------------------------------------------------------------------------------


class Results:
    """Counts and reasons by layer class."""

    def __init__(self):
        self.counts = collections.defaultdict(collections.Counter)
        self.reasons = collections.defaultdict(collections.Counter)
        self.failures, self.tests, self.broken = [], 0, 0

    def add(self, name, outcome, reason, test):
        self.counts[name][outcome] += 1
        if reason:
            self.reasons[name, outcome][reason] += 1
        if outcome == "failed":
            self.failures.append(f"{name} in {test}: {reason}")

    def total(self, outcome):
        return sum(counts[outcome] for counts in self.counts.values())

    def as_dict(self):
        reasons = [[*key, text, count] for key, texts in self.reasons.items() for text, count in texts.most_common()]
        counts = {name: {o: self.counts[name][o] for o in OUTCOMES} for name in sorted(self.counts)}
        totals = {outcome: self.total(outcome) for outcome in OUTCOMES}
        return {
            "tests": self.tests,
            "tests_that_fail_in_keras_itself": self.broken,
            "totals": totals,
            "classes": counts,
            "reasons": reasons,
            "failures": self.failures,
        }


def all_tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from all_tests(item)
        else:
            yield item


@contextlib.contextmanager
def quick_tests():
    """Keras' test case without its training and mixed-precision checks, which record nothing."""
    from keras.src.testing import test_case

    original = test_case.TestCase.run_layer_test

    def run_layer_test(self, *args, **kwargs):
        kwargs.update(run_training_check=False, run_mixed_precision_check=False)
        return original(self, *args, **kwargs)

    test_case.TestCase.run_layer_test = run_layer_test
    try:
        yield
    finally:
        test_case.TestCase.run_layer_test = original


@contextlib.contextmanager
def stand_ins():
    """For what test files import and few tests use: the conftest.py of Keras' repository, and grain."""
    before = {name: sys.modules.get(name) for name in ("conftest", "grain")}
    for name in before:
        if name == "conftest" or importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
    sys.modules["conftest"].skip_if_backend = lambda *_: lambda test: test
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def load_module(path):
    """A test file as a module: by its package name where it is an installed one, else from its path."""
    parts = path.with_suffix("").parts
    if "keras" in parts:
        with contextlib.suppress(ImportError):
            return importlib.import_module(".".join(parts[len(parts) - 1 - parts[::-1].index("keras") :]))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_wanted(name, only):
    """Whether "file/method" matches one of the patterns `only`, and is none of those left out."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in only) and not any(
        fnmatch.fnmatch(name.partition("/")[2], p) for p in LEFT_OUT
    )


def run(folder=None, only=("*",), progress=None):
    """Run the tests whose "file/method" matches one of the patterns `only`; return Results."""
    import keras

    files = test_files(keras, folder)
    if not files:
        raise FileNotFoundError("no *_test.py files in the installed keras; give keras/src/layers with --tests")
    heads = [pattern.partition("/")[0] for pattern in only]
    files = [path for path in files if any(fnmatch.fnmatch(path.stem, head) for head in heads)]
    results, seen, start = Results(), set(), time.monotonic()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as work, quick_tests(), stand_ins():
        warnings.simplefilter("ignore")
        for number, path in enumerate(files, 1):
            found = all_tests(unittest.defaultTestLoader.loadTestsFromModule(load_module(path)))
            tests = [test for test in found if is_wanted(f"{path.stem}/{test.id().rsplit('.', 1)[-1]}", only)]
            for test in tests:
                run_test(keras, test, results, seen, work)
            if progress:
                done = ", ".join(f"{results.total(outcome)} {outcome}" for outcome in OUTCOMES)
                progress(f"{number}/{len(files)} {path.stem}: {done}, {time.monotonic() - start:.0f} s")
    return results


def run_test(keras, test, results, seen, work):
    with Recorder(keras, chosen_classes()) as recorder, contextlib.redirect_stdout(io.StringIO()):
        outcome = unittest.TestResult()
        test.run(outcome)
    results.tests += 1
    results.broken += bool(outcome.errors or outcome.failures)
    name = test.id().rsplit(".", 2)[-2:]
    for kind, reason in recorder.skipped:
        results.add(kind, "skipped", reason, ".".join(name))
    for call in recorder.calls:
        mark = fingerprint(call)
        if mark not in seen:
            seen.add(mark)
            keras.backend.clear_session(free_memory=False)
            keras.config.set_dtype_policy("float32")
            results.add(type(call.layer).__name__, *do_again(keras, call, work), ".".join(name))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", metavar="DIR", help="keras/src/layers of Keras' sources, if not the installed one")
    parser.add_argument(
        "--only", metavar="PATTERN[,..]", default="*", help="tests whose file/method matches: lstm_test/*"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the counts, reasons and failures there")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    results = run(args.tests, args.only.split(","), lambda text: print(text, file=sys.stderr, flush=True))
    found = results.as_dict()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'class':28} {' '.join(f'{outcome:>8}' for outcome in OUTCOMES)}")
    for name, counts in [*found["classes"].items(), ("all", found["totals"])]:
        print(f"{name:28} {' '.join(f'{counts[outcome]:8}' for outcome in OUTCOMES)}")
    print(
        f"{found['tests']} test methods, {found['tests_that_fail_in_keras_itself']} of them fail in Keras itself here"
    )
    for name, outcome, reason, count in found["reasons"]:
        if outcome != "failed":
            print(f"  {outcome} {name} x{count}: {reason}")
    for failure in found["failures"]:
        print(f"FAILED {failure}")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
