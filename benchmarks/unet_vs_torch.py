"""A training step of the temporal U-Net in Langevin and in plain PyTorch: EDM loss, Adam, averaged weights.

    python benchmarks/unet_vs_torch.py

Width 32, multipliers 1, 2, 4, horizon 100, batch 32, drawn from data on the device. Before anything is timed, both
networks are given the same weights and must answer the same.
"""

import copy
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch_unet import TorchUNet
from versus import compare, options_of

from langevin.diffusion.constraints import unconstrained
from langevin.diffusion.edm import EDM, edm_loss
from langevin.diffusion.training import DiffusionOptimizer
from langevin.evaluation import workloads
from langevin.nets.temporal_unet import TemporalUNet
from langevin.training.stage import Stage

CHANNELS, HORIZON, BATCH, WINDOWS = 6, 100, 32, 1000
TOLERANCE = 1e-4
"""Of the two networks' outputs, whose entries are about 1."""


def main() -> None:
    """Check that both sides are the same network, then run the comparison."""
    options = options_of("temporal U-Net training steps per second: Langevin against PyTorch eager")
    windows = np.random.default_rng(0).normal(size=(WINDOWS, HORIZON, CHANNELS)).astype(np.float32)
    network = TemporalUNet(CHANNELS, CHANNELS, 32, (1, 2, 4), key=jax.random.key(0))
    print(f"largest difference of the outputs: {require_same_outputs(network):.1e}")
    program = workloads.training_program(training_stage(network), jnp.asarray(windows), [0], options.updates)
    torch_side = TorchTraining(TorchUNet(network), windows)
    compare(
        {"langevin": (program.run, options.updates)},
        {"torch": (torch_side.run(options.updates), options.updates)},
        options.repeats,
        torch_side.flops(),
    )


def require_same_outputs(network: TemporalUNet) -> float:
    """The largest difference between the two networks' outputs; exits if it is more than rounding."""
    # The last layer starts near zero, where everything agrees: blow it up to the scale of the data.
    network = eqx.tree_at(lambda n: n.last.weight, network, replace_fn=lambda weight: 100 * weight)
    x_key, noise_key = jax.random.split(jax.random.key(1))
    x, noise = jax.random.normal(x_key, (4, HORIZON, CHANNELS)), jax.random.normal(noise_key, (4,))
    ours = np.asarray(jax.vmap(network)(x, noise))
    with torch.no_grad():
        theirs = TorchUNet(network)(torch.tensor(np.asarray(x)), torch.tensor(np.asarray(noise))).numpy()
    difference = float(np.abs(ours - theirs).max())
    if difference > TOLERANCE * float(np.abs(ours).max()):
        raise SystemExit(
            f"the two networks differ by {difference}, so comparing their speed would say nothing"
        )
    return difference


def training_stage(network: TemporalUNet) -> Stage:
    """Langevin's side, for the training loop."""
    edm, optimizer = EDM(), DiffusionOptimizer()
    free = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (BATCH, *leaf.shape)), unconstrained(HORIZON, CHANNELS)
    )
    valid, no_condition = jnp.ones((BATCH, HORIZON), bool), jnp.zeros((BATCH, HORIZON, 0))

    def update(state, windows, results, *, step, key):
        rows_key, loss_key = jax.random.split(key)
        clean = windows[jax.random.randint(rows_key, (BATCH,), 0, WINDOWS)]
        loss = lambda network: edm_loss(edm, network, clean, valid, free, no_condition, key=loss_key)
        state, value = optimizer.update(state, loss, step=step)
        return state, {"loss": value}

    return Stage("unet", 1, lambda windows, results, *, key: optimizer.init(network), update)


class TorchTraining:
    """PyTorch's side: the same step, eager."""

    def __init__(self, network: TorchUNet, windows: np.ndarray):
        self.network, self.average = network, copy.deepcopy(network)
        self.adam = torch.optim.Adam(network.parameters(), lr=3e-4)
        self.windows = torch.tensor(windows)
        self.constants = SimpleNamespace(
            sigma=EDM().sigma_data, mean=EDM().log_noise_mean, std=EDM().log_noise_std
        )

    def run(self, updates: int):
        """A function that does that many updates."""

        def repeat() -> None:
            for _ in range(updates):
                self.update()

        return repeat

    def flops(self) -> float:
        """Floating-point operations of the convolutions and products of one update, by PyTorch's own counter."""
        with FlopCounterMode(display=False) as counter:
            self.update()
        return float(counter.get_total_flops())

    def update(self) -> None:
        """One gradient step and one step of the average."""
        loss = self.loss(self.windows[torch.randint(0, WINDOWS, (BATCH,))])
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            for average, online in zip(self.average.parameters(), self.network.parameters(), strict=True):
                average.lerp_(online, 0.005)

    def loss(self, clean: torch.Tensor) -> torch.Tensor:
        """EDM, Equations 7 and 8."""
        sigma_data = self.constants.sigma
        level = (self.constants.mean + self.constants.std * torch.randn(BATCH, 1, 1)).exp()
        noisy = clean + level * torch.randn_like(clean)
        variance = level**2 + sigma_data**2
        c_skip, c_out = sigma_data**2 / variance, level * sigma_data / variance.sqrt()
        network = self.network(noisy / variance.sqrt(), level.flatten().log() / 4)
        return (((c_skip * noisy + c_out * network - clean) / c_out) ** 2).mean()


if __name__ == "__main__":
    main()
