"""Files of an older Keras where the installed one computes otherwise: the commands say so, and name the layer."""

import cases
import pytest

import fastbilstm
from fastbilstm import cli
from fastbilstm.converted import versions
from fastbilstm.graph import KerasVersion

# Golden case -> what differs.
CASES = {
    "attention-attention_masks_causal-keras3.3": "'attention' (Attention)",
    "derived-keras1_bidirectional_gru": "(Bidirectional)",
    "derived-keras2_initial_state_gru_2_2_4": "(GRU)",
}


@pytest.fixture(scope="module", autouse=True)
def keras():
    pytest.importorskip("tensorflow", reason="needs Keras")
    pytest.importorskip("tf_keras", reason="needs tf_keras")


@pytest.fixture(params=CASES)
def file(request, tmp_path):
    """(options of the command, path, what differs)."""
    case = next(case for case in cases.CASES if case.name == request.param)
    args = case.load_args(tmp_path)
    options = ["--config", str(args["config"])] if "config" in args else []
    options += [part for name in args.get("outputs", ()) for part in ("--outputs", name)]
    return options, str(args["path"]), CASES[request.param]


def test_verify_names_the_layer(file, capsys):
    options, path, layer = file
    assert cli.main(["verify", path, *options]) == 0
    out = capsys.readouterr().out
    assert "MISMATCH" not in out and "differs by version" in out
    assert "the versions differ: " in out and layer in out and "which is right for this file" in out


def test_report_names_the_layer(file, tmp_path, capsys):
    options, path, layer = file
    target = tmp_path / "report.html"
    assert cli.main(["report", path, "-o", str(target), *options]) == 0
    page = target.read_text(encoding="utf-8")
    assert "differs by the version of Keras" in page and "the versions differ: " in page
    assert layer.strip("'()").split("' (")[-1] in page and "OUT OF TOLERANCE" not in page


def test_convert_records_no_other_version(file, tmp_path, capsys):
    options, path, layer = file
    target = tmp_path / "model.fbl"
    assert cli.main(["convert", path, str(target), "--keras", *options]) == 2
    error = capsys.readouterr().err
    assert "no vector can be recorded with Keras: the versions differ" in error and layer in error
    assert not target.exists()


def test_a_fault_is_not_explained():
    """Wrong outputs are no matter of versions, and neither are those of the version that wrote the file."""
    case = next(case for case in cases.CASES if case.name == "derived-keras1_bidirectional_gru")
    model = fastbilstm.load(**case.load_args())
    inputs = [case.inputs[0]] if not isinstance(case.inputs[0], (list, tuple)) else list(case.inputs[0])
    right = model._plan.run(inputs, {})
    title = "tf_keras 2.21.0"
    assert versions.difference(model.graph, model._tensors, inputs, right, title) is None
    assert versions.difference(model.graph, model._tensors, inputs, [y + 1e-3 for y in right], title) is None
    other = model.graph.replace(keras=KerasVersion.parse("2.21.0"))
    theirs = fastbilstm.Model(other, model._tensors)._plan.run(inputs, {})
    assert "Bidirectional" in versions.difference(model.graph, model._tensors, inputs, theirs, title)
