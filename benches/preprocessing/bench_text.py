"""Texts to padded token ids: our Tokenizer, WordIndex and TextVectorization beside Keras' own, texts a second.

`make bench` encodes 1000 texts of some 230 words, the length of IMDB reviews. Without timing (as in `make test`) it is
20 of them; in both cases the ids are compared first, and no time is ever asserted.
"""

import numpy as np
import pytest

from fastbilstm import preprocessing as pp

MAXLEN, WORDS = 400, 5000


def make_texts(count):
    """Texts of words whose frequencies fall as in a language (Zipf), with capitals, punctuation and some umlauts."""
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.zipf(1.3, (count, 230)), 2 * WORDS)
    ends = rng.choice(["", "", "", "", "", ",", ".", "!", " -"], ranks.shape)
    return [" ".join(f"{'Wö' if r % 97 == 0 else 'w'}{r}{end}" for r, end in zip(*row)) for row in zip(ranks, ends)]


def encoders(texts):
    tokenizer = pp.Tokenizer(num_words=WORDS)
    tokenizer.fit_on_texts(texts)
    vocabulary = [word for word in list(tokenizer.word_index)[:WORDS] if word.isascii()]
    return {
        "Tokenizer": tokenizer,
        "WordIndex": pp.WordIndex(tokenizer.word_index, num_words=WORDS),
        "TextVectorization": pp.TextVectorization(vocabulary=vocabulary),
    }


def keras_encode(name, ours):
    """The same with Keras: a function from texts to padded ids."""
    if name == "Tokenizer":
        text = pytest.importorskip("tf_keras.preprocessing.text", reason="compared with tf_keras")
        keras = pytest.importorskip("tf_keras")
        theirs = text.tokenizer_from_json(ours.to_json())
        return lambda texts: keras.utils.pad_sequences(theirs.texts_to_sequences(texts), MAXLEN)
    keras = pytest.importorskip("keras", reason="compared with Keras")
    layer = keras.layers.TextVectorization(vocabulary=ours.get_vocabulary(), output_sequence_length=MAXLEN)
    return lambda texts: np.asarray(layer(texts))


# Keras has no function that encodes texts by a word index.
CASES = [(name, "fastbilstm") for name in ("Tokenizer", "WordIndex", "TextVectorization")]
CASES += [(name, "keras") for name in ("Tokenizer", "TextVectorization")]


@pytest.mark.parametrize(("name", "engine"), CASES)
def bench_encode(benchmark, name, engine):
    texts = make_texts(1000 if benchmark.enabled else 20)
    tokenizer = encoders(texts)[name]
    encode = pp.TextEncoder(tokenizer, maxlen=MAXLEN).encode
    if name == "WordIndex":
        # By the rule of load_data: after the start each rank moved by 3, and 2 for ids beyond the limit.
        plain = [pp.text_to_word_sequence(text) for text in texts]
        ids = [[1, *(tokenizer.word_index[word] + 3 for word in words)] for words in plain]
        expected = pp.pad_sequences([[k if k < WORDS else 2 for k in row] for row in ids], MAXLEN)
    else:
        keras = keras_encode(name, tokenizer)
        expected = keras(texts)
    np.testing.assert_array_equal(encode(texts), expected)
    benchmark.group, benchmark.name = f"encode {len(texts)} texts, {name}", engine
    benchmark(encode if engine == "fastbilstm" else keras, texts)
