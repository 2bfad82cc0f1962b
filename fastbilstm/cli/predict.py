"""The command `fastbilstm predict`: files of rows or texts in, a file of answers out, in bounded memory.

The options and their checks, and --text; file_job.py runs the files. Imports NumPy, and scoring where it is needed.
"""

import json
import os

import numpy as np

from ..checks import check_not_read, is_same_file
from ..errors import InputError
from . import as_json

_FORMATS_IN = ("npy", "npz", "csv", "tsv", "jsonl", "txt", "parquet")
_FORMATS_OUT = ("npy", "npz", "csv", "tsv", "jsonl", "parquet")


def add_options(parser):
    """Add the options of `predict`, except those of the model and the engine."""
    parser.add_argument(
        "input",
        nargs="*",
        help=".npy, .npz keyed by input name, .csv, .tsv, .jsonl, .txt (a row a line) or .parquet; lines may be packed "
        "(.csv.gz, .csv.zst) and come from standard input (-). Several files, a pattern in quotes (part-*.csv, sorted "
        "by name) or a folder of .parquet files are read as one",
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
    add(
        "--source-column",
        metavar="COLUMN",
        help="the column that gets the name of the file of each row (default: source, where several files or a pattern "
        "are given; '' for none)",
    )
    add(
        "--delimiter",
        metavar="CHAR",
        help="between the fields of .csv (default: a comma, or what the header has instead: a semicolon, a tab or |; "
        "the output has that of the input)",
    )
    add(
        "--encoding",
        default="utf-8",
        metavar="NAME",
        help="of .csv, .tsv, .jsonl and .txt (%(default)s); such as cp1252",
    )
    add(
        "--input-format",
        choices=_FORMATS_IN,
        help="default: from the content and the suffix; of standard input jsonl if it begins with { or [, else csv",
    )
    add = parser.add_argument_group("sequences").add_argument
    add("--pad", choices=("pre", "post"), help="pad sequences at this end, as pad_sequences does; see --maxlen")
    add("--maxlen", type=int, metavar="N", help="timesteps that sequences are padded and cut to")
    add("--truncating", choices=("pre", "post"), default="pre", help="where longer sequences are cut (%(default)s)")
    add = parser.add_argument_group("answers").add_argument
    add(
        "-o",
        "--output",
        help=".npy, .npz keyed by output name, .csv, .tsv, .jsonl or .parquet; lines may be packed (.csv.gz, .csv.zst) "
        "and go to standard output (-)",
    )
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
    add("--output-format", choices=_FORMATS_OUT, help="default: from the suffix; of standard output as the input")
    add(
        "--escape-formulas",
        action="store_true",
        help="in .csv and .tsv: an apostrophe before texts that begin with = + - @ TAB or CR and are no numbers; a "
        "spreadsheet would run them as formulas, which may send its content away. For files with texts of others that "
        "somebody opens in a spreadsheet; the texts are then no longer those of the input",
    )
    add = parser.add_argument_group("rows that cannot be scored").add_argument
    add(
        "--on-error",
        choices=("stop", "skip", "null"),
        default="stop",
        help="a row that cannot be read or scored: stop and write nothing (default), leave the row out, or leave its "
        "answer empty (NaN in arrays)",
    )
    add(
        "--empty",
        choices=("score", "null", "error"),
        help="an empty text: score it as any other (default), leave its answer empty, or treat it as a row that cannot "
        "be scored (--on-error); the number of empty texts is told",
    )
    add("--errors", metavar="FILE", help="with --on-error skip or null: write the bad rows to FILE, as .jsonl")
    add = parser.add_argument_group("the run").add_argument
    add("--resume", action="store_true", help="go on where an interrupted run with the same input and options ended")
    add("--overwrite", action="store_true", help="replace the output if it exists, and what an interrupted run left")
    add("--batch-size", type=int, help="rows computed at once (default: 32)")
    add("--dask", metavar="ADDRESS", help="compute on the workers of this Dask scheduler (tcp://host:port)")
    add(
        "--quiet",
        action="store_true",
        help="no progress: a line that is renewed; a line a minute if no terminal",
    )


def run_predict(args, outputs):
    """Run the command. `outputs`: the layers at which the graph is cut."""
    args.input = args.input or None
    if args.text is not None:
        return _predict_texts(args, outputs)
    if args.json:
        raise InputError("--json goes with --text; for a file write .jsonl")
    if args.tags:
        raise InputError("--tags goes with --text; in files the tags are in the column of the answers")
    if args.input is None or args.output is None:
        raise InputError("predict needs an input file and -o OUTPUT, or --text TEXT")
    output_format, packing = _output_format(args)
    if args.errors is not None and args.on_error == "stop":
        raise InputError("--errors lists rows that are left out or empty: give --on-error skip or null")
    from ..scoring.sources import find  # with scoring

    sources = find(args.input, args.source_column)
    files = _files_read(args, sources)
    _check_paths(args, files)
    from ..scoring.writers import ARRAYS  # saves time where it is not needed
    from .file_job import FileJob

    args.raw |= output_format in ARRAYS
    predictor = _predictor(args, outputs, _columns(args), args.text_column)
    return FileJob(args, output_format, packing, predictor, sources, files).run()


def _output_format(args):
    """(format of the output, packing); the format is None if it follows the input."""
    from ..scoring.line_files import STANDARD, split_suffix  # saves time where it is not needed
    from ..scoring.readers import SUFFIXES
    from ..scoring.writers import FORMATS, LINES  # with scoring

    suffix, packing = split_suffix(args.output)
    found = args.output_format or SUFFIXES.get(suffix)
    standard = args.output == STANDARD
    if found not in FORMATS and not standard:
        raise InputError(
            f"{args.output}: the suffix {suffix!r} tells no format of an output; use .npy, .npz, .csv, .tsv, .jsonl or "
            ".parquet, or --output-format"
        )
    if (standard or packing) and found not in (None, *LINES):
        what = "standard output" if standard else f".{packing}"
        raise InputError(f"{args.output}: {what} is for {', '.join(LINES)}, not for {found}")
    if args.delimiter is not None and len(args.delimiter) != 1:
        raise InputError(f"--delimiter is {args.delimiter!r}; expected one character")
    if args.resume and STANDARD in (*args.input, args.output):
        raise InputError("--resume: standard input and output (-) cannot be read or written a second time")
    return found, packing


def _check_paths(args, files):
    from ..scoring.line_files import STANDARD  # saves time where it is not needed

    for path in filter(None, (args.output, args.errors)):
        if path == STANDARD:
            continue
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise InputError(f"{path}: the folder {folder} does not exist")
        check_not_read(path, files)
    if args.errors is not None:
        if is_same_file(args.errors, args.output):
            raise InputError(f"--errors {args.errors}: is the output; write the bad rows to another file")
        if os.path.lexists(args.errors) and not (args.overwrite or args.resume):
            raise InputError(f"{args.errors}: exists already; allow it with --overwrite or choose another")


def _files_read(args, sources):
    paths = (*(source.path for source in sources), args.model, args.config)
    return [path for path in paths if path is not None and os.path.isfile(path)]


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
        weights=args.weights,
        raw=args.raw,
        empty=args.empty or "score",
        plugins=args.plugin or (),
    )
    predictor.in_order = args.dask is None
    return predictor


def _predict_texts(args, outputs):
    """--text: print a line for each text: the label and its probability, or else the numbers."""
    given = {"an input": args.input, "-o": args.output, "--columns": args.columns, "--dask": args.dask}
    given["--empty"] = args.empty
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
