"""Taggers: tags of tokens by Model.classify and in files, beside Keras' own answers for padded rows, and CRFs'."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from paths import ROOT

import fastbilstm
from fastbilstm import preprocessing as pp
from fastbilstm.cli import commands as cli
from fastbilstm.converted.answers import tag_answers
from fastbilstm.errors import InputError

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TEXTS = ["John Smith lives in  New York", "Mary", "nobody went to Paris, and John"]
TOKENS = [["John", "Smith", "lives", "in", "New", "York"], ["Mary"], ["nobody", "went", "to", "Paris,", "and", "John"]]


def tokenizer():
    found = pp.Tokenizer(lower=False, filters="", oov_token="<unk>")
    found.fit_on_texts(["John Smith lives in New York", "Mary went to Paris"])
    return found


@pytest.fixture(scope="module")
def net():
    """A tagger whose kernels are large, so that tags differ."""
    k = pytest.importorskip("keras", reason="needs Keras")
    k.utils.set_random_seed(3)
    large = {"kernel_initializer": k.initializers.RandomNormal(stddev=2.0)}
    layers = [k.layers.Embedding(12, 8, mask_zero=True, embeddings_initializer="normal")]
    layers += [k.layers.Bidirectional(k.layers.LSTM(6, return_sequences=True, **large))]
    return k.Sequential([k.Input((None,)), *layers, k.layers.Dense(5, activation="softmax", **large)])


@pytest.fixture(params=[None, ("pre", "pre", 8), ("post", "post", 4), ("post", "pre", 4)], ids=str)
def padding(request):
    names = ("padding", "truncating", "maxlen")
    return {} if request.param is None else dict(zip(names, request.param))


def keras_tags(net, padding):
    """(tags, scores) of each token by Keras' predict for padded ids, None where a token was cut off."""
    ids = tokenizer().texts_to_sequences(TOKENS)
    y = net.predict(pp.pad_sequences(ids, **{"padding": "post", **padding}), verbose=0)
    numbers = [np.arange(1, 1 + len(row)) for row in ids]
    places = pp.pad_sequences(numbers, **{"padding": "post", **padding})
    found = []
    for answer, place, count in zip(y, places, map(len, ids)):
        row = [(None, None)] * count
        for values, number in zip(answer, place):
            if number:
                row[number - 1] = (LABELS[values.argmax()], float(values.max()))
        found.append(tuple(zip(*row)))
    return found


def test_tags_are_those_of_keras(net, padding, tmp_path):
    fastbilstm.convert(net, tmp_path / "m.fbl", tokenizer=tokenizer(), labels=LABELS, **padding)
    model = fastbilstm.load(tmp_path / "m.fbl")
    expected = keras_tags(net, padding)
    assert len({tag for tags, _ in expected for tag in tags}) > 2
    for x in (TOKENS, TEXTS):
        found = model.classify(x)
        assert json.loads(json.dumps(found)) == found
        for row, tokens, (tags, scores) in zip(found, TOKENS, expected):
            assert row["tokens"] == tokens and row["tags"] == list(tags)
            assert row["scores"] == pytest.approx(list(scores), abs=1e-5)
            spans = [{"label": s.label, "tokens": [s.first, s.end]} for s in pp.tag_spans(tags)]
            assert [{name: span[name] for name in ("label", "tokens")} for span in row["spans"]] == spans
    for row, text in zip(found, TEXTS):
        for span in row["spans"]:
            first, end = span["tokens"]
            assert (
                span["text"] == text[span["start"] : span["end"]] and span["text"].split() == row["tokens"][first:end]
            )
    assert model.classify([]) == []
    empty = {"tokens": [], "tags": [], "scores": [], "spans": []}
    assert model.classify([[], TOKENS[1], []]) == [empty, model.classify(TOKENS[1:2])[0], empty]
    assert model.classify(["", "Mary"]) == [empty, *model.classify(["Mary"])]


