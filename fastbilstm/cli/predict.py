"""The command `fastbilstm predict`: files of rows or texts in, a file of answers out, in bounded memory.

Reads chunks (scoring/readers.py), scores them in threads or on Dask (scoring/loop.py) and writes them in order
(scoring/writers.py), under a temporary name (scoring/resumable_file.py). An interrupted run leaves that file for
--resume.
"""

import contextlib
import functools
import json
import os
import sys
import time

import numpy as np

from .. import safe_files
from .._version import __version__
from ..checks import check_not_read, is_same_file
from ..errors import FastBiLSTMError, InputError
from . import as_json

# How many bad rows are reported one by one.
_SHOWN = 10
_FORMATS_IN = ("npy", "npz", "csv", "jsonl", "txt", "parquet")
_FORMATS_OUT = ("npy", "npz", "csv", "jsonl", "parquet")


def add_options(parser):
    """Add the options of `predict`, except those of the model and the engine."""
    parser.add_argument(
        "input", nargs="?", help=".npy, .npz keyed by input name, .csv, .jsonl, .txt (a row a line) or .parquet"
    )
    add = parser.add_argument_group("texts and columns").add_argument
    add(
        "--text",
        action="append",
        metavar="TEXT",
        help="score this text and print the answer, the columns of a file separated by tabs; may be repeated",
    )
    add("--text-column", metavar="COLUMN", help="the column that holds raw text")
    add(
        "--columns",
        action="append",
        metavar="[INPUT=]COLUMN[,COLUMN]",
        help="the column that holds the sequences ('1 2 3' or a JSON list), or columns of one number each (patterns "
        "with * are allowed); repeat with INPUT= for several inputs (default: the columns named as the inputs)",
    )
    add("--delimiter", default=",", metavar="CHAR", help="between the fields of .csv (default: a comma)")
    add("--input-format", choices=_FORMATS_IN, help="default: from the content and the suffix")
    add = parser.add_argument_group("sequences").add_argument
    add("--pad", choices=("pre", "post"), help="pad sequences at this end, as pad_sequences does; see --maxlen")
    add("--maxlen", type=int, metavar="N", help="timesteps that sequences are padded and cut to")
    add("--truncating", choices=("pre", "post"), default="pre", help="where longer sequences are cut (%(default)s)")
    add = parser.add_argument_group("answers").add_argument
    add("-o", "--output", help=".npy, .npz keyed by output name, .csv, .jsonl or .parquet")
    add(
        "--output-column",
        metavar="COLUMN",
        default="prediction",
        help="the column of the answers (%(default)s); a model with labels gives the label in it and its probability "
        "in COLUMN_probability",
    )
    add("--raw", action="store_true", help="of a model with labels, give the output itself, too, in COLUMN_raw")
    add(
        "--tags",
        action="store_true",
        help="with --text: print a line for each token, the token, its tag and its probability, and an empty line "
        "after each text",
    )
    add("--output-format", choices=_FORMATS_OUT, help="default: from the suffix")
    add(
        "--escape-formulas",
        action="store_true",
        help="in .csv: an apostrophe before texts that begin with = + - @ TAB or CR and are no numbers; a spreadsheet "
        "would run them as formulas, which may send its content away. For files with texts of others that somebody "
        "opens in a spreadsheet; the texts are then no longer those of the input",
    )
    add = parser.add_argument_group("rows that cannot be scored").add_argument
    add(
        "--on-error",
        choices=("stop", "skip", "null"),
        default="stop",
        help="a row that cannot be read or scored: stop and write nothing (default), leave the row out, or leave its "
        "answer empty (NaN in arrays)",
    )
    add("--errors", metavar="FILE", help="with --on-error skip or null: write the bad rows to FILE, as .jsonl")
    add = parser.add_argument_group("the run").add_argument
    add("--resume", action="store_true", help="go on where an interrupted run with the same input and options ended")
    add("--overwrite", action="store_true", help="replace the output if it exists, and what an interrupted run left")
    add("--batch-size", type=int, help="rows computed at once (default: 32)")
    add("--dask", metavar="ADDRESS", help="compute on the workers of this Dask scheduler (tcp://host:port)")
    add("--quiet", action="store_true", help="no progress line (there is one on a terminal only)")


