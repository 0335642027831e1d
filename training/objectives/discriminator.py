"""Discriminator of pose and blink tracks: looks at pieces of a track, real or generated (paper section 3.4)."""

from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional

LEAK = 0.2
NORM_EPS = 1e-5
# movements much weaker than this (of normalised states) all count as standing still
WEAKEST_MOVEMENT = 1e-3


class PatchLogits(NamedTuple):
    """Verdicts on the pieces of tracks.

    Attributes:
        logits: Tensor (B, F'): the higher, the more real the piece looks; 0 where `mask` is False.
        mask: Bool tensor (B, F'): True where the piece lies inside the clip.
    """

    logits: torch.Tensor
    mask: torch.Tensor


class TrackDiscriminator(ModelMixin, ConfigMixin):
    """PatchGAN along time: with the defaults each logit looks at 54 frames, one logit per 8 frames.

    States hardly move beside their level, so features are normalised over time, without which nothing is learned.
    Every clip is normalised by itself, as what its batch pads it with, and which other clips are there, must not
    matter (the released network's batch norm mixes clips and padding); frames beyond its end are zeros to every layer,
    as if the clip ended there. What that hides, level and strength of the movement of the whole clip, is told to the
    last layers: movement that is too weak is what a VAE fails by.

    Args:
        state_dim: Numbers per frame S: 6 for poses, 2 for blinks, 8 for both.
        base_channels: Channels after the first convolution; each further halving of time doubles them.
        num_downsamplings: How many times time is halved.
    """

    @register_to_config
    def __init__(self, state_dim: int, base_channels: int = 64, num_downsamplings: int = 3) -> None:
        super().__init__()
        widths = [state_dim, *(base_channels * 2**level for level in range(num_downsamplings))]
        self.down = nn.ModuleList(
            nn.Conv1d(i, o, kernel_size=4, stride=2, padding=1) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.mix = nn.Conv1d(widths[-1], widths[-1], kernel_size=3, padding=1)
        self.level_and_strength = nn.Linear(2 * state_dim, widths[-1])
        self.verdict = nn.Conv1d(widths[-1], 1, kernel_size=3, padding=1)

    @property
    def frames_per_logit(self) -> int:
        """Frames from one logit to the next, and of the shortest clip that gets one."""
        return 2**self.config.num_downsamplings

    def forward(self, sequence: torch.Tensor, lengths: torch.Tensor | None = None) -> PatchLogits:
        """Judge tracks.

        Args:
            sequence: Absolute tracks (B, F, S), normalised as for PBNet.
            lengths: Integer tensor (B,), each in `frames_per_logit`..F: how many frames of each clip count; None: all.

        Returns:
            The logits, F' = F // `frames_per_logit` of them per clip, and which of them count.

        Raises:
            ValueError: The shapes do not fit, or a clip is too short.
        """
        lengths = self._checked_lengths(sequence, lengths)
        x = _cut(sequence.mT, lengths)  # (B, S, F)
        mean, variance = _moments(x, lengths)
        strength = (variance.sqrt() / WEAKEST_MOVEMENT).log1p()
        summary = self.level_and_strength(torch.cat([mean, strength], dim=1)[..., 0].to(x.dtype))
        for convolution in self.down:
            x, lengths = convolution(x), lengths // 2
            x = _cut(functional.leaky_relu(_normalised(x, lengths), LEAK), lengths)
        x = _cut(functional.leaky_relu(_normalised(self.mix(x), lengths) + summary[..., None], LEAK), lengths)
        logits = _cut(self.verdict(x), lengths)[:, 0]
        return PatchLogits(logits, _inside(lengths, logits.shape[1]))

    def _checked_lengths(self, sequence: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        if sequence.ndim != 3 or sequence.shape[2] != self.config.state_dim:
            raise ValueError(f"`sequence` is {tuple(sequence.shape)}, must be (B, F, {self.config.state_dim})")
        num_batch, num_frames, _ = sequence.shape
        shortest = self.frames_per_logit
        if num_frames < shortest:
            raise ValueError(f"`sequence` has {num_frames} frames, must have at least {shortest}")
        if lengths is None:
            return torch.full((num_batch,), num_frames, device=sequence.device)
        if lengths.shape != (num_batch,):
            raise ValueError(f"`lengths` is {tuple(lengths.shape)}, must be ({num_batch},)")
        if lengths.min() < shortest or lengths.max() > num_frames:
            raise ValueError(f"`lengths` is {lengths.tolist()}, must be within {shortest} and {num_frames}")
        return lengths.to(sequence.device)


def _inside(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    # (B, T), True where a step belongs to its clip
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


def _moments(x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # mean and variance over the time that counts, (B, C, 1) each, float32
    x, count = x.float(), lengths[:, None, None]
    mean = _cut(x, lengths).sum(dim=2, keepdim=True) / count
    variance = _cut((x - mean).square(), lengths).sum(dim=2, keepdim=True) / count
    # a square root has no gradient at 0
    return mean, variance + torch.finfo(torch.float32).tiny


def _normalised(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    mean, variance = _moments(x, lengths)
    return ((x - mean) * (variance + NORM_EPS).rsqrt()).to(x.dtype)


def _cut(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    # (B, C, T), zero beyond each clip's end
    return x.masked_fill(~_inside(lengths, x.shape[-1])[:, None], 0)
