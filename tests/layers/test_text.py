"""Models that take raw text: what they accept, that they convert and pickle, what is refused; against live Keras."""

import pickle
import zipfile

import numpy as np
import pytest

import fastbilstm
from fastbilstm.errors import FileFormatError, InputError, UnsupportedLayerError
from fastbilstm.layers.text import PUNCTUATION, characters, ngrams, standardize

SENTENCES = ["Das Mädchen, 7 Jahre alt, läuft!", "", " \t\n", "the CAT's hat… 😀😀 1.5%", "ÄÖÜ äöü Straße"]


def test_standardize_works_on_bytes():
    assert standardize("ÄB c!".encode(), "lower") == "Äb c!".encode()
    assert standardize(b"a.B-c", "strip_punctuation") == b"aBc"
    assert standardize(b"A.B", "lower_and_strip_punctuation") == b"ab"
    assert standardize(b"A.B", None) == b"A.B"
    assert len(PUNCTUATION) == 32


def test_characters_and_ngrams():
    assert characters("a😀e\u0301".encode()) == [b"a", "😀".encode(), b"e", "\u0301".encode()]
    assert ngrams([b"a", b"b", b"c"], (1, 2)) == [b"a", b"b", b"c", b"a b", b"b c"]
    with pytest.raises(InputError, match="UTF-8"):
        characters(b"\xff")


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


@pytest.fixture(scope="module")
def saved(k, tmp_path_factory):
    """A text classifier with an adapted vocabulary: the Keras model and its file."""
    words = k.layers.TextVectorization(output_sequence_length=6)
    words.adapt(SENTENCES)
    x = i = k.Input((1,), dtype="string", name="text")
    x = k.layers.Embedding(40, 3, mask_zero=True)(words(x))
    model = k.Model(i, k.layers.Dense(2)(k.layers.Bidirectional(k.layers.LSTM(2))(x)))
    path = tmp_path_factory.mktemp("text") / "model.keras"
    model.save(path)
    return model, path


def test_text_in_all_forms(saved):
    model, path = saved
    expected = np.asarray(model(np.array(SENTENCES)[:, None]))
    fast = fastbilstm.load(path)
    assert fast.inputs[0].dtype == "string"
    as_bytes = [text.encode() for text in SENTENCES]
    forms = [SENTENCES, np.array(SENTENCES), np.array(SENTENCES)[:, None], np.array(as_bytes, object), as_bytes]
    forms += [[[text] for text in SENTENCES], {"text": SENTENCES}, np.array(SENTENCES, object)]
    for form in forms:
        np.testing.assert_allclose(fast.predict(form), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast.predict(["a cat"]), np.asarray(model(np.array([["a cat"]]))), rtol=1e-5, atol=1e-6)


def test_text_converts_and_pickles(saved, tmp_path):
    _, path = saved
    fast = fastbilstm.load(path)
    expected = fast.predict(SENTENCES)
    fast.save(tmp_path / "model.fbl")
    again = fastbilstm.load(tmp_path / "model.fbl", check=True)
    assert again.vector.inputs[0].dtype == object
    np.testing.assert_array_equal(again.predict(SENTENCES), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict(SENTENCES), expected)
    again.summary(print_fn=lambda text: None)


@pytest.mark.parametrize("wrong", [[1, 2], [None, "a"], np.zeros((2, 1))])
def test_other_things_than_text_are_refused(saved, wrong):
    with pytest.raises(InputError, match="expected strings"):
        fastbilstm.load(saved[1]).predict(np.array(wrong, object) if None in list(np.ravel(wrong)) else wrong)
    with pytest.raises(InputError, match="UTF-8"):
        fastbilstm.load(saved[1]).predict(["\ud800"])


def test_text_into_numbers_is_refused(k, tmp_path):
    k.Sequential([k.Input((2,)), k.layers.Dense(1)]).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="expected numbers"):
        fastbilstm.load(tmp_path / "m.keras").predict(np.array([["a", "b"]]))


