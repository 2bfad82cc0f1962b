"""The body of a `register_layer` call for an attention layer that people copy from each other.

AttLayer, AttentionWithContext, Attention(step_dim) and the like are classes of their authors. Their files hold a name,
few options and some arrays; copies with the same arrays compute different things (some sum over time, others do not),
so none is computed unasked. What the best known ones compute is printed, and the user compares it with the class.
Knows no files.
"""

# What has arrays W (F, A), b (A,), u (A,) or (A, 1): Apache-2.0, github.com/richliao/textClassifier, and the gist
# cbaziotis/7ef97ccf71cbc14366835198c09809d2. What has W (F,) or (F, 1) and b of the timesteps: the gist
# cbaziotis/6428df359af27d58078ca5ed9792bd6d, known from Kaggle with the option step_dim.
_BODY = """import numpy as np


def call(x, mask, weights, config):
    # The usual {known}; other copies differ, so compare it with your class.
    scores = np.tanh({product}){context}
    alpha = np.exp(scores.reshape(x.shape[:2])) * (1 if mask is None else mask)
    alpha = alpha / (alpha.sum(axis=1, keepdims=True) + 1e-7)
    return (x * alpha[:, :, None]).sum(axis=1)


"""
WITH_CONTEXT = "AttLayer and AttentionWithContext: softmax over time of u.tanh(x.W + b)"
WITHOUT = "Attention of one score a timestep: softmax over time of tanh(x.W + b)"


def body(name, arrays):
    """The definition of `call` as text, where the class name and the arrays are those of the family; else None.

    `arrays`: (role, shape) of each in the order of the file.
    """
    if "att" not in name.rsplit(">", 1)[-1].lower() or not arrays:
        return None
    (first, shape), *rest = arrays
    wide = len(shape) == 2 and shape[1] > 1
    fits = wide and rest and rest[-1][1] in ((shape[1],), (shape[1], 1)) and not rest[-1][0].endswith("b")
    context = rest.pop() if fits else None
    if wide != (context is not None) or len(rest) > 1 or len(shape) > 2:
        return None
    product = f"x @ weights[{first!r}]"
    if rest:
        bias, size = rest[0]
        if (wide and size != (shape[1],)) or len(size) > 2:
            return None
        product += f" + weights[{bias!r}]"
        if not wide and len(size) != len(shape):
            return None
    return _BODY.format(
        known=WITH_CONTEXT if wide else WITHOUT,
        product=product,
        context=f" @ weights[{context[0]!r}]" if wide else "",
    )
