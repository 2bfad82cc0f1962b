"""`fastbilstm report`: the page is well formed and self-contained, holds every number of its figures, and is right."""

import errno
import html.parser
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import make_files as mf
import numpy as np
import pytest
from built_nets import Net

import fastbilstm
from fastbilstm import cli, report_agreement, report_figures, report_graph, report_measure, verify
from fastbilstm.plan import vector_problem
from fastbilstm.report import report
from fastbilstm.report_page import options_text
from fastbilstm.summary import layer_rows

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "tests" / "golden" / "demo" / "bilstm64.h5"
SEQ2SEQ = ROOT / "tests" / "golden" / "seq2seq" / "model.keras"
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title></style><b onclick='x'>&amp;]]>")
needs_kernels = pytest.mark.skipif(vector_problem() is not None, reason="needs the vector kernels")


@pytest.fixture
def without_keras(monkeypatch):
    def missing(graph):
        raise verify.KerasUnavailable("keras is not installed")

    monkeypatch.setattr(verify, "_framework", missing)


class Page(html.parser.HTMLParser):
    """A page taken apart: every tag with its attributes, the text of each, and the figures."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.text = Path(path).read_text(encoding="utf-8")
        self.open, self.tags, self.figures, self.words = [], [], [], []
        self.feed(self.text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "figure":
            self.figures.append({"marks": [], "cells": [], "title": ""})

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)
        if "figure" not in self.open:
            return
        if self.open[-1] == "title":
            self.figures[-1]["marks"].append(data)
        elif self.open[-1] in ("td", "th"):
            self.figures[-1]["cells"].append(data)
        elif self.open[-1] == "h4":
            self.figures[-1]["title"] += data

    def figure(self, start):
        (found,) = [figure for figure in self.figures if figure["title"].startswith(start)]
        return found


def check_self_contained(page):
    """Nothing on the page can load, run or lead anywhere."""
    known = set("html head meta title style body main section h1 h2 h3 h4 p ul li dl dt dd div span i code".split())
    known |= set("table thead tbody tr th td figure figcaption details summary".split())
    known |= set("svg g path rect circle polyline text tspan".split())
    assert {tag for tag, _ in page.tags} <= known
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "href", "srcset", "action", "xlink:href", "style")
            assert "//" not in value and "url(" not in value and "javascript:" not in value, (tag, name, value)
    (style,) = re.findall("<style>(.*?)</style>", page.text, re.DOTALL)
    assert not re.search(r"url\(|@import|expression\(|//|\\", style)
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def check_accessible(page):
    assert ("html", {"lang": "en"}) in page.tags
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert drawings and all(attributes["role"] == "img" for attributes in drawings)
    assert page.text.count("<svg") == len(re.findall(r"<svg[^>]*><title>[^<]+</title>", page.text))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(b - a <= 2 for a, b in pairwise(levels))


def check_numbers(page, found):
    """Every number that was measured is in the drawing of its figure and in the table below it."""
    ms = lambda seconds: report_figures.number(1e3 * seconds)  # noqa: E731
    for timing in (*found.speed.batches, *found.speed.lengths):
        of_batch = timing in found.speed.batches
        start = "Time against batch" if of_batch else f"Time against length, batch {timing.batch}"
        threads = f"{timing.threads} thread{'s' * (timing.threads > 1)}"
        figure, x = page.figure(start), timing.batch if of_batch else timing.length
        median, low, high = ms(timing.seconds), ms(timing.low), ms(timing.high)
        assert f"{threads}, {x}: {median} ({low} to {high})" in figure["marks"]
        row = figure["cells"].index(f"{x}, {threads}")
        expected = [median, low, high, f"{timing.batch / timing.seconds:,.0f}", str(timing.calls)]
        assert figure["cells"][row + 1 : row + 6] == expected
    totals = {}
    for share in found.speed.shares:
        for batch, seconds in share.seconds.items():
            totals[batch] = totals.get(batch, 0.0) + seconds
    for share in found.speed.shares:
        figure = page.figure("Share of each layer")
        name = " / ".join(share.path) + (f" with {', '.join(share.together)}" if share.together else "")
        cells = figure["cells"][figure["cells"].index(name) + 1 :]
        for k, (batch, seconds) in enumerate(share.seconds.items()):
            part = f"{100 * seconds / totals[batch]:.1f} %"
            assert cells[2 * k : 2 * k + 2] == [ms(seconds), part]
            if len(found.speed.shares) <= report_figures.MOST_BARS:
                assert f"{name}, batch {batch}: {ms(seconds)} ms, {part}" in figure["marks"]
    for one in found.agreements:
        figure = page.figure(f"Errors against {one.reference}")
        assert figure["cells"][2:4] == ["equal", f"{one.equal:,}"]
        for low, high, count in zip(one.edges, one.edges[1:], one.counts):
            name = f"{report_figures.number(low)} to {report_figures.number(high)}"
            assert figure["cells"][figure["cells"].index(name) + 1] == f"{count:,}"
            assert not count or f"{name}: {count:,}" in figure["marks"]


def made(path, target, seconds=0.3, **options):
    """The page of a model, taken apart, and the Report; checks all that holds for every page."""
    found = report(path, target, seconds=seconds, **options)
    page = Page(target)
    check_self_contained(page)
    check_accessible(page)
    check_numbers(page, found)
    assert str(Path(target).parent) not in page.text
    return page, found


def run(capsys, *args):
    try:
        code = cli.main(["report", *map(str, args)])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ---- the page -------------------------------------------------------------------------------------------------------


def test_a_converted_model(tmp_path, capsys, without_keras):
    model = tmp_path / "model.fbl"
    fastbilstm.convert(DEMO, model)
    page, found = made(model, tmp_path / "page.html", seconds=1.0)
    assert found.ok and [one.rows for one in found.agreements] == [3, 64]
    assert all(sum(one.counts) + one.equal == one.rows for one in found.agreements)  # one output a row
    assert all(one.largest <= 1e-5 and one.median <= one.largest for one in found.agreements)
    assert {t.batch for t in found.speed.batches} == set(report_measure.BATCHES)
    assert not found.speed.lengths and "one size only" in " ".join(found.speed.missing)
    text = "".join(page.words)
    loaded = fastbilstm.load(model)
    for row in layer_rows(loaded):
        assert row.name in text and row.described in text and row.shape in text and f"{row.parameters:,}" in text
    for fact in (loaded.keras, loaded.backend, f"{model.stat().st_size / 1e6:.2f} MB", "--against"):
        assert fact in text
    code, out, _ = run(capsys, model, "-o", tmp_path / "page.html", "--overwrite", "--seconds", 0.1, "--against", DEMO)
    assert code == 0 and "ok against" in out and "page.html" in out


def test_against_live_keras(tmp_path):
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    page, found = made(SEQ2SEQ, tmp_path / "page.html", dtype="float32")
    live, exact = found.agreements
    assert found.ok and not found.missing and live.reference.startswith("keras 3") and live.rows == exact.rows == 64
    # 50 timesteps, 13 characters: sums of all bins.
    assert sum(live.counts) + live.equal + live.special == 64 * 50 * 13
    text = "".join(page.words)
    assert "encoder / encoder_lstm" in text and "decoder / decoder_lstm" in text and live.reference in text


def test_without_keras_it_says_so(tmp_path, without_keras):
    page, found = made(SEQ2SEQ, tmp_path / "page.html")
    assert found.ok and len(found.agreements) == 1 and "keras is not installed" in found.missing[0]
    assert "not compared with Keras" in "".join(page.words)
    assert {t.length for t in found.speed.lengths} == set(report_measure.LENGTHS)


def test_a_wrong_answer_is_told(tmp_path, capsys):
    """A recorded vector that differs in one number: the page is written, says where, and the exit code is 1."""
    model = fastbilstm.load(DEMO)
    vector = fastbilstm.vector.make(model.graph, model._tensors)
    (y,) = vector.outputs
    wrong = y.copy()
    wrong[1] *= 1.001
    model.vector = fastbilstm.weights_file.Vector(vector.inputs, (wrong,), "keras 3.99")
    model.save(tmp_path / "model.fbl")
    code, out, _ = run(capsys, tmp_path / "model.fbl", "-o", tmp_path / "page.html", "--seconds", 0.1)
    assert code == 1 and "MISMATCH against the recorded vector, by keras 3.99" in out
    text = "".join(Page(tmp_path / "page.html").words)
    assert "OUT OF TOLERANCE" in text and "at (1, 0)" in text


def test_rounding_is_told_from_mistakes():
    """Outputs out of the tolerance pass if NumPy in float32 is as far from float64, and then only."""
    model = fastbilstm.load(SEQ2SEQ)
    vector = fastbilstm.vector.make(model.graph, model._tensors, 64, (50,))
    (y,) = vector.outputs
    (rounding,) = report_agreement._rounding(model, list(vector.inputs))
    assert 0 < rounding < report_agreement.MOST_ROUNDING
    for factor, ok in ((0, True), (2, True), (20, False), (1e5, False)):
        moved = (y + factor * rounding * np.abs(y).max() * (np.arange(y.size) == 7).reshape(y.shape),)
        vector = fastbilstm.weights_file.Vector(vector.inputs, moved, "keras 3.99")
        assert report_agreement._agreement(model, vector, "", "").ok == ok, factor


def test_histogram_counts_every_element():
    errors = np.array([1e-20, 1e-9, 9.9e-7, 1e-6, 1.01e-6, 3e-6])
    edges, counts = report_agreement._bins(errors)
    assert sum(counts) == errors.size and edges[0] == 0 and edges[1] < 3e-6 * 1e-7 and edges[-1] > 3e-6
    for low, high, count in zip(edges, edges[1:], counts):
        assert count == ((errors >= low * (1 - 1e-12)) & (errors < high * (1 - 1e-12))).sum()
    assert report_agreement._bins(np.zeros(0)) == ((), ())


# ---- kinds of models ------------------------------------------------------------------------------------------------


def several_inputs():
    """Two inputs of free length that never fit each other: no made-up input fits."""
    config = mf.functional(
        mf.input_layer("a", (None, None, 3), "float32", functional=True),
        mf.input_layer("b", (None, None, 3), "float32", functional=True),
        mf.layer("Cropping1D", "crop", ["b"], cropping=[10, 10]),
        mf.layer("Add", "add", ["a", "crop"]),
        mf.lstm(inbound=["add"]),
        inputs=("a", "b"),
        outputs=("lstm",),
    )
    return mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(3, 3)))


def stateful():
    config = mf.sequential(mf.input_layer("x", (4, 10, 3), "float32"), mf.lstm(stateful=True, return_sequences=True))
    return mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(3, 3)))


def image():
    config = mf.sequential(
        mf.input_layer("x", (None, 9, 8, 2), "float32"),
        mf.layer(
            "MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], padding="valid", data_format="channels_last"
        ),
        mf.layer("Flatten", "flatten", data_format="channels_last"),
        mf.dense(units=2, use_bias=True),
    )
    return mf.h5(config, mf.weights_of(dense={"kernel": (32, 2), "bias": (2,)}))


def text():
    options = {"standardize": "lower_and_strip_punctuation", "split": "whitespace", "ngrams": None, "max_tokens": None}
    options |= {"output_mode": "int", "output_sequence_length": 6, "pad_to_max_tokens": False, "encoding": "utf-8"}
    config = mf.sequential(
        mf.input_layer("text", (None, 1), "string"),
        mf.layer("TextVectorization", "words", vocabulary=["", "[UNK]", "film", "good", "bad"], **options),
        mf.embedding(),
        mf.lstm(),
        mf.dense(use_bias=True),
    )
    return mf.h5(config, mf.weights())


KINDS = {
    "no input fits": (several_inputs, ["none fits the model", "no layer was timed"]),
    "stateful": (stateful, ["batches of 4 rows only", "one size only"]),
    "image": (image, ["inputs (rows, 9, 8, 2)", "one size only"]),
    "text": (text, ["words a text, at most"]),
}


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_models(kind, backend, tmp_path, without_keras):
    build, expected = KINDS[kind]
    (tmp_path / "model.h5").write_bytes(build())
    page, found = made(tmp_path / "model.h5", tmp_path / "page.html", seconds=0.15, backend=backend)
    assert found.ok
    words = "".join(page.words)
    for sentence in expected:
        assert sentence in words, sentence
    if kind != "no input fits":
        assert found.agreements and found.speed.batches and found.speed.shares


def test_a_stateful_model_keeps_no_states():
    model = fastbilstm.load(stateful())
    x = np.ones((4, 10, 3), np.float32)
    before = model.predict(x)
    report_measure.speed(model, 0.05)
    np.testing.assert_array_equal(model.predict(x), before)


def test_float64(tmp_path, without_keras):
    _, found = made(SEQ2SEQ, tmp_path / "page.html", dtype="float64", seconds=0.1)
    assert found.ok and found.agreements[0].largest < 1e-12


# ---- the share of each layer ----------------------------------------------------------------------------------------


@needs_kernels
def test_layers_are_timed_where_they_run(tmp_path):
    net = Net(ids=True)
    net.embedding(mask_zero=True)
    net.lstm("lstm", "embedding", units=3, return_sequences=True)
    net.dense("dense", "lstm", size=3)
    net.bn("bn", "dense", size=4)
    net.add("ReLU", "relu", "bn")
    net.bn("second", "relu", size=4)
    net.dense("after", "second", size=4, activation="relu")
    model = fastbilstm.load(net.content("after"), n_threads=1)
    x = net.input()
    before = model.predict(x)
    found = report_measure.speed(model, 0.3)
    shares = {share.path: share for share in found.shares}
    assert list(shares) == [("lstm",), ("dense",), ("relu",), ("after",), (report_measure.BETWEEN,)]
    assert {path: share.together for path, share in shares.items() if share.together} == {
        ("lstm",): ("embedding",),
        ("dense",): ("bn",),
        ("after",): ("second",),
    }
    assert all(seconds > 0 for share in found.shares for seconds in share.seconds.values())
    # Nothing is left behind in the network that predicts.
    assert not {"run", "call_part"} & set(vars(model._plan.runner))
    np.testing.assert_array_equal(model.predict(x), before)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_times_of_layers_sum_up_to_the_call(backend):
    """A layer that takes far longer than all others has nearly all of the time, at any depth."""
    model = fastbilstm.load(SEQ2SEQ, backend=backend)
    x = report_measure.sample(model, 32, 100)
    found = report_measure._layer_seconds(model, x, 32, 0.1)
    paths = {("encoder", "encoder_lstm"), ("decoder", "decoder_lstm"), ("decoder", "token"), (report_measure.BETWEEN,)}
    assert paths <= set(found) and not {("encoder",), ("decoder",)} & set(found)
    layers = sum(found.values()) - found[report_measure.BETWEEN,]
    assert layers > found[report_measure.BETWEEN,] > 0


# ---- names from the file --------------------------------------------------------------------------------------------


def hostile():
    net = Net()
    net.add("Dropout", HOSTILE[0], "x", rate=0.5)
    net.add("Activation", HOSTILE[1], HOSTILE[0], activation="relu")
    net.add("Activation", HOSTILE[2], HOSTILE[1], activation="tanh")
    net.lstm("lstm", HOSTILE[2])
    return net.content("lstm")


def test_hostile_names_are_text(tmp_path, without_keras):
    content = hostile()
    (tmp_path / "model.h5").write_bytes(content)
    page, _ = made(tmp_path / "model.h5", tmp_path / "page.html", seconds=0.1)
    words = "".join(page.words)
    for name in HOSTILE:
        assert name in words and name not in page.text
    assert "<script" not in page.text and "<img" not in page.text


# ---- the graph ------------------------------------------------------------------------------------------------------


def branches():
    """Branches of different lengths, a layer called twice and an edge over many ranks."""
    net = Net()
    names = ["x"]
    for k in range(6):
        names.append(net.dense(f"chain_{k}", names[-1], units=5))
    net.add("Add", "skip", "x", "chain_1", "chain_5")
    net.add("Concatenate", "all", "skip", "chain_2", "chain_3", "chain_4", axis=-1)
    net.bidirectional("both", "all", features=20)
    return fastbilstm.load(net.content("both", "chain_0"), backend="numpy")


@pytest.mark.parametrize("make", [branches, lambda: fastbilstm.load(SEQ2SEQ), lambda: fastbilstm.load(DEMO)])
def test_boxes_do_not_overlap(make):
    network = make()._plan.network
    boxes, edges = report_graph._boxes_and_edges(network, None, 0)
    ranks = report_graph._rank(boxes, edges)
    assert len(boxes) == len(network.graph.inputs) + len(network.graph.nodes) + len(network.graph.outputs)
    report_graph._order(ranks, 12)
    width, height = report_graph._place(ranks, 36), report_graph._stack(ranks)
    everything = [box for rank in ranks for box in rank]
    for box in everything:
        assert box.x - box.width / 2 >= 0 and box.x + box.width / 2 <= width
        assert box.y - box.height / 2 >= 0 and box.y + box.height / 2 <= height
    for a, b in combinations(everything, 2):
        assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
    for source, target, _, points in edges:
        assert source.rank < target.rank and len(points) == target.rank - source.rank - 1


def test_edges_and_masks_of_the_drawing(tmp_path):
    config = mf.functional()
    (tmp_path / "model.h5").write_bytes(mf.h5(config))
    model = fastbilstm.load(tmp_path / "model.h5", backend="numpy")
    svg = report_graph.draw(model._plan.network)
    assert svg.count('class="edge masked"') == 1 and svg.count('class="edge"') == 3
    for text in ("(None, None)", "(None, None, 4)", "(None, 3)", "(None, 2)", "output dense", "LSTM(3)"):
        assert text in svg


def test_options_that_are_not_defaults():
    rows = {row.name: row for row in layer_rows(mf.floats(return_sequences=True, go_backwards=True))}
    told = options_text(rows["lstm"].layer)
    assert "return_sequences=True" in told and "go_backwards=True" in told and "stateful" not in told


# ---- wrong use ------------------------------------------------------------------------------------------------------


def test_existing_and_impossible_targets(tmp_path, capsys):
    page, model = tmp_path / "page.html", tmp_path / "model.h5"
    page.write_text("mine")
    model.write_bytes(DEMO.read_bytes())
    cases = (
        ([model, "-o", page], "exists already.*--overwrite"),
        ([model, "-o", model, "--overwrite"], "is read as a model"),
        ([model, "-o", tmp_path / "no" / "page.html"], "folder .*no does not exist"),
        ([model, "-o", tmp_path, "--overwrite"], "is a folder"),
        ([model, "-o", tmp_path / "new.html", "--seconds", 0], "seconds is 0.0"),
        ([model, "-o", tmp_path / "new.html", "--seconds", "nan"], "seconds is nan"),
        ([model, "-o", tmp_path / "new.html", "--against", DEMO], "--against goes with a converted model"),
        ([page, "-o", tmp_path / "new.html"], "page.html: neither a converted model nor a Keras file"),
        ([tmp_path / "gone.h5", "-o", tmp_path / "new.html"], "gone.h5: cannot be read"),
        ([model, "-o", tmp_path / "new.html", "--outputs", "nothing"], "nothing"),
    )
    for args, words in cases:
        code, out, err = run(capsys, *args)
        assert code == 2 and re.search(words, err) and not out, (args, err)
    assert page.read_text() == "mine" and model.read_bytes() == DEMO.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.h5", "page.html"]


def test_against_another_model(tmp_path, capsys):
    fastbilstm.convert(DEMO, tmp_path / "model.fbl")
    code, _, err = run(capsys, tmp_path / "model.fbl", "-o", tmp_path / "page.html", "--against", SEQ2SEQ)
    assert code == 2 and "other weights or layers" in err and not (tmp_path / "page.html").exists()


def test_unsupported_model(tmp_path, capsys):
    (tmp_path / "model.h5").write_bytes(mf.h5(mf.sequential(mf.input_layer(), mf.layer("Lambda", "secret"))))
    code, _, err = run(capsys, tmp_path / "model.h5", "-o", tmp_path / "page.html")
    assert code == 2 and "'secret'" in err and "Lambda" in err
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


@pytest.mark.parametrize("where", ["speed", "agreements", "write"])
def test_interrupted_it_leaves_no_file(where, tmp_path, capsys, monkeypatch, without_keras):
    def interrupt(*args):
        raise KeyboardInterrupt

    module, name = {
        "speed": (report_measure, "_time"),
        "agreements": (report_agreement, "_agreement"),
        "write": (os, "fsync"),
    }[where]
    monkeypatch.setattr(module, name, interrupt)
    code, _, err = run(capsys, SEQ2SEQ, "-o", tmp_path / "page.html", "--seconds", 0.1)
    assert code == 130 and "interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path, capsys, monkeypatch, without_keras):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "page.html").write_text("mine")
    code, _, err = run(capsys, SEQ2SEQ, "-o", tmp_path / "page.html", "--seconds", 0.1, "--overwrite")
    assert code == 2 and "page.html: cannot be written" in err and os.strerror(errno.ENOSPC) in err
    assert (tmp_path / "page.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_too_little_time_is_told(without_keras):
    found = report_measure.speed(fastbilstm.load(SEQ2SEQ), 1e-6)
    assert any("left out" in line and "--seconds" in line for line in found.missing)


def test_the_command_imports_it_when_needed():
    code = "import sys, fastbilstm.cli; print([m for m in sys.modules if 'report' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Opens a file in headless Chromium; returns its document and its console's messages."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("needs chromium on the PATH")

    def visit(path, *more):
        folder = tmp_path_factory.mktemp("chromium")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", *more]
        command = [found, *options, f"--user-data-dir={folder}", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)

    return visit


def test_chromium_shows_it_without_errors(chromium, tmp_path, without_keras):
    # What goes wrong on a page is seen here.
    (tmp_path / "broken.html").write_text("<!DOCTYPE html><script>missing()</script>")
    _, messages = chromium(tmp_path / "broken.html", "--dump-dom")
    assert any("missing is not defined" in message for message in messages)
    (tmp_path / "model.h5").write_bytes(hostile())
    for model in (DEMO, tmp_path / "model.h5"):
        page, _ = made(model, tmp_path / "page.html", seconds=0.2, overwrite=True)
        document, messages = chromium(tmp_path / "page.html", "--dump-dom")
        assert not messages
        assert document.count("<svg") == page.text.count("<svg") and document.count("<tr>") == page.text.count("<tr>")
        assert "<script" not in document and "<img" not in document


def test_firefox_shows_it(tmp_path, without_keras):
    found = shutil.which("firefox") or pytest.skip("needs firefox on the PATH")
    made(SEQ2SEQ, tmp_path / "page.html", seconds=0.1)
    command = [found, "--headless", "--no-remote", "--profile", str(tmp_path), "--screenshot"]
    subprocess.run([*command, str(tmp_path / "shot.png"), (tmp_path / "page.html").as_uri()], timeout=120, check=True)
    assert (tmp_path / "shot.png").read_bytes().startswith(b"\x89PNG")