def test_rows_of_ids(net):
    model = fastbilstm.load(net)
    model.labels = LABELS
    ids = tokenizer().texts_to_sequences(TOKENS)
    expected = [{"tags": list(tags)} for tags, _ in keras_tags(net, {})]
    for x in (ids, pp.pad_sequences(ids), pp.pad_sequences(ids, padding="post"), pp.pad_sequences(ids, 9)):
        assert [{"tags": row["tags"]} for row in model.classify(x)] == expected


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files(net, padding, kind, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    fastbilstm.convert(net, tmp_path / "m.fbl", tokenizer=tokenizer(), labels=LABELS, **padding)
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in TEXTS))
    lines = [
        json.dumps({"words": tokens, "ids": ids}) for tokens, ids in zip(TOKENS, tokenizer().texts_to_sequences(TOKENS))
    ]
    (tmp_path / "tokens.jsonl").write_text("\n".join(lines) + "\n")
    expected = keras_tags(net, padding)
    side = {"padding": "pad"}
    given = [item for name, value in padding.items() for item in (f"--{side.get(name, name)}", str(value))]
    for source, options in (
        ("texts.txt", []),
        ("tokens.jsonl", ["--text-column", "words"]),
        ("tokens.jsonl", ["--columns", "ids", *given]),
    ):
        out = tmp_path / f"out.{kind}"
        line = ["predict", tmp_path / "m.fbl", tmp_path / source, "-o", out, "--overwrite", *options]
        assert cli.main(list(map(str, line))) == 0
        if kind == "csv":
            rows = [
                {k: json.loads(v) if v[:1] == "[" else v for k, v in row.items()}
                for row in csv.DictReader(io.StringIO(out.read_text()))
            ]
        elif kind == "jsonl":
            rows = list(map(json.loads, out.read_text().splitlines()))
        else:
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(out).to_pylist()
        for row, (tags, scores) in zip(rows, expected, strict=True):
            assert row["prediction"] == list(tags)
            for side in (row["prediction_probability"], scores):
                assert [value is None or np.isnan(value) for value in side] == [tag is None for tag in tags]
            pairs = zip(row["prediction_probability"], scores, tags)
            assert all(value == pytest.approx(score, abs=1e-5) for value, score, tag in pairs if tag)


def test_texts_on_the_command_line(net, tmp_path, capsys):
    fastbilstm.convert(net, tmp_path / "m.fbl", tokenizer=tokenizer(), labels=LABELS)
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "m.fbl"), "--text", TEXTS[0], "--text", TEXTS[1], "--tags"]) == 0
    blocks = [block.splitlines() for block in capsys.readouterr().out.rstrip("\n").split("\n\n")]
    for block, tokens, (tags, _) in zip(blocks, TOKENS, keras_tags(net, {})):
        assert [line.split("\t")[:2] for line in block] == [list(pair) for pair in zip(tokens, tags)]
    fastbilstm.sample_model().save(tmp_path / "other.fbl")
    assert cli.main(["predict", str(tmp_path / "other.fbl"), "--text", "a", "--tags"]) == 2
    assert "--tags: model 'sample' has no labels for timesteps" in capsys.readouterr().err


# ---- which tags -----------------------------------------------------------------------------------------------------


def golden(name):
    with zipfile.ZipFile(ROOT / "tests" / "golden" / "contributed.zip") as archive:
        return archive.read(name)


def test_the_answers_of_crfs_are_taken_as_they_are():
    pytest.importorskip("h5py", reason="needs h5py")
    for file, layers in (("crf", ("join", "marginal", "boundary_masked")), ("addons", ("plain", "tf2crf_masked"))):
        with np.load(io.BytesIO(golden(f"{file}.npz"))) as arrays:
            for layer in layers:
                model = fastbilstm.load(golden(f"{file}.h5"), outputs=[layer])
                model.labels = ["O", "B-A", "I-A"]
                answer = arrays[f"{layer}.0"]
                numbers = answer if answer.ndim == 2 else answer.argmax(2)
                found = model.classify(arrays["x"])
                assert [row["tags"] for row in found] == [[model.labels[k] for k in row] for row in numbers]
                assert (found[0]["scores"] == [None] * 4) == (answer.ndim == 2)
    with pytest.raises(InputError, match="it has decided already"):
        model.classify(np.zeros((1, 4, 3)), transitions="bio")


