"""What the installed Keras is given to compare with: a model built from our graph and arrays, and never a file.

FASTBILSTM_KERAS_CASES=all runs every golden case (half an hour); by default a sample of them, by a seed.
"""

import importlib
import json
import os
import random
import re
import sys
import zipfile

import make_files as mf
import numpy as np
import pytest
from cases import CASES, in_dtype

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.graph import Graph, Input, KerasVersion, Layer, Node, Ref
from fastbilstm.keras import installed_keras, rebuilt_in_keras
from fastbilstm.layers.base import REGISTRY
from fastbilstm.layers.contributed.base import Contributed
from fastbilstm.layers.custom import CustomLayer
from fastbilstm.layers.operation import Operation
from fastbilstm.layers.quantized import PREFIXES
from fastbilstm.report.report_file import report
from fastbilstm.report.verify import verify
from fastbilstm.tolerances import compare

FRAMEWORKS = ("keras", "tf_keras")


@pytest.fixture(scope="module")
def frameworks():
    """{name: module} of Keras 3 and tf_keras, both on TensorFlow."""
    for name, value in {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_NUM_INTRAOP_THREADS": "1"}.items():
        os.environ.setdefault(name, value)
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    return {name: pytest.importorskip(name, reason=f"needs {name}") for name in FRAMEWORKS}


# ---- files that would leave a trace ---------------------------------------------------------------------------------


def traced(frameworks, name, path, marker):
    """Write a file of Keras whose last layer is a Lambda that writes `marker` when it is called."""
    keras = frameworks[name]
    code = eval(f"lambda x: [open({str(marker)!r}, 'w').close(), x][1]")
    x = keras.Input((3,))
    y = keras.layers.Dense(2, name="good")(x)
    keras.Model(x, keras.layers.Lambda(code, name="evil")(y)).save(path)
    assert marker.exists()
    marker.unlink()


def hostile(frameworks, name, path, marker, monkeypatch):
    """Write a file whose last layer is of a class in a module that writes `marker` when it is imported."""
    keras = frameworks[name]
    # Keras 3 imports the modules of a few packages alone; tf_keras those of any, for the model itself.
    package = {"keras": "keras_nlp", "tf_keras": "package_of_a_stranger"}[name]
    folder = path.parent / "modules"
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, package, raising=False)
    x = keras.Input((3,))
    y = keras.layers.Dense(2, name="good")(x)
    keras.Model(x, keras.layers.Activation("relu", name="evil")(y)).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    config = json.loads(members["config.json"])
    for entry in config["config"]["layers"]:
        if entry["config"]["name"] == "evil":
            entry |= {"module": package, "class_name": "Evil", "registered_name": f"{package}>Evil"}
    if name == "tf_keras":
        config["module"] = package
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


WRITERS = {
    "tf_keras .h5 with a Lambda": ("tf_keras", ".h5", traced),
    "tf_keras .keras with a Lambda": ("tf_keras", ".keras", traced),
    "keras 3 .h5 with a Lambda": ("keras", ".h5", traced),
    "keras 3 .keras with a Lambda": ("keras", ".keras", traced),
    "tf_keras .keras with a class of a hostile module": ("tf_keras", ".keras", hostile),
    "keras 3 .keras with a class of a hostile module": ("keras", ".keras", hostile),
}


@pytest.fixture(params=WRITERS)
def trap(request, frameworks, tmp_path, monkeypatch):
    """(path of a file, marker that it leaves if Keras loads it, name of the framework)."""
    name, suffix, write = WRITERS[request.param]
    path, marker = tmp_path / f"model{suffix}", tmp_path / "marker"
    write(frameworks, name, path, marker, *([monkeypatch] if write is hostile else []))
    assert not marker.exists()
    return path, marker, name


def command(capsys, *args):
    code = cli.main([str(arg) for arg in args])
    return code, capsys.readouterr().out