def run_predict(args, outputs):
    """Run the command. `outputs`: the layers at which the graph is cut."""
    if args.text is not None:
        return _predict_texts(args, outputs)
    if args.json:
        raise InputError("--json goes with --text; for a file write .jsonl")
    if args.tags:
        raise InputError("--tags goes with --text; in files the tags are in the column of the answers")
    if args.input is None or args.output is None:
        raise InputError("predict needs an input file and -o OUTPUT, or --text TEXT")
    output_format = _output_format(args)
    if args.errors is not None and args.on_error == "stop":
        raise InputError("--errors lists rows that are left out or empty: give --on-error skip or null")
    _check_paths(args)
    return _Job(args, outputs, output_format).run()


def _output_format(args):
    from ..scoring.readers import SUFFIXES  # saves time where it is not needed
    from ..scoring.writers import FORMATS

    suffix = os.path.splitext(args.output)[1].lower()
    found = args.output_format or SUFFIXES.get(suffix)
    if found not in FORMATS:
        raise InputError(
            f"{args.output}: the suffix {suffix!r} tells no format of an output; use .npy, .npz, .csv, .jsonl or "
            ".parquet, or --output-format"
        )
    if args.escape_formulas and found != "csv":
        raise InputError(f"--escape-formulas is for .csv; no spreadsheet computes texts of .{found}")
    if len(args.delimiter) != 1:
        raise InputError(f"--delimiter is {args.delimiter!r}; expected one character")
    return found


def _check_paths(args):
    for path in filter(None, (args.output, args.errors)):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise InputError(f"{path}: the folder {folder} does not exist")
        check_not_read(path, _files_read(args))
    if args.errors is not None:
        if is_same_file(args.errors, args.output):
            raise InputError(f"--errors {args.errors}: is the output; write the bad rows to another file")
        if os.path.lexists(args.errors) and not (args.overwrite or args.resume):
            raise InputError(f"{args.errors}: exists already; allow it with --overwrite or choose another")


def _files_read(args):
    return [path for path in (args.input, args.model, args.config) if path is not None and os.path.isfile(path)]


def _columns(args):
    """The value of --columns in the form that BatchPredictor takes."""
    if args.columns is None:
        return None
    named = [entry.partition("=") for entry in args.columns]
    split = [[name for name in (value if equals else key).split(",") if name] for key, equals, value in named]
    if not any(equals for _, equals, _ in named):
        return [name for names in split for name in names]
    if not all(equals for _, equals, _ in named):
        raise InputError(f"--columns {' '.join(args.columns)}: give INPUT= for each of them or for none")
    return {key: names for (key, _, _), names in zip(named, split)}


def _predictor(args, outputs, columns, text):
    from ..clusters.batch_predictor import BatchPredictor  # saves time where it is not needed

    padding = {"pad": args.pad, "maxlen": args.maxlen, "truncating": args.truncating}
    predictor = BatchPredictor(
        args.model,
        columns=columns,
        text=text,
        output=args.output_column,
        batch_size=args.batch_size,
        n_threads=args.threads,
        on_error=args.on_error,
        **padding,
        config=args.config,
        outputs=outputs,
        any_length=args.any_length,
        inference=args.inference,
        dtype=args.dtype,
        backend=args.backend,
        raw=args.raw,
        plugins=args.plugin or (),
    )
    predictor.in_order = args.dask is None
    return predictor


def _predict_texts(args, outputs):
    """--text: print a line for each text: the label and its probability, or else the numbers."""
    given = {"an input": args.input, "-o": args.output, "--columns": args.columns, "--dask": args.dask}
    if wrong := [name for name, value in given.items() if value is not None]:
        raise InputError(f"--text prints answers and takes no file: leave out {', '.join(wrong)}")
    predictor = _predictor(args, outputs, None, "text")
    if args.tags:
        return _print_tags(predictor.model, args.text)
    if args.json:
        model = predictor.model
        answers = {} if model.labels is not None else predictor({"text": args.text})
        answers.pop("text", None)
        as_json.printed(as_json.of_texts(model, args.text, answers))
        return 0
    found = predictor({"text": args.text})
    for row in range(len(found["text"])):
        values = [np.asarray(found[name][row]) for name in predictor.output_columns]
        print("\t".join(str(v) if v.ndim == 0 else json.dumps(v.tolist()) for v in values))
    return 0


def _print_tags(model, texts):
    from ..preprocessing.labels import is_tagger  # saves time where it is not needed

    if model.labels is None or not is_tagger(model.outputs[0]):
        raise InputError(f"--tags: model {model.name!r} has no labels for timesteps")
    for row in model.classify(texts):
        for token, tag, score in zip(row["tokens"], row["tags"], row["scores"]):
            print(token, tag or "", "" if score is None else f"{score:.6g}", sep="\t")
        print()
    return 0


