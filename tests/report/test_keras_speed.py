"""Times of the installed Keras in the page of `fastbilstm report`: in a process of its own, or why there are none."""

import sys

import pytest
from paths import DEMO
from report_pages import made

import fastbilstm
from fastbilstm.keras.installed_keras import KerasUnavailable
from fastbilstm.report import keras_speed, report_file


def test_keras_is_timed_beside_us(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    monkeypatch.setattr(keras_speed, "LEAST_SECONDS", 0.0)
    page, found = made(DEMO, tmp_path / "page.html", seconds=0.5)
    assert found.ok and not any("not timed: " in line and "Keras" in line for line in found.missing)
    assert found.keras.title.startswith("keras 3") and [t.batch for t in found.keras.batches] == [1, 32]
    # Keras takes milliseconds for a call, whatever the machine.
    assert all(1e-4 < t.low <= t.seconds <= t.high and t.calls >= 1 for t in found.keras.batches)
    text = "".join(page.words)
    assert "Beside Keras" in text and f"{found.keras.title}, ms" in text
    assert f"; {found.keras.title} one row in " in found.verdict


def test_why_keras_is_not_timed(tmp_path, monkeypatch):
    model = fastbilstm.load(DEMO)
    with pytest.raises(KerasUnavailable, match=r"4 s \(--seconds\) are too short to start it, 5 are not"):
        keras_speed.keras_speed(model, None, None, 4.0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(KerasUnavailable, match="its process did not end"):
        keras_speed.keras_speed(model, None, None, 5.0)


def test_a_process_that_fails_is_a_line_on_the_page(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow", reason="needs TensorFlow")
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'no memory, see http://example.org/x' >&2\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setattr(keras_speed, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(keras_speed.sys, "executable", str(failing))
    page, found = made(DEMO, tmp_path / "page.html", seconds=0.2)
    assert found.keras is None and found.ok
    assert "Keras was not timed: its process failed: no memory, see (address left out)" in found.missing
    assert "Keras was not timed" in "".join(page.words) and report_file.SECONDS > keras_speed.SHARE