def test_strings_out(k, tmp_path):
    i = k.Input((3,), dtype="int64")
    model = k.Model(i, k.layers.StringLookup(vocabulary=["rot", "grün"], invert=True)(i))
    model.save(tmp_path / "m.keras")
    ids = np.array([[0, 1, 2], [2, 9, -1]])
    fast = fastbilstm.load(tmp_path / "m.keras")
    assert (fast.predict(ids) == np.asarray(model(ids))).all()
    fast.save(tmp_path / "m.fbl")
    assert (fastbilstm.load(tmp_path / "m.fbl", check=True).predict(ids) == fast.predict(ids)).all()


def test_vocabulary_given_as_bytes(k, tmp_path):
    """Keras 3.15 saves such a model, and cannot load it."""
    i = k.Input((3,), dtype="string")
    model = k.Model(i, k.layers.StringLookup(vocabulary=[b"a", b"b"])(i))
    model.save(tmp_path / "m.keras")
    given = np.array([["b", "c", "a"]])
    found = fastbilstm.load(tmp_path / "m.keras").predict(given)
    np.testing.assert_array_equal(found, np.asarray(model(k.ops.convert_to_tensor(given))))


def test_a_token_without_an_index_is_refused(k, tmp_path):
    i = k.Input((2,), dtype="string")
    k.Model(i, k.layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=0)(i)).save(tmp_path / "m.keras")
    fast = fastbilstm.load(tmp_path / "m.keras")
    assert fast.predict(np.array([["b", "a"]])).tolist() == [[1, 0]]
    with pytest.raises(InputError, match="b'c' is not in its vocabulary"):
        fast.predict(np.array([["b", "c"]]))


FARMHASH = {"oov_method": "farmhash"}
SEVERAL_OOV = [
    *[("StringLookup", "keras", given) for given in ({}, {"mask_token": ""}, {"salt": 133}, {"salt": [-3, 2**62]})],
    *[("IntegerLookup", "keras", given) for given in ({}, FARMHASH, {**FARMHASH, "mask_token": 0})],
    ("IntegerLookup", "keras", {**FARMHASH, "salt": [4, -5]}),
    *[("StringLookup", "tf_keras", given) for given in ({}, {"mask_token": ""})],
    *[("IntegerLookup", "tf_keras", given) for given in ({}, {"mask_token": 0})],
]


@pytest.mark.parametrize(("name", "framework", "options"), SEVERAL_OOV)
def test_several_oov_indices(name, framework, options, tmp_path):
    """The OOV index of each of 300 tokens that are not in the vocabulary, in each form of the output."""
    tf = pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    k = pytest.importorskip(framework)
    dtype = "string" if name == "StringLookup" else "int64"
    tokens = [f"word {n}" * (n % 20) for n in range(300)] if dtype == "string" else list(range(-150, 150))
    known = ["a", tokens[7], tokens[207]] if dtype == "string" else [1, 7, -20]
    x = np.array(tokens).reshape(30, 10)
    for mode in ("int", "multi_hot", "count"):
        i = k.Input((10,), dtype=dtype)
        layer = getattr(k.layers, name)(vocabulary=known, num_oov_indices=5, output_mode=mode, **options)
        model = k.Model(i, layer(i))
        model.save(tmp_path / "m.keras")
        fast = fastbilstm.load(tmp_path / "m.keras")
        y = fast.predict(x)
        np.testing.assert_array_equal(y, np.asarray(model(tf.constant(x))))
        fast.save(tmp_path / f"{mode}.fbl")
        np.testing.assert_array_equal(fastbilstm.load(tmp_path / f"{mode}.fbl", check=True).predict(x), y)
        if mode == "int":
            assert {1, 2, 3, 4} < set(y.ravel().tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda L: L.StringLookup(vocabulary=["a"], encoding="latin-1"), "encoding='latin-1'"),
        (lambda L: L.TextVectorization(vocabulary=["a"], ragged=True), "ragged=True"),
        (lambda L: L.TextVectorization(vocabulary=["a"], output_mode="one_hot"), "one_hot"),
    ],
)
def test_what_is_refused_is_named(k, tmp_path, make, message):
    i = k.Input((1,), dtype="string")
    k.Model(i, make(k.layers)(i)).save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedLayerError, match=message):
        fastbilstm.load(tmp_path / "m.keras")


