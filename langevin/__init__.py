"""Langevin: offline reinforcement learning with diffusion models, as planners and as world models."""

__version__ = "0.1.0"
