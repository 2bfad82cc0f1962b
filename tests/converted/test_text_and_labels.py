"""Tokenizer and labels in a converted file: convert, load, predict_text, what does not fit, malformed files.

Small models are those of make_files; the trained ones with real reviews need the shared folder.
"""

import json
import pickle
import subprocess
import sys

import make_files as mf
import numpy as np
import pytest
from paths import DEMO, FORMAT_V1
from shared import shared_file
from texts import reviews

import fastbilstm
from fastbilstm import preprocessing as pp
from fastbilstm.cli import commands as cli
from fastbilstm.converted import text_and_labels as bundle
from fastbilstm.errors import FileFormatError, InputError
from fastbilstm.tolerances import IMDB_PROBABILITY

# Ids 4 to 6 in an Embedding of 7 rows.
WORDS = {"good": 1, "bad": 2, "film": 3}
TEXTS = ["Good film!", "bad, bad film... unheard of", "", "film " * 30, "good"]
LABELS = ["neg", "pos"]


@pytest.fixture
def source(tmp_path):
    """Embedding(7, mask_zero), LSTM, Dense(2, softmax), of any length."""
    net = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense(activation="softmax"))
    path = tmp_path / "net.h5"
    path.write_bytes(mf.h5(net))
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "net.fbl"


def ids(texts, maxlen, **options):
    return pp.pad_sequences(pp.WordIndex(WORDS).texts_to_sequences(texts), maxlen, **options)


@pytest.mark.parametrize("maxlen", [None, 8])
def test_converted_with_tokenizer_and_labels(source, target, maxlen):
    words = pp.WordIndex(WORDS)
    fastbilstm.convert(source, target, tokenizer=words, labels=LABELS, maxlen=maxlen)
    model = fastbilstm.load(target, check=True)
    assert model.labels == LABELS and model.text.maxlen == maxlen
    assert isinstance(model.text, pp.TextEncoder) and model.text.tokenizer.get_config() == words.get_config()
    plain = fastbilstm.load(source)
    assert plain.text is None and plain.labels is None
    expected = plain.predict(ids(TEXTS, maxlen))
    found = model.predict_text(TEXTS)
    np.testing.assert_array_equal(found, expected)
    named, p = pp.label_answers(found, model.labels)
    assert named == [LABELS[k] for k in expected.argmax(1)] and np.array_equal(p, expected.max(1))
    # Without maxlen each row is what it is alone.
    if maxlen is None:
        for text, row in zip(TEXTS, found):
            np.testing.assert_array_equal(model.predict_text([text])[0], row)
    assert model.predict_text([]).shape == (0, 2)


def test_texts_are_predicted_in_chunks(source, target, monkeypatch):
    model = fastbilstm.convert(source, target, tokenizer=pp.WordIndex(WORDS), maxlen=6)
    texts = [TEXTS[k % 5] for k in range(23)]
    expected = model.predict(ids(texts, 6))
    sizes = []
    encode = model.text.encode
    monkeypatch.setattr(bundle, "_CHUNK_ROWS", 8)
    monkeypatch.setattr(model.text, "encode", lambda chunk: sizes.append(len(chunk)) or encode(chunk))
    np.testing.assert_array_equal(model.predict_text(texts, batch_size=3, n_threads=1), expected)
    assert sizes == [6, 6, 6, 5]


def test_kept_by_save_pickle_and_conversion(source, target, tmp_path):
    first = fastbilstm.convert(source, target, tokenizer=pp.WordIndex(WORDS), labels=LABELS, maxlen=5)
    expected = first.predict_text(TEXTS)
    fastbilstm.load(target).save(tmp_path / "saved.fbl")
    assert (tmp_path / "saved.fbl").read_bytes() == target.read_bytes()
    fastbilstm.convert(target, tmp_path / "again.fbl")
    assert (tmp_path / "again.fbl").read_bytes() == target.read_bytes()
    opened = fastbilstm.load(target)
    assert opened.text is opened.text
    for model in (fastbilstm.load(target), opened, fastbilstm.load(target.read_bytes())):
        for again in (model, pickle.loads(pickle.dumps(model))):
            assert again.labels == LABELS
            np.testing.assert_array_equal(again.predict_text(TEXTS), expected)
    # What is there is changed by what is given, and the rest is kept.
    changed = fastbilstm.convert(target, tmp_path / "changed.fbl", maxlen=7, padding="post", labels=["a", "b"])
    assert (changed.text.maxlen, changed.text.padding, changed.labels) == (7, "post", ["a", "b"])
    np.testing.assert_array_equal(changed.predict_text(TEXTS), first.predict(ids(TEXTS, 7, padding="post")))


