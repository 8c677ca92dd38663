"""A trained policy as one file that acts without Langevin: with NumPy alone, or as a compiled StableHLO program."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from langevin.errors import UsageError
from langevin.nets.mlp import MLP
from langevin.policies.actors import DeterministicPolicy
from langevin.policies.base import Policy, heeds_rewards
from langevin.policies.gaussian import GaussianPolicy, SquashedGaussianActor

PLATFORMS = ("cpu", "cuda")


def to_numpy(policy: Policy) -> bytes:
    """The policy's greedy form as the bytes of an NPZ file: normaliser, layers and action bounds.

    It acts by `low + (high - low) (tanh(network((observation - mean) / std)) + 1) / 2`, the network's hidden layers
    followed by a ReLU; `numpy_act` is that in NumPy. Raises UsageError for a policy that is more than such a network.
    """
    network, bounds = _feed_forward(policy.greedy())
    arrays = {
        "mean": policy.normalizer.mean, "std": policy.normalizer.std,  # pyright: ignore[reportAttributeAccessIssue]
        "action_low": bounds[0], "action_high": bounds[1],
    }  # fmt: skip
    for index, layer in enumerate(network.layers):
        arrays |= {f"weight_{index}": layer.weight, f"bias_{index}": layer.bias}
    if isinstance(policy, GaussianPolicy) and isinstance(policy.actor, SquashedGaussianActor):
        last = len(network.layers) - 1
        size = bounds[0].size  # the other half of the outputs are log standard deviations
        arrays[f"weight_{last}"] = arrays[f"weight_{last}"][:, :size]
        arrays[f"bias_{last}"] = arrays[f"bias_{last}"][:size]
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(array, np.float32) for name, array in arrays.items()})  # pyright: ignore
    return file.getvalue()


def numpy_act(
    arrays: dict[str, np.ndarray], observations: Float32[np.ndarray, "batch observation"]
) -> Float32[np.ndarray, "batch action"]:
    """Actions of an exported policy; all it needs is NumPy."""
    x = (observations - arrays["mean"]) / arrays["std"]
    layers = sum(name.startswith("weight_") for name in arrays)
    for index in range(layers):
        x = x @ arrays[f"weight_{index}"] + arrays[f"bias_{index}"]
        x = np.maximum(x, 0) if index < layers - 1 else np.tanh(x)
    return arrays["action_low"] + (arrays["action_high"] - arrays["action_low"]) * (x + 1) / 2


def to_stablehlo(policy: Policy, observation_size: int, batch_size: int) -> bytes:
    """The greedy policy as the bytes of a ZIP file with two programs that need nothing but `jax.export`.

    start.stablehlo: () -> the memory's arrays. act.stablehlo: (observations (batch_size, observation_size), seed
    (uint32), memory's arrays) -> (actions, memory's arrays). observe.stablehlo, of a policy that heeds rewards:
    (memory's arrays, rewards (batch_size,)) -> memory's arrays. metadata.json: their sizes. They run on CPU and CUDA.
    """
    policy = policy.greedy()
    memory = policy.start(batch_size)
    leaves, form = jax.tree.flatten(memory)

    def start() -> list[jax.Array]:
        return [jnp.asarray(leaf) for leaf in leaves]

    def act(
        observations: jax.Array, seed: jax.Array, memory: list[jax.Array]
    ) -> tuple[jax.Array, list[jax.Array]]:
        before = jax.tree.unflatten(form, memory)
        actions, after = policy.act(observations, before, key=jax.random.key(seed))
        return actions, jax.tree.leaves(after)

    def observe(memory: list[jax.Array], rewards: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(policy.observe(jax.tree.unflatten(form, memory), rewards))

    observations = jax.ShapeDtypeStruct((batch_size, observation_size), jnp.float32)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    arrays = [jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
    metadata = {"observation_size": observation_size, "batch_size": batch_size, "platforms": PLATFORMS}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("start.stablehlo", _serialised(start))
        archive.writestr("act.stablehlo", _serialised(act, observations, seed, arrays))
        if heeds_rewards(policy):
            rewards = jax.ShapeDtypeStruct((batch_size,), jnp.float32)
            archive.writestr("observe.stablehlo", _serialised(observe, arrays, rewards))
        archive.writestr("metadata.json", json.dumps(metadata))
    return file.getvalue()


def _serialised(function: Callable, *shapes: Any) -> bytes:
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes).serialize())


def _feed_forward(policy: Policy) -> tuple[MLP, tuple[jax.Array, jax.Array]]:
    """The network whose squashed output is the action, and the bounds."""
    if isinstance(policy, DeterministicPolicy | GaussianPolicy):
        actor = policy.actor
        if isinstance(actor.network, MLP) and actor.network.activation is jax.nn.relu:
            return actor.network, (actor.action_low, actor.action_high)
    raise UsageError(
        f"{type(policy).__name__} is more than one network, which is all that the NumPy form holds; "
        "export it with --format stablehlo"
    )
