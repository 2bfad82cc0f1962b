"""The parts of the rival benches that need no rival, run once: nets, files, hand-made forms, worker, report.

Small nets, five timesteps; no time is asserted. In `make bench` pytest skips these, because they measure nothing.
"""

import json
import re

import handmade
import numpy as np
import pytest
import report
import tails
from bench_rivals import build, read_arguments
from cells import AS_CONVERTED, CELLS, HAND_MADE, PADDED, REAL_REVIEWS, as_tuple, cell_input, litert_files, pad, reviews
from engines import CANDIDATES, ONE_THREAD, OURS, Files, LiteRT, Unavailable, chosen
from interleave import Interleaved
from nets import (
    AROUND,
    NETS,
    Net,
    input_names,
    keras_file,
    load_weights,
    named_weights,
    random_weights,
    save_weights,
)
from timing import in_turns, summary

import fastbilstm

pytest.importorskip("h5py", reason="the nets are written as Keras files")

EMBEDDING, SCORE = ("embedding", 20, 3, False), ("dense", 2, "softmax")
MASKED = (("embedding", 20, 3, True), ("bilstm", 4, True, "sum"), ("batchnorm",), ("bilstm", 2, False, "ave"), SCORE)
SMALL = {
    "lstm": Net((EMBEDDING, ("lstm", 4), SCORE)),
    "pair": Net((EMBEDDING, ("bilstm", 4, True, "concat"), ("lstm_pair", 3), SCORE)),
    "gru": Net((EMBEDDING, ("bigru", 4, True, "concat"), ("gru", 3), SCORE)),
    "attention": Net((EMBEDDING, ("bilstm", 4, True, "concat"), ("attention_mean",), SCORE)),
    "masked": Net(MASKED),
    "tagger": Net((("bilstm", 4, True, "concat"), ("bilstm", 2, True, "concat"), SCORE), features=3),
    "short": Net((("gru", 4), ("dense", 1, "linear")), features=3),
}


def small_input(net, rows=3):
    rng = np.random.default_rng(1)
    if net.features:
        return rng.standard_normal((rows, 5, net.features)).astype(np.float32)
    ids = rng.integers(1, 20, (rows, 5), dtype=np.int32)
    for row in range(rows if net.masked else 0):
        ids[row, :row] = 0
    return ids


def specification(net, weights):
    return fastbilstm.load(keras_file(net, weights), backend="numpy", dtype="float64").predict(small_input(net))


@pytest.mark.parametrize("name", SMALL)
def bench_weights_once(name, tmp_path):
    net = SMALL[name]
    weights = random_weights(net)
    save_weights(tmp_path / "net.npz", weights)
    model = fastbilstm.load(keras_file(net, weights))
    for same in (load_weights(tmp_path / "net.npz"), named_weights(net, model.get_weights())):
        assert list(same) == list(weights)
        for name in weights:
            assert all(np.array_equal(ours, given) for ours, given in zip(same[name], weights[name]))


@pytest.mark.parametrize("name", SMALL)
def bench_arranged_rows_once(name):
    net = SMALL[name]
    x = small_input(net)
    arranged, lengths, order = handmade.arrange(net, x)
    back = np.swapaxes(arranged, 0, 1)
    for column, row in enumerate(order):
        kept = x[row][x[row] != 0] if net.masked else x[row]
        assert np.array_equal(back[column][: len(kept)], kept)
    assert (lengths is not None) == net.masked
    assert np.array_equal(handmade.restore(back, np.arange(3), False), back)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rows", [1, 3])