def test_a_part_keeps_what_fits_it(tmp_path):
    k = pytest.importorskip("keras", reason="needs Keras")
    i = k.Input((None,))
    inner = k.Model(i, k.layers.Dense(2)(k.layers.LSTM(2)(k.layers.Embedding(7, 2)(i))), name="inner")
    head = k.Sequential([k.Input((2,)), k.layers.Dense(3, activation="softmax")], name="head")
    j = k.Input((4,))
    k.Model(j, head(inner(j))).save(tmp_path / "m.keras")
    model = fastbilstm.convert(
        tmp_path / "m.keras", tmp_path / "m.fbl", tokenizer=pp.WordIndex(WORDS), labels=["a", "b", "c"]
    )
    assert model.text.maxlen == 4
    assert model.part("inner").labels is None and model.part("inner").text.maxlen == 4
    assert model.part("head").labels == ["a", "b", "c"] and model.part("head").text is None


def test_set_on_a_loaded_model(source):
    model = fastbilstm.load(source)
    with pytest.raises(InputError, match="holds no tokenizer: convert it with a tokenizer"):
        model.predict_text(["a"])
    model.text, model.labels = pp.TextEncoder(pp.WordIndex(WORDS)), LABELS
    assert model.predict_text(TEXTS).shape == (5, 2)
    model.labels.append("x")
    assert model.labels == LABELS
    lines = []
    model.summary(print_fn=lines.append)
    assert "labels: neg, pos" in lines[0] and "text: WordIndex, ids up to 6" in lines[0]
    model.text = model.labels = None
    assert model.text is None and model.labels is None
    with pytest.raises(InputError, match="of type Tokenizer; expected a fastbilstm.preprocessing.TextEncoder"):
        model.text = pp.Tokenizer()


def test_the_tokenizer_of_keras_itself(source, target):
    kt = pytest.importorskip("tf_keras.preprocessing.text", reason="needs tf_keras")
    theirs = kt.Tokenizer(num_words=6, oov_token="<oov>")
    theirs.fit_on_texts(TEXTS)
    model = fastbilstm.convert(source, target, tokenizer=theirs, maxlen=9)
    expected = pp.pad_sequences(theirs.texts_to_sequences(TEXTS), 9)
    np.testing.assert_array_equal(model.predict_text(TEXTS), model.predict(expected))
    theirs.analyzer = str.split
    with pytest.raises(InputError, match="analyzer"):
        fastbilstm.convert(source, target, tokenizer=theirs, maxlen=9, overwrite=True)


def test_a_model_that_takes_texts_itself(tmp_path):
    k = pytest.importorskip("keras", reason="needs Keras")
    words = k.layers.TextVectorization(vocabulary=list(WORDS), output_sequence_length=4)
    i = k.Input((1,), dtype="string")
    net = k.Model(i, k.layers.Dense(1, activation="sigmoid")(k.layers.LSTM(2)(k.layers.Embedding(5, 2)(words(i)))))
    net.save(tmp_path / "m.keras")
    model = fastbilstm.convert(tmp_path / "m.keras", tmp_path / "m.fbl", labels=LABELS)
    expected = np.asarray(net(np.array(TEXTS)[:, None]))
    np.testing.assert_allclose(model.predict_text(TEXTS), expected, rtol=1e-5, atol=1e-6)
    assert model.predict_text([]).shape == (0, 1)
    with pytest.raises(InputError, match="row 1 is '5'"):
        model.predict_text(["a", 5])
    with pytest.raises(InputError, match="takes texts as they are"):
        model.text = pp.TextEncoder(pp.WordIndex(WORDS))