def test_no_code_of_the_file_runs(trap, tmp_path, capsys):
    path, marker, name = trap
    with pytest.raises(fastbilstm.UnsupportedLayerError, match="evil"):
        verify(path)
    code, out = command(capsys, "verify", path, "--outputs", "good")
    assert code == 0 and f"compared with {name} " in out and "layers and weights read" in out
    code, out = command(capsys, "convert", path, tmp_path / "model.fbl", "--outputs", "good", "--keras")
    assert code == 0 and f"computed by {name} " in out
    code, out = command(capsys, "verify", tmp_path / "model.fbl", "--against", path, "--outputs", "good")
    assert code == 0 and "holds the same weights" in out and f"compared with {name} " in out
    page = tmp_path / "page.html"
    code, out = command(capsys, "report", path, "-o", page, "--outputs", "good", "--seconds", 0.1)
    assert code == 0 and f"ok against {name} " in out and "layers and weights read" in page.read_text("utf-8")
    assert not marker.exists()


@pytest.mark.parametrize("what", ["verify", "convert", "report"])
def test_trust_hands_the_file_over(trap, tmp_path, capsys, what):
    """The control: the same files do leave their trace once they are trusted."""
    path, marker, _ = trap
    args = {
        "verify": ("verify", path),
        "convert": ("convert", path, tmp_path / "model.fbl", "--keras"),
        "report": ("report", path, "-o", tmp_path / "page.html", "--seconds", 0.1),
    }[what]
    said = command(capsys, *args, "--outputs", "good", "--trust")
    assert marker.exists(), said


def test_trust_of_a_good_file(frameworks, tmp_path, capsys):
    """From Python; where Keras can load all of a file, it gives what the model that is built from it gives."""
    keras, path = frameworks["tf_keras"], tmp_path / "model.h5"
    x = keras.Input((5, 3))
    keras.Model(x, keras.layers.Dense(2)(keras.layers.LSTM(4)(x))).save(path)
    found = verify(path, trust=True)
    assert found.ok and "Keras was given the file itself" in found.text
    page = report(path, tmp_path / "page.html", seconds=0.1, trust=True)
    assert page.ok and "the file itself" in page.agreements[0].remark
    assert "--trust" in (tmp_path / "page.html").read_text("utf-8")
    model = fastbilstm.convert(path, tmp_path / "model.fbl", keras=True, trust=True)
    again = fastbilstm.convert(path.read_bytes(), tmp_path / "again.fbl", keras=True)
    assert model.vector.computed_by == again.vector.computed_by == f"tf_keras {keras.__version__}"
    for ours, theirs in zip(model.vector.outputs, again.vector.outputs, strict=True):
        assert compare(ours, theirs).ok


def test_trust_needs_keras_and_a_path(tmp_path):
    content = mf.h5()
    with pytest.raises(fastbilstm.FastBiLSTMError, match="--trust.*--keras"):
        fastbilstm.convert(content, tmp_path / "model.fbl", trust=True)
    with pytest.raises(fastbilstm.FastBiLSTMError, match="path of the source"):
        fastbilstm.convert(content, tmp_path / "model.fbl", trust=True, keras=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["verify", "report", "convert"])
def test_help_says_what_trust_does(name, capsys):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--trust" in text and "RUNS CODE from the file" in text


# ---- the model that is built ----------------------------------------------------------------------------------------


def chosen():
    """All golden cases, or some of each framework, by a seed."""
    if os.environ.get("FASTBILSTM_KERAS_CASES") == "all":
        return list(CASES)
    found = []
    for name, count in (("keras", 24), ("tf_keras", 12)):  # tf_keras takes seconds for each
        found += random.Random(13).sample([case for case in CASES if framework_of(case) == name], count)
    return found


def framework_of(case):
    return "keras" if case.writer.startswith("keras 3") else "tf_keras"


# Parts of the reasons for golden cases that cannot be built, by the beginning of their names.
CANNOT = {"precision-masking_": "Masking.*compares in b?float16, and Keras is given a model in float32"}

# Files of versions that compute otherwise, and that the installed Keras does not load itself.
OTHERWISE = re.compile(
    "derived-keras1_bidirectional_(gru|.*_sequences)|derived-keras2_initial_state_gru(_cell)?_2_2_4|merging-.*-keras3.3"
)


