"""Damaged rows, tokenizers, labels and architectures: an error of ours that names the file, or an answer.

Bytes are flipped, cut, inserted and repeated; in JSON also values are replaced, removed and nested. Damaged models are
in test_fuzz.py. FASTBILSTM_FUZZ=N runs N mutations of each kind.
"""

import copy
import functools
import io
import json
import os
import zlib

import make_files as mf
import numpy as np
import pytest
from small_files import FORMATS_IN, make_ids, run, save_model, write_rows

import fastbilstm
from fastbilstm import preprocessing

COUNT = int(os.environ.get("FASTBILSTM_FUZZ", "45"))
# What replaces a value of JSON.
VALUES = [
    None, True, -1, 0, 2, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "a",
    "\ud800", "0", "1e9", [], [1], [[1, "a"], [2]], {}, {"a": 1}, {"class_name": "X", "config": {}}, "lstm", "float64",
]  # fmt: skip


def mutate_bytes(content, rng):
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, kind = int(rng.integers(len(data) + 1)), rng.integers(6)
        if rng.integers(2):  # half of them where the structure is
            edge = min(400, len(data))
            at = int(rng.integers(edge)) if rng.integers(2) else len(data) - int(rng.integers(edge))
        if kind == 0 and len(data) > 2:
            del data[at:]
        elif kind == 1:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 3:
            data[at:at] = data[at : at + 40]
        elif at < len(data):
            data[at] = data[at] ^ (1 << int(rng.integers(8))) if kind == 4 else int(rng.integers(256))
        data = data or bytearray(b"x")
    return bytes(data)


