"""What a type checker sees of the package: mypy over a user's script, with right lines and wrong ones."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastbilstm

PACKAGE = Path(fastbilstm.__file__).parent

RIGHT = """\
from pathlib import Path
import numpy as np
import fastbilstm
from fastbilstm import preprocessing
from fastbilstm.model import ModelInput, Predictions

model = fastbilstm.convert("model.h5", Path("model.fbl"), labels=["neg", "pos"], padding="pre")
class Live:
    layers: list[object] = []

    def get_config(self) -> dict[str, object]:
        return {}

    def save(self, filepath: str, overwrite: bool = True) -> None: ...


model = fastbilstm.load(Live())
model = fastbilstm.load(Path("model.fbl"), dtype=model.dtype, backend=model.backend)
ids = preprocessing.pad_sequences([[1, 2], [3]], maxlen=4)
y = model.predict(ids, batch_size=8, verbose=1)
print(y[:, 0].max(), y.shape, model.outputs[0].shape[1:], model.layers[0].get_weights()[0].ndim)
several = model.predict({"a": [[1, 2]], "b": np.zeros((1, 2))})
if isinstance(several, dict):
    print(list(several.values())[0])
print(model.predict([np.zeros(3), [1.0, 2.0]], pad="post", value=1), model([[1, 2]]).argmax(1))
answers, probabilities = preprocessing.label_answers(y, model.labels or [])
text: str = answers[0] + model.name + fastbilstm.__version__ + model.self_check().message
for part in model.predict_iter("rows.csv", columns=["a", "b"], on_error="null"):
    print(part)
state = fastbilstm.Stream(model, batch=2).state
model.stream(2).state = state
predictor = fastbilstm.BatchPredictor(model, columns={"ids": "column"}, pad="pre", maxlen=10)
print(predictor({"column": [[1, 2]]})["prediction"], predictor.model.name, predictor.bad_rows[0][0] + 1)
model.summary(print_fn=print)
page = fastbilstm.report.report("model.fbl", "page.html", seconds=2)
print(page.ok and page.speed.batches[0].seconds + 1.0, fastbilstm.dask.predict)
words = preprocessing.WordIndex({"a": 1}, num_words=100)
model.text = preprocessing.TextEncoder(words, maxlen=400)
model.labels = ("neg", "pos")
fastbilstm.register_layer("Scale", lambda x, mask, weights, config: x * weights["factor"], weights=["factor"])
fastbilstm.show_config(print_fn=lambda text: None)


def score(x: ModelInput) -> Predictions:
    try:
        return model.predict(x)
    except fastbilstm.UnsupportedLayerError as error:
        return np.array(error.problems)


answer: float = model.classify(["a good film"])[0]["score"] + fastbilstm.sample_model(dtype="float64").n_threads
ids_of, names = fastbilstm.sample_reviews()
print(ids_of[0].max(), names[0].upper(), model.classify(ids))
check = model.self_check().comparisons[0].max_abs + 1.0
"""

WRONG = """\
fastbilstm.load(3)
fastbilstm.laod("model.fbl")
fastbilstm.load("model.fbl", backend="fast")
fastbilstm.load("model.fbl", dtype=32)
fastbilstm.load("model.fbl", outputs=5)
fastbilstm.convert("model.h5", None)
fastbilstm.convert("model.h5", "model.fbl", labels=5)
model.predict(ids, batch_size="8")
model.predict(ids, pad="left")
model.predict({1, 2})
model.predict(ids).upper()
a_text: str = model.predict(ids)
a_number: int = model.dtype
a_text = model.n_threads
model.backend = "numpy"
model.inputs[0].name = "x"
model.inputs[0].shape + 1
model.labels = 5
model.part(0)
model.stream("2")
model.stream(2).push(object())
model.save(5)
model.get_weights().shape
model.predict_iter("rows.csv", column="a")
model.self_check().computed_by + 1
fastbilstm.Model("model.fbl")
fastbilstm.BatchPredictor(columns=3)
fastbilstm.BatchPredictor("model.fbl", columns=3)
fastbilstm.BatchPredictor("model.fbl", dtyp="float32")
predictor.model.sumary()
fastbilstm.show_config(5)
fastbilstm.register_layer("Scale", lambda x: x)
fastbilstm.UnsupportedLayerError("text").problems.upper()
fastbilstm.MissingExtraError("h5py")
fastbilstm.report.report("model.fbl")
fastbilstm.dask.predict("model.fbl", object())
preprocessing.pad_sequences(5)
preprocessing.pad_sequences([[1]], padding="left")
preprocessing.Tokenizer(num_words="100").fit_on_texts(["a"])
preprocessing.Tokenizer().texts_to_sequences(["a"]).shape
preprocessing.WordIndex(["a"])
preprocessing.TextVectorization(vocabulary=["a"])(5)
preprocessing.TextEncoder("tokenizer.json")
preprocessing.label_answers(y, 5)
preprocessing.read_labels(5)
preprocessing.tokenizer_from_json(5)
preprocessing.hashing_trick("a", "5")
check.upper()
model.classify(["a"]).label
fastbilstm.sample_reviews().shape
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """{line: message} of what mypy reports in RIGHT and WRONG, one after the other in a script."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("types")
    (folder / "script.py").write_text(RIGHT + WRONG, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "MYPY_CACHE_DIR")}
    if not {"site-packages", "dist-packages"} & set(PACKAGE.parts):
        env["MYPYPATH"] = str(PACKAGE.parent)  # of an editable install mypy does not know the place
    options = ("--strict", "--config-file=", "--follow-imports=silent", "--cache-dir", "cache", "--no-error-summary")
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1, done.stdout
    found = {}
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"(.+?):(\d+): error: (.*)", line):
            assert match[1] == "script.py", done.stdout
            found[int(match[2])] = match[3]
    return found


def test_right_lines_pass(faults):
    last = RIGHT.count("\n")
    assert not {line: message for line, message in faults.items() if line <= last}


@pytest.mark.parametrize("number, wrong", list(enumerate(WRONG.splitlines(), start=1)))
def test_wrong_line_is_reported(faults, number, wrong):
    if "dask" in wrong:
        pytest.importorskip("dask")  # its own types
    assert RIGHT.count("\n") + number in faults, wrong


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()


def public():
    """(name, object) of what users import, and of the public methods and properties of the classes in it."""
    found = [(name, getattr(fastbilstm, name)) for name in (*fastbilstm.__all__, "dask", "report")]
    for name, module in [pair for pair in found if inspect.ismodule(pair[1])]:
        found += [(f"{name}.{part}", getattr(module, part)) for part in module.__all__]
    for name, cls in [pair for pair in found if inspect.isclass(pair[1])]:
        members = inspect.getmembers(cls, lambda value: inspect.isroutine(value) or isinstance(value, property))
        found += [
            (f"{name}.{part}", value) for part, value in members if part in ("__init__", "__call__") or part[0] != "_"
        ]
    return found


def test_every_public_function_is_annotated():
    count, bare = 0, []
    for name, value in public():
        function = value.fget if isinstance(value, property) else value
        if not inspect.isroutine(function) or not (getattr(function, "__module__", "") or "").startswith("fastbilstm"):
            continue  # a class, a constant, or what a class inherits from Python's own
        signature = inspect.signature(function)
        found = [part.annotation for part in signature.parameters.values() if part.name != "self"]
        bare += [name] * (inspect.Signature.empty in (*found, signature.return_annotation))
        count += 1
    assert count > 60 and not bare
