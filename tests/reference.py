"""BERT in float64 NumPy, written from the papers and not from the library.

Slow and plain: one sequence at a time, one head at a time, padding left out rather than
masked. Weights come as a dict from the variables' paths to arrays.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x):
    """Hendrycks & Gimpel, 2016: x times the normal distribution function at x."""
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def gelu_tanh(x):
    """The same paper's approximation."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "relu": lambda x: np.maximum(x, 0)}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(weights, x):
    return x @ weights["kernel"] + weights["bias"]


def layer_norm(weights, x, epsilon=1e-12):
    """Ba et al., 2016, section 3."""
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return centred / spread * weights["gamma"] + weights["beta"]


def under(weights, prefix):
    """The weights whose path starts with `prefix/`, without it."""
    start = prefix + "/"
    found = {path[len(start) :]: w for path, w in weights.items() if path.startswith(start)}
    assert found, f"no weights under {prefix!r} in {sorted(weights)}"
    return found


def embeddings(weights, token_ids, segment_ids):
    """Devlin et al., 2019, figure 2. [T] -> [T, D]"""
    x = (
        weights["token_embedding"][token_ids]
        + weights["segment_embedding"][segment_ids]
        + weights["position_embedding"][: len(token_ids)]
    )
    x = layer_norm(under(weights, "norm"), x)
    return dense(under(weights, "projection"), x) if "projection/kernel" in weights else x


def attention(weights, x, num_heads, left_to_right=False, gates=None):
    """Vaswani et al., 2017, section 3.2. [T, D] -> [T, D] and maps [N, T, T]"""
    tokens, hidden = x.shape
    size = hidden // num_heads
    q, k, v = (dense(under(weights, name), x) for name in ("query", "key", "value"))
    heads, maps = [], []
    for n in range(num_heads):
        part = slice(n * size, (n + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        if left_to_right:
            scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        maps.append(softmax(scores))
        heads.append(maps[-1] @ v[:, part] * (1.0 if gates is None else gates[n]))
    return dense(under(weights, "merge"), np.concatenate(heads, -1)), np.stack(maps)


def block(weights, x, num_heads, activation="gelu", left_to_right=False, gates=None):
    """Vaswani et al., 2017, section 3.1: residual, then norm, twice."""
    mixed, maps = attention(under(weights, "attention"), x, num_heads, left_to_right, gates)
    x = layer_norm(under(weights, "attention_norm"), x + mixed)
    inner = ACTIVATIONS[activation](dense(under(weights, "intermediate"), x))
    x = layer_norm(under(weights, "output_norm"), x + dense(under(weights, "output_dense"), inner))
    return x, maps


def encoder(weights, config, token_ids, segment_ids, left_to_right=False, gates=None):
    """One sequence without padding: hidden states [L + 1][T, D], pooled [D], maps [L][N, T, T]."""
    states = [embeddings(under(weights, "embeddings"), token_ids, segment_ids)]
    maps = []
    for layer in range(config.num_hidden_layers):
        x, seen = block(
            under(weights, f"block_{layer}"),
            states[-1],
            config.num_attention_heads,
            config.hidden_act,
            left_to_right,
            None if gates is None else gates[layer],
        )
        states.append(x)
        maps.append(seen)
    pooled = None
    if "pooler/kernel" in weights:
        read = states[-1][-1 if left_to_right else 0]
        pooled = np.tanh(dense(under(weights, "pooler"), read))
    return states, pooled, maps


def masked_lm(weights, sequence, positions, token_embedding, activation="gelu"):
    """Devlin et al., 2019, section 3.1. [T, D], [P] -> [P, V]"""
    x = ACTIVATIONS[activation](dense(under(weights, "dense"), sequence[positions]))
    x = layer_norm(under(weights, "norm"), x)
    return x @ token_embedding.T + weights["output_bias"]


def paths(layer):
    """A layer's variables by path, without the layer's own name where all begin with it.

    A network's do not: there a head may happen to have the network's name.
    """
    start = layer.name + "/"
    own = all(w.path.startswith(start) for w in layer.weights)
    return {w.path[len(start) :] if own else w.path: w for w in layer.weights}


def weights_of(layer):
    """A layer's weights as float64, by `paths`."""
    return {path: w.numpy().astype("float64") for path, w in paths(layer).items()}
