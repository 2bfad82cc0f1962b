"""pad_sequences: against live Keras, and what is refused."""

import numpy as np
import pytest

from fastbilstm import preprocessing as pp
from fastbilstm.errors import InputError


@pytest.fixture(scope="module")
def k():
    return pytest.importorskip("keras", reason="needs Keras")


SEQUENCES = {
    "lists": [[1, 2, 3], [4], [], [5, 6, 7, 8, 9], [10, 11]],
    "arrays": [np.arange(4), np.arange(0), np.arange(7, dtype=np.int16)],
    "frames": [np.full((3, 2), 0.5), [], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]],
    "tuples": ((1, 2), (3.9,), [-1]),
    "none": [],
    "empty": [[], []],
}


@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3, 6])
@pytest.mark.parametrize("case", SEQUENCES)
def test_pad_sequences(k, case, maxlen, padding, truncating):
    if case == "none" and maxlen is None:
        # The longest of none: Keras raises too.
        for pad in (k.utils.pad_sequences, pp.pad_sequences):
            with pytest.raises(ValueError):
                pad([])
        return
    for options in ({}, {"dtype": "float32", "value": -1.5}, {"dtype": "int64", "value": 7}):
        given_options = {"maxlen": maxlen, "padding": padding, "truncating": truncating, **options}
        expected = k.utils.pad_sequences(SEQUENCES[case], **given_options)
        found = pp.pad_sequences(SEQUENCES[case], **given_options)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


def test_pad_sequences_of_texts(k):
    words = [["a", "bb"], ["ccc"], []]
    expected = k.utils.pad_sequences(words, dtype=object, value="<pad>", padding="post")
    assert pp.pad_sequences(words, dtype=object, value="<pad>", padding="post").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("sequences", "options", "message"),
    [
        ([], {}, "give maxlen"),
        ([[1], 2], {}, "position 1 is '2'"),
        ([[1], "ab"], {}, "position 1 is 'ab'"),
        (5, {}, "of type int"),
        ([[1]], {"padding": "left"}, "padding is 'left'"),
        ([[1]], {"truncating": None}, "truncating is None"),
        ([[1]], {"maxlen": 0}, "maxlen is 0"),
        ([[1]], {"maxlen": 2.5}, "maxlen is 2.5"),
        ([[1]], {"value": "x"}, "dtype=object"),
        ([[1]], {"dtype": "strange"}, "dtype is 'strange'"),
        ([[[1, 2]], [[1, 2, 3]]], {}, r"position 1 has steps of shape \(3,\), those before it \(2,\)"),
        ([[1], ["a"]], {}, "position 1 is no int32"),
        ([[1], [2**40]], {}, "position 1 (is no|holds numbers that) int32"),
        ([[1], np.array([2**40])], {}, "position 1 holds numbers that int32"),
        ([[1], np.array([np.nan])], {}, "position 1 is no int32"),
        ([[[1], [2, 3]]], {}, "position 0 is no int32"),
    ],
)
def test_pad_sequences_refuses(sequences, options, message):
    with pytest.raises(InputError, match=message):
        pp.pad_sequences(sequences, **options)
