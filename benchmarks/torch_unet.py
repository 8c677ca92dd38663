"""The temporal U-Net in plain PyTorch, with Langevin's weights: same layers, same order, channels first."""

import numpy as np
import torch
from torch import nn

from langevin.nets.temporal_unet import TemporalUNet


class TorchUNet(nn.Module):
    """`langevin.nets.temporal_unet.TemporalUNet`; takes (batch, horizon, channels) as that does under vmap."""

    def __init__(self, source: TemporalUNet):
        super().__init__()
        embedding = source.noise_embedding
        frequencies = np.geomspace(
            embedding.lowest_frequency, embedding.highest_frequency, embedding.size // 2
        )
        self.register_buffer("frequencies", tensor(frequencies))
        self.noise_layers = nn.Sequential(
            linear(source.noise_layers[0]), nn.Mish(), linear(source.noise_layers[1])
        )
        self.down = nn.ModuleList(pair(blocks) for blocks in source.down)
        self.shrink = nn.ModuleList(convolution(layer) for layer in source.shrink)
        self.middle = pair(source.middle)
        self.up = nn.ModuleList(pair(blocks) for blocks in source.up)
        self.grow = nn.ModuleList(transposed_convolution(layer) for layer in source.grow)
        self.last = nn.Sequential(convolution_block(source.last_block), convolution(source.last))

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        angles = noise[:, None] * self.frequencies
        embedding = self.noise_layers(torch.cat([angles.sin(), angles.cos()], dim=-1))
        x, skipped = x.transpose(1, 2), []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x, embedding)
            skipped.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, embedding)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([x, skipped.pop()], dim=1)
            for block in blocks:
                x = block(x, embedding)
            x = grow(x)
        return self.last(x).transpose(1, 2)


class ResidualBlock(nn.Module):
    """Two convolution blocks with the noise embedding added between them, beside a residual path."""

    def __init__(self, source):
        super().__init__()
        self.first, self.second = convolution_block(source.first), convolution_block(source.second)
        self.noise_projection = nn.Sequential(nn.Mish(), linear(source.noise_projection))
        self.residual = nn.Identity() if source.residual is None else convolution(source.residual)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x) + self.noise_projection(embedding)[:, :, None]
        return self.second(hidden) + self.residual(x)


def pair(blocks) -> nn.ModuleList:
    """The residual blocks of one level."""
    return nn.ModuleList(ResidualBlock(block) for block in blocks)


def convolution_block(source) -> nn.Module:
    """Convolution, GroupNorm, Mish."""
    norm = nn.GroupNorm(source.norm.groups, source.norm.scale.size, eps=source.norm.epsilon)
    norm.weight, norm.bias = parameter(source.norm.scale), parameter(source.norm.shift)
    return nn.Sequential(convolution(source.convolution), norm, nn.Mish())


def convolution(source) -> nn.Conv1d:
    """(kernel, in, out) -> (out, in, kernel)."""
    kernel, inputs, outputs = source.weight.shape
    layer = nn.Conv1d(inputs, outputs, kernel, stride=source.stride, padding=kernel // 2)
    layer.weight, layer.bias = parameter(source.weight.transpose(2, 1, 0)), parameter(source.bias)
    return layer


def transposed_convolution(source) -> nn.ConvTranspose1d:
    """Langevin's kernel of 2 that makes two steps' channels at once, as the kernel of 4 it stands for."""
    channels = source.weight.shape[1]
    halves = np.asarray(source.weight).reshape(2, channels, 2, channels)
    taps = np.zeros((channels, channels, 4), np.float32)
    for tap in range(2):
        for step in range(2):
            taps[:, :, 2 - 2 * tap + step] = halves[tap, :, step]
    layer = nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)
    layer.weight, layer.bias = parameter(taps), parameter(source.bias)
    return layer


def linear(source) -> nn.Linear:
    """(in, out) -> (out, in)."""
    inputs, outputs = source.weight.shape
    layer = nn.Linear(inputs, outputs)
    layer.weight, layer.bias = parameter(source.weight.T), parameter(source.bias)
    return layer


def parameter(array) -> nn.Parameter:
    """A copy PyTorch can train."""
    return nn.Parameter(tensor(array))


def tensor(array) -> torch.Tensor:
    """A float32 copy."""
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float32)