def bench_onnx_once(name, rows, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = SMALL[name]
    weights = random_weights(net)
    x, lengths, order = handmade.arrange(net, small_input(net)[:rows])
    handmade.write_onnx(net, weights, tmp_path / "net.onnx", masked=lengths is not None)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    answer = session.run(None, {"x": x} | ({} if lengths is None else {"lengths": lengths}))[0]
    answer = handmade.restore(answer, order, handmade.returns_sequences(net))
    np.testing.assert_allclose(answer, specification(net, weights)[:rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def bench_torch_once(name):
    torch = pytest.importorskip("torch")
    net = SMALL[name]
    weights = random_weights(net)
    x, lengths, order = handmade.arrange(net, small_input(net))
    x = torch.from_numpy(x)
    if lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(lengths).long())
    answer = handmade.restore(handmade.torch_net(net, weights)(x), order, handmade.returns_sequences(net))
    np.testing.assert_allclose(answer, specification(net, weights), rtol=0, atol=1e-6)


def bench_cells_once():
    assert {candidate.engine for candidate in CANDIDATES} >= {OURS, "ONNX Runtime", "OpenVINO", "PyTorch"}
    for cell in CELLS.values():
        x = cell_input(cell, 32)
        if cell.name in AROUND:
            assert [part.shape for part in as_tuple(x)] == [(32, *one.shape) for one in AROUND[cell.name]]
        else:
            assert x.shape[:2] == (32, cell.timesteps)
            assert NETS[cell.name].features == (x.shape[2] if x.ndim == 3 else None)
    assert read_arguments(["--quick"]).rounds < read_arguments([]).rounds
    assert set(CELLS) < set(read_arguments([]).cells) and read_arguments([]).output is not None
    small = read_arguments(["--family", "short", "--engines", "fastbilstm,ort"])
    assert {CELLS[name].family for name in small.cells} == {"short"} and small.output is None
    assert {candidate.engine.partition(",")[0] for candidate in chosen(small.engines)} == {OURS, "ONNX Runtime"}
    with pytest.raises(SystemExit):
        read_arguments(["--engines", "fastbilstm,nothing"])


@pytest.fixture(scope="module", params=AROUND)
def around(request, tmp_path_factory):
    """(name, path of the Keras file, weights, input, what Keras answers) of a net of the family "around"."""
    keras = pytest.importorskip("keras", reason="the nets are built in Keras")
    import around_nets

    name, path = request.param, tmp_path_factory.mktemp("around") / "net.keras"
    model, x = around_nets.build(name), as_tuple(cell_input(CELLS[name], 2))
    model.save(path)
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    return name, path, weights, x, keras.ops.convert_to_numpy(model(list(x) if len(x) > 1 else x[0]))


def bench_around_once(around):
    _, path, _, x, expected = around
    given = list(x) if len(x) > 1 else x[0]
    exact = fastbilstm.load(path, backend="numpy", dtype="float64").predict(given)
    assert len(np.unique(np.round(exact, 4))) > 1, "the inputs make no difference"
    for answer in (expected, fastbilstm.load(path).predict(given)):
        np.testing.assert_allclose(answer, exact, rtol=0, atol=1e-6)


def bench_around_torch_once(around, tmp_path):
    torch = pytest.importorskip("torch")
    import around_torch

    name, _, weights, x, expected = around
    answer = around_torch.torch_net(name, weights)(*map(torch.from_numpy, x))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
    runtime = pytest.importorskip("onnxruntime")
    around_torch.write_onnx(name, weights, x, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    rows = {label: np.tile(part, (2,) + (1,) * (part.ndim - 1)) for label, part in zip(input_names(name), x)}
    np.testing.assert_allclose(session.run(None, rows)[0][2:], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm16_24x1", "translation"])
def bench_litert_once(name, tmp_path):
    """Both forms, with fewer rows than the file has; no file is large enough for more rows."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    import around_nets
    import keras_nets
    import litert_nets

    path = tmp_path / f"{name}.keras"
    model = around_nets.build(name) if name in AROUND else keras_nets.build(NETS[name], random_weights(NETS[name]))
    model.save(path)
    litert_nets.main(tmp_path, [name])
    problems = json.loads((tmp_path / "litert_nets.json").read_text())[name]
    assert not problems
    x = cell_input(CELLS[name], 40)
    rows = [part[:3] for part in as_tuple(x)]
    expected = fastbilstm.load(path, backend="numpy", dtype="float64").predict(rows if len(rows) > 1 else rows[0])
    for form in (AS_CONVERTED, HAND_MADE):
        first = LiteRT(Files(str(tmp_path), name, problems), 1, form)
        for engine in (first, first.another()):
            given = engine.arrange(tuple(rows))
            for _ in range(2):  # no states are left from the first
                np.testing.assert_allclose(engine.rows(engine.run(given), given), expected, rtol=0, atol=1e-6)
        with pytest.raises(Unavailable, match="no file for 40 rows"):
            first.arrange(x)


def bench_litert_problem_once(tmp_path, monkeypatch):
    """What has no built-in operation is named, and what converts is written."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    import litert_nets

    class Inverse(keras.layers.Layer):
        def call(self, x):
            return keras.ops.erfinv(x)

    given = keras.Input((24, 1))
    model = keras.Model(given, Inverse()(given))
    monkeypatch.setattr("keras.models.load_model", lambda *_, **__: model)
    litert_nets.main(tmp_path, ["lstm16_24x1"])
    problems = json.loads((tmp_path / "litert_nets.json").read_text())["lstm16_24x1"]
    assert list(problems) == list(litert_files("lstm16_24x1"))
    assert all("does not convert" in text and "Erfinv" in text for text in problems.values()), problems
    with pytest.raises(Unavailable, match="Erfinv"):
        Files(str(tmp_path), "lstm16_24x1", problems).path("8.tflite")


def bench_build_once(tmp_path, monkeypatch):
    """Nets that lie in the folder are not built again, unless a package has another version."""
    asked = []
    monkeypatch.setattr("bench_rivals.build_anew", lambda names, _: asked.append(names) or {name: {} for name in names})
    build(["one"], tmp_path)
    assert build(["one", "two"], tmp_path) == {"one": {}, "two": {}}
    monkeypatch.setattr("bench_rivals.versions", lambda: "others")
    build(["two"], tmp_path)
    assert asked == [["one"], ["two"], ["two"]]


def bench_reviews_once():
    """Made reviews have the lengths and ids of the committed ones, and are the same in every run."""
    real, rows = reviews(REAL_REVIEWS), reviews(1000)
    for again, row in zip(real + reviews(1000)[REAL_REVIEWS:], rows, strict=True):
        assert np.array_equal(again, row)
    lengths, ids = {len(row) for row in real}, {int(k) for row in real for k in row}
    for row in rows[REAL_REVIEWS:]:
        assert len(row) in lengths and ids.issuperset(row.tolist()) and list(np.flatnonzero(row == 1)) == [0]
    padded = pad(rows)
    mean, *means = ((part != 0).sum(axis=1).mean() for part in np.split(padded, 5))
    assert padded.shape == (1000, PADDED) and 0.9 < min(means) / mean and max(means) / mean < 1.1


def bench_worker_once(tmp_path):
    """fastbilstm alone in a worker process, on a small net in the place of a cell's."""
    net = SMALL["lstm"]
    weights = random_weights(net)
    (tmp_path / "lstm64.h5").write_bytes(keras_file(net, weights))
    job = {"folder": str(tmp_path), "problems": {"lstm64": {"keras": "is not installed"}}, "rounds": 2, "budget": 1}
    with Interleaved(job, 1, engines=["fastbilstm"]) as interleaved:
        x = small_input(net)
        ready, rows = interleaved.prepare("lstm64", "lstm64", x, specification(net, weights))
        assert (OURS, "ok") in [(row["engine"], row["status"]) for _, row in ready], rows
        assert all(seconds > 0 for engine, _ in ready for seconds in engine.ask("turn")["seconds"])
        wrong, rows = interleaved.prepare("lstm64", "lstm64", x, specification(net, weights) + 1)
        assert not wrong and {row["status"] for row in rows} == {"wrong"}


def bench_tails_once(tmp_path, monkeypatch):
    """Percentiles, times after other work and calls a second of fastbilstm on its default threads and on one."""
    net = SMALL["lstm"]
    (tmp_path / "lstm64.h5").write_bytes(keras_file(net, random_weights(net)))
    job = {"folder": str(tmp_path), "problems": {"lstm64": {"keras": "is not installed"}}, "rounds": 2, "budget": 1}
    with Interleaved(job, 2, engines=["fastbilstm"]) as interleaved:
        monkeypatch.setattr(tails, "cell_input", lambda cell, batch: small_input(net, batch))
        rows = tails.measure(interleaved, "lstm64", 1, 0.05, callers=(1, 3))
    assert {row["status"] for row in rows} == {"ok"}, rows
    for engine in (OURS, f"{OURS}{ONE_THREAD}"):
        mine = [row for row in rows if row["engine"] == engine]
        assert [row["load"] for row in mine if "load" in row] == ["idle", "busy"]
        assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in mine if "load" in row)
        assert [row["callers"] for row in mine if row.get("calls", 0) > 0] == [1, 3]
        (cold,) = (row for row in mine if "touched" in row)
        assert cold["touched"] == tails.TOUCHED and 0 < cold["q1"] <= cold["median"] <= cold["q3"]
    failed = {**rows[0], "engine": "OpenVINO", "status": "failed", "reason": "is too slow"}
    text = report.tail_tables([*rows, failed])
    assert text.count(OURS) == 2 and "OpenVINO" not in text and "is too slow" in report.absent([failed])
    assert report.cold_table([row for row in rows if "touched" not in row]) == ""
    assert report.cold_table(rows).count(" | - |") == 2  # two engines, no rival
    rival = next(row for row in rows if "touched" in row and row["engine"] == OURS)
    rival = {**rival, "engine": "ONNX Runtime", "form": HAND_MADE, "median": 4 * rival["median"]}
    text = report.markdown({"header": {}, "rows": [], "sweeps": [], "memory": [], "tails": [*rows, rival]})
    ratios = {line.split(" | ")[1]: line.split(" | ")[-1] for line in text.splitlines() if re.match(r"\|.* to ", line)}
    assert ratios[OURS] == "4.00 |" and ratios["ONNX Runtime"] == "1.00 |" and f"{OURS}{ONE_THREAD}" in ratios


def bench_report_once(tmp_path):
    """A report of fastbilstm and one row for each way in which a rival can be absent; notes survive."""
    net = SMALL["lstm"]
    model, x = fastbilstm.load(keras_file(net, random_weights(net))), small_input(net)
    measured = summary(in_turns([lambda: model.predict(x)], 1, 0)[0])
    common = {"cell": "lstm64", "batch": 1, "threads": 1}
    rows = [{**common, "engine": OURS, "form": "", "status": "ok", **measured}]
    rows += [{**common, "engine": "ONNX Runtime", "form": HAND_MADE, "status": "missing", "reason": "is not installed"}]
    results = {"header": {"CPU": "any", "show_config": "text"}, "rows": rows, "sweeps": [], "memory": [], "tails": []}
    text, data = report.write(results, tmp_path)
    assert "none: is not installed" in text.read_text(encoding="utf-8")
    text.write_text(text.read_text(encoding="utf-8") + "kept by hand\n", encoding="utf-8")
    slower = {name: 3 * value for name, value in measured.items()}
    rows += [{**common, "engine": "PyTorch", "form": HAND_MADE, "status": "ok", **slower}]
    rows += [{**common, "engine": "PyTorch", "form": "not counted", "status": "ok", **measured}]
    report.write(results, tmp_path)
    assert text.read_text(encoding="utf-8").endswith("kept by hand\n")
    assert json.loads(data.read_text(encoding="utf-8"))["rows"] == rows
    assert "3.00" in report.small_table(rows) and "PyTorch (hand-made)" in report.small_table(rows)
    (line,) = report.ratios(rows)
    assert line["ratio"] == pytest.approx(3) and line["reached"] and line["rival"] == "PyTorch (hand-made)"
