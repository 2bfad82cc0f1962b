"""An example: a seq2seq model of Keras decoded greedily and with beam search, from the one file that training saved.

    python tools/seq2seq.py 31415 2718

Encoder and decoder are models inside the trained one; `Model.part` takes them out, weights and all. The decoder is
called with one token and the states that it gave at the step before. tools/training/train_seq2seq.py trains the model.
"""

import sys
from pathlib import Path

import numpy as np

MODEL = Path(__file__).resolve().parents[1] / "tests" / "golden" / "seq2seq" / "model.keras"
# Tokens: 0 is padding, 1 to 10 are the digits 0 to 9.
START, STOP, VOCABULARY = 11, 12, 13
LONGEST, BEAM = 6, 3


class Decoder:
    """Encoder and decoder of a loaded model: `begin` gives the states after the source, `step` the next tokens."""

    def __init__(self, model):
        self.encoder, self.decoder = model.part("encoder"), model.part("decoder")

    def begin(self, source):
        """source (B, T) -> states h and c, each (B, U)."""
        return self.encoder(source)

    def step(self, tokens, states):
        """tokens (B,), states -> probabilities of the next token (B, V), states."""
        answer, *states = self.decoder([tokens[:, np.newaxis], *states])
        return answer[:, 0], states


def greedy(decoder, source):
    """The likeliest token at each step, for all rows at once: a list of arrays of tokens, without START and STOP."""
    states, tokens = decoder.begin(source), np.full(len(source), START, np.int32)
    said = np.full((len(source), LONGEST + 1), STOP, np.int32)
    for t in range(said.shape[1]):
        probabilities, states = decoder.step(tokens, states)
        tokens = np.argmax(probabilities, axis=1).astype(np.int32)
        said[:, t] = tokens
    return [row[: np.argmax(row == STOP)] if STOP in row else row for row in said]


def beam(decoder, source, width):
    """The `width` likeliest sequences that a beam finds for one row: a list of (tokens, log-probability)."""
    states = [np.repeat(state, width, axis=0) for state in decoder.begin(source[np.newaxis])]
    said, scores = np.full((width, 1), START, np.int32), np.array([0.0] + [-np.inf] * (width - 1))
    for _ in range(LONGEST + 1):
        probabilities, states = decoder.step(said[:, -1], states)
        with np.errstate(divide="ignore"):
            logs = np.log(probabilities.astype(np.float64))
        ended = said[:, -1] == STOP
        logs[ended] = -np.inf
        logs[ended, STOP] = 0.0  # what has ended stays as it is
        total = scores[:, np.newaxis] + logs
        best = np.argsort(-total, axis=None, kind="stable")[:width]
        rows, tokens = np.unravel_index(best, total.shape)
        said = np.concatenate([said[rows], tokens[:, np.newaxis].astype(np.int32)], axis=1)
        scores, states = total[rows, tokens], [state[rows] for state in states]
    return [(row[1:][row[1:] != STOP], float(score)) for row, score in zip(said, scores)]


def text_of(tokens):
    return "".join(str(token - 1) if 1 <= token <= 10 else "?" for token in tokens)


def main():
    import fastbilstm

    decoder = Decoder(fastbilstm.load(MODEL))
    for text in sys.argv[1:] or ["31415", "2718"]:
        if not (text.isdecimal() and len(text) <= LONGEST):
            sys.exit(f"{text!r}: expected at most {LONGEST} digits")
        source = np.array([int(digit) + 1 for digit in text], np.int32)
        (said,) = greedy(decoder, source[np.newaxis])
        print(f"{text} -> {text_of(said)}")
        for tokens, score in beam(decoder, source, BEAM):
            print(f"    {text_of(tokens):8} {np.exp(score):.4f}")


if __name__ == "__main__":
    main()
