"""What the command says of itself: help with examples that are right and exit codes, completion, python -m, errors."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import fastbilstm
from fastbilstm.cli import commands as cli
from fastbilstm.sample import FOLDER

SAMPLE = FOLDER / "sample.fbl"
PARSER = cli.make_parser()
COMMANDS = next(action for action in PARSER._actions if action.dest == "command").choices


def python(*args, **variables):
    env = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), **variables}
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, env=env)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_has_an_example_that_is_right_and_the_exit_codes(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = (PARSER if name is None else COMMANDS[name]).format_help()
    assert "exit codes:\n  0    done\n  1    verify or report" in text and "\n  2    wrong use" in text
    (line,) = re.findall(r"^example:\n  fastbilstm (.*)$", text, re.MULTILINE)
    args = PARSER.parse_args(shlex.split(line))
    assert args.command == (name or "predict")


def test_options_stand_in_groups():
    text = COMMANDS["predict"].format_help()
    titles = re.findall(r"^([\w ]+):$", text, re.MULTILINE)
    assert {"model", "texts and columns", "sequences", "answers", "the run", "engine"} <= set(titles)
    # Beside the groups stands -h alone.
    assert re.search(r"^options:\n  -h, --help .*\n\n", text, re.MULTILINE)
    assert all(parser.description for parser in COMMANDS.values())


def test_python_m(tmp_path):
    done = python("-m", "fastbilstm", "predict", SAMPLE, "--text", "a boring film")
    assert done.returncode == 0 and done.stdout.split("\t")[0] == "neg", done.stderr
    assert python("-m", "fastbilstm", "--version").stdout == f"fastbilstm {fastbilstm.__version__}\n"
    assert python("-m", "fastbilstm", "inspect", tmp_path / "none.h5").returncode == 2


# ---- completion -----------------------------------------------------------------------------------------------------


def completed(script, *words):
    """What bash would offer for the last of the words."""
    line = " ".join(map(shlex.quote, ("fastbilstm", *words)))
    code = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _fastbilstm; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_choices(capsys):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "") == [*COMMANDS, "--version", "--help"]
    assert completed(script, "re") == ["report"]
    assert completed(script, "predict", "--output-") == ["--output-column", "--output-format"]
    assert completed(script, "predict", "model.fbl", "--pad", "") == ["pre", "post"]
    assert completed(script, "completion", "z") == ["zsh"]
    assert completed(script, "inspect", "--backend") == [] == completed(script, "predict", "mod")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name, parser in COMMANDS.items():
        assert name in script
        for option in parser._option_string_actions:
            if option.startswith("--"):
                assert (f"-l {option[2:]} " in script) if shell == "fish" else (option in script)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ["foo", "avx9000"])
@pytest.mark.parametrize("command", [["inspect"], ["predict", "--text", "a"]])
def test_a_wrong_instruction_set_is_one_line(isa, command):
    done = python("-m", "fastbilstm", command[0], SAMPLE, *command[1:], FASTBILSTM_ISA=isa)
    assert done.returncode == 2 and not done.stdout
    expected = rf"fastbilstm: (.*: )?instruction set '{isa}' \(FASTBILSTM_ISA\); expected one of .*base\n"
    assert re.fullmatch(expected, done.stderr), done.stderr


WITHOUT = """
import sys, traceback
sys.modules[sys.argv[1]] = None
import fastbilstm
try:
    eval(sys.argv[2])
except ImportError as error:
    text = "".join(traceback.format_exception(error))
    assert text.count("Traceback") == 1, text
    print(error)
"""


@pytest.mark.parametrize(
    "package, call",
    [
        ("h5py", "fastbilstm.load(sys.argv[3] + '/x.h5')"),
        ("dask", "fastbilstm.dask.predict(fastbilstm.sample_model(), [1])"),
        ("pyarrow", "list(fastbilstm.sample_model().predict_iter(sys.argv[3] + '/x.parquet', text='a'))"),
        ("scipy", "fastbilstm.sample_model(backend='blas')"),
    ],
)
def test_a_missing_package_is_one_traceback(package, call, tmp_path):
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    done = python("-c", WITHOUT, package, call, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(f"pip install .*{package}", done.stdout), done.stdout