def test_the_best_sequence_is_that_of_the_crf():
    """tf2crf's own answer for its potentials and transitions."""
    pytest.importorskip("h5py", reason="needs h5py")
    with np.load(io.BytesIO(golden("addons.npz"))) as arrays:
        numbers, potentials = arrays["tf2crf.0"], arrays["tf2crf.1"]
    model = fastbilstm.load(golden("addons.h5"), outputs=["tf2crf"])
    (chain,) = model.get_weights()
    tags, _ = tag_answers(potentials, [range(4)] * 5, ["a", "b", "c"], chain)
    assert tags == [["abc"[k] for k in row] for row in numbers]
    assert tags != tag_answers(potentials, [range(4)] * 5, ["a", "b", "c"])[0]


def test_the_best_sequence_that_bio_allows():
    """Found by trying all sequences."""
    rng, labels = np.random.default_rng(2), ["O", "B-A", "I-A", "E-A", "S-A"]
    y = rng.dirichlet(np.ones(5), (30, 4)).astype("f4")
    tags, scores = tag_answers(y, [range(4)] * 30, labels, "bio")
    good = [path for path in np.ndindex(5, 5, 5, 5) if is_allowed([labels[k] for k in path])]
    for row, found, values in zip(y, tags, scores):
        best = max(good, key=lambda path: np.prod([row[t, k] for t, k in enumerate(path)]))
        assert found == [labels[k] for k in best] and values == [float(row[t, k]) for t, k in enumerate(best)]
    assert any(tag_answers(y, [range(4)] * 30, labels)[0][k] != tags[k] for k in range(30))


def is_allowed(tags):
    """BIOES, of one label."""
    inside = False
    for tag in tags:
        if inside != (tag[0] in "IE"):
            return False
        inside = tag[0] in "BI"
    return not inside


def test_what_is_refused(net):
    model = fastbilstm.load(net)
    with pytest.raises(InputError, match="4 labels were given.*needs 5 labels"):
        model.labels = LABELS[:4]
    model.labels = LABELS
    with pytest.raises(InputError, match="holds no tokenizer"):
        model.classify(TOKENS)
    with pytest.raises(InputError, match=r"transitions have shape \(2, 2\); 5 labels need \(5, 5\)"):
        model.classify([[1, 2]], transitions=np.zeros((2, 2)))
    with pytest.raises(InputError, match="expected an array, or 'bio'"):
        model.classify([[1, 2]], transitions="bioes")
    with pytest.raises(InputError, match="transitions are for models with a label for each timestep"):
        fastbilstm.sample_model().classify(["a"], transitions="bio")
    with pytest.raises(InputError, match="label number 7; there are 2"):
        tag_answers(np.array([[0, 7]]), [range(2)], ["a", "b"])


# ---- characters beside words ----------------------------------------------------------------------------------------

CHARACTERS = pp.tokenizer_from_json(
    json.dumps(
        {
            "config": {
                "word_index": {c: k for k, c in enumerate("~JohnSmitlvesPar", start=1)},
                "lower": False,
                "oov_token": "~",
            }
        }
    )
)


@pytest.fixture(scope="module")
def with_characters():
    """Words (rows, timesteps) and their characters (rows, timesteps, 6), as taggers of Keras 2 and 3 have them."""
    k = pytest.importorskip("keras", reason="needs Keras")
    k.utils.set_random_seed(5)
    large = {"kernel_initializer": k.initializers.RandomNormal(stddev=2.0)}
    words, chars = k.Input((None,), name="words"), k.Input((None, 6), name="chars")
    inner = k.Sequential([k.Input((6,)), k.layers.Embedding(17, 4), k.layers.LSTM(3, **large)])
    x = k.layers.Concatenate()([k.layers.Embedding(12, 5)(words), k.layers.TimeDistributed(inner)(chars)])
    x = k.layers.Bidirectional(k.layers.LSTM(6, return_sequences=True, **large))(x)
    return k.Model([chars, words], k.layers.Dense(5, activation="softmax", **large)(x))


def encoder(**options):
    return pp.TextEncoder(tokenizer(), characters=pp.CharacterEncoder(CHARACTERS, 6), **options)


