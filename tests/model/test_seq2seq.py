"""The seq2seq example: greedy and beam decoding answer as Keras does, recorded and live; parts of a model."""

import subprocess
import sys

import numpy as np
import pytest
from paths import SEQ2SEQ, TOOLS

import fastbilstm
from fastbilstm import InputError
from fastbilstm.tolerances import compare

BACKENDS = [("float32", "auto"), ("float32", "numpy"), ("float64", "auto")]


@pytest.fixture(scope="module")
def seq2seq():
    pytest.importorskip("h5py", reason="the model is a Keras file")
    sys.path.insert(0, str(TOOLS))
    try:
        import seq2seq
    finally:
        sys.path.pop(0)
    return seq2seq


@pytest.fixture(scope="module")
def recorded():
    with np.load(SEQ2SEQ.with_name("decoded.npz")) as values:
        return dict(values)


def padded(rows, width):
    return np.array([np.pad(row, (0, width - len(row))) for row in rows])


@pytest.mark.parametrize(("dtype", "backend"), BACKENDS)
def test_decodes_as_recorded(seq2seq, recorded, dtype, backend):
    decoder = seq2seq.Decoder(fastbilstm.load(SEQ2SEQ, dtype=dtype, backend=backend))
    width = recorded["greedy"].shape[1]
    said = seq2seq.greedy(decoder, recorded["source"])
    np.testing.assert_array_equal(padded(said, width), recorded["greedy"])
    for source, sequences, scores in zip(recorded["source"], recorded["beam"], recorded["log_probability"]):
        found = seq2seq.beam(decoder, source, seq2seq.BEAM)
        np.testing.assert_array_equal(padded([tokens for tokens, _ in found], width), sequences)
        np.testing.assert_allclose([score for _, score in found], scores, rtol=1e-4, atol=1e-5)
    # It has learnt its task: the likeliest sequence of the beam is the string backwards, too.
    for source, tokens in zip(recorded["source"], said):
        np.testing.assert_array_equal(tokens, source[source > 0][::-1])


def test_decodes_as_keras_does(seq2seq, monkeypatch):
    pytest.importorskip("tensorflow", reason="live decoding needs Keras")
    keras = pytest.importorskip("keras")
    monkeypatch.syspath_prepend(str(TOOLS / "training"))
    import train_seq2seq

    model = keras.models.load_model(SEQ2SEQ)
    ours, theirs = fastbilstm.load(SEQ2SEQ), train_seq2seq.KerasDecoder(model)
    decoder, source = seq2seq.Decoder(ours), train_seq2seq.strings(np.random.default_rng(7), 5)
    for mine, keras_said in zip(seq2seq.greedy(decoder, source), seq2seq.greedy(theirs, source), strict=True):
        np.testing.assert_array_equal(mine, keras_said)
    for row in source[:2]:
        for (a, p), (b, q) in zip(seq2seq.beam(decoder, row, 3), seq2seq.beam(theirs, row, 3), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-5)
    read, _ = train_seq2seq.targets(source)
    assert compare(ours.predict([source, read]), model.predict([source, read], verbose=0), "float32").ok


def test_step_by_step_is_the_training_model(seq2seq, recorded):
    """The decoder with its states handed on gives the rows of the whole model, to the bit on the engine."""
    model = fastbilstm.load(SEQ2SEQ)
    decoder, source = seq2seq.Decoder(model), recorded["source"][:4]
    read = np.concatenate([np.full((4, 1), seq2seq.START), recorded["greedy"][:4, :6]], axis=1).astype("i4")
    states, rows = decoder.begin(source), []
    for t in range(read.shape[1]):
        row, states = decoder.step(read[:, t], states)
        rows.append(row)
    whole = model.predict([source, read])
    if model.backend == "vector":
        np.testing.assert_array_equal(np.stack(rows, 1), whole)
    else:
        assert compare(np.stack(rows, 1), whole).ok


def test_parts(seq2seq, recorded, tmp_path):
    model = fastbilstm.load(SEQ2SEQ)
    encoder = model.part("encoder")
    assert encoder.name == "encoder" and encoder.keras == model.keras and encoder.dtype == model.dtype
    encoder.save(tmp_path / "encoder.fbl")
    again = fastbilstm.load(tmp_path / "encoder.fbl", check=True)
    for a, b in zip(again.predict(recorded["source"]), encoder.predict(recorded["source"]), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="model 'seq2seq' holds no model 'lstm'; .* it: 'encoder', 'decoder'"):
        model.part("lstm")
    with pytest.raises(InputError, match="those inside it: none"):
        encoder.part("encoder")


def test_example_runs():
    pytest.importorskip("h5py")
    command = [sys.executable, str(TOOLS / "seq2seq.py"), "314", "27182"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "314 -> 413" in done.stdout and "27182 -> 28172" in done.stdout