def test_a_function_of_the_author_is_refused_by_name(k, tmp_path):
    @k.saving.register_keras_serializable("tests")
    def shout(text):
        return text

    i = k.Input((1,), dtype="string")
    k.Model(i, k.layers.TextVectorization(vocabulary=["a"], standardize=shout)(i)).save(tmp_path / "m.keras")
    with pytest.raises(UnsupportedLayerError, match=r"standardize=.*shout"):
        fastbilstm.load(tmp_path / "m.keras")


def test_an_h5_file_without_its_vocabulary_is_refused(k, tmp_path):
    i = k.Input((1,), dtype="string")
    words = k.layers.TextVectorization()
    words.adapt(SENTENCES)
    k.Model(i, words(i)).save(tmp_path / "m.h5")
    with pytest.raises(UnsupportedLayerError, match="vocabulary=None: it is not in the file"):
        fastbilstm.load(tmp_path / "m.h5")


def rewritten(path, target, change):
    """Copy a .keras archive with its members passed through `change(name, bytes)`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("vocabulary", "error", "message"),
    [
        (None, UnsupportedLayerError, "it is not in the file"),
        (b"\n[UNK]\na\xff", FileFormatError, "no UTF-8 text"),
        (b"\n[UNK]\na\x0bb", FileFormatError, "line break"),
        (b"\n[UNK]\na\na", FileFormatError, "a token twice"),
    ],
)
def test_malformed_vocabularies(saved, tmp_path, vocabulary, error, message):
    change = lambda name, content: vocabulary if name.endswith("vocabulary.txt") else content  # noqa: E731
    with pytest.raises(error, match=message):
        fastbilstm.load(rewritten(saved[1], tmp_path / "m.keras", change))


def test_a_batch_is_padded_to_its_longest_text(k, tmp_path):
    """Without output_sequence_length the answer depends on the batch, so that batches are run as given."""
    i = k.Input((1,), dtype="string")
    x = k.layers.TextVectorization(vocabulary=["the", "cat"])(i)
    model = k.Model(i, k.layers.GlobalAveragePooling1D()(k.layers.Embedding(5, 2)(x)))
    model.save(tmp_path / "m.keras")
    texts = ["the cat", "the", "cat cat cat the", "x"]
    fast = fastbilstm.load(tmp_path / "m.keras")
    expected = np.concatenate([np.asarray(model(np.array(texts[a : a + 2])[:, None])) for a in (0, 2)])
    np.testing.assert_allclose(fast.predict(texts, batch_size=2), expected, rtol=1e-5, atol=1e-7)
    assert not fast._plan.independent


def test_layers_list_their_config(saved):
    fast = fastbilstm.load(saved[1])
    assert fast.layers[0].class_name == "TextVectorization"
    assert "mädchen" in fast.layers[0].config["vocabulary"]


def test_strings_into_a_layer_of_numbers_are_refused(k, tmp_path):
    """Keras builds such a model and fails when it is called."""
    i = k.Input((2,))
    k.Model(i, [k.layers.Dense(1)(i), k.layers.Discretization([0.0])(i)]).save(tmp_path / "m.keras")
    model = fastbilstm.load(tmp_path / "m.keras")
    given = model.graph.inputs[0].replace(dtype="string")
    broken = model.graph.replace(inputs=(given,))
    for backend in ("numpy", "auto"):
        with pytest.raises(InputError, match="numbers"):
            fastbilstm.Model(broken, model._tensors, backend=backend).predict(np.array([["a", "b"]]))
