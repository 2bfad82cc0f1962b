"""Run Keras 3's own unit tests of layers and do in fastbilstm what they did (needs TensorFlow and keras 3).

    python tools/keras_unit_tests.py [--tests DIR] [--only PATTERN] [--json FILE]

Each test method of keras/src/layers/**/*_test.py runs as it is, while every call of a layer on arrays is recorded: the
layer with its weights, the inputs, masks and states, the outputs (which the test itself checks against what it
expects). Each call becomes a functional model in Keras, is saved as .keras, loaded with fastbilstm and run on the same
inputs; the numbers must be those of the Keras model and of the recorded call. Counted by layer class:

  passed    same numbers           refused   an error of ours that names what is not supported, or the input
  unread    a file of Keras that our reader calls malformed
  failed    other numbers, or an error that is none of ours
  skipped   no functional model can do it: training, random numbers, sparse or ragged tensors, scalars, no layer config

Which classes are looked at comes from fastbilstm's registry and from the list ISSUE below.
"""

import argparse
import collections
import contextlib
import fnmatch
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

TOOLS = Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS.parent)]

from keras_recorder import Recorder, do_again, fingerprint  # noqa: E402

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
OUTCOMES = ("passed", "refused", "unread", "failed", "skipped")


def test_files(keras, folder=None):
    """The *_test.py files of the chosen families, below the installed keras or `folder` (keras/src/layers)."""
    root = Path(folder) if folder else Path(keras.__file__).parent / "src" / "layers"
    files = [path for name in FOLDERS for path in sorted((root / name).glob("*_test.py"))]
    files += [root / "preprocessing" / f"{name}_test.py" for name in PREPROCESSING]
    return [path for path in files if path.exists()]


def chosen_classes():
    from fastbilstm.layers import REGISTRY

    return {name for name in REGISTRY if "." not in name} | set(ISSUE)


# ---- the run --------------------------------------------------------------------------------------------------------


class Results:
    """Counts and reasons by layer class."""

    def __init__(self):
        self.counts = collections.defaultdict(collections.Counter)
        self.reasons = collections.defaultdict(collections.Counter)
        self.failures, self.tests, self.broken = [], 0, collections.Counter()

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
            "tests_that_fail_in_keras_itself": {text: count for text, count in self.broken.most_common() if count},
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
        keras.utils.set_random_seed(0)
        test.run(outcome)
    results.tests += 1
    for _, trace in [*outcome.errors, *outcome.failures]:
        last = (trace.strip().splitlines() or [""])[-1][:120]
        results.broken[last] += not last.startswith("Skipped")  # by pytest.skip
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
    broken = found["tests_that_fail_in_keras_itself"]
    print(f"{found['tests']} test methods, {sum(broken.values())} errors of Keras itself in them here:")
    for text, count in broken.items():
        print(f"  x{count}: {text}")
    for name, outcome, reason, count in found["reasons"]:
        if outcome != "failed":
            print(f"  {outcome} {name} x{count}: {reason}")
    for failure in found["failures"]:
        print(f"FAILED {failure}")
    return 1 if found["totals"]["failed"] or found["totals"]["unread"] else 0


if __name__ == "__main__":
    sys.exit(main())