def test_rows_of_counts(tmp_path):
    """A TextVectorization that counts words, before a model of Dense layers."""
    k = pytest.importorskip("keras", reason="needs Keras")
    words = k.layers.TextVectorization(vocabulary=list(WORDS), output_mode="count")
    net = k.Sequential([k.Input((4,)), k.layers.Dense(2, activation="softmax")])
    net.save(tmp_path / "m.keras")
    ours = pp.TextVectorization(vocabulary=list(WORDS), output_mode="count")
    fastbilstm.convert(tmp_path / "m.keras", tmp_path / "m.fbl", tokenizer=ours, labels=LABELS)
    expected = np.asarray(net(words(TEXTS)))
    np.testing.assert_allclose(fastbilstm.load(tmp_path / "m.fbl").predict_text(TEXTS), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="num_words goes with"):
        fastbilstm.convert(tmp_path / "m.fbl", tmp_path / "n.fbl", num_words=3)


# ---- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tokenizer": pp.WordIndex({**WORDS, "x": 4})},
            r"ids up to 7; .* has 7 rows, .* num_words=7 \(--num-words 7\)",
        ),
        ({"tokenizer": pp.WordIndex(WORDS, oov=9)}, "ids up to 9"),
        ({"tokenizer": pp.TextVectorization(vocabulary=list("abcdef"))}, "that the model was trained with$"),
        ({"tokenizer": pp.TextVectorization(vocabulary=["a"]), "num_words": 5}, "num_words goes with"),
        ({"tokenizer": pp.WordIndex(WORDS), "num_words": 0}, "num_words is 0"),
        ({"tokenizer": pp.WordIndex(WORDS), "padding": "left"}, "padding is 'left'"),
        ({"tokenizer": pp.WordIndex(WORDS), "maxlen": -5}, "maxlen is -5"),
        ({"tokenizer": pp.WordIndex(WORDS), "tokenizer_type": "imdb"}, "the tokenizer is no file"),
        ({"tokenizer": 5}, "tokenizer is of type int"),
        ({"maxlen": 5}, "maxlen goes with a tokenizer"),
        ({"tokenizer_type": "imdb"}, "tokenizer_type goes with a tokenizer"),
        ({"labels": ["a", "b", "c"]}, "3 labels were given; the output .* needs 2 labels"),
        ({"labels": ["a"]}, "1 labels"),
        ({"labels": {"a": 0}}, "expected a list"),
    ],
)
def test_what_does_not_fit_is_refused(source, target, options, message):
    with pytest.raises(InputError, match=message):
        fastbilstm.convert(source, target, **options)
    assert not target.exists()


def test_num_words_makes_a_tokenizer_fit(source, target):
    words = pp.WordIndex({**WORDS, "x": 4})
    model = fastbilstm.convert(source, target, tokenizer=words, num_words=7)
    assert words.num_words is None and model.text.tokenizer.num_words == 7
    np.testing.assert_array_equal(model.predict_text(["good x"]), model.predict(np.array([[1, 4, 2]])))


def test_a_fixed_number_of_timesteps(target):
    model = fastbilstm.convert(DEMO, target, tokenizer=pp.WordIndex(WORDS), labels=LABELS)
    assert model.text.maxlen == 400
    np.testing.assert_array_equal(model.predict_text(TEXTS), model.predict(ids(TEXTS, 400)))
    with pytest.raises(InputError, match="takes 400 timesteps, the texts become 300: give maxlen=400"):
        fastbilstm.convert(DEMO, target, tokenizer=pp.WordIndex(WORDS), maxlen=300, overwrite=True)
    rows = pp.TextVectorization(vocabulary=["a"], output_sequence_length=300)
    with pytest.raises(InputError, match="the texts become 300: set the TextVectorization"):
        fastbilstm.convert(DEMO, target, tokenizer=rows, overwrite=True)


