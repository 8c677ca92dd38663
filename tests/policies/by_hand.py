"""Networks evaluated in NumPy and one small batch: what the losses of the learners are checked against."""

import jax.numpy as jnp
import numpy as np

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.policies.base import SystemSpec

ROWS = 5
LOW, HIGH = np.array([-1.0, -2.0]), np.array([1.0, 2.0])
MEAN, STD = np.array([0.5, -1.0, 2.0]), np.array([2.0, 0.5, 1.5])


def make_spec():
    """Three observations, two actions with bounds of different size."""
    return SystemSpec(
        3, 2, jnp.asarray(LOW, jnp.float32), jnp.asarray(HIGH, jnp.float32),
        GaussianNormalizer(jnp.asarray(MEAN, jnp.float32), jnp.asarray(STD, jnp.float32)),
    )  # fmt: skip


def make_batch():
    """Five transitions, two of them terminal."""
    rng = np.random.default_rng(0)
    return Transitions(
        observations=jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
        actions=jnp.asarray(rng.uniform(-1, 1, size=(ROWS, 2)), jnp.float32),
        rewards=jnp.asarray(rng.normal(size=ROWS), jnp.float32),
        terminations=jnp.array([0.0, 1.0, 0.0, 0.0, 1.0]),
        next_observations=jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
    )


def standard(observations):
    """z-scored, in float64."""
    return (np.asarray(observations, np.float64) - MEAN) / STD


def relu(x):
    return np.maximum(x, 0)


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def forward(network, x, activation=relu, member=None):
    """A multilayer perceptron, or one member of a stack of them, in float64."""
    pick = (lambda leaf: np.asarray(leaf, np.float64)) if member is None else (
        lambda leaf: np.asarray(leaf, np.float64)[member]
    )  # fmt: skip
    *hidden, last = [(pick(layer.weight), pick(layer.bias)) for layer in network.layers]
    for weight, bias in hidden:
        x = activation(x @ weight + bias)
    return x @ last[0] + last[1]


def values(critics, x, actions, activation=relu):
    """Q_i(s, a) of both critics, (2, rows)."""
    inputs = np.concatenate([x, actions], axis=-1)
    return np.stack([forward(critics.networks, inputs, activation, member)[..., 0] for member in range(2)])


def squashed(raw):
    """tanh into the action bounds."""
    return LOW + (HIGH - LOW) * (np.tanh(raw) + 1) / 2


def linear(layer, x):
    """One layer, in float64."""
    return x @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)


def layer_norm(norm, x):
    """Zero mean and unit variance in each row."""
    standard = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.epsilon)
    return standard * np.asarray(norm.scale, np.float64) + np.asarray(norm.shift, np.float64)


def attention(layer, x, readable):
    """Token by token and head by head, over what each may read: readable tokens before it, and itself."""
    queries, keys, values = np.split(linear(layer.inwards, x), 3, axis=-1)
    size = x.shape[1] // layer.heads
    mixed = np.zeros_like(x)
    for head in range(layer.heads):
        columns = slice(head * size, (head + 1) * size)
        for token in range(len(x)):
            seen = [earlier for earlier in range(token) if readable[earlier]] + [token]
            scores = keys[seen, columns] @ queries[token, columns] / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            mixed[token, columns] = weights / weights.sum() @ values[seen, columns]
    return linear(layer.outwards, mixed)


def transformer(network, x, readable, activation=relu):
    """Blocks with the norm before each part, and a norm at the end."""
    for block in network.blocks:
        x = x + attention(block.attention, layer_norm(block.attention_norm, x), readable)
        widened = activation(linear(block.widen, layer_norm(block.forward_norm, x)))
        x = x + linear(block.narrow, widened)
    return layer_norm(network.norm, x)


def log_density(actor, x, actions):
    """Of a squashed Gaussian in actions' units, by the change of variables."""
    mean, log_std = np.split(forward(actor.network, x), 2, axis=-1)
    half = (HIGH - LOW) / 2
    inside = (actions - LOW) / half - 1
    latent = np.arctanh(inside)
    gaussian = -0.5 * ((latent - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return (gaussian - np.log(half * (1 - inside**2))).sum(-1)