class _Job:
    """One run over one input."""

    def __init__(self, args, outputs, output_format):
        from ..scoring.loop import FileScores  # saves time where it is not needed
        from ..scoring.writers import ARRAYS

        self.args, self.output_format = args, output_format
        args.raw |= output_format in ARRAYS
        # The files that are read must be those that the journal names.
        self.known = {path: safe_files.identity(path) for path in _files_read(args)}
        self.predictor = _predictor(args, outputs, _columns(args), args.text_column)
        self.scores = FileScores(self.predictor, args.input, args.input_format, args.delimiter)
        self.reader, self.stateful = self.scores.reader, self.predictor.model._plan.stateful
        if self.stateful and (args.resume or args.dask):
            raise InputError(
                f"layer {self.stateful[0].name!r} is stateful: its answers depend on all rows before; no --resume, no "
                "--dask"
            )

    def identity(self):
        """Everything that the bytes of the output depend on, in words."""
        from ..engine.plan import vector_problem  # saves time where it is not needed
        from ..scoring.resumable_file import file_identity

        isa = "none"
        if vector_problem() is None:
            from .. import _kernels  # not every build has it

            isa = str(_kernels.isa())
        args = self.args
        found = {
            "version of fastbilstm": __version__,
            "instruction set": isa,
            "model": file_identity(args.model, content=True),
            "input": file_identity(args.input),
        }
        if args.config in self.known:
            found["file of --config"] = file_identity(args.config, content=True)
        options = ("columns", "text_column", "output_column", "delimiter", "pad", "maxlen", "truncating", "on_error")
        options += ("batch_size", "dtype", "backend", "input_format", "errors", "outputs", "escape_formulas")
        options += ("any_length", "inference", "raw", "plugin")
        for name in options:
            found[f"option --{name.replace('_', '-')}"] = str(getattr(args, name))
        for path, known in self.known.items():
            if not safe_files.is_still(path, known):
                raise InputError(f"{path}: was changed or replaced while it was read; begin anew")
        return {**found, "format of the output": self.output_format}

    def run(self):
        from ..scoring.resumable_file import PrefixDigest  # saves time where it is not needed

        with contextlib.closing(PrefixDigest(self.args.input)) as read:
            return self._run(read)

    def _run(self, read):
        """`read`: the PrefixDigest of the input."""
        from ..scoring.resumable_file import Partial  # saves time where it is not needed
        from ..scoring.writers import make_writer

        args = self.args
        options = {"delimiter": args.delimiter, "escape_formulas": args.escape_formulas}
        writer = make_writer(self.output_format, self.predictor, args.output, self.reader.keeps, **options)
        others = {} if args.errors is None else {writer.parts: args.errors}
        flags = {"resume": args.resume, "overwrite": args.overwrite, "sources": _files_read(args)}
        self.rows, self.bad = 0, {"count": 0, "first": []}
        partial = Partial(args.output, self.identity(), writer.parts + len(others), others, **flags)
        if partial.done is not None:
            self.rows, self.bad, writer.state = (partial.done[key] for key in ("rows", "bad", "writer"))
            if partial.finished:
                self._tell(f"all {self.rows:,} rows were done; {args.output} is complete")
                self._tell_bad()
                return 0
            self._check_read(partial, read)
            self._tell(f"going on after {self.rows:,} rows")
        progress = _Progress(self.reader, self.rows, args.quiet)
        try:
            # Memory stays bounded: each chunk is written before the next result is read.
            for chunk in self.scores.results(self.rows, args.threads, self._cluster()):
                pieces = writer.encode(chunk)
                partial.append(pieces if args.errors is None else [*pieces, self._errors(chunk)])
                self._note(chunk)
                state = {"rows": self.rows, "bad": self.bad, "writer": writer.state}
                partial.checkpoint({**state, "read": [chunk.read, read.of(chunk.read)]})
                progress.update(self.rows)
            if self.rows and self.bad["count"] == self.rows:
                raise InputError(f"none of the {self.rows:,} rows has an answer; {self.bad['first'][0]}")
            partial.finish(writer.assemble)
        except KeyboardInterrupt:
            progress.end()
            return self._interrupted(partial)
        except MemoryError as error:
            progress.end()
            self._out_of_memory(partial, error)
        except FastBiLSTMError as error:
            progress.end()
            # The rows done can be resumed after a full disk, not after a bad row.
            keep = isinstance(error.__cause__, OSError) and partial.last
            partial.close() if keep else partial.discard()
            if isinstance(error, InputError) and args.input not in str(error):
                raise InputError(f"{args.input}: {error}") from error
            raise
        except BaseException:
            partial.discard()
            raise
        progress.end(self.rows)
        self._tell_bad()
        return 0

    def _cluster(self):
        """What scores chunks on the workers of --dask, or None."""
        if self.args.dask is None:
            return None
        from ..clusters.dask_chunks import predict_chunks  # Dask is an optional package

        return functools.partial(predict_chunks, address=self.args.dask)

    def _note(self, chunk):
        self.rows = chunk.start + chunk.rows
        self.bad["count"] += len(chunk.bad)
        for row in sorted(chunk.bad)[: max(0, _SHOWN - len(self.bad["first"]))]:
            self.bad["first"].append(f"{chunk.place(row)}: {chunk.bad[row]}")

    def _errors(self, chunk):
        lines = []
        for row in sorted(chunk.bad):
            line = {"line": chunk.lines[row]} if chunk.lines else {}
            lines.append(json.dumps({"row": chunk.start + row, **line, "reason": chunk.bad[row]}) + "\n")
        return "".join(lines).encode()

    def _tell(self, text):
        if not self.args.quiet:
            print(f"fastbilstm: {text}", file=sys.stderr)

    def _check_read(self, partial, read):
        """Refuse to resume if the input no longer has the rows that the interrupted run read."""
        size, expected = partial.done["read"]
        try:
            if read.of(size) != expected:
                raise InputError(
                    f"{self.args.input}: --resume: its first {size:,} bytes are others than the interrupted run read; "
                    "start anew with --overwrite"
                )
        except BaseException:
            partial.close()
            raise

    def _keep_rows(self, partial):
        """Keep the rows done for --resume; False if there are none, or if they cannot be resumed."""
        if not self.rows or self.stateful:
            partial.discard()
            return False
        partial.sync()
        partial.close()
        return True

    def _out_of_memory(self, partial, error):
        text = f"{self.args.input}: the memory did not suffice after {self.rows:,} rows; fewer --threads need less"
        if self._keep_rows(partial):
            text += f"; the rows done are in {partial.paths[0]}: go on with --resume, or delete it"
        raise FastBiLSTMError(text) from error

    def _interrupted(self, partial):
        if not self._keep_rows(partial):
            raise KeyboardInterrupt
        print(
            f"fastbilstm: interrupted after {self.rows:,} rows, which are in {partial.paths[0]}; go on with --resume",
            file=sys.stderr,
        )
        return 130

    def _tell_bad(self):
        count = self.bad["count"]
        if not count:
            return
        what = "were left out" if self.args.on_error == "skip" else "have no answer"
        print(f"fastbilstm: {count:,} of {self.rows:,} rows {what}:", file=sys.stderr)
        for line in self.bad["first"]:
            print(f"  {line}", file=sys.stderr)
        if count > _SHOWN:
            more = "" if self.args.errors else " (--errors FILE lists all)"
            print(f"  and {count - _SHOWN:,} more{more}", file=sys.stderr)