def places(value, path=()):
    """The paths of all values inside parsed JSON."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def mutate_json(entry, rng):
    """A copy in which one to three values are replaced, removed, repeated or wrapped, or a key is changed."""
    for _ in range(rng.integers(1, 4)):
        entry = copy.deepcopy(entry)
        found = list(places(entry))
        path, kind = found[rng.integers(len(found))], rng.integers(8)
        new = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        if not path:
            if rng.integers(10) == 0:
                entry = new
            continue
        holder = entry
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = [holder[key]]
        elif kind == 2 and isinstance(holder, list):
            holder.insert(key, holder[rng.integers(len(holder))])
        elif kind == 2:
            holder[f"{key}x"] = holder.pop(key)
        elif kind == 3 and isinstance(holder[key], int):
            holder[key] += int(rng.integers(-3, 4))
        else:
            holder[key] = new
    return entry


def mutate_text(content, rng):
    """Bytes, or the values of JSON; JSON inside the strings of a tokenizer, too."""
    if rng.integers(3) == 0:
        return mutate_bytes(content, rng)
    entry = json.loads(content)
    tables = entry.get("config", {}) if isinstance(entry, dict) else {}
    if isinstance(tables, dict) and "word_index" in tables and rng.integers(2):
        name = ["word_index", "index_word", "word_docs"][rng.integers(3)]
        if isinstance(tables.get(name), str):
            tables[name] = json.dumps(mutate_json(json.loads(tables[name]), rng))
            return json.dumps(entry).encode()
    return json.dumps(mutate_json(entry, rng)).encode()


def draws(kind):
    """A generator of random numbers for each mutation of a kind, the same in every run."""
    return (np.random.default_rng((zlib.crc32(kind.encode()), number)) for number in range(COUNT))


def check(action, path, what):
    """Run; errors of ours name the file. Returns whether nothing was refused."""
    try:
        action()
    except fastbilstm.FastBiLSTMError as error:
        assert str(path) in str(error), f"{what}: {error!r} does not name the file"
        return False
    except MemoryError:
        return False
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return True


# ---- rows -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "model.fbl")


def mutate_npy_header(content, rng):
    """An .npy file whose header, a dict as Python writes it, is damaged where its length still fits."""
    length = int.from_bytes(content[8:10], "little")
    header = mutate_bytes(content[10 : 10 + length].rstrip(), rng)[: length - 1].ljust(length - 1) + b"\n"
    return content[:10] + header + content[10 + length :]


def mutate_rows(format, content, rng):
    if format == "npy" and rng.integers(2):
        return mutate_npy_header(content, rng)
    if format == "npz" and rng.integers(2):
        with np.load(io.BytesIO(content)) as arrays:
            inner = io.BytesIO()
            np.save(inner, arrays["x"])
        import zipfile

        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", mutate_npy_header(inner.getvalue(), rng))
        return file.getvalue() if rng.integers(2) else mutate_bytes(file.getvalue(), rng)
    if format == "jsonl" and rng.integers(2):
        lines = content.splitlines()
        at = rng.integers(len(lines))
        lines[at] = mutate_text(lines[at], rng)
        return b"\n".join(lines)
    return mutate_bytes(content, rng)


@pytest.mark.parametrize("format", FORMATS_IN)
def test_rows(format, model, tmp_path, capsys):
    path, out = write_rows(tmp_path / f"rows.{format}", make_ids(9)), tmp_path / "out.jsonl"
    content, refused = path.read_bytes(), 0
    columns = [] if format in ("npy", "npz", "txt") else ["--columns", "x"]
    for number, rng in enumerate(draws(format)):
        path.write_bytes(mutate_rows(format, content, rng))
        how = ("stop", "skip", "null")[number % 3]
        try:
            code, error = run(
                capsys, "predict", model, path, "-o", out, "--overwrite", "--quiet", "--on-error", how, *columns
            )
        except Exception as error:
            raise AssertionError(f"{format} {number}: {type(error).__name__}: {error}") from error
        assert code in (0, 2), (number, error)
        assert code == 0 or str(path) in error or "not enough memory" in error, (number, error)
        refused += code
    assert refused > COUNT / 10


# ---- tokenizers and labels ------------------------------------------------------------------------------------------


def keras_tokenizer():
    tokenizer = preprocessing.Tokenizer(num_words=5, oov_token="?")
    tokenizer.fit_on_texts(["the cat sat", "the dog", "a cat"])
    return tokenizer


def text_encoder():
    words = preprocessing.TextVectorization(vocabulary=["the", "cat"], output_mode="tf_idf", idf_weights=[0.5, 1.0])
    return preprocessing.TextEncoder(words)


TOKENIZERS = {
    "tokenizer": (keras_tokenizer().to_json(), None),
    "encoder": (preprocessing.TextEncoder(keras_tokenizer(), maxlen=4).to_json(), None),
    "word index": (preprocessing.TextEncoder(preprocessing.WordIndex({"the": 1, "cat": 2})).to_json(), None),
    "vectorization": (text_encoder().to_json(), None),
    "ranks": (json.dumps({"the": 1, "cat": 2}), "imdb"),
    "ids": (json.dumps({"the": 1, "cat": 2}), "word_index"),
    "words": (json.dumps(["", "[UNK]", "the", "cat"]), None),
}


def encoded(path, kind):
    tokenizer = preprocessing.read_tokenizer(path, kind)
    try:
        encoder = preprocessing.TextEncoder(tokenizer) if not hasattr(tokenizer, "remove") else tokenizer
        encoder.encode(["the cat", "", "ünknown \x00 words " * 9])
    except fastbilstm.InputError as error:  # of the texts, or of a tokenizer without words: these know no file
        raise fastbilstm.InputError(f"{path}: {error}") from error


@pytest.mark.parametrize("case", TOKENIZERS)
def test_tokenizers(case, tmp_path):
    content, kind = TOKENIZERS[case]
    path, read = tmp_path / "tokenizer.json", 0
    for number, rng in enumerate(draws(case)):
        path.write_bytes(mutate_text(content.encode(), rng))
        read += check(lambda: encoded(path, kind), path, (case, number))
    assert COUNT > read > 0


LABELS = {"list": ["neg", "pos", "none"], "numbers": {"neg": 0, "pos": 1}, "names": {"0": "neg", "1": "pos"}}


@pytest.mark.parametrize("case", [*LABELS, "lines"])
def test_labels(case, tmp_path):
    content = json.dumps(LABELS[case]).encode() if case in LABELS else "neg\npos\nnöne\n".encode()
    path, read = tmp_path / "labels", 0
    for number, rng in enumerate(draws(f"labels {case}")):
        path.write_bytes(mutate_text(content, rng) if case in LABELS else mutate_bytes(content, rng))
        read += check(lambda: preprocessing.read_labels(path), path, (case, number))
    assert COUNT > read > 0


# ---- architectures --------------------------------------------------------------------------------------------------


def yaml_of(config):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_dump(config).encode()


def answered(source, named, options):
    model = fastbilstm.load(source, **options)
    try:
        model.predict(mf.IDS)
    except fastbilstm.InputError as error:  # of the ids, which do not fit what the model says now
        raise fastbilstm.InputError(f"{named}: {error}") from error


CONFIGS = {"sequential": mf.sequential, "functional": mf.functional}


@pytest.mark.parametrize("form", ["json", "yaml", "h5", "keras"])
@pytest.mark.parametrize("case", CONFIGS)
def test_architectures(case, form, tmp_path):
    config = CONFIGS[case]() | {"keras_version": mf.KERAS3 if form == "keras" else mf.KERAS2}
    path, weights, options, read = tmp_path / f"net.{form}", mf.weights_h5(), {}, 0
    for number, rng in enumerate(draws(f"{case} {form}")):
        source = path
        if form in ("json", "yaml"):
            content = yaml_of(config) if form == "yaml" else json.dumps(config).encode()
            content = mutate_bytes(content, rng) if form == "yaml" else mutate_text(content, rng)
            source, options = weights, {"config": str(path)}
        else:
            changed = mutate_json(config, rng)
            content = mf.h5(changed) if form == "h5" else mf.archive(config=changed)
        path.write_bytes(content)
        # What contradicts the weights is told of the file that holds them.
        named = path if source is path else ""
        read += check(functools.partial(answered, source, named, options), named, (case, form, number))
    assert COUNT > read > 0


def test_graphs_of_converted_files(tmp_path):
    content, path, read = mf.converted(), tmp_path / "net.fbl", 0
    for number, rng in enumerate(draws("graph")):
        path.write_bytes(mf.edit_fbl(content, edit_graph=functools.partial(mutate_json, rng=rng)))
        read += check(functools.partial(answered, path, path, {}), path, number)
    assert COUNT > read > 0
