"""Files that fuzzing found: on each, some state of the code ended in a foreign error or took time without bound.

They lie in tests/material/corpus, named KIND-NUMBER-WHAT.SUFFIX: WHAT is the error, "Timeout" for time without bound,
"Abort" where a library ended the process. Each must be read, with one answer for all backends, or refused by an error
that names it, within some seconds. What `make fuzz` finds is put there.
"""

import time

import fuzz_worker
import make_files as mf
import pytest
from paths import MATERIAL
from small_files import run, save_model

import fastbilstm
from fastbilstm import preprocessing

CORPUS = sorted((MATERIAL / "corpus").iterdir())
SECONDS = 10


def rows(path, folder, capsys):
    model, out = save_model(folder / "model.fbl"), folder / "out.jsonl"
    columns = [] if path.suffix in (".npy", ".npz", ".txt") else ["--columns", "x"]
    for how in ("stop", "skip", "null"):
        line = ("predict", model, path, "-o", out, "--overwrite", "--quiet", "--on-error", how, *columns)
        code, error = run(capsys, *line)
        assert code == 0 or (code == 2 and str(path) in error and "Traceback" not in error), error


def tokenizer(path, folder, capsys):
    for kind in (None, "word_index", "imdb", "vocabulary"):
        try:
            found = preprocessing.read_tokenizer(path, kind)
            encoder = found if hasattr(found, "remove") else preprocessing.TextEncoder(found)
        except fastbilstm.FastBiLSTMError as error:
            assert str(path) in str(error), error
            continue
        try:
            encoder.encode(["the cat", "", "ünknown \x00 words " * 9])
        except fastbilstm.InputError:
            pass  # of the texts


def labels(path, folder, capsys):
    try:
        preprocessing.read_labels(path)
    except fastbilstm.FastBiLSTMError as error:
        assert str(path) in str(error), error


def config(path, folder, capsys):
    """An architecture beside weights."""
    what, detail = fuzz_worker.agreement(path.read_bytes(), {"path": mf.weights_h5()})
    assert what != "crash", detail


def model(path, folder, capsys):
    what, detail = fuzz_worker.agreement(path.read_bytes(), {})
    assert what != "crash", detail
    try:
        fastbilstm.load(path)
    except fastbilstm.FastBiLSTMError as error:
        assert str(path) in str(error), error


KINDS = {read.__name__: read for read in (rows, tokenizer, labels, config, model)}


def test_the_corpus_is_there():
    assert CORPUS and {path.name.split("-")[0] for path in CORPUS} <= set(KINDS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found(path, tmp_path, capsys):
    started = time.monotonic()
    KINDS[path.name.split("-")[0]](path, tmp_path, capsys)
    assert time.monotonic() - started < SECONDS
