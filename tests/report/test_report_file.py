"""`fastbilstm report`: the page is well formed and self-contained, holds every number of its figures, and is right."""

import errno
import os
import re
import shutil
import subprocess
import sys

import make_files as mf
import numpy as np
import pytest
from paths import DEMO, ROOT, SEQ2SEQ
from report_pages import HOSTILE, Page, hostile, made

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.converted import fbl_file, self_check
from fastbilstm.engine.summary import layer_rows
from fastbilstm.keras import installed_keras
from fastbilstm.report import agreement as report_agreement
from fastbilstm.report import measure as report_measure


@pytest.fixture
def without_keras(monkeypatch):
    def missing(graph):
        raise installed_keras.KerasUnavailable("keras is not installed")

    monkeypatch.setattr(installed_keras, "_framework", missing)


def run(capsys, *args):
    try:
        code = cli.main(["report", *map(str, args)])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def check_complete(measured, wanted, speed):
    """All was measured, or the page says that the time was too short (on a busy machine)."""
    assert measured == set(wanted) or (measured < set(wanted) and any("left out" in line for line in speed.missing))


# ---- the page -------------------------------------------------------------------------------------------------------


def test_a_converted_model(tmp_path, capsys, without_keras):
    model = tmp_path / "model.fbl"
    fastbilstm.convert(DEMO, model)
    page, found = made(model, tmp_path / "page.html", seconds=0.5)
    assert found.ok and [one.rows for one in found.agreements] == [3, 64]
    assert all(sum(one.counts) + one.equal == one.rows for one in found.agreements)  # one output a row
    assert all(one.largest <= 1e-5 and one.median <= one.largest for one in found.agreements)
    check_complete({t.batch for t in found.speed.batches}, report_measure.BATCHES, found.speed)
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
    (untimed,) = found.missing
    assert (
        found.ok
        and "Keras was not timed: 0.3 s (--seconds) are too short" in untimed
        and live.reference.startswith("keras 3")
        and live.rows == exact.rows == 64
    )
    # 50 timesteps, 13 characters: sums of all bins.
    assert sum(live.counts) + live.equal + live.special == 64 * 50 * 13
    text = "".join(page.words)
    assert "encoder / encoder_lstm" in text and "decoder / decoder_lstm" in text and live.reference in text


def test_without_keras_it_says_so(tmp_path, without_keras):
    page, found = made(SEQ2SEQ, tmp_path / "page.html")
    assert found.ok and len(found.agreements) == 1 and "keras is not installed" in found.missing[0]
    assert "not compared with Keras" in "".join(page.words)
    check_complete({t.length for t in found.speed.lengths}, report_measure.LENGTHS, found.speed)


def test_a_wrong_answer_is_told(tmp_path, capsys):
    """A recorded vector that differs in one number: the page is written, says where, and the exit code is 1."""
    model = fastbilstm.load(DEMO)
    vector = self_check.make(model.graph, model._tensors)
    (y,) = vector.outputs
    wrong = y.copy()
    wrong[1] *= 1.001
    model.vector = fbl_file.Vector(vector.inputs, (wrong,), "keras 3.99")
    model.save(tmp_path / "model.fbl")
    code, out, _ = run(capsys, tmp_path / "model.fbl", "-o", tmp_path / "page.html", "--seconds", 0.1)
    assert code == 1 and "MISMATCH against the recorded vector, by keras 3.99" in out
    text = "".join(Page(tmp_path / "page.html").words)
    assert "OUT OF TOLERANCE" in text and "at (1, 0)" in text


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


def test_wide_inputs_are_fewer(monkeypatch, tmp_path, without_keras):
    monkeypatch.setattr(self_check, "MAX_INPUT", 2000)
    _, found = made(DEMO, tmp_path / "page.html", seconds=1.0)
    assert found.ok and found.agreements[0].rows == 5
    assert {1} <= {t.batch for t in found.speed.batches} <= {1, 2, 4}
    assert any("too large" in line or "left out" in line for line in found.speed.missing)


def test_addresses_in_keras_errors_are_left_out(monkeypatch, tmp_path):
    def missing(graph):
        raise installed_keras.KerasUnavailable("see https://example.org/page for more")

    monkeypatch.setattr(installed_keras, "_framework", missing)
    page, found = made(SEQ2SEQ, tmp_path / "page.html", seconds=0.1)
    assert "(address left out) for more" in found.missing[0] and "://" not in page.text


def test_float64(tmp_path, without_keras):
    _, found = made(SEQ2SEQ, tmp_path / "page.html", dtype="float64", seconds=0.1)
    assert found.ok and found.agreements[0].largest < 1e-12


# ---- names from the file --------------------------------------------------------------------------------------------


def test_hostile_names_are_text(tmp_path, without_keras):
    content = hostile()
    (tmp_path / "model.h5").write_bytes(content)
    page, _ = made(tmp_path / "model.h5", tmp_path / "page.html", seconds=0.1)
    words = "".join(page.words)
    for name in HOSTILE:
        assert name in words and name not in page.text
    assert "<script" not in page.text and "<img" not in page.text


# ---- wrong use ------------------------------------------------------------------------------------------------------


def test_existing_and_impossible_targets(tmp_path, capsys):
    page, model = tmp_path / "page.html", tmp_path / "model.h5"
    page.write_text("mine")
    model.write_bytes(DEMO.read_bytes())
    cases = (
        ([model, "-o", page], "exists already.*--overwrite"),
        ([model, "-o", model, "--overwrite"], "is read by this very command"),
        ([model, "-o", tmp_path / "no" / "page.html"], "folder .*no does not exist"),
        ([model, "-o", tmp_path, "--overwrite"], "is a folder"),
        ([model, "-o", tmp_path / "new.html", "--seconds", 0], "seconds is 0.0"),
        ([model, "-o", tmp_path / "new.html", "--seconds", "nan"], "seconds is nan"),
        ([model, "-o", tmp_path / "new.html", "--against", DEMO], "--against goes with a converted model"),
        ([page, "-o", tmp_path / "new.html"], "page.html: a text file: it holds no model"),
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
    def interrupt(*args, **options):
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
