"""The denoiser as its definition reads: 3-D convolutions, F x F scores, everything computed at every call.

It shares the parameters of a model of this package and is what the package's own formulation is measured against.
A clip is (B, C, F, H, W) throughout.
"""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from diffusers_dawn import A2VFlowDiffusionModel
from diffusers_dawn.models import blocks_3d, video_attention
from diffusers_dawn.models.condition_attention import ConditionCrossAttention
from diffusers_dawn.models.video_layers import VideoGroupNorm

EPS = 1e-5


def convolve(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Apply the weights of a 2-D convolution as a (1, k, k) convolution of a clip (B, C, F, H, W)."""
    stride, padding = (1, *layer.stride), (0, *layer.padding)
    return functional.conv3d(x, layer.weight.unsqueeze(2), layer.bias, stride=stride, padding=padding)


def convolve_transposed(layer: nn.ConvTranspose2d, x: torch.Tensor) -> torch.Tensor:
    """Apply the weights of a 2-D transposed convolution as a (1, k, k) one of a clip (B, C, F, H, W)."""
    stride, padding = (1, *layer.stride), (0, *layer.padding)
    return functional.conv_transpose3d(x, layer.weight.unsqueeze(2), layer.bias, stride=stride, padding=padding)


def map_channels(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Apply the weights of a linear layer as a (1, 1, 1) convolution of a clip (B, C, F, H, W)."""
    return functional.conv3d(x, layer.weight[:, :, None, None, None], layer.bias)


def resample(layer: nn.Module | None, x: torch.Tensor) -> torch.Tensor:
    """Change the resolution of a clip (B, C, F, H, W) at the end of a level."""
    if layer is None:
        return x
    return convolve_transposed(layer, x) if isinstance(layer, nn.ConvTranspose2d) else convolve(layer, x)


def normalise_channels(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Normalise the channels of a clip (B, C, F, H, W), with a gain and no bias."""
    variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt() * gain.view(-1, 1, 1, 1)


class PlainGroupNorm(nn.Module):
    """Group normalisation over all frames, an optional modulation, SiLU."""

    def __init__(self, norm: VideoGroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor, scale_shift: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise (B, C, F, H, W); scale_shift is (B, 2 C)."""
        x = functional.group_norm(x, self.norm.num_groups, self.norm.weight, self.norm.bias, EPS)
        if scale_shift is not None:
            scale, shift = scale_shift[:, :, None, None, None].chunk(2, dim=1)
            x = x * (scale + 1) + shift
        return functional.silu(x)


class PlainCrossAttention(nn.Module):
    """Softmax over one condition token and one null token per frame, with cosine scores."""

    def __init__(self, attention: ConditionCrossAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Map pixels (B, C, F, H, W) and conditions (B, F, D) to answers (B, C_out, F, H, W)."""
        layers = self.attention
        heads = layers.num_heads
        batch, _, num_frames, height, _ = x.shape
        pixels = rearrange(x, "b c f h w -> (b f) (h w) c")
        pixels = functional.layer_norm(pixels, pixels.shape[-1:], layers.norm_in.weight, None, EPS)
        token = layers.embed(functional.silu(condition)).flatten(0, 1)[:, None]  # (B F, 1, 2 C_out)
        query = rearrange(layers.to_query(pixels), "n p (h d) -> n h p d", h=heads)
        key, value = rearrange(layers.to_key_value(token), "n t (two h d) -> two n h t d", two=2, h=heads)
        null_key, null_value = (null.expand(*key.shape[:2], 1, -1) for null in layers.null_key_value)
        key = torch.cat((null_key, key), dim=2)
        value = torch.cat((null_value, value), dim=2)
        query = functional.normalize(query, dim=-1) * layers.query_scale
        key = functional.normalize(key, dim=-1) * layers.key_scale
        weights = (torch.einsum("nhpd,nhtd->nhpt", query, key) * 8).softmax(dim=-1)
        answer = torch.einsum("nhpt,nhtd->nhpd", weights, value)
        answer = layers.to_out[0](rearrange(answer, "n h p d -> n p (h d)"))
        answer = functional.layer_norm(answer, answer.shape[-1:], layers.norm_out.weight, None, EPS)
        return rearrange(answer, "(b f) (h w) c -> b c f h w", b=batch, f=num_frames, h=height)


class PlainResidualBlock(nn.Module):
    """Two convolutions with group norms, the first modulated by time, with the conditions' answers between them."""

    def __init__(self, block: blocks_3d.ResidualBlock) -> None:
        super().__init__()
        self.block = block
        self.norm1, self.norm2 = PlainGroupNorm(block.norm1), PlainGroupNorm(block.norm2)
        attentions = {} if block.conditions is None else block.conditions.attentions
        self.attentions = nn.ModuleDict({name: PlainCrossAttention(layers) for name, layers in attentions.items()})

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor | None = None,
        conditions: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Map (B, C_in, F, H, W) to (B, C_out, F, H, W), given time (B, T) and conditions (B, F, D) by name."""
        scale_shift = None if time is None else self.block.time_projection(functional.silu(time))
        hidden = self.norm1(convolve(self.block.conv1, x), scale_shift)
        if conditions is not None:
            hidden = hidden + sum(attention(x, conditions[name]) for name, attention in self.attentions.items())
        hidden = self.norm2(convolve(self.block.conv2, hidden))
        shortcut = self.block.shortcut
        return hidden + (x if isinstance(shortcut, nn.Identity) else map_channels(shortcut, x))


class PlainSpatialAttention(nn.Module):
    """Attention over the pixels of each frame, linear or full, as a residual."""

    def __init__(self, attention: video_attention.SpatialLinearAttention | video_attention.SpatialAttention) -> None:
        super().__init__()
        self.attention = attention
        self.is_linear = isinstance(attention, video_attention.SpatialLinearAttention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, F, H, W) to the same shape."""
        layers = self.attention
        batch, _, num_frames, height, _ = x.shape
        pixels = rearrange(normalise_channels(x, layers.norm.weight), "b c f h w -> (b f) (h w) c")
        query, key, value = (
            rearrange(project(pixels), "n p (h d) -> n h p d", h=layers.num_heads)
            for project in (layers.to_q, layers.to_k, layers.to_v)
        )
        if self.is_linear:
            query = query.softmax(dim=-1) * query.shape[-1] ** -0.5
            mixed = torch.einsum("nhpd,nhpe->nhde", key.softmax(dim=-2), value)
            answer = torch.einsum("nhpd,nhde->nhpe", query, mixed)
        else:
            scores = torch.einsum("nhpd,nhqd->nhpq", query * query.shape[-1] ** -0.5, key)
            answer = torch.einsum("nhpq,nhqd->nhpd", scores.softmax(dim=-1), value)
        answer = layers.to_out[0](rearrange(answer, "n h p d -> n p (h d)"))
        return x + rearrange(answer, "(b f) (h w) c -> b c f h w", b=batch, f=num_frames, h=height)


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate neighbouring channels of (..., F, D) by angles (F, D / 2) [rad]."""
    angles = angles.repeat_interleave(2, dim=-1)
    even, odd = rearrange(x, "... (d two) -> two ... d", two=2)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * angles.cos().to(x.dtype) + turned * angles.sin().to(x.dtype)


class PlainTemporalAttention(nn.Module):
    """Attention of every pixel over all frames; those outside the window are masked."""

    def __init__(self, attention: video_attention.TemporalAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self, x: torch.Tensor, angles: torch.Tensor, bias: torch.Tensor, outside: torch.Tensor
    ) -> torch.Tensor:
        """Map (B, C, F, H, W) to the same shape, given angles (F, D / 2), bias (heads, F, F) and a mask (F, F)."""
        layers = self.attention
        height = x.shape[3]
        pixels = rearrange(normalise_channels(x, layers.norm.weight), "b c f h w -> b (h w) f c")
        query, key, value = (
            rearrange(project(pixels), "b p f (h d) -> b p h f d", h=layers.num_heads)
            for project in (layers.to_q, layers.to_k, layers.to_v)
        )
        query = rotate(query * layers.head_dim**-0.5, angles)
        key = rotate(key, angles)
        scores = torch.einsum("bphid,bphjd->bphij", query, key) + bias
        scores = scores.masked_fill(outside, float("-inf"))
        answer = torch.einsum("bphij,bphjd->bphid", scores.softmax(dim=-1), value)
        answer = layers.to_out[0](rearrange(answer, "b p h f d -> b p f (h d)"))
        return x + rearrange(answer, "b (h w) f c -> b c f h w", h=height)


class PlainLevel(nn.Module):
    """One resolution: block, block, attention in space, attention in time; in the middle the second block is last."""

    def __init__(self, level: nn.Module) -> None:
        super().__init__()
        self.level = level
        self.block1, self.block2 = PlainResidualBlock(level.block1), PlainResidualBlock(level.block2)
        self.spatial_attention = PlainSpatialAttention(level.spatial_attention)
        self.temporal_attention = PlainTemporalAttention(level.temporal_attention)
        self.is_middle = not hasattr(level, "resample")

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        conditions: dict[str, torch.Tensor],
        frames: tuple[torch.Tensor, ...],
    ) -> torch.Tensor:
        """Map (B, C_in, F, H, W) to (B, C_out, F, H, W), before resampling."""
        x = self.block1(x, time, conditions)
        if not self.is_middle:
            x = self.block2(x, time, conditions)
        x = self.spatial_attention(x)
        x = self.temporal_attention(x, *frames)
        return self.block2(x, time, conditions) if self.is_middle else x


class PlainDenoiser(nn.Module):
    """The denoiser in its plain formulation, on the parameters of a model.

    Args:
        model: The model whose parameters are used.
    """

    def __init__(self, model: A2VFlowDiffusionModel) -> None:
        super().__init__()
        self.model = model
        self.temporal_attention_in = PlainTemporalAttention(model.temporal_attention_in)
        self.down_levels = nn.ModuleList(map(PlainLevel, model.down_levels))
        self.middle = PlainLevel(model.middle)
        self.up_levels = nn.ModuleList(map(PlainLevel, model.up_levels))
        self.heads = nn.ModuleList(PlainResidualBlock(head.block) for head in (model.flow_head, model.occlusion_head))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: int,
        reference_features: torch.Tensor,
        face_location_features: torch.Tensor,
        audio_features: torch.Tensor,
        pose: torch.Tensor,
        blink: torch.Tensor,
    ) -> torch.Tensor:
        """Predict noise.

        Args:
            sample: Noisy motion (B, 3, F, h, w).
            timestep: Diffusion step.
            reference_features: Features of the source image (B, 256, h, w).
            face_location_features: Encoded face mask (B, 16, h, w).
            audio_features: Speech features at 25 fps (B, F, D).
            pose: Pose minus that of the reference (B, F, 6).
            blink: Eye openness minus that of the reference (B, F, 2).

        Returns:
            Prediction (B, 3, F, h, w).
        """
        model = self.model
        conditions = {"audio": audio_features, "pose": pose, "blink": blink}
        frames = self._frames(sample)
        time = model.time_embedding(torch.full(sample.shape[:1], timestep, device=sample.device), sample.dtype)
        constant = torch.cat((reference_features, face_location_features), dim=1)[:, :, None]
        x = torch.cat((sample, constant.expand(-1, -1, sample.shape[2], -1, -1)), dim=1)
        first = convolve(model.conv_in, x)  # (B, C, F, h, w)
        x = self.temporal_attention_in(first, *frames)
        skips = []
        for level in self.down_levels:
            x = level(x, time, conditions, frames)
            skips.append(x)
            x = resample(level.level.resample, x)
        x = self.middle(x, time, conditions, frames)
        for level in self.up_levels:
            x = level(torch.cat((x, skips.pop()), dim=1), time, conditions, frames)
            x = resample(level.level.resample, x)
        x = torch.cat((x, first), dim=1)
        flow_head, occlusion_head = self.heads
        flow = map_channels(model.flow_head.linear, flow_head(x))
        occlusion = map_channels(model.occlusion_head.linear, occlusion_head(x))
        return torch.cat((flow, occlusion), dim=1)

    def _frames(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        num_frames = sample.shape[2]
        positions = torch.arange(num_frames, device=sample.device)
        angles = positions.float()[:, None] * self.model.rotary.frequencies.float()
        offsets = positions[None] - positions[:, None]  # key - query
        bias = self.model.position_bias(num_frames - 1)[:, offsets + num_frames - 1]
        window = self.model.config.temporal_window
        outside = offsets.abs() > (num_frames if window is None else window)
        return angles, bias, outside
