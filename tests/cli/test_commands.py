"""The command line: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from paths import DEMO, FORMAT_V1, TOOLS

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.converted import self_check


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.fbl"
    fastbilstm.convert(DEMO, path)
    return path


@pytest.fixture
def ids(tmp_path):
    path = tmp_path / "ids.npy"
    np.save(path, np.random.default_rng(1).integers(0, 5000, (5, 400)))
    return path


@pytest.fixture
def demo_rows():
    return np.random.default_rng(2).integers(1, 5000, (20, 400))


def run(capsys, *args):
    try:
        code = cli.main([str(a) for a in args])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_convert_writes_beside_the_source_and_never_over_it(tmp_path, capsys):
    source = tmp_path / "net.h5"
    source.write_bytes(DEMO.read_bytes())
    code, out, _ = run(capsys, "convert", source)
    assert code == 0 and "keras 3" in out and "fastbilstm-spec-float64" in out
    first = (tmp_path / "net.fbl").read_bytes()
    code, _, err = run(capsys, "convert", source)
    assert code == 2 and "exists already" in err and "--overwrite" in err
    assert (tmp_path / "net.fbl").read_bytes() == first
    code, _, _ = run(capsys, "convert", source, "--overwrite")
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.fbl", "net.h5"]


def test_the_script_is_the_same_command(tmp_path):
    target = tmp_path / "out.fbl"
    command = [sys.executable, TOOLS / "convert_keras.py", DEMO, target]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "exists already" in again.stderr
    assert fastbilstm.load(target, check=True).keras.startswith("keras 3")


@pytest.mark.parametrize("which", ["keras", "converted"])
def test_inspect_lists_layers_shapes_parameters_and_masks(which, model, capsys):
    code, out, _ = run(capsys, "inspect", DEMO if which == "keras" else model)
    assert code == 0
    assert "Bidirectional(LSTM(64), concat)" in out and "(None, 400, 128)" in out and "640,000" in out
    assert "written by keras 3" in out


def test_inspect_shows_masks_and_what_is_ignored(tmp_path, capsys):
    config = {
        "class_name": "Sequential",
        "keras_version": "2.15.0",
        "config": {
            "name": "net",
            "layers": [
                {
                    "class_name": "Masking",
                    "config": {"name": "masking", "mask_value": 0.0, "batch_input_shape": [None, None, 2]},
                },
                {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.25}},
            ],
        },
    }
    import h5py

    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")
    architecture = tmp_path / "net.json"
    architecture.write_text(json.dumps(config))
    code, out, _ = run(capsys, "inspect", path, "--config", architecture)
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert "mask" in rows["masking"].split() and "mask" in rows["dropout"].split()
    assert "rate=0.25" in rows["dropout"]


def test_predict_writes_what_predict_returns(model, ids, tmp_path, capsys):
    target = tmp_path / "prob.npy"
    code, out, err = run(capsys, "predict", model, ids, "-o", target)
    assert (code, out, err) == (0, "", "")
    expected = fastbilstm.load(model).predict(np.load(ids))
    assert np.array_equal(np.load(target), expected)
    code, _, err = run(capsys, "predict", model, ids, "-o", target)
    assert code == 2 and "exists already" in err
    named = tmp_path / "ids.npz"
    np.savez(named, **{fastbilstm.load(model).inputs[0].name: np.load(ids)})
    assert run(capsys, "predict", model, named, "-o", target, "--overwrite")[0] == 0
    assert np.array_equal(np.load(target), expected)


def test_predict_reads_and_writes_npz_for_several_inputs_and_outputs(tmp_path, capsys):
    given = {"ids": np.array([[1, 2, 4], [3, 0, 0]]), "extra": np.array([[0.5, -0.25], [1.0, 2.0]], "f4")}
    np.savez(tmp_path / "x.npz", **given)
    assert run(capsys, "predict", FORMAT_V1, tmp_path / "x.npz", "-o", tmp_path / "y.npz")[0] == 0
    expected = fastbilstm.load(FORMAT_V1).predict(given)
    with np.load(tmp_path / "y.npz") as written:
        assert written.files == ["add", "bidirectional"]
        assert all(np.array_equal(written[name], y) for name, y in zip(written.files, expected, strict=True))
    np.savez(tmp_path / "wrong.npz", ids=given["ids"])
    code, _, err = run(capsys, "predict", FORMAT_V1, tmp_path / "wrong.npz", "-o", tmp_path / "z.npz")
    assert code == 2 and "extra" in err and not (tmp_path / "z.npz").exists()


def test_predict_refuses_bad_input_and_writes_nothing(model, ids, tmp_path, capsys):
    target = tmp_path / "prob.npy"
    bad = np.load(ids)
    bad[3, 17] = 5000
    np.save(ids, bad)
    code, _, err = run(capsys, "predict", model, ids, "-o", target)
    assert code == 2 and "(3, 17)" in err and "5000" in err and not target.exists()
    for content in (b"no array", b""):
        ids.write_bytes(content)
        code, _, err = run(capsys, "predict", model, ids, "-o", target)
        assert code == 2 and ids.name in err and ".npy" in err and not target.exists()
    code, _, err = run(capsys, "predict", model, tmp_path / "missing.npy", "-o", target)
    assert code == 2 and "missing.npy" in err
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    assert run(capsys, "predict", model, pickled, "-o", target)[0] == 2


def test_verify_of_a_converted_file(model, capsys):
    code, out, _ = run(capsys, "verify", model)
    assert code == 0 and "SHA-256 matches" in out
    assert "self-consistency only, not compared with Keras" in out and "--against" in out


def test_verify_says_when_the_recorded_vector_is_missed(tmp_path, capsys):
    loaded = fastbilstm.load(DEMO)
    wrong = self_check.make(loaded.graph, loaded._tensors)
    loaded.vector = self_check.Vector(wrong.inputs, tuple(y + 1e-3 for y in wrong.outputs), "keras 3.15.1")
    path = tmp_path / "wrong.fbl"
    loaded.save(path)
    code, out, _ = run(capsys, "verify", path)
    assert code == 1 and "MISMATCH against keras 3.15.1" in out
    with pytest.raises(fastbilstm.FastBiLSTMError, match="self-check failed"):
        fastbilstm.load(path, check=True)


def test_verify_finds_a_file_with_other_weights(model, tmp_path, capsys):
    other = fastbilstm.load(DEMO)
    tensors = dict(other._tensors)
    name = next(n for n in tensors if n.endswith("dense/bias") or n.endswith("bias"))
    tensors[name] = tensors[name] + 1
    path = tmp_path / "other.fbl"
    fastbilstm.Model(other.graph, tensors).save(path)
    code, out, _ = run(capsys, "verify", path, "--against", DEMO)
    assert code == 1 and "other weights" in out


def test_verify_against_live_keras(model, capsys):
    pytest.importorskip("tensorflow", reason="live comparison: TensorFlow is not installed")
    code, out, _ = run(capsys, "verify", DEMO)
    assert code == 0 and "compared with keras 3" in out and "largest absolute error" in out
    code, out, _ = run(capsys, "verify", model, "--against", DEMO)
    assert code == 0 and "holds the same weights" in out and "compared with keras 3" in out


def test_convert_records_a_vector_of_live_keras(tmp_path, capsys):
    pytest.importorskip("tensorflow", reason="live comparison: TensorFlow is not installed")
    target = tmp_path / "live.fbl"
    code, out, _ = run(capsys, "convert", DEMO, target, "--keras")
    assert code == 0 and "computed by keras 3" in out
    code, out, _ = run(capsys, "verify", target)
    assert code == 0 and "ok against keras 3" in out and "self-consistency" not in out


@pytest.mark.parametrize("args", [(), ("nonsense",), ("convert",), ("predict", "model.h5"), ("verify", "missing.h5")])
def test_wrong_use_exits_with_2(args, capsys):
    code, out, err = run(capsys, *args)
    assert code == 2 and err and not out


@pytest.mark.parametrize("command", ["convert", "inspect", "verify", "predict"])
def test_every_command_has_help(command, capsys):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and "--config" in out and "--outputs" in out


def test_unsupported_model_exits_with_2_and_lists_all(tmp_path, capsys):
    layers = [
        {"class_name": "TFSMLayer", "config": {"name": "conv", "units": 2, "batch_input_shape": [None, 3, 2]}},
        {"class_name": "Lambda", "config": {"name": "loss"}},
    ]
    config = {"class_name": "Sequential", "keras_version": "2.15.0", "config": {"name": "net", "layers": layers}}
    import h5py

    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")
        file.attrs["model_config"] = json.dumps(config)
    code, _, err = run(capsys, "convert", path)
    assert code == 2 and "'conv' (TFSMLayer)" in err and "'loss' (Lambda)" in err and "Python code" in err
    assert [p.name for p in tmp_path.iterdir()] == ["net.h5"]


def test_narrow_weights_from_convert_to_report(tmp_path, capsys, demo_rows):
    """What each command says of the form, and what it refuses."""
    target = tmp_path / "narrow.fbl"
    np.save(tmp_path / "rows.npy", demo_rows)
    code, out, err = run(capsys, "convert", DEMO, target, "--weights", "int8", "--calibrate", tmp_path / "rows.npy")
    assert code == 0 and "0.78 MB" in out and "weights: int8" in out and not err
    assert "on 64 made-up rows it differs from float32 by up to 0.0" in out
    assert "on the rows of rows.npy it differs from float32 by up to 0.0" in out and "of 20 labels differ" in out
    code, out, _ = run(capsys, "inspect", target)
    assert code == 0 and "weights: int8" in out and "of 20 labels differ" in out
    code, out, _ = run(capsys, "verify", target, "--against", DEMO)
    assert code == 0 and "holds the same weights" in out
    code, _, err = run(capsys, "report", target, "-o", tmp_path / "a.html", "--weights", "float16")
    assert code == 2 and "narrow.fbl: it holds its weights in int8 alone" in err
    code, _, err = run(capsys, "convert", DEMO, tmp_path / "b.fbl", "--weights", "int4")
    assert code == 2 and "invalid choice: 'int4'" in err
    code, _, err = run(capsys, "convert", DEMO, tmp_path / "b.fbl", "--calibrate", tmp_path / "rows.npy")
    assert code == 2 and "calibrate measures what weights='int8'" in err
    rows = tmp_path / "rows.npy"
    code, _, err = run(capsys, "convert", DEMO, rows, "--weights", "int8", "--calibrate", rows, "--overwrite")
    assert code == 2 and "is read by this very command" in err


@pytest.mark.parametrize("source", ["keras", "converted"])
def test_predict_and_report_with_narrow_weights(source, tmp_path, capsys, demo_rows):
    np.save(tmp_path / "rows.npy", demo_rows)
    path = DEMO
    if source == "converted":
        path = tmp_path / "demo.fbl"
        fastbilstm.convert(DEMO, path)
    code, _, _ = run(
        capsys, "predict", path, tmp_path / "rows.npy", "-o", tmp_path / "y.npy", "--weights", "bfloat16", "--quiet"
    )
    assert code == 0
    expected = fastbilstm.load(DEMO, weights="bfloat16").predict(demo_rows)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    page = tmp_path / "page.html"
    code, out, _ = run(capsys, "report", path, "-o", page, "--weights", "bfloat16", "--seconds", 0.1)
    assert code == 0
    text = page.read_text(encoding="utf-8")
    assert "--weights bfloat16" in text and "bfloat16" in text
    if "run beside it" in out:
        assert "The answers are within what bfloat16 weights allow" in out
        assert "made-up rows it differs from float32 by up to" in text


def test_labels_that_flip_are_a_warning_of_one_line(tmp_path, capsys, monkeypatch):
    from fastbilstm.converted import narrow_error

    monkeypatch.setattr(narrow_error, "flips", lambda *_: (3, 64))
    code, out, err = run(capsys, "convert", DEMO, tmp_path / "a.fbl", "--weights", "float16")
    assert code == 0 and "3 of 64 labels differ" in out
    assert err.startswith("fastbilstm: warning: with float16 weights labels differ") and err.count("\n") == 1