def in_order(model, inputs):
    """The inputs of a golden case as a list, in the order of the graph; strings as TensorFlow takes them."""
    if isinstance(inputs, dict):
        inputs = [inputs[name] for name in model.graph.input_keys or [given.name for given in model.graph.inputs]]
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return [np.char.encode(x).astype(object) if x.dtype.kind == "U" else in_dtype(x, model.graph.dtype) for x in inputs]


def answers(live, calls):
    """What a model of Keras gives for successive calls: a list of arrays for each."""
    return [
        [np.asarray(y) for y in rebuilt_in_keras.flat(live(x if len(x) > 1 else x[0], training=False))] for x in calls
    ]


def recorded(case, model):
    """What Keras gave when the case was made, in the order of the graph's outputs."""
    for y in case.expected(model.graph.dtype):
        if isinstance(y, dict):
            y = [y[key] for key in model.graph.output_keys]
        yield y if isinstance(y, list) else [y]


def from_the_file(case, framework, folder, calls):
    """What the installed Keras gives where it loads the file itself; None where it cannot."""
    args = case.load_args(folder)
    try:
        file = installed_keras.TrustedFile(str(args["path"]), args.get("config"), args.get("outputs"))
        return answers(installed_keras._load(framework, file), calls)
    except Exception:
        return None


@pytest.mark.parametrize("case", chosen(), ids=lambda case: case.name)
def test_keras_gives_what_it_gives_for_the_file(case, frameworks, tmp_path):
    framework = frameworks[framework_of(case)]
    model = fastbilstm.load(**case.load_args(), backend="numpy")
    reason = next((text for start, text in CANNOT.items() if case.name.startswith(start)), None)
    if reason is not None:
        with pytest.raises(rebuilt_in_keras.CannotRebuild, match=reason):
            rebuilt_in_keras.rebuild(framework, model.graph, model._tensors)
        return
    calls = [in_order(model, inputs) for inputs in case.inputs]
    found = answers(rebuilt_in_keras.rebuild(framework, model.graph, model._tensors), calls)
    was = list(recorded(case, model))
    assert [[y.shape for y in ours] for ours in found] == [[y.shape for y in theirs] for theirs in was]
    if case.writer.split()[1].split(".")[:2] == framework.__version__.split(".")[:2]:
        expected = was
    else:  # by its version it may differ from what was recorded: it must be what the file itself gives today
        expected = from_the_file(case, framework, tmp_path, calls) or (None if OTHERWISE.fullmatch(case.name) else was)
    if expected is None:
        pytest.skip(
            f"{framework.__name__} {framework.__version__} does not load it, and {case.writer} computed otherwise"
        )
    for ours, theirs in zip(found, expected, strict=True):
        for y, k in zip(ours, theirs, strict=True):
            result = compare(y, k, model.graph.dtype)
            assert result.ok, result.message


# ---- what cannot be built -------------------------------------------------------------------------------------------


def test_every_layer_class_may_be_built():
    ours = {name for name, cls in REGISTRY.items() if not issubclass(cls, (Operation, CustomLayer, Contributed))}
    # No layers of Keras' own that are called, and one whose function is the user's.
    inside = {"Functional", "InputLayer", "ForgetMask", "Lambda"}
    assert ours - inside == rebuilt_in_keras.CLASSES | {name for name in ours if name.startswith(PREFIXES)}


def one_layer(class_name, config=None, weights=None, version="3.15.1"):
    """A graph of one layer called on its input twice over."""
    layer = Layer("culprit", class_name, config or {}, weights or {})
    args = ([Ref(0), Ref(0)],) if class_name.startswith("ops.") else (Ref(0),)
    keras = KerasVersion.parse(version)
    return Graph("net", keras, (Input("x", (None, 3), "float32"),), (layer,), (Node(0, args),), (Ref(1),), ("y",))


