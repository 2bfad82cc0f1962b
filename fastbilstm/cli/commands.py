"""The command `fastbilstm`: convert, inspect, verify, report, predict, info, completion; the parser and its help.

Exit codes: 0 done; 1 `verify` or `report` out of tolerance; 2 wrong use, unreadable file, unsupported layer, existing
target; 130 interrupted; 141 nobody reads standard output any more.
"""

import argparse
import contextlib
import os
import sys
import warnings

from .._version import __version__
from ..converted.fbl_file import SUFFIX
from ..engine.backends import BACKENDS
from ..engine.summary import held_lines
from ..engine.weight_forms import FORMS
from ..errors import FastBiLSTMError
from ..loading import load
from . import as_json, completion
from . import predict as cli_predict

# What a shell gives for a command that a broken pipe ends: 128 and the number of the signal.
BROKEN_PIPE = 141
_KERAS_FILES = ".h5, .keras, .weights.h5, .weights.json, model.json of TensorFlow.js"
_FILE_HELP = f"a converted model (.fbl) or a Keras file ({_KERAS_FILES}); the kind is found from the content"


def _add_source_options(parser, what="model"):
    """Add the options of the model's file; returns their group."""
    parser.add_argument(what, help=_FILE_HELP)
    parser = parser.add_argument_group("model")
    parser.add_argument(
        "--config", metavar="FILE", help="the architecture as JSON or YAML, for a file that holds weights only"
    )
    parser.add_argument(
        "--outputs",
        metavar="LAYER[,LAYER]",
        help="cut the graph at these layers (for files that end in a loss or a Lambda); 'name:1' is the second call",
    )
    parser.add_argument(
        "--inference",
        action="store_true",
        help="switch off training=True in the calls of a file of Keras 1, Keras 2 or tf.keras",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        metavar="MODULE",
        help="import this module, or .py file, first: it calls fastbilstm.register_layer for classes that are not "
        "Keras' own; may be repeated",
    )
    return parser


def _add_json_option(parser, text="print one JSON object in place of the text (docs/json.md)"):
    parser.add_argument_group("output").add_argument("--json", action="store_true", help=text)


def _add_length_option(parser):
    parser.add_argument(
        "--any-length",
        action="store_true",
        help="take sequences of any number of timesteps where the model fixes it, as Keras 3 does",
    )


def _add_trust_option(parser, what="with --keras: "):
    parser.add_argument(
        "--trust",
        action="store_true",
        help=f"{what}hand the Keras file itself to Keras, not what was read from it; this RUNS CODE from the file (a "
        "Lambda, even behind --outputs): for files that you trust",
    )


def add_engine_options(parser):
    """Add the options of the engine."""
    parser = parser.add_argument_group("engine")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="precision (default: the model's own)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="what computes (default: the fastest there is)"
    )
    parser.add_argument("--threads", type=int, help="threads at most (default: the cores this process may use)")
    _add_weights_option(parser)


def _add_weights_option(parser):
    parser.add_argument(
        "--weights",
        choices=FORMS,
        help="the form of kernels and embeddings (default: what the file holds); a narrow one changes the answers",
    )


def _outputs(args):
    return None if args.outputs is None else [name for name in args.outputs.split(",") if name]


def add_convert_options(parser):
    """Add the options of `convert`, which tools/convert_keras.py has, too."""
    _add_length_option(_add_source_options(parser, "source"))
    parser.add_argument("target", nargs="?", help=f"the file to write (default: source with the suffix {SUFFIX})")
    texts = parser
    parser = parser.add_argument_group("target")
    parser.add_argument("--overwrite", action="store_true", help="replace the target if it exists")
    parser.add_argument(
        "--keras",
        action="store_true",
        help="record the self-check vector with the installed Keras or tf_keras (default: our float64 specification)",
    )
    _add_trust_option(parser)
    _add_weights_option(parser)
    parser.add_argument(
        "--calibrate",
        metavar="FILE",
        help="with --weights: measure on these rows (.npy, or .npz keyed by input name), too, how far the answers are "
        "from those of float32, and how many labels differ",
    )
    texts = texts.add_argument_group("texts and labels, kept in the target")
    texts.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="what turned texts into ids: JSON of Keras' Tokenizer.to_json(), a JSON object from words to numbers, or "
        "the vocabulary of a TextVectorization, one word a line",
    )
    texts.add_argument(
        "--tokenizer-type",
        choices=("tokenizer", "word_index", "imdb", "vocabulary"),
        help="how FILE is meant, needed for an object from words to numbers: word_index (the ids), imdb (ranks: start "
        "1, out of vocabulary 2, rank r is r + 3)",
    )
    texts.add_argument("--num-words", type=int, metavar="N", help="the limit of ids that the tokenizer had at training")
    texts.add_argument("--maxlen", type=int, metavar="N", help="timesteps that texts are cut and padded to")
    texts.add_argument("--pad", choices=("pre", "post"), help="where (default: pre; post for a vocabulary)")
    texts.add_argument("--truncating", choices=("pre", "post"), help="where texts are cut (same defaults)")
    texts.add_argument(
        "--remove", action="append", metavar="TEXT", help="turn TEXT into a space first, such as '<br />'; repeatable"
    )
    texts.add_argument("--labels", metavar="FILE", help="the classes: one label a line, or JSON")


