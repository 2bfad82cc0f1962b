"""Golden models of layers over volumes, of ConvLSTM, LocallyConnected and adaptive pooling.

One for each family: test_windows_as_keras.py asks the installed Keras about all options.
"""

from .convolution import each
from .registry import KERAS, TF_KERAS, floats

each(
    "volume",
    "layers",
    "Conv3D, Conv3DTranspose and changes of size of three axes",
    (3, 4, 3, 2),
    lambda L: [
        L.Conv3D(2, (1, 2, 2), strides=(1, 2, 1), padding="same", activation="relu"),
        L.Conv3D(2, 2, use_bias=False),
        L.Conv3DTranspose(2, (2, 1, 2), strides=(1, 2, 1)),
        L.ZeroPadding3D(((0, 1), (2, 0), (1, 0))),
        L.Cropping3D(((1, 0), (0, 2), (1, 1))),
        L.UpSampling3D((1, 2, 1)),
        L.SpatialDropout3D(0.3),
        L.GlobalAveragePooling3D(),
        L.GlobalMaxPooling3D(keepdims=True),
    ],
    inputs=floats(2, 3, 4, 3, 2),
    on=(KERAS,),
)
each(
    "volume",
    "conv_lstm",
    "ConvLSTM of one to three axes: strides, padding, dilation, direction, both directions",
    (3, 4, 3, 2),
    lambda L: [
        L.ConvLSTM2D(2, 2, return_sequences=True),
        L.ConvLSTM2D(2, (1, 2), strides=(2, 1), padding="same", go_backwards=True, recurrent_activation="hard_sigmoid"),
        L.ConvLSTM2D(2, 2, dilation_rate=(2, 1), use_bias=False, activation="relu"),
        L.TimeDistributed(L.ConvLSTM1D(2, 2, padding="same")),
        L.Bidirectional(L.ConvLSTM2D(1, 2, return_sequences=True)),
    ],
    inputs=floats(2, 3, 4, 3, 2),
    on=(KERAS,),
)
each(
    "volume",
    "locally_connected",
    "LocallyConnected of one axis: the three shapes of kernels",
    (5, 2),
    lambda L: [
        L.LocallyConnected1D(2, 2),
        L.LocallyConnected1D(2, 3, strides=2, padding="same", implementation=2, activation="tanh"),
        L.LocallyConnected1D(2, 2, padding="same", implementation=3, use_bias=False),
    ],
    on=(TF_KERAS,),
)
each(
    "volume",
    "adaptive",
    "adaptive poolings: windows that overlap, more windows than positions",
    (5, 3, 2),
    lambda L: [
        L.AdaptiveAveragePooling2D((3, 2)),
        L.AdaptiveMaxPooling2D((2, 4)),
    ],
    on=(KERAS,),
)