def test_models_of_other_inputs_and_outputs():
    with pytest.raises(InputError, match=r"a tokenizer gives \(rows, timesteps\)"):
        mf.floats().text = pp.TextEncoder(pp.WordIndex(WORDS))
    two = fastbilstm.load(FORMAT_V1)
    with pytest.raises(InputError, match="this one has 2"):
        two.text = pp.TextEncoder(pp.WordIndex(WORDS))
    with pytest.raises(InputError, match="of one output; the model has 2"):
        two.labels = LABELS


def test_without_a_mask_the_length_must_be_given(tmp_path):
    net = mf.sequential(mf.input_layer(), mf.embedding(mask_zero=False), mf.lstm(), mf.dense())
    model = fastbilstm.convert(mf.h5(net), tmp_path / "m.fbl", tokenizer=pp.WordIndex(WORDS))
    with pytest.raises(InputError, match=r"maxlen= \(--maxlen\)"):
        model.predict_text(TEXTS)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "in brackets"),
        (["a", None], "row 1 is 'None'"),
        ([b"a"], "row 0 is"),
        (7, "expected a list of str"),
    ],
)
def test_predict_text_refuses(source, target, texts, message):
    model = fastbilstm.convert(source, target, tokenizer=pp.WordIndex(WORDS))
    with pytest.raises(InputError, match=message):
        model.predict_text(texts)
    with pytest.raises(InputError, match="batch_size is 0"):
        model.predict_text(["a"], batch_size=0)


# ---- malformed files ------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(source, target):
    fastbilstm.convert(source, target, tokenizer=pp.WordIndex(WORDS), labels=LABELS, maxlen=5)
    return mf.split_fbl(target.read_bytes())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", "{", "its labels are malformed"),
        ("labels", "5", "its labels are malformed"),
        ("labels", '["a", "a"]', "stands twice"),
        ("labels", '["a", "b", "c"]', "its labels do not fit it: 3 labels were given"),
        ("text", "nothing", "its text encoder 'nothing' is no array of bytes in it"),
        ("text", "lstm/kernel", "its text encoder 'lstm/kernel' is no array of bytes in it"),
    ],
)
def test_malformed_metadata(tmp_path, parts, name, value, message):
    header, data = parts
    header["__metadata__"][name] = value
    mf.assert_refused(tmp_path, mf.join_fbl(header, data), message, name="broken.fbl")


def test_the_checksum_covers_them(tmp_path, parts):
    header, data = parts
    header["__metadata__"]["labels"] = '["pos", "neg"]'
    mf.assert_refused(tmp_path, mf.join_fbl(header, data, sign=False), "SHA-256", name="broken.fbl")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'{"class_name"', b'["class_name"', "no valid JSON"),
        (b"good", b"go\xffd", "malformed or does not fit"),
        (b'"TextEncoder"', b'"TextXncoder"', "no TextEncoder"),
        (b'"tokenizer"', b'"tokenixer"', "KeyError"),
        (b'"film":3', b'"film":9', "ids up to 12"),
        (b'"film":3', b'"film":x', "no valid JSON"),
        (b'"padding":"pre"', b'"padding":"prx"', "padding is 'prx'"),
        (b'"maxlen":5', b'"maxlen":0', "maxlen is 0"),
        (b'"maxlen"', b'"maxlem"', "TypeError"),
        (b'"unknown":"oov"', b'"unknown":"oow"', "unknown is 'oow'"),
        (b'"config"', b'"confix"', "KeyError"),
    ],
)
def test_a_malformed_encoder_is_found_when_it_is_used(tmp_path, parts, old, new, message):
    header, data = parts
    assert old in data and len(old) == len(new)
    path = tmp_path / "broken.fbl"
    path.write_bytes(mf.join_fbl(header, data.replace(old, new, 1)))
    model = fastbilstm.load(path)
    assert model.predict(ids(TEXTS, 5)).shape == (5, 2)
    for use in (lambda: model.text, lambda: model.predict_text(TEXTS)):
        with pytest.raises(FileFormatError, match=message) as caught:
            use()
        assert "broken.fbl" in str(caught.value)