DENSE = {"units": 2, "activation": "linear", "use_bias": False}
KERNEL = {"kernel": "culprit/kernel"}
GRAPHS = {
    # classes that Keras has and that run code or read other files
    "Lambda": (one_layer("Lambda"), "not among the layers"),
    "TFSMLayer": (one_layer("TFSMLayer", {"filepath": "folder"}), "not among the layers"),
    "TorchModuleWrapper": (one_layer("TorchModuleWrapper"), "not among the layers"),
    "a name in a package": (one_layer("package>Dense"), "not among the layers"),
    "no layer of tf_keras": (one_layer("RMSNormalization", version="2.15.0"), "tf_keras has no such layer"),
    "a function that is no activation": (
        one_layer("Dense", DENSE | {"activation": "deserialize"}, KERNEL),
        "activation",
    ),
    "a class that is no activation": (one_layer("Dense", DENSE | {"activation": ["Lambda", {}]}, KERNEL), "activation"),
    "no function of keras.ops": (one_layer("ops.AddN"), "keras.ops has no function 'add_n'"),
    "no function of TensorFlow": (one_layer("ops.Celu", version="2.15.0"), "TensorFlow has no function for Celu"),
    "an operation that is unknown": (one_layer("ops.LoadModel"), "KeyError"),
    "a kernel of another shape": (one_layer("Dense", DENSE | {"units": 5}, KERNEL), r"its kernel of shape \(3, 2\)"),
    "an array too few": (one_layer("Dense", DENSE | {"use_bias": True}, KERNEL), "does not hold: bias"),
    "an array too many": (one_layer("Dense", DENSE, {**KERNEL, "bias": "culprit/kernel"}), "its bias of shape"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_keras_cannot_be_given(name, frameworks):
    graph, words = GRAPHS[name]
    with pytest.raises(installed_keras.KerasUnavailable, match=words) as caught:
        installed_keras.run(graph, {"culprit/kernel": np.ones((3, 2), np.float32)}, [np.ones((1, 3), np.float32)])
    assert "layer 'culprit' (" in str(caught.value) and "--trust" in str(caught.value)


def test_verify_says_why(frameworks, tmp_path):
    """An option that Keras lacks, and a class of the user's own; the exit code goes by the specification."""
    path = tmp_path / "model.h5"
    shape = mf.input_layer("x", (None, None, 4), "float32")
    path.write_bytes(
        mf.h5(mf.sequential(shape, mf.lstm(time_major=True)), mf.weights_of(lstm=mf.lstm_weights(4, 3)), mf.KERAS3)
    )
    found = verify(path)
    assert found.ok and "not compared with Keras: keras 3" in found.text
    assert re.search(r"layer 'lstm' \(LSTM\): ValueError: Unrecognized keyword .*time_major", found.text)
    fastbilstm.register_layer("Stranger", lambda x, mask, weights, config: 2 * x)
    try:
        path.write_bytes(mf.h5(mf.sequential(shape, mf.layer("Stranger", "own")), {}, mf.KERAS3))
        found = verify(path)
        assert found.ok and "layer 'own' (Stranger): is not among the layers" in found.text
        with pytest.raises(fastbilstm.FastBiLSTMError, match="no vector can be recorded with Keras.*'own'"):
            fastbilstm.convert(path, tmp_path / "model.fbl", keras=True)
        assert not (tmp_path / "model.fbl").exists()
    finally:
        del REGISTRY["Stranger"]


def test_an_input_that_keras_refuses(frameworks):
    graph = one_layer("Dense", DENSE, KERNEL)
    with pytest.raises(installed_keras.KerasUnavailable, match="refuses the made-up input"):
        installed_keras.run(graph, {"culprit/kernel": np.ones((3, 2), np.float32)}, [np.ones((1, 7), np.float32)])


@pytest.mark.parametrize("version, name", [("3.15.1", "keras"), ("2.15.0", "tf_keras"), ("1.2.2", "tf_keras")])
def test_without_keras(monkeypatch, version, name):
    monkeypatch.setattr(installed_keras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(installed_keras.KerasUnavailable, match=f"^{name} is not installed"):
        installed_keras.run(one_layer("Dense", DENSE, KERNEL, version), {}, [])