class _Progress:
    """Shows rows, rate and time left; only on a terminal."""

    def __init__(self, reader, rows, quiet):
        self.reader, self.before, self.begun, self.shown = reader, rows, time.monotonic(), 0.0
        self.live = not quiet and sys.stderr.isatty()
        self.width = 0

    def update(self, rows):
        now = time.monotonic()
        if not self.live or now - self.shown < 0.2:
            return
        self.shown, seconds = now, max(now - self.begun, 1e-9)
        rate, part = (rows - self.before) / seconds, self.reader.position()
        total = self.reader.total or (rows / part if part else rows)
        left = max(0.0, total - rows) / rate if rate else 0.0
        self._show(
            f"{rows:,} rows, {100 * min(1.0, rows / max(1, total)):.0f} %, {rate:,.0f} rows/s, {_time(left)} left"
        )

    def end(self, rows=None):
        if not self.live:
            return
        if rows is not None:
            seconds = max(time.monotonic() - self.begun, 1e-9)
            self._show(f"{rows:,} rows in {_time(seconds)}, {(rows - self.before) / seconds:,.0f} rows/s")
        if self.width:
            print(file=sys.stderr)

    def _show(self, text):
        print(f"\r{text:<{self.width}}", end="", file=sys.stderr, flush=True)
        self.width = len(text)


def _time(seconds):
    minutes, seconds = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:02.0f}" if hours else f"{minutes}:{seconds:04.1f}"
