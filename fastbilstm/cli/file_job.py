"""One run of `fastbilstm predict` over a file: in chunks, in bounded memory, to an output that is whole or absent.

Reads chunks (scoring/readers.py), scores them in threads or on Dask (scoring/loop.py) and writes them in order
(scoring/writers.py), under a temporary name (scoring/resumable_file.py). An interrupted run leaves that file for
--resume.
"""

import contextlib
import functools
import json
import sys

from .. import safe_files
from .._version import __version__
from ..errors import FastBiLSTMError, InputError
from ..scoring.line_files import STANDARD
from .progress import Progress

# How many bad rows are reported one by one.
_SHOWN = 10


class FileJob:
    """One run over one input.

    `args`: the options of the command; `sources`: those of scoring/sources.py; `files`: all files that the run reads.
    """

    def __init__(self, args, output_format, packing, predictor, sources, files):
        from ..scoring.loop import FileScores  # saves time where it is not needed
        from ..scoring.writers import LINES

        self.args, self.packing, self.predictor, self.files = args, packing, predictor, files
        self.paths = [source.path for source in sources]
        self.standard, self.label = self.paths == [STANDARD], " ".join(args.input)
        # The files that are read must be those that the journal names.
        self.known = {path: safe_files.identity(path) for path in files}
        self.scores = FileScores(predictor, sources, args.input_format, args.delimiter, args.encoding)
        self.reader, self.stateful = self.scores.reader, predictor.model._plan.stateful
        as_input = self.reader.format if self.reader.format in LINES else "csv"
        self.output_format = found = output_format or as_input
        if args.escape_formulas and found not in ("csv", "tsv"):
            raise InputError(f"--escape-formulas is for .csv and .tsv; no spreadsheet computes texts of .{found}")
        if self.stateful and (args.resume or args.dask):
            raise InputError(
                f"layer {self.stateful[0].name!r} is stateful: its answers depend on all rows before; no --resume, no "
                "--dask"
            )

    def identity(self):
        """Everything that the bytes of the output depend on, in words."""
        from ..engine.backends import vector_problem  # saves time where it is not needed
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
        }
        for number, path in enumerate(self.paths):
            name = "input" if len(self.paths) == 1 else f"input {number + 1} ({path})"
            found[name] = path if self.standard else file_identity(path)
        if args.config in self.known:
            found["file of --config"] = file_identity(args.config, content=True)
        options = ("columns", "text_column", "output_column", "delimiter", "pad", "maxlen", "truncating", "on_error")
        options += ("batch_size", "dtype", "backend", "input_format", "errors", "outputs", "escape_formulas")
        options += ("any_length", "inference", "raw", "plugin", "encoding", "source_column", "empty")
        for name in options:
            found[f"option --{name.replace('_', '-')}"] = str(getattr(args, name))
        for path, known in self.known.items():
            if not safe_files.is_still(path, known):
                raise InputError(f"{path}: was changed or replaced while it was read; begin anew")
        return {**found, "format of the output": self.output_format}

    def run(self):
        from ..scoring.resumable_file import PrefixDigest  # saves time where it is not needed

        if self.standard:
            return self._run(None)
        with contextlib.closing(PrefixDigest(*self.paths)) as read:
            return self._run(read)

    def _writer(self):
        from ..scoring.writers import make_writer  # saves time where it is not needed

        args = self.args
        delimiter = args.delimiter or (self.reader.delimiter if self.reader.format == "csv" else ",")
        options = {"delimiter": delimiter, "escape_formulas": args.escape_formulas, "packing": self.packing}
        return make_writer(self.output_format, self.predictor, args.output, self.reader.keeps, **options)

    def _output(self, parts):
        """A Partial, or what stands for it where the answers go to standard output."""
        from ..scoring.resumable_file import Partial  # saves time where it is not needed
        from ..scoring.standard_output import StandardOutput

        args = self.args
        if args.output == STANDARD:
            return StandardOutput(args.errors)
        others = {} if args.errors is None else {parts: args.errors}
        flags = {"resume": args.resume, "overwrite": args.overwrite, "sources": self.files}
        return Partial(args.output, self.identity(), parts + len(others), others, **flags)

    def _run(self, read):
        """`read`: the PrefixDigest of the input, None for standard input."""
        args = self.args
        if self.reader.note:
            self._tell(f"{self.label}: {self.reader.note}")
        writer = self._writer()
        self.rows, self.empty, self.bad = 0, 0, {"count": 0, "first": []}
        partial = self._output(writer.parts)
        if partial.done is not None:
            keys = ("rows", "empty", "bad", "writer")
            self.rows, self.empty, self.bad, writer.state = (partial.done[key] for key in keys)
            if partial.finished:
                self._tell(f"all {self.rows:,} rows were done; {args.output} is complete")
                self._tell_bad()
                return 0
            self._check_read(partial, read)
            self._tell(f"going on after {self.rows:,} rows")
        progress = Progress(self.reader, self.rows, args.quiet)
        try:
            # Memory stays bounded: each chunk is written before the next result is read.
            for chunk in self.scores.results(self.rows, args.threads, self._cluster()):
                pieces = writer.encode(chunk)
                partial.append(pieces if args.errors is None else [*pieces, self._errors(chunk)])
                self._note(chunk)
                state = {"rows": self.rows, "empty": self.empty, "bad": self.bad, "writer": writer.state}
                partial.checkpoint({**state, "read": None if read is None else [chunk.read, read.of(chunk.read)]})
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
            keep = isinstance(error.__cause__, OSError) and partial.last and not self.standard
            partial.close() if keep else partial.discard()
            if isinstance(error, InputError) and not any(path in str(error) for path in self.paths):
                raise InputError(f"{self.label}: {error}") from error
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
        self.empty += len(chunk.empty)
        self.bad["count"] += len(chunk.bad)
        for row in sorted(chunk.bad)[: max(0, _SHOWN - len(self.bad["first"]))]:
            self.bad["first"].append(f"{chunk.place(row)}: {chunk.bad[row]}")

    def _errors(self, chunk):
        lines = []
        for row in sorted(chunk.bad):
            line = {"line": chunk.lines[row]} if chunk.lines else {}
            place = {"file": chunk.file} if chunk.file else {}
            place |= {"row": chunk.first + row, **line}
            lines.append(json.dumps({**place, "reason": chunk.bad[row]}) + "\n")
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
                    f"{self.label}: --resume: its first {size:,} bytes are others than the interrupted run read; "
                    "start anew with --overwrite"
                )
        except BaseException:
            partial.close()
            raise

    def _keep_rows(self, partial):
        """Keep the rows done for --resume; False if there are none, or if they cannot be resumed."""
        if not self.rows or self.stateful or not partial.can_resume or self.standard:
            partial.discard()
            return False
        partial.sync()
        partial.close()
        return True

    def _out_of_memory(self, partial, error):
        text = f"{self.label}: the memory did not suffice after {self.rows:,} rows; fewer --threads need less"
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
        if self.empty and self.args.empty != "error":
            what = "they have no answer" if self.args.empty == "null" else "they were scored as any other (--empty)"
            self._tell(f"{self.empty:,} of {self.rows:,} texts are empty; {what}")
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