def _default_target(source):
    """Beside the source: model.fbl for model.h5, model.weights.h5 and the folder model/."""
    if not os.path.isdir(source):
        return os.path.splitext(source)[0].removesuffix(".weights") + SUFFIX
    folder = os.path.normpath(source)
    return (os.path.abspath(folder) if os.path.basename(folder) in (".", "..") else folder) + SUFFIX


def run_convert(args):
    from ..converting import convert  # the other commands do without

    target = args.target or _default_target(args.source)
    options = {"config": args.config, "outputs": _outputs(args), "overwrite": args.overwrite, "keras": args.keras}
    options |= {"trust": args.trust, "any_length": args.any_length, "inference": args.inference}
    options |= {name: getattr(args, name) for name in ("tokenizer", "tokenizer_type", "num_words", "labels", "maxlen")}
    options |= {"padding": args.pad, "truncating": args.truncating, "remove": args.remove}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "weights=", RuntimeWarning)  # printed below
        model = convert(args.source, target, weights=args.weights, calibrate=args.calibrate, **options)
    size = os.path.getsize(target) / 1e6
    parameters = sum(array.size for array in model.get_weights())
    print(f"{target}: {size:.2f} MB, {parameters:,} parameters, written by {model.keras}")
    print(f"self-check vector computed by {model.vector.computed_by}")
    for line in held_lines(model):
        print(line)
    if any(one.flips for one in model.measured):
        text = f"with {model.weights} weights labels differ from those of float32: check accuracy on rows of your own"
        print(f"fastbilstm: warning: {text}", file=sys.stderr)
    return 0


def run_inspect(args):
    names = ("config", "any_length", "inference")
    model = load(args.model, outputs=_outputs(args), **{name: getattr(args, name) for name in names})
    as_json.printed(as_json.of_model(model)) if args.json else model.summary()
    return 0


def run_info(args):
    from ..engine import show_config  # saves time where it is not needed

    as_json.printed(show_config.config()) if args.json else show_config.show_config()
    return 0


def run_verify(args):
    from ..report.verify import verify  # saves time where it is not needed

    options = {name: getattr(args, name) for name in ("against", "config", "dtype", "trust", "inference")}
    report = verify(args.model, outputs=_outputs(args), **options)
    as_json.printed(report.data) if args.json else print(report.text)
    return 0 if report.ok else 1


def run_predict(args):
    return cli_predict.run_predict(args, _outputs(args))


def run_completion(args):
    print(completion.script(args.shell, args.commands), end="")
    return 0


def run_report(args):
    from ..report.report_file import run  # saves time where it is not needed

    found = run(args, _outputs(args), quiet=args.json)
    if args.json:
        as_json.printed(as_json.of_report(found, args.output))
    return 0 if found.ok else 1


_EXIT_CODES = """exit codes:
  0    done
  1    verify or report: an output is out of tolerance
  2    wrong use, a file that cannot be read, a layer that is not supported, a target that exists
  130  interrupted (Ctrl-C)"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions, and keeps the lines of examples and exit codes."""

    def _fill_text(self, text, width, indent):
        if text.startswith(("example", "exit codes")):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _add_command(commands, name, run, example, **texts):
    """The parser of a command; `example`: a line of its use, without the program's name."""
    texts.setdefault("description", texts["help"][0].upper() + texts["help"][1:] + ".")
    epilog = f"example:\n  fastbilstm {name} {example}\n\n{_EXIT_CODES}"
    parser = commands.add_parser(name, epilog=epilog, formatter_class=_Help, **texts)
    parser.set_defaults(run=run)
    return parser


