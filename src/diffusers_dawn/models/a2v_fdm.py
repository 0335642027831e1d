"""A2V-FDM: the 3-D UNet that denoises the motion of all frames at once (paper section 3.3)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  pipelines look for it here when they load
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn import functional

from ..machine.float32_products import with_fast_products
from .attention import RelativePositionBias, RotaryEmbedding, attention_band, band_blocks
from .condition_attention import ConditionContext
from .condition_inputs import check_scales, condition_inputs
from .hooked_methods import hooked_like_forward
from .mouth_reader import NUM_MOUTH_NUMBERS, MouthReader
from .native_features import NativeFeatures
from .own_code import CarriesCode
from .size_limits import FLOW_SCALES, check_numbers, check_sizes, check_windows_in_time
from .unet_levels import FaceLocationEncoder, OutputHead, TimeEmbedding, UNetLevel, UNetMiddle
from .video_attention import FrameContext, TemporalAttention, add_attention
from .video_layers import PartialConv2d


class VideoContext(NamedTuple):
    """Everything a denoising call needs that depends on the clip only, not on step or noise.

    Attributes:
        reference: Share of the reference in the first convolution (B, 1, h, w, C).
        conditions: Projected conditions of every conditioned block, in the order they run.
    """

    reference: torch.Tensor
    conditions: list[ConditionContext]


@dataclass
class A2VFlowDiffusionOutput(BaseOutput):
    """Output of `A2VFlowDiffusionModel`.

    Args:
        sample: Prediction of the denoiser (B, 3, F, h, w).
        deep_features: What the deep levels made, where it was asked for.
    """

    sample: torch.Tensor
    deep_features: torch.Tensor | None = None


class A2VFlowDiffusionModel(CarriesCode, NativeFeatures):
    """Predict the noise in the motion of all frames of a clip from speech, pose, blink and one reference image.

    The motion is (flow x, flow y, 2 * occlusion - 1) at a quarter of the image's size, see `geometry.motion_latents`.
    The defaults are the published model for 128 px; the network is convolutional, other sizes use the same weights.

    Args:
        sample_size: Height and width of the motion in training (h = w = image / 4).
        in_channels: Channels of the motion.
        reference_channels: Channels of the reference features.
        face_location_channels: Channels of the encoded face mask.
        block_out_channels: Channels per resolution.
        audio_dim: Width of the audio features.
        pose_dim: Width of the pose differences.
        blink_dim: Width of the blink differences.
        num_attention_heads: Heads of the attentions in space and time.
        attention_head_dim: Channels per such head.
        condition_heads: Heads of the cross-attentions to the conditions.
        condition_head_dim: Channels per such head.
        temporal_window: In eval mode, frames farther than this do not attend to each other; None: all do.
        position_buckets: Rows of the relative position table, at least 4.
        position_max_distance: Distance from which positions share a bucket [frames], more than a quarter of the rows.
        norm_num_groups: Groups of the group norms.
        patch_size: Side of the squares of cells that become channels of one, as in vision transformers; 1, as
            published. With 2 a motion of 64x64 costs what one of 32x32 does.
        flow_scale: None: the flow of the motion is positions, as published; a number: displacements times it. The
            network itself does not use it, but its weights belong to one choice.
        pose_scale: Factor of each pose difference, which is embedded together with its negative; None: neither, as
            published.
        blink_scale: The same for each blink difference.
        mouth_reader_channels: Channels of a `MouthReader`, which tells the denoiser in numbers what speech says about
            the mouth; None: there is none, as published.

    Raises:
        ValueError: A size, window or scale is out of range, `patch_size` does not divide `sample_size`, or
            `pose_scale` or `blink_scale` is not as long as its condition.
    """

    _keep_in_fp32_modules = ["rotary"]
    _repeated_blocks = ["UNetLevel", "UNetMiddle"]
    _no_split_modules = ["UNetLevel", "UNetMiddle", "TemporalAttention", "OutputHead"]
    _skip_layerwise_casting_patterns = ["norm"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        reference_channels: int = 256,
        face_location_channels: int = 16,
        block_out_channels: tuple[int, ...] = (64, 128, 256, 512),
        audio_dim: int = 1024,
        pose_dim: int = 6,
        blink_dim: int = 2,
        num_attention_heads: int = 8,
        attention_head_dim: int = 32,
        condition_heads: int = 8,
        condition_head_dim: int = 8,
        temporal_window: int | None = 40,
        position_buckets: int = 32,
        position_max_distance: int = 32,
        norm_num_groups: int = 8,
        flow_scale: float | None = None,
        pose_scale: tuple[float, ...] | None = None,
        blink_scale: tuple[float, ...] | None = None,
        mouth_reader_channels: int | None = None,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        check_sizes({
            "sample_size": sample_size,
            "in_channels": in_channels,
            "reference_channels": reference_channels,
            "face_location_channels": face_location_channels,
            "block_out_channels": block_out_channels,
            "audio_dim": audio_dim,
            "pose_dim": pose_dim,
            "blink_dim": blink_dim,
            "num_attention_heads": num_attention_heads,
            "attention_head_dim": attention_head_dim,
            "condition_heads": condition_heads,
            "condition_head_dim": condition_head_dim,
            "position_buckets": position_buckets,
            "position_max_distance": position_max_distance,
            "norm_num_groups": norm_num_groups,
            "patch_size": patch_size,
        })
        check_windows_in_time({"temporal_window": temporal_window})
        condition_dims = {"audio": audio_dim, "pose": pose_dim, "blink": blink_dim}
        scales = {"pose": pose_scale, "blink": blink_scale}
        check_scales(scales, condition_dims)
        self.mouth_reader = None
        if mouth_reader_channels is not None:
            check_sizes({"mouth_reader_channels": mouth_reader_channels})
            self.mouth_reader = MouthReader(audio_dim, mouth_reader_channels)
            condition_dims["mouth"] = NUM_MOUTH_NUMBERS
        if sample_size % patch_size:
            raise ValueError(f"`patch_size` is {patch_size}, must divide `sample_size`, {sample_size}")
        check_numbers({"flow_scale": flow_scale}, *FLOW_SCALES)
        widths = list(block_out_channels)
        first, last, time_dim = widths[0], widths[-1], 4 * widths[0]
        block = {
            "norm_groups": norm_num_groups,
            "time_dim": time_dim,
            "condition_dims": condition_dims,
            "signed_conditions": frozenset({"mouth", *(name for name in scales if scales[name] is not None)}),
            "condition_heads": condition_heads,
            "condition_head_dim": condition_head_dim,
        }
        attention = {"num_heads": num_attention_heads, "head_dim": attention_head_dim}
        self.face_location_encoder = FaceLocationEncoder(face_location_channels)
        self.time_embedding = TimeEmbedding(first, time_dim)
        self.position_bias = RelativePositionBias(position_buckets, position_max_distance, num_attention_heads)
        self.rotary = RotaryEmbedding(attention_head_dim)
        patch, inputs = patch_size**2, in_channels + reference_channels + face_location_channels
        # three patches see as much as seven cells
        kernel = 7 if patch_size == 1 else 3
        self.conv_in = PartialConv2d(patch * inputs, first, kernel, padding=kernel // 2)
        self.temporal_attention_in = TemporalAttention(first, **attention)
        self.down_levels = nn.ModuleList(
            UNetLevel(
                channels_in,
                channels,
                block,
                attention,
                None if index == len(widths) - 1 else nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            )
            for index, (channels_in, channels) in enumerate(zip([first, *widths], widths, strict=False))
        )
        self.middle = UNetMiddle(last, block, attention)
        self.up_levels = nn.ModuleList(
            UNetLevel(
                2 * channels,
                channels_out,
                block,
                attention,
                None if index == len(widths) - 1 else nn.ConvTranspose2d(channels_out, channels_out, 4, 2, padding=1),
            )
            for index, (channels, channels_out) in enumerate(zip(widths[::-1], [*widths[-2::-1], first], strict=True))
        )
        self.flow_head = OutputHead(2 * first, first, patch * (in_channels - 1), norm_num_groups)
        self.occlusion_head = OutputHead(2 * first, first, patch, norm_num_groups)
        self.gradient_checkpointing = False

    @property
    def size_multiple(self) -> int:
        """Multiple that height and width of the motion must be of."""
        return self.config.patch_size * 2 ** (len(self.config.block_out_channels) - 1)

    @property
    def _motion_channels(self) -> int:
        # of the first convolution; the reference's follow
        return self.config.in_channels * self.config.patch_size**2

    @hooked_like_forward
    @with_fast_products
    def encode_face_location(self, face_mask: torch.Tensor) -> torch.Tensor:
        """Encode a face mask (B, 1, 4 h, 4 w) as features (B, C, h, w)."""
        return self.face_location_encoder(face_mask)

    @hooked_like_forward
    @with_fast_products
    def prepare_context(
        self,
        reference_features: torch.Tensor,
        face_location_features: torch.Tensor,
        audio_features: torch.Tensor,
        pose: torch.Tensor,
        blink: torch.Tensor,
    ) -> VideoContext:
        """Compute once per clip what is constant over the denoising steps.

        Args:
            reference_features: Features of the source image (B, 256, h, w).
            face_location_features: Result of `encode_face_location` (B, 16, h, w).
            audio_features: Speech features at 25 fps (B, F, D); zeros are the null condition.
            pose: Pose minus that of the reference (B, F, 6) [deg, and units of the face state].
            blink: Eye openness minus that of the reference (B, F, 2).

        Returns:
            The context for `forward`.

        Raises:
            ValueError: A width, a size or a number of frames does not fit.
        """
        return self._prepare_context(reference_features, face_location_features, audio_features, pose, blink)

    @hooked_like_forward
    @with_fast_products
    def project_conditions(
        self, audio_features: torch.Tensor, pose: torch.Tensor, blink: torch.Tensor
    ) -> list[ConditionContext]:
        """Compute the part of the context that depends on the conditions.

        Args:
            audio_features: Speech features at 25 fps (B, F, D); zeros are the null condition.
            pose: Pose minus that of the reference (B, F, 6) [deg, and units of the face state].
            blink: Eye openness minus that of the reference (B, F, 2).

        Returns:
            Projected conditions of every conditioned block, in the order they run.

        Raises:
            ValueError: A width or a number of frames does not fit.
        """
        return self._project_conditions(audio_features, pose, blink)

    def _prepare_context(
        self, reference_features: torch.Tensor, face_location_features: torch.Tensor, *conditions: torch.Tensor | None
    ) -> VideoContext:
        projected = self._project_conditions(*conditions)
        batch, size = conditions[0].shape[0], reference_features.shape[2:]
        references = {"reference_features": reference_features, "face_location_features": face_location_features}
        widths = self.config.reference_channels, self.config.face_location_channels
        for (name, features), width in zip(references.items(), widths, strict=True):
            if tuple(features.shape) != (batch, width, *size):
                raise ValueError(f"`{name}` is {tuple(features.shape)}, must be {(batch, width, *size)}")
        constant = torch.cat([features.to(reference_features.device) for features in references.values()], dim=1)
        constant = functional.pixel_unshuffle(constant, self.config.patch_size)
        reference = self.conv_in(constant, slice(self._motion_channels, None))
        reference = reference.permute(0, 2, 3, 1)[:, None].contiguous()
        return VideoContext(reference, projected)

    def _project_conditions(self, *conditions: torch.Tensor | None) -> list[ConditionContext]:
        inputs = condition_inputs(self.config, self.mouth_reader, *conditions)
        return [projected for level in self._levels() for projected in level.project_conditions(inputs)]

    @with_fast_products
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        reference_features: torch.Tensor | None = None,
        face_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        pose: torch.Tensor | None = None,
        blink: torch.Tensor | None = None,
        mouth: torch.Tensor | None = None,
        context: VideoContext | None = None,
        deep_features: torch.Tensor | None = None,
        return_deep_features: bool = False,
        return_dict: bool = True,
    ) -> A2VFlowDiffusionOutput | tuple[torch.Tensor, ...]:
        """Predict noise (or what the scheduler is told) for noisy motion.

        In train mode the whole clip attends in time, in eval mode the window of the config holds.

        Args:
            sample: Noisy motion (B, 3, F, h, w); h and w are multiples of `size_multiple`.
            timestep: Diffusion steps, a number or (B,).
            reference_features: Features of the source image (B, 256, h, w); with the next four, instead of context.
            face_mask: Mask of the face's box (B, 1, 4 h, 4 w).
            audio_features: Speech features at 25 fps (B, F, D).
            pose: Pose minus that of the reference (B, F, 6).
            blink: Eye openness minus that of the reference (B, F, 2).
            mouth: How far the mouth is open, and how much wider than usual (B, F, 2), of the height of the face, less
                `MOUTH_MEANS` and over `MOUTH_DEVIATIONS`; None: as read from speech. Only with a `MouthReader`.
            context: Result of `prepare_context` for this clip.
            deep_features: Of an earlier step, from which they hardly differ: all levels but the highest resolution
                are left out (DeepCache, arXiv 2312.00858).
            return_deep_features: Whether to return them too (B, F, h / 2, w / 2, C).
            return_dict: Whether to return an `A2VFlowDiffusionOutput` instead of a tuple.

        Returns:
            Prediction (B, 3, F, h, w), and the deep features where they are asked for.

        Raises:
            ValueError: The motion's size does not fit the network, or not the context, or the network has a single
                level and deep features are given or asked for.
        """
        batch, channels, num_frames, height, width = sample.shape
        if channels != self.config.in_channels or height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"`sample` is {tuple(sample.shape)}, must be (B, {self.config.in_channels}, F, h, w) with h and w "
                f"multiples of {self.size_multiple}"
            )
        if context is None:
            inputs = (reference_features, face_mask, audio_features, pose, blink)
            if any(tensor is None for tensor in inputs):
                raise ValueError(
                    "give either `context` or all of `reference_features`, `face_mask`, `audio_features`, `pose` and "
                    "`blink`"
                )
            location = self.face_location_encoder(face_mask)
            context = self._prepare_context(reference_features, location, audio_features, pose, blink, mouth)
        if context.reference.shape[0] != batch or context.conditions[0].gram.shape[0] != batch * num_frames:
            raise ValueError(
                f"`sample` has {batch} clip(s) of {num_frames} frame(s), the context {context.reference.shape[0]} "
                f"clip(s) of {context.conditions[0].gram.shape[0]} frame(s) together; they must be equal"
            )
        wanted = tuple(side * self.config.patch_size for side in context.reference.shape[2:4])
        if wanted != (height, width):
            raise ValueError(f"`sample` is {height}x{width}, must be {wanted[0]}x{wanted[1]} like the reference")
        timestep = torch.as_tensor(timestep, device=sample.device).expand(batch)
        time = self.time_embedding(timestep, sample.dtype)
        frames = self._frame_context(num_frames, sample.dtype)

        # the reference's share of the first convolution is added, not computed again   (B, F, h, w, C)
        x = functional.pixel_unshuffle(sample.transpose(1, 2).flatten(0, 1), self.config.patch_size)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x, slice(self._motion_channels), with_bias=False)
        x = x.permute(0, 2, 3, 1).unflatten(0, (batch, -1))
        first = x + context.reference if torch.is_grad_enabled() else x.add_(context.reference)
        x = add_attention(first.clone(), self.temporal_attention_in, frames)

        if len(self.down_levels) == 1 and (deep_features is not None or return_deep_features):
            raise ValueError("`deep_features` need a network of several levels, this one has one")
        conditions = [context.conditions[index : index + 2] for index in range(0, len(context.conditions), 2)]
        x, skip = self._run(self.down_levels[0], x, time, conditions[0], frames)
        if deep_features is None:
            x, deep_features = self._run_deep_levels(x, time, conditions[1:-1], frames)
        else:
            x = self.up_levels[-2].resampled(deep_features)
        # `device_map` may have put levels and heads on several devices
        x = torch.cat((x, skip.to(x.device)), dim=-1)
        x, _ = self._run(self.up_levels[-1], x, time, conditions[-1], frames)

        x = torch.cat((x, first.to(x.device)), dim=-1)
        flow = self.flow_head(x)
        patches = torch.cat((flow, self.occlusion_head(x).to(flow.device)), dim=-1).flatten(0, 1).permute(0, 3, 1, 2)
        prediction = functional.pixel_shuffle(patches, self.config.patch_size).unflatten(0, (batch, -1))
        prediction = prediction.transpose(1, 2)  # (B, 3, F, h, w)
        output = A2VFlowDiffusionOutput(prediction, deep_features if return_deep_features else None)
        return output if return_dict else output.to_tuple()

    def _run_deep_levels(
        self, x: torch.Tensor, time: torch.Tensor, conditions: list[list[ConditionContext]], frames: FrameContext
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # all between the first level down and the last level up; the second result is before the last resampling
        conditions, skips, deep_features = iter(conditions), [], None
        for level in self.down_levels[1:]:
            x, skip = self._run(level, x, time, next(conditions), frames)
            skips.append(skip)
        x = self._run(self.middle, x, time, next(conditions), frames)
        for level in self.up_levels[:-1]:
            x = torch.cat((x, skips.pop().to(x.device)), dim=-1)
            x, deep_features = self._run(level, x, time, next(conditions), frames)
        return x, deep_features

    def _levels(self) -> list[nn.Module]:
        return [*self.down_levels, self.middle, *self.up_levels]

    def _frame_context(self, num_frames: int, dtype: torch.dtype) -> FrameContext:
        window = None if self.training else self.config.temporal_window
        cos, sin = (table[:, None] for table in self.rotary(num_frames))  # over heads
        # compiled code has one graph for any number of blocks; compiled levels of a network that is not take the band
        compiling = torch.compiler.is_compiling()
        blocks = [] if compiling else band_blocks(self.position_bias, num_frames, window, dtype)
        return FrameContext(cos, sin, blocks, attention_band(self.position_bias, num_frames, window, dtype))
