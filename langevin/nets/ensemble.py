"""Several networks of one shape as a single pytree."""

from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

Network = TypeVar("Network", bound=eqx.Module)


class Ensemble(eqx.Module, Generic[Network]):
    """`members` networks with their arrays stacked on a leading axis, each with initial values of its own.

    `Ensemble(lambda key: MLP(23, 1, 256, 2, key=key), 2, key=key)` is a pair of twin critics.
    """

    networks: Network
    members: int = eqx.field(static=True)

    def __init__(self, make: Callable[[PRNGKeyArray], Network], members: int, *, key: PRNGKeyArray):
        self.networks = eqx.filter_vmap(make)(jax.random.split(key, members))
        self.members = members

    def member(self, index: int) -> Network:
        """One of the networks by itself."""
        return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, self.networks)

    def __call__(self, *inputs: Array) -> PyTree[Array]:
        """Every member's output on the same inputs, stacked on a leading (members,) axis."""
        return eqx.filter_vmap(lambda network: network(*inputs))(self.networks)

    def each(self, *inputs: Array) -> PyTree[Array]:
        """Every member's output on inputs of its own: `inputs` and the output carry a (members,) axis."""
        return eqx.filter_vmap(lambda network, own: network(*own))(self.networks, inputs)
