"""`--json`: the keys are those that docs/json.md lists, and the values those of the objects."""

import json
import re

import make_files as mf
import numpy as np
import pytest
from paths import DEMO, ROOT

import fastbilstm
from fastbilstm.cli import as_json
from fastbilstm.cli import commands as cli
from fastbilstm.preprocessing import Tokenizer
from fastbilstm.report.keras_speed import KerasSpeed
from fastbilstm.report.measure import Share, Speed, Timing
from fastbilstm.report.report_file import Report
from fastbilstm.sample import FOLDER

SAMPLE = FOLDER / "sample.fbl"
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
OPEN = {"scores", "packages"}  # dicts whose keys are names


def listed(section):
    """The keys that a section of the page lists."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


def paths(value, path=""):
    """The keys in a value, as the page writes them; nothing of an empty list, a null or an empty dict."""
    if isinstance(value, dict):
        last = path.rsplit(".", 1)[-1]
        inner = [paths(part, f"{path}.{'*' if last in OPEN else key}".lstrip(".")) for key, part in value.items()]
        return set().union(*inner)
    if isinstance(value, list):
        return set().union(*(paths(part, f"{path}[]") for part in value))
    return {path}


def run(capsys, *args, code=0):
    assert cli.main([*map(str, args), "--json"]) == code
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found.pop("fastbilstm") == fastbilstm.__version__ and not captured.err
    return found


def check(found, section):
    """All keys are on the page; a null stands for the keys below it."""
    known = listed(section)
    for path in paths(found):
        assert path in known or any(key.startswith((f"{path}.", f"{path}[")) for key in known), path
    return known


@pytest.fixture
def tagger(tmp_path):
    words = Tokenizer(oov_token="<unk>")
    words.fit_on_texts(["john lives here"])
    net = mf.h5(
        mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(return_sequences=True), mf.dense(activation="softmax"))
    )
    fastbilstm.convert(net, tmp_path / "tagger.fbl", tokenizer=words, labels=["O", "B-PER"])
    return tmp_path / "tagger.fbl"


def test_inspect(capsys):
    found = run(capsys, "inspect", SAMPLE)
    unused = {"notes[]", *(f"measured[].{name}" for name in ("rows", "largest[]", "relative[]", "flips", "labels"))}
    assert paths(found) == check(found, "inspect") - unused
    assert found["weights"] == "float32"
    model = fastbilstm.load(SAMPLE)
    assert found["parameters"] == model.count_params() and found["labels"] == ["neg", "pos"]
    assert found["inputs"] == [{"name": "ids", "shape": [None, None], "dtype": "int32"}]
    assert found["layers"][0]["output_shapes"] == [[None, None, 16]] and found["padding"]["matters"] is False
    assert run(capsys, "inspect", DEMO)["text"] is None


def test_narrow_weights(capsys, tmp_path):
    model = fastbilstm.convert(DEMO, tmp_path / "demo.fbl", weights="int8")
    found = run(capsys, "inspect", tmp_path / "demo.fbl")
    check(found, "inspect")
    (one,) = model.measured
    assert found["weights"] == "int8" and found["measured"] == [
        {
            **{"rows": "64 made-up rows", "largest": list(one.largest), "relative": list(one.relative)},
            **{"flips": one.flips, "labels": 64},
        }
    ]
    found = run(capsys, "verify", tmp_path / "demo.fbl", "--against", DEMO)
    check(found, "verify")
    assert found["same_weights"] and found["weights"] == "int8"
    if found["keras"] is not None:
        (output,) = found["keras"]["outputs"]
        assert 0 < output["max_rel"] <= output["allowed"] == 4 * one.relative[0]


def test_info(capsys):
    found = run(capsys, "info")
    known = check(found, "info")
    assert known - paths(found) <= {f"backends.vector.{name}[]" for name in ("isas", "built")}
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    lines = []
    fastbilstm.show_config(lines.append)
    assert text == lines[0] + "\n" and found["numpy"] in text and f"threads: {found['threads']}" in text


def test_verify(capsys, tmp_path):
    fastbilstm.convert(DEMO, tmp_path / "demo.fbl")
    found = run(capsys, "verify", tmp_path / "demo.fbl", "--against", DEMO)
    check(found, "verify")
    assert found["ok"] is found["vector"]["ok"] is found["same_weights"] is True and found["sha256"] == "matches"
    pytest.importorskip("keras", reason="needs Keras")
    (output,) = found["keras"]["outputs"]
    assert output["verdict"] == "ok" and 0 <= output["max_rel"] < 1e-5 and found["not_compared"] is None
    assert check(found, "verify") - paths(found) <= {
        key for key in listed("verify") if key.startswith("specification.")
    }


def test_verify_out_of_tolerance(capsys, tmp_path):
    model = fastbilstm.sample_model()
    wrong = model.vector.outputs[0] + 0.5
    model.vector = type(model.vector)(model.vector.inputs, (wrong,), model.vector.computed_by)
    model.save(tmp_path / "wrong.fbl")
    found = run(capsys, "verify", tmp_path / "wrong.fbl", code=1)
    assert found["ok"] is found["vector"]["ok"] is False and found["vector"]["max_rel"] > 0.1


def test_report(capsys, tmp_path):
    found = run(capsys, "report", SAMPLE, "-o", tmp_path / "page.html", "--seconds", "0.3", "--quiet")
    of_keras = {key for key in listed("report") if key.startswith("keras.")}
    assert check(found, "report") - paths(found) <= {"missing[]", *of_keras}
    assert found["ok"] is True and found["page"] == str(tmp_path / "page.html") and found["batches"][0]["seconds"] > 0
    together = {layer["path"][0]: layer["together"] for layer in found["layers"]}
    assert found["keras"] is None and together["bidirectional"] == ["embedding"] and together["dense"] == []
    text = (tmp_path / "page.html").read_text("utf-8")
    assert all(sentence in text for sentence in found["verdict"].split(". ")[:1])
    load = found["load"]
    assert load is None or f"{load['before']:.2f} before, {load['after']:.2f} after the timings" in text


def test_report_beside_keras():
    """What the page draws of Keras' times, and of fused layers, stands in the object."""
    keras = KerasSpeed("Keras 3.15", (Timing(0, 1, 100, 0.25, 0.125, 0.5, 7),))
    speed = Speed(100, (), (), (Share(("inner", "lstm"), {1: 0.5, 32: 2.0}, ("dropout",)),), ())
    found = json.loads(json.dumps(as_json.of_report(Report(True, (), (), speed, "p.html", None, keras), "p.html")))
    keys = {path for path in paths(found) if path.startswith(("keras", "layers"))}
    assert keys == {key for key in listed("report") if key.startswith(("keras", "layers"))}
    times = {"batch": 1, "length": 100, "seconds": 0.25, "low": 0.125, "high": 0.5, "calls": 7}
    assert found["keras"] == {"title": "Keras 3.15", "batches": [times]} and found["load"] is None
    (layer,) = found["layers"]
    assert layer["times"] == [{"batch": 1, "seconds": 0.5}, {"batch": 32, "seconds": 2.0}]


def test_predict(capsys, tagger, tmp_path):
    texts = ["--text", "john lives here", "--text", "a boring film"]
    found, marked = run(capsys, "predict", SAMPLE, *texts), run(capsys, "predict", tagger, *texts)
    model = fastbilstm.sample_model()
    model.labels = None
    model.save(tmp_path / "plain.fbl")
    plain = run(capsys, "predict", tmp_path / "plain.fbl", *texts)
    assert paths(found) | paths(marked) | paths(plain) <= check(found, "predict") | check(marked, "predict")
    answers = fastbilstm.sample_model().classify(texts[1::2])
    assert found["answers"] == [{"text": text, **row} for text, row in zip(texts[1::2], answers)]
    assert [row["tokens"] for row in marked["answers"]] == [text.split() for text in texts[1::2]]
    y = fastbilstm.sample_model().predict_text(texts[1::2])[:, 0]
    np.testing.assert_array_equal(np.array([row["prediction"] for row in plain["answers"]], "f4"), y)


def test_it_goes_with_texts_alone(capsys):
    assert cli.main(["predict", str(SAMPLE), "rows.csv", "-o", "out.csv", "--json"]) == 2
    assert "--json goes with --text; for a file write .jsonl" in capsys.readouterr().err