@pytest.mark.parametrize("options", [{"maxlen": 8}, {"maxlen": 4, "padding": "post", "truncating": "post"}], ids=str)
def test_characters_are_encoded_beside_words(with_characters, options, tmp_path):
    fastbilstm.convert(with_characters, tmp_path / "m.fbl", tokenizer=encoder(**options), labels=LABELS)
    model = fastbilstm.load(tmp_path / "m.fbl")
    assert "6 characters a token, ids up to 16" in model.text.describe()
    side = {"padding": "pre", "truncating": "pre", **options}
    words = pp.pad_sequences(tokenizer().texts_to_sequences(TOKENS), **side)
    letters = [
        [[1 + "~JohnSmitlvesPar".find(c) if c in "~JohnSmitlvesPar" else 1 for c in token] for token in row]
        for row in TOKENS
    ]
    padded = [pp.pad_sequences(row, 6, padding="post", truncating="post") for row in letters]
    chars = pp.pad_sequences(padded, **side)
    y = np.asarray(with_characters([chars, words]))
    for x in (TOKENS, TEXTS):
        np.testing.assert_allclose(model.predict_text(x), y, atol=1e-5)
    places = pp.pad_sequences([np.arange(1, 1 + len(row)) for row in TOKENS], **side)
    expected = [[None] * len(row) for row in TOKENS]
    for row, (answer, place) in enumerate(zip(y, places)):
        for values, number in zip(answer, place):
            if number:
                expected[row][number - 1] = LABELS[values.argmax()]
    assert [row["tags"] for row in model.classify(TEXTS)] == expected
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"t": row}) + "\n" for row in TOKENS))
    line = ["predict", tmp_path / "m.fbl", tmp_path / "in.jsonl", "--text-column", "t", "-o", tmp_path / "out.jsonl"]
    assert cli.main(list(map(str, line))) == 0
    rows = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [row["prediction"] for row in rows] == expected
    assert [row["tags"] for row in model.classify({"words": words, "chars": chars})] == [
        [LABELS[k] for k in answer.argmax(1)] for answer in y
    ]


def test_characters_that_do_not_fit(with_characters, net):
    model = fastbilstm.load(with_characters)
    with pytest.raises(
        InputError, match="a tokenizer goes with a model of one input, or with characters= and two; this one has 2"
    ):
        model.text = pp.TextEncoder(tokenizer(), maxlen=8)
    with pytest.raises(InputError, match="takes 6 characters a token; width is 9"):
        model.text = pp.TextEncoder(tokenizer(), maxlen=8, characters=pp.CharacterEncoder(CHARACTERS, 9))
    more = pp.Tokenizer(char_level=True)
    more.fit_on_texts(["abcdefghijklmnopqrstuvwxyz"])
    with pytest.raises(InputError, match="ids up to 26; the Embedding that reads input 'chars' has 17 rows"):
        model.text = pp.TextEncoder(tokenizer(), maxlen=8, characters=pp.CharacterEncoder(more, 6))
    with pytest.raises(InputError, match="characters go with a model of two inputs"):
        fastbilstm.load(net).text = encoder()
    with pytest.raises(InputError, match="width is 0; expected a whole number"):
        pp.CharacterEncoder(CHARACTERS, 0)
    with pytest.raises(InputError, match="no Tokenizer with a word_index"):
        pp.CharacterEncoder(pp.Tokenizer(), 5)
    with pytest.raises(InputError, match="expected a CharacterEncoder"):
        pp.TextEncoder(tokenizer(), characters=5)


def test_the_encoder_is_stored_with_its_characters():
    again = pp.TextEncoder.from_json(encoder(maxlen=5).to_json())
    np.testing.assert_array_equal(again.encode_characters(TOKENS), encoder(maxlen=5).encode_characters(TOKENS))
    bare = pp.TextEncoder(pp.WordIndex({"a": 1}), characters=pp.CharacterEncoder(CHARACTERS, 3))
    (rows,) = bare.encode_characters([["Jo", "hnnn"]])
    np.testing.assert_array_equal(rows, [[0, 0, 0], [2, 3, 0], [4, 5, 5]])  # the first is that of the start