def make_parser():
    parser = argparse.ArgumentParser(
        prog="fastbilstm",
        description="Run trained Keras sequence models without TensorFlow.",
        epilog=f"example:\n  fastbilstm predict model.h5 rows.csv -o answers.csv\n\n{_EXIT_CODES}",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"fastbilstm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    text = "write a Keras file as one file that loads with NumPy alone"
    sub = _add_command(commands, "convert", run_convert, "model.h5 model.fbl --labels labels.txt", help=text)
    add_convert_options(sub)

    text = "print layers, shapes, parameters, masks and what is ignored"
    sub = _add_command(commands, "inspect", run_inspect, "model.h5", help=text)
    _add_length_option(_add_source_options(sub))
    _add_json_option(sub)

    sub = _add_command(
        commands,
        "verify",
        run_verify,
        "model.fbl --against model.h5",
        help="check a model against its recorded vector and, where Keras is installed, against Keras",
        description="Checks the SHA-256 and the self-check vector of a converted file; compares a Keras file (or the "
        "one given with --against) with Keras 3 or tf_keras where that is installed. Exit code 1: out of tolerance.",
    )
    _add_source_options(sub)
    group = sub.add_argument_group("comparison")
    group.add_argument("--against", metavar="FILE", help="the Keras file a converted model came from")
    _add_trust_option(group, "")
    group.add_argument("--dtype", choices=("float32", "float64"), help="precision (default: the model's own)")
    _add_json_option(sub)

    sub = _add_command(
        commands,
        "report",
        run_report,
        "model.h5 -o report.html",
        help="write a page about a model: graph, layers, agreement, latency, size",
        description="Writes one self-contained HTML page: the graph, the layers, the agreement with Keras (where it is "
        "installed), the recorded vector and the specification, time against batch and length, and the size. Exit code "
        "1: the page is written, and an output is out of tolerance.",
    )
    _add_source_options(sub)
    group = sub.add_argument_group("page")
    group.add_argument("-o", "--output", required=True, help="the page to write (.html)")
    group.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    group.add_argument("--seconds", type=float, default=20.0, help="for the timings together (default: 20)")
    group.add_argument("--quiet", action="store_true", help="no progress line")
    group = sub.add_argument_group("comparison")
    group.add_argument("--against", metavar="FILE", help="the Keras file a converted model came from")
    _add_trust_option(group, "")
    add_engine_options(sub)
    _add_json_option(sub)

    sub = _add_command(
        commands,
        "predict",
        run_predict,
        "model.fbl reviews.csv --text-column review -o answers.csv",
        help="run a model on a file of rows or on texts",
        description="Scores the rows of a file, in bounded memory, or the texts given with --text. The output appears "
        "when it is complete (standard output: as it comes); columns of the input are kept, but those of arrays.",
    )
    _add_length_option(_add_source_options(sub))
    cli_predict.add_options(sub)
    add_engine_options(sub)
    _add_json_option(sub, "with --text: print one JSON object (docs/json.md)")

    text = "print the version, the backends, threads and optional packages that there are"
    _add_json_option(_add_command(commands, "info", run_info, "--json", help=text))

    text = "print a script that completes commands and options in a shell"
    sub = _add_command(commands, "completion", run_completion, "bash", help=text)
    sub.add_argument("shell", choices=completion.SHELLS)
    sub.set_defaults(commands=commands.choices)
    return parser


def run(function, args):
    """Run a command. An error of ours becomes one message on standard error and exit code 2."""
    try:
        if plugins := getattr(args, "plugin", None):
            from ..layers.plugins import load_plugins  # saves time where there are none

            sys.path.append(os.getcwd())  # a command, unlike `python -m`, does not look there
            load_plugins(plugins)
        code = function(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who reads standard output has enough. What is left in it would be an error when Python ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (FastBiLSTMError, ImportError) as error:
        print(f"fastbilstm: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"fastbilstm: there is not enough memory ({error})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastbilstm: interrupted", file=sys.stderr)
        return 130


def main(argv=None):
    args = make_parser().parse_args(argv)
    return run(args.run, args)
