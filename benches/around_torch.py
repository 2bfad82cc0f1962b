"""The nets of `around_nets` by hand in PyTorch, from the same weights, and in ONNX as PyTorch exports them.

Each function takes {name of a Keras layer: its arrays} and returns a function of the inputs that Keras gets. Layers are
made once, outside that function. Imports PyTorch. Knows nothing of Keras and times.
"""

import warnings

import torch
from handmade import scale_and_shift, torch_recurrent, torch_tensor
from nets import input_names
from torch.nn import functional


def recurrent(arrays):
    return torch_recurrent(arrays, batch_first=True)


def dense(arrays):
    kernel, bias = torch_tensor(arrays[0].T), torch_tensor(arrays[1])
    return lambda x: functional.linear(x, kernel, bias)


def convolution(arrays, padding=0):
    """Of (B, channels, ...): Keras' kernel (..., channels, filters) as (filters, channels, ...)."""
    kernel, bias = torch_tensor(arrays[0].transpose(-1, -2, *range(arrays[0].ndim - 2))), torch_tensor(arrays[1])
    apply = functional.conv1d if kernel.ndim == 3 else functional.conv2d
    return lambda x: apply(x, kernel, bias, padding=padding)


def embedding(arrays):
    table = torch_tensor(arrays[0])
    return lambda ids: functional.embedding(ids, table)


def layer_norm(arrays):
    gamma, beta = map(torch_tensor, arrays)
    return lambda x: functional.layer_norm(x, gamma.shape, gamma, beta, 1e-3)


def softmax(x):
    return torch.softmax(x, dim=-1)


def captcha(w):
    convolutions = [convolution(w[name], padding=1) for name in ("conv2d", "conv2d_1")]
    layers = [recurrent(w[name]) for name in ("bidirectional", "bidirectional_1")]
    inner, head = dense(w["dense"]), dense(w["dense_1"])

    def forward(x):
        x = x.permute(0, 3, 1, 2)
        for convolve in convolutions:
            x = functional.max_pool2d(torch.relu(convolve(x)), 2)
        x = torch.relu(inner(x.permute(0, 2, 3, 1).flatten(2)))
        for layer in layers:
            x = layer(x)[0]
        return softmax(head(x))

    return forward


def conv_lstm(w):
    embed, convolve = embedding(w["embedding"]), convolution(w["conv1d"])
    lstm, head = recurrent(w["lstm"]), dense(w["dense"])

    def forward(ids):
        x = functional.max_pool1d(torch.relu(convolve(embed(ids).transpose(1, 2))), 4)
        return torch.sigmoid(head(lstm(x.transpose(1, 2))[1][0][0]))

    return forward


def activity(w):
    one, two, lstm = convolution(w["conv1d"]), convolution(w["conv1d_1"]), recurrent(w["lstm"])
    scale, shift = map(torch_tensor, scale_and_shift(*w["batch_normalization"]))
    inner, head = dense(w["dense"]), dense(w["dense_1"])

    def forward(x):
        x = torch.relu(two(torch.relu(one(x.transpose(1, 2)))))
        x = functional.max_pool1d(x, 2).transpose(1, 2) * scale + shift
        return softmax(head(torch.relu(inner(lstm(x)[1][0][0]))))

    return forward


def transformer(w):
    *projections, out, out_bias = w["multi_head_attention"]
    heads, size = projections[0].shape[1:]
    kernels, biases = projections[::2], projections[1::2]
    query, key, value = (dense([k.reshape(len(k), -1), b.ravel()]) for k, b in zip(kernels, biases))
    attended = dense([out.reshape(heads * size, -1), out_bias])
    first, second = layer_norm(w["layer_normalization"]), layer_norm(w["layer_normalization_1"])
    embed, lstm = embedding(w["embedding"]), recurrent(w["bidirectional"])
    wide, narrow, head = (dense(w[name]) for name in ("dense", "dense_1", "dense_2"))

    def forward(ids):
        x = embed(ids)
        parts = [f(x).unflatten(-1, (heads, size)).transpose(1, 2) for f in (query, key, value)]
        y = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = first(x + attended(y))
        x = second(x + narrow(torch.relu(wide(x))))
        return torch.sigmoid(head(lstm(x)[1][0].transpose(0, 1).flatten(1)))

    return forward


def stacked_cells(w):
    one, two, head = recurrent(w["rnn"][:3]), recurrent(w["rnn"][3:]), dense(w["dense"])
    return lambda x: head(two(one(x)[0])[1][0][0])


def lstm_norm(w):
    one, two, head = recurrent(w["lstm"]), recurrent(w["lstm_1"]), dense(w["dense"])
    first, second = layer_norm(w["layer_normalization"]), layer_norm(w["layer_normalization_1"])
    return lambda x: head(second(two(first(one(x)[0]))[1][0][0]))


def pictures(w):
    one, two, three = (convolution(w[name]) for name in ("conv2d", "conv2d_1", "conv2d_2"))
    inner, head = dense(w["dense"]), dense(w["dense_1"])

    def forward(x):
        x = x.permute(0, 3, 1, 2)
        for convolve in (one, two):
            x = functional.max_pool2d(torch.relu(convolve(x)), 2)
        x = torch.relu(three(x)).permute(0, 2, 3, 1).flatten(1)
        return softmax(head(torch.relu(inner(x))))

    return forward


def entities(w):
    embed, embed_characters = embedding(w["embedding"]), embedding(w["time_distributed"])
    convolve, lstm = convolution(w["time_distributed_1"], padding=1), recurrent(w["bidirectional"])
    head = dense(w["time_distributed_3"])

    def forward(words, characters):
        y = embed_characters(characters.flatten(0, 1)).transpose(1, 2)
        y = torch.tanh(convolve(y)).amax(dim=-1).reshape(*words.shape, -1)
        return softmax(head(lstm(torch.cat([embed(words), y], dim=-1))[0]))

    return forward


def autoencoder(w):
    encoder, decoder, head = recurrent(w["lstm"]), recurrent(w["lstm_1"]), dense(w["time_distributed"])
    return lambda x: head(decoder(encoder(x)[1][0][0].unsqueeze(1).expand(-1, x.shape[1], -1))[0])


def translation(w):
    encoder, decoder, head = recurrent(w["lstm"]), recurrent(w["lstm_1"]), dense(w["dense"])
    return lambda source, target: softmax(head(decoder(target, encoder(source)[1])[0]))


class _Module(torch.nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def torch_net(name, weights):
    """A function of the inputs as tensors."""
    net = globals()[name](weights)

    def forward(*inputs):
        with torch.inference_mode():
            return net(*inputs).numpy()

    return forward


def write_onnx(name, weights, x, path):
    """Export the net; `x`: an array of two rows for each input. The number of rows stays free."""
    labels = input_names(name)
    options = {"input_names": labels, "output_names": ["y"], "opset_version": 18, "dynamo": False}
    options["dynamic_axes"] = {label: {0: "B"} for label in (*labels, "y")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch advises its other exporter, which needs one more package
        torch.onnx.export(_Module(globals()[name](weights)), tuple(map(torch.from_numpy, x)), path, **options)