def test_nothing_is_imported_or_parsed_before_it_is_used(parts, target):
    code = "import fastbilstm, sys; print('fastbilstm.preprocessing' in sys.modules, fastbilstm.preprocessing.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "fastbilstm.preprocessing"]
    model = fastbilstm.load(target)
    assert isinstance(model._text, bytes) and model._text.startswith(b'{"class_name"')


# ---- the command ----------------------------------------------------------------------------------------------------


def run(capsys, *args):
    code = cli.main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(source, target, tmp_path, capsys):
    (tmp_path / "words.json").write_text(json.dumps(WORDS))
    (tmp_path / "labels.txt").write_text("neg\npos\n")
    options = ["--tokenizer", tmp_path / "words.json", "--labels", tmp_path / "labels.txt", "--maxlen", 6]
    code, _, err = run(capsys, "convert", source, *options)
    assert code == 2 and "words.json" in err and "--tokenizer-type" in err and not target.exists()
    options += ["--tokenizer-type", "imdb", "--pad", "post", "--truncating", "post", "--num-words", 6]
    code, out, _ = run(capsys, "convert", source, *options, "--remove", "<br />")
    assert code == 0 and "labels: neg, pos" in out
    assert "WordIndex, ids up to 5; start 1, out of vocabulary 2, offset 3; maxlen 6, padding 'post'" in out
    model = fastbilstm.load(target)
    expected = np.array([[1, 4, 2, 2, 5, 5], [1, 4, 0, 0, 0, 0]])
    given = model.text.encode(["good film film<br />bad bad good bad bad", "Good!"])
    assert given.tolist() == expected.tolist()
    assert "labels: neg, pos" in run(capsys, "inspect", target)[1]
    code, _, err = run(capsys, "convert", source, "--overwrite", "--tokenizer", tmp_path / "no_file.json")
    assert code == 2 and "no_file.json: cannot be read" in err
    code, _, err = run(capsys, "convert", source, "--overwrite", "--labels", tmp_path / "words.json")
    assert code == 2 and "words.json: the numbers of its labels" in err
    (tmp_path / "many.json").write_text(json.dumps({**WORDS, "more": 40}))
    options = ["--tokenizer", tmp_path / "many.json", "--tokenizer-type", "word_index"]
    code, _, err = run(capsys, "convert", source, "--overwrite", *options)
    assert code == 2 and "many.json: the tokenizer gives ids up to 40" in err and "--num-words 7" in err
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    code, _, err = run(capsys, "convert", source, "--overwrite", "--labels", tmp_path / "labels.txt")
    assert code == 2 and "labels.txt: 3 labels were given" in err
    assert fastbilstm.load(target).text.maxlen == 6
    # A converted file is replaced by itself with labels: it is mapped while it is written.
    assert run(capsys, "convert", target, target, "--overwrite", "--maxlen", 4)[0] == 0
    assert fastbilstm.load(target, check=True).text.maxlen == 4


@pytest.mark.parametrize("name", ["imdb_bilstm64.h5", "imdb_masked_stack.keras"])
def test_real_reviews_as_keras_answers_them(tmp_path, name):
    words = shared_file("imdb/imdb_word_index_5000.json")
    with np.load(shared_file(f"imdb/{name.partition('.')[0]}_expected.npz")) as npz:
        expected = npz["prob"][:1000]
    model = fastbilstm.convert(
        shared_file(f"imdb/{name}"),
        tmp_path / "m.fbl",
        tokenizer=words,
        tokenizer_type="imdb",
        remove=["<br />"],
        labels=LABELS,
    )
    found = model.predict_text(reviews())
    assert np.abs(found - expected).max() <= IMDB_PROBABILITY
    labels, _ = pp.label_answers(found, model.labels)
    assert labels == [LABELS[int(p > 0.5)] for p in expected[:, 0]]
