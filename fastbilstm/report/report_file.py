"""`report`: measure a model and write one self-contained HTML page about it."""

from __future__ import annotations

import math
import os
import sys
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..checks import check_not_read
from ..converted.fbl_file import write_file
from ..converted.narrow_error import measure
from ..engine.threads import cores
from ..errors import FastBiLSTMError
from ..keras.installed_keras import KerasUnavailable, TrustedFile
from ..loading import is_converted, load
from . import agreement as report_agreement
from . import measure as report_measure
from .keras_speed import KerasSpeed, keras_speed
from .page import page
from .verdict import sentences
from .verify import as_list

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

SECONDS = 20.0


class Report(NamedTuple):
    """What a page says. A notebook shows the page itself, as long as its file is there.

    Attributes
    ----------
    ok : bool
        Whether no comparison is out of tolerance.
    agreements : tuple of Agreement
        The outputs against each reference.
    missing : tuple of str
        What could not be compared, and why.
    speed : Speed
        All timings.
    path : str
        The file of the page.
    load : Load or None
        How busy the machine was; None where the system does not tell.
    keras : KerasSpeed or None
        Times of Keras, where it is installed and was compared with.
    """

    ok: bool
    agreements: tuple[report_agreement.Agreement, ...]
    missing: tuple[str, ...]
    speed: report_measure.Speed
    path: str
    load: report_measure.Load | None = None
    keras: KerasSpeed | None = None

    def _repr_html_(self) -> str | None:
        """The page in a frame where no script could run; None, which means `repr`, if its file is gone."""
        try:
            with open(self.path, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return None
        return f'<iframe sandbox srcdoc="{escape(text)}" style="width:100%;height:40em;border:0"></iframe>'

    @property
    def verdict(self) -> str:
        """What the page says at its top: whether the answers are right, and how long they take."""
        return " ".join(sentences(self))


def report(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    config: dict[str, Any] | str | os.PathLike[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    trust: bool = False,
    dtype: Literal["float32", "float64"] | None = None,
    backend: Literal["auto", "vector", "blas", "numpy"] = "auto",
    n_threads: int | None = None,
    weights: Literal["float32", "bfloat16", "float16", "int8"] | None = None,
    overwrite: bool = False,
    seconds: float = SECONDS,
    inference: bool = False,
    tell: Callable[[str], Any] = lambda text: None,
) -> Report:
    """Measure a model and write one self-contained HTML page about it.

    The page holds the graph, the table of layers, the agreement with Keras (where it is installed and there is a Keras
    file), with the recorded vector of a converted file and with the specification in float64, time against batch and
    length beside that of Keras, the share of each layer in it, and the size.

    Parameters
    ----------
    path : str or PathLike
        A converted or a Keras file.
    target : str or PathLike
        The page; written under a temporary name and renamed.
    against : str or PathLike, optional
        For a converted file: the Keras file it came from.
    config, outputs, dtype, backend, n_threads, weights, inference
        See `fastbilstm.load`; with `against`, config, outputs and inference belong to the Keras file.
    trust : bool
        Hand the Keras file itself to Keras, instead of a model built from the layers and weights read from it. This
        runs code from the file, a Lambda's for one, even behind `outputs`: for files that you trust.
    overwrite : bool
        Whether an existing `target` is replaced.
    seconds : float
        For our timings together; Keras gets a third of it, from 5 s on, and the time it needs to start.
    tell : function
        Called with what is being done, one short text after another.

    Returns
    -------
    Report
        The numbers on the page.

    Raises
    ------
    FileFormatError, UnsupportedLayerError, MissingExtraError
        See `fastbilstm.load`; FileFormatError also if `target` exists and `overwrite` is false.
    FastBiLSTMError
        If `target` is one of the files read, `seconds` is no positive number, or `against` is another model.
    """
    path, target = os.fspath(path), os.fspath(target)
    against = None if against is None else os.fspath(against)
    outputs = as_list(outputs)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise FastBiLSTMError(f"seconds is {seconds!r}; expected a number above 0")
    _check_target(target, overwrite, [path, against, config])
    tell("reading the model")
    of_keras: dict[str, Any] = {"config": config, "outputs": outputs, "inference": inference}
    options: dict[str, Any] = {} if against else of_keras
    model = load(path, dtype=dtype, backend=backend, n_threads=n_threads, weights=weights, **options)
    converted = is_converted(path)
    source = None if converted else model if model.weights == "float32" else load(path, **of_keras)
    if against is not None:
        source = report_agreement.check_against(against, model, path, converted, **of_keras)
    if source is not None and model.weights != "float32" and not model.measured:
        model.measured = measure(model, source)
    before = report_measure.load_now()
    speed = report_measure.speed(model, seconds, tell)
    after = report_measure.load_now()
    load_found = None if before is None or after is None else report_measure.Load(before, after, cores())
    tell("comparing with the references")
    trusted = TrustedFile(against or path, config, outputs) if trust else None
    compared, missing = report_agreement.agreements(model, source, trusted)
    theirs = None
    if source is not None and any(one.reference.endswith(report_agreement.LIVE) for one in compared):
        tell("timing Keras")
        try:
            theirs = keras_speed(source, trusted, speed.length, seconds)
        except KerasUnavailable as reason:
            missing.append(f"Keras was not timed: {report_agreement.without_addresses(str(reason))}")
    ok, page_path = all(one.ok for one in compared), os.path.abspath(target)
    found = Report(ok, tuple(compared), tuple(missing), speed, page_path, load_found, theirs)
    engine = (dtype, backend, n_threads, weights)
    command = _command(path, target, against, config, outputs, trust, engine, seconds, inference)
    text = page(model, path, found, command)
    # Messages of Keras and the system may contain folders of this machine.
    for name in filter(None, (path, against, config)):
        if isinstance(name, (str, os.PathLike)):
            name = os.fspath(name)
            for full in (os.path.abspath(name), name):
                if os.path.dirname(full):
                    text = text.replace(escape(full), escape(os.path.basename(full)))
    write_file(target, text.encode("utf-8", "replace"), overwrite)
    return found


def _check_target(target: str, overwrite: bool, sources: Iterable[Any]) -> None:
    """Refuse a target before anything is measured, by the conditions that hold when it is written."""
    folder = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(folder):
        raise FastBiLSTMError(f"{target}: the folder {folder} does not exist")
    if os.path.isdir(target):
        raise FastBiLSTMError(f"{target}: is a folder; give the name of a file")
    check_not_read(target, sources)
    if os.path.exists(target) and not overwrite:
        raise FastBiLSTMError(f"{target}: exists already; allow it with overwrite=True (--overwrite) or choose another")


def _command(
    path: str,
    target: str,
    against: str | None,
    config: Any,
    outputs: Sequence[str] | None,
    trust: bool,
    engine: tuple[str | None, str, int | None, str | None],
    seconds: float,
    inference: bool,
) -> str:
    """The command that makes this page, with the names of files alone."""
    dtype, backend, n_threads, weights = engine
    parts = ["fastbilstm report", os.path.basename(path), "-o", os.path.basename(target)]
    given = {
        "--against": against and os.path.basename(against),
        "--config": config and (os.path.basename(config) if isinstance(config, (str, os.PathLike)) else "..."),
        "--outputs": outputs and ",".join(outputs),
        "--trust": trust,
        "--dtype": dtype,
        "--backend": None if backend == "auto" else backend,
        "--threads": n_threads,
        "--weights": weights,
        "--inference": inference,
        "--seconds": None if seconds == SECONDS else f"{seconds:g}",
    }
    return " ".join([*parts, *(name if value is True else f"{name} {value}" for name, value in given.items() if value)])


# ---- the command ----------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace, outputs: list[str] | None, quiet: bool = False) -> Report:
    """`fastbilstm report`: writes the page and, unless `quiet`, prints what it says in a few lines."""
    live = not args.quiet and sys.stderr.isatty()

    def tell(text: str) -> None:
        if live:
            print(f"\r\x1b[K{text}", end=" " if text else "", file=sys.stderr, flush=True)

    names = ("against", "config", "trust", "dtype", "backend", "weights", "overwrite", "seconds", "inference")
    options = {name: getattr(args, name) for name in names}
    try:
        found = report(args.model, args.output, outputs=outputs, n_threads=args.threads, tell=tell, **options)
    finally:
        tell("")
    if quiet:
        return found
    for one in found.agreements:
        word = "ok" if one.ok else "MISMATCH"
        print(
            f"{word} against {one.reference}: largest error {one.largest:.3g} of the largest element, {one.rows} rows"
        )
    for line in found.missing:
        print(line)
    print(found.verdict)
    print(f"{args.output}: {os.path.getsize(args.output) / 1e3:.0f} kB")
    return found
