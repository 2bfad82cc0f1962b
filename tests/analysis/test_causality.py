"""Models that look at later timesteps are refused as streams, and the error names the layer and why.

Every golden model is refused so, or streamed, in engine/test_streaming.py.
"""

import pytest
from built_nets import Net

import fastbilstm
from fastbilstm import InputError


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda n: n.bidirectional("bi", "x"), r"layer 'bi' \(Bidirectional\) reads the sequence backwards, too"),
        (lambda n: n.lstm("back", "x", go_backwards=True), r"layer 'back' \(LSTM\) reads the sequence backwards"),
        (lambda n: n.add("GlobalMaxPooling1D", "pool", "x"), r"'pool' .* takes the maximum over all timesteps"),
        (lambda n: n.add("Permute", "turn", "x", dims=[2, 1]), "'turn' .* moves the time axis"),
        (lambda n: n.add("Softmax", "s", "x", axis=1), "'s' .* works along the time axis"),
        (lambda n: n.add("Attention", "att", calls=[["x", "x"]], use_scale=False), "'att' .* looks at all timesteps"),
        (lambda n: n.add("Reshape", "r", "x", target_shape=[-1, 1]), "'r' .* does not keep the time axis"),
        (
            lambda n: n.add("Concatenate", "c", calls=[[n.lstm("l", "x", return_sequences=True), "l"]], axis=1),
            "'c' .* joins along the time axis",
        ),
    ],
)
def test_refused(build, text):
    net = Net()
    name = build(net)
    with pytest.raises(InputError, match="the model cannot be streamed: .*" + text):
        fastbilstm.load(net.content(name)).stream()
