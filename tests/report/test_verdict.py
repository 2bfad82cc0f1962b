"""The verdict of `fastbilstm report`: one sentence on the answers, one on times, one where the machine was busy."""

import pytest
from paths import DEMO
from report_pages import made

import fastbilstm
from fastbilstm.report import measure, verdict
from fastbilstm.report.agreement import BY_VERSION, LIVE, OUT, RECORDED, WITHIN, Agreement, Outcome
from fastbilstm.report.report_file import Report
from fastbilstm.tolerances import Comparison

SPEED = measure.Speed(
    100,
    tuple(measure.Timing(n, batch, 100, 1e-3 * batch / n, 0, 0, 9) for batch in (1, 2, 32) for n in (1, 2)),
    (),
    (),
    (),
)


def agreement(reference, word=WITHIN):
    comparison = Comparison(word != OUT, 1e-7, 2.5e-7, (0, 0), "")
    outcomes = (Outcome("dense", comparison, word), Outcome("other", comparison, WITHIN))
    return Agreement(reference, 64, word != OUT, outcomes, (), (), 0, 0, 2.5e-7, 0.0)


@pytest.mark.parametrize(
    "agreements, words",
    [
        ([agreement("keras 3.15.1" + LIVE)], "The answers are right: on 64 rows, the largest difference is 2.50e-07"),
        ([agreement("keras 3.15.1" + LIVE, BY_VERSION)], "keras 3.15.1 computes something else"),
        ([agreement(RECORDED), agreement("fastbilstm's specification")], "those recorded at conversion: on 64 rows"),
        ([agreement("fastbilstm's specification")], "those of fastbilstm's own definition of the layers"),
        ([agreement("ours"), agreement("keras 3.15.1" + LIVE, OUT)], "The answers are WRONG: output 'dense' differs"),
        ([], "Nothing is known of the answers"),
    ],
)
def test_sentences(agreements, words):
    ok = all(one.ok for one in agreements)
    report = Report(ok, tuple(agreements), (), SPEED, "page.html", measure.Load(0.2, 2.5, 2))
    first, times = verdict.sentences(report)
    assert words in first and ("WRONG" in first) == (not ok) and report.verdict == f"{first} {times}"
    assert times == "On 2 threads, fastbilstm computes one row in 0.500 ms and 32 rows in 16.0 ms of 100 timesteps."


def test_a_busy_machine_is_told():
    report = Report(True, (), (), SPEED, "page.html", measure.Load(1.3, 2.5, 2))
    assert "before the timings 1.3 programs wanted a core, and there are 2" in report.verdict
    assert "busy" not in report._replace(load=None).verdict


def test_the_page_begins_with_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "load_now", lambda: 0.25)
    fastbilstm.convert(DEMO, tmp_path / "model.fbl")
    page, found = made(tmp_path / "model.fbl", tmp_path / "page.html", seconds=0.2)
    text = "".join(page.words)
    assert found.verdict.startswith("The answers are those recorded at conversion: on 3 rows")
    assert all(sentence in text for sentence in verdict.sentences(found))
    assert f"0.25 before, 0.25 after the timings, {found.load.cores} cores" in text
