"""The verdict of `fastbilstm report` in sentences: are the answers right, how long do they take, was the machine quiet?

Imports nothing but the words of agreement.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .agreement import ALLOWED, BY_VERSION, LIVE, OUT, RECORDED
from .figures import number

if TYPE_CHECKING:
    from .agreement import Agreement

# The share of the cores that other programs may use while times are measured.
BUSY = 0.5


def sentences(report: Any) -> list[str]:
    """The verdict of a Report: whether the answers are right, then times, then what stands against trust in them."""
    return [_answers(report.agreements), *_times(report), *_machine(report)]


def _answers(agreements: tuple[Agreement, ...]) -> str:
    if wrong := [one for one in agreements if not one.ok]:
        (one, *_) = wrong
        names = ", ".join(repr(outcome.name) for outcome in one.outputs if outcome.verdict == OUT)
        return (
            f"The answers are WRONG: output {names} differs from {one.reference}, by up to {number(one.largest)} of "
            "its largest element. Do not use this model with fastbilstm before the reason is known; see Agreement."
        )
    if not agreements:
        return "Nothing is known of the answers: they could not be compared with anything; see Agreement."
    live = next((one for one in agreements if one.reference.endswith(LIVE)), None)
    recorded = next((one for one in agreements if one.reference.startswith(RECORDED)), None)
    one = live or recorded or agreements[0]
    if any(outcome.verdict == BY_VERSION for outcome in one.outputs):
        return (
            f"The answers are those of the Keras that wrote the file. {one.reference.removesuffix(LIVE)} computes "
            "something else, because its version differs; see Agreement."
        )
    size = f"on {one.rows} rows, the largest difference is {number(one.largest)} of the largest element"
    if live is not None:
        word = next((outcome.verdict for outcome in one.outputs if ALLOWED in outcome.verdict), "right")
        return f"The answers are {word}: {size} of the answers of {one.reference.removesuffix(LIVE)}."
    what = (
        "those recorded at conversion" if recorded is not None else "those of fastbilstm's own definition of the layers"
    )
    return f"The answers are {what}: {size}. They were not compared with the installed Keras."


def _times(report: Any) -> list[str]:
    most = max((timing.threads for timing in report.speed.batches), default=1)
    ours = [timing for timing in report.speed.batches if timing.threads == most]
    chosen = _rows([timing for timing in ours if timing.batch in (ours[0].batch, 32)])
    if not chosen:
        return []
    length = f" of {report.speed.length} timesteps" if report.speed.length else ""
    text = f"On {most} thread{'s' * (most > 1)}, fastbilstm computes {chosen}{length}"
    return [f"{text}; {report.keras.title} {_rows(report.keras.batches)}." if report.keras else f"{text}."]


def _rows(timings: Any) -> str:
    """Times of some batches, in words."""
    words = {1: "one row"}
    found = [f"{words.get(t.batch, f'{t.batch} rows')} in {number(1e3 * t.seconds)} ms" for t in timings]
    return " and ".join(found)


def _machine(report: Any) -> list[str]:
    load = report.load
    if load is None or load.before <= BUSY * load.cores:
        return []
    return [
        f"The machine was busy: before the timings {load.before:.1f} programs wanted a core, and there are "
        f"{load.cores}, so the times may be too long. Measure again on a quiet machine."
    ]
