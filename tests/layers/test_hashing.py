"""Hashing and HashedCrossing beside TensorFlow: texts of every length, numbers, salts, masks, output modes."""

import numpy as np
import pytest

import fastbilstm
from fastbilstm.layers.hashing import fingerprint64, siphash

RNG = np.random.default_rng(6)
TEXTS = [RNG.bytes(n) for n in [*range(0, 140), 200, 255, 256, 257, 1000, 4097]]


def test_known_hashes():
    """SipHash-2-4: the first vectors of its authors. FarmHash: as TensorFlow 2.21 computes it."""
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert siphash(b"", key) == 0x726FDB47DD0E0E31 and siphash(bytes(range(8)), key) == 0x93F5F5799A932462
    assert siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5
    assert fingerprint64(b"") == 0x9AE16A3B2F90404F


def test_hashes_are_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    most = 2**62
    fast = tf.strings.to_hash_bucket_fast(TEXTS, most).numpy().tolist()
    assert [fingerprint64(text) % most for text in TEXTS] == fast
    for key in ([0, 0], [7, 2**63 - 1]):
        strong = tf.strings.to_hash_bucket_strong(TEXTS, most, key).numpy().tolist()
        assert [siphash(text, key) % most for text in TEXTS] == strong


@pytest.fixture(params=["keras", "tf_keras"])
def k(request):
    pytest.importorskip("tensorflow", reason="is compared with TensorFlow")
    return pytest.importorskip(request.param)


def same(k, make, inputs, folder):
    given = [k.Input(x.shape[1:], dtype="string" if x.dtype.kind == "U" else x.dtype.name) for x in inputs]
    model = k.Model(given, make(given if len(given) > 1 else given[0]))
    model.save(folder / "m.keras")
    import tensorflow as tf

    x = inputs if len(inputs) > 1 else inputs[0]
    tensors = [tf.constant(part) for part in inputs]
    expected = np.asarray(model(tensors if len(inputs) > 1 else tensors[0]))
    y = fastbilstm.load(folder / "m.keras").predict(x)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype.kind == expected.dtype.kind


WORDS = np.array([["a", "bc", ""], ["a long text with many words in it", "bc", "Ünïcode 猫"]])
NUMBERS = np.array([[1, -5, 0], [2**40, 7, 1]])


@pytest.mark.parametrize("options", [{}, {"salt": 133}, {"salt": [3, 5]}, {"mask_value": "bc"}, {"mask_value": 7}])
@pytest.mark.parametrize("mode", ["int", "multi_hot", "count"])
def test_hashing(options, mode, k, tmp_path):
    if not isinstance(options.get("mask_value"), int):
        same(k, k.layers.Hashing(11, output_mode=mode, **options), [WORDS], tmp_path)
    if not isinstance(options.get("mask_value"), str):
        same(k, k.layers.Hashing(11, output_mode=mode, **options), [NUMBERS], tmp_path)


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_crossing(mode, k, tmp_path):
    words, numbers = WORDS.reshape(-1, 1), NUMBERS.reshape(-1, 1)
    same(k, k.layers.HashedCrossing(13, output_mode=mode), [words, numbers], tmp_path)
    same(k, k.layers.HashedCrossing(13, output_mode=mode), [numbers, numbers[::-1].copy()], tmp_path)
    if k.__name__ == "tf_keras":  # Keras 3.15 takes two
        same(k, k.layers.HashedCrossing(13, output_mode=mode), [numbers, numbers[::-1].copy(), words], tmp_path)
