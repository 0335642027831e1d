"""Latent flow generator: an image and a motion in, frames out (paper section 3.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook

from ..geometry.flow import warp
from .image_coding import EncodedImage, ImageDecoder, ImageEncoder
from .own_code import CarriesCode
from .region_motion import BackgroundPredictor, FlowPredictor, Motion, RegionPredictor, Regions
from .size_limits import check_numbers, check_sizes

IMAGE_SAMPLINGS = ("bilinear", "bicubic")
IMAGE_BORDERS = ("black", "repeated")


@dataclass
class LatentFlowGeneratorOutput(BaseOutput):
    """What training needs of one pair of images.

    It holds tensors only, because tools that walk through outputs know no other records; `motion` joins them. All are
    there, though the hooks of accelerate, which make outputs anew, ask for defaults.

    Attributes:
        prediction: The driving image as drawn from the source (B, 3, H, W) in [0, 1].
        deformed: The warped source, nothing filled in (B, 3, H, W).
        flow: As in `Motion`, as are the occlusion and the background.
        occlusion: Tensor (B, 1, h, w).
        background: Tensor (B, 3, 3).
        source_shift: As in `Regions`, of the source, as are the next three.
        source_covar: Tensor (B, K, 2, 2).
        source_affine: Tensor (B, K, 2, 2).
        source_heatmap: Tensor (B, K, h, w).
        driving_shift: As in `Regions`, of the driving image, as are the next three.
        driving_covar: Tensor (B, K, 2, 2).
        driving_affine: Tensor (B, K, 2, 2).
        driving_heatmap: Tensor (B, K, h, w).
    """

    prediction: torch.Tensor
    deformed: torch.Tensor | None = None
    flow: torch.Tensor | None = None
    occlusion: torch.Tensor | None = None
    background: torch.Tensor | None = None
    source_shift: torch.Tensor | None = None
    source_covar: torch.Tensor | None = None
    source_affine: torch.Tensor | None = None
    source_heatmap: torch.Tensor | None = None
    driving_shift: torch.Tensor | None = None
    driving_covar: torch.Tensor | None = None
    driving_affine: torch.Tensor | None = None
    driving_heatmap: torch.Tensor | None = None

    @property
    def motion(self) -> Motion:
        """The estimated motion."""
        source, driving = (
            Regions(**{name: self[f"{image}_{name}"] for name in Regions._fields}) for image in ("source", "driving")
        )
        return Motion(self.flow, self.occlusion, source, driving, self.background)


class LatentFlowGenerator(CarriesCode, ModelMixin, ConfigMixin):
    """Autoencoder of motion: estimates the flow between two images, and draws an image moved by a flow.

    Inference needs `encode_image` and `decode_motion` only; `with_motion_estimator=False` leaves the rest out. A
    batch norm whose weight does not require gradients keeps its running statistics even in train mode, so
    `requires_grad_(False)` is all it takes to freeze the model inside a larger one. Gradient checkpointing is not
    offered: computing a batch norm twice per step would move its running statistics twice.

    Args:
        image_size: Height and width [px] the weights were trained for; other sizes work, being convolutions.
        num_regions: Number of regions whose motions make up the flow.
        block_out_channels: Widths of encoder and decoder from full resolution to the deepest.
        num_bottleneck_blocks: Number of residual blocks of the decoder.
        flow_channels: Widths of the flow predictor's hourglass, from its last up block to the innermost level.
        region_channels: Widths of the region predictor's hourglass, likewise.
        background_channels: Widths of the background predictor's down blocks.
        motion_stride: Factor by which images are shrunk before motion is estimated.
        region_temperature: Divides the logits of the region heatmaps.
        image_sampling: How the source image is warped into the frames: "bilinear", as published, or "bicubic", which
            keeps a face that moves nearly as sharp as one that stands still. Weights fit either.
        image_border: What warping finds outside of the source image: "black", as published, or "repeated", its
            outermost pixels, so that a head that moves drags no black in. Weights fit the one they were trained with.
        still_background: Whether pipelines keep still what shows no person, as the films had it that the weights were
            trained on. Published weights move what is around the head, too.
        with_motion_estimator: Whether the model can estimate motion, which training and its targets need.

    Raises:
        ValueError: The motion's resolution is not that of the deepest features, or `image_sampling` or
            `image_border` is none of its two.
    """

    # frames are drawn with weights that norms are folded into, which hooks of single layers do not see
    _supports_group_offloading = False
    _repeated_blocks = None  # small: it is compiled whole
    # they hold what skips connect, or what is joined without a layer
    _no_split_modules = [
        "ImageEncoder",
        "ImageDecoder",
        "RegionPredictor",
        "BackgroundPredictor",
        "FlowPredictor",
    ]
    # positions need their digits
    _skip_layerwise_casting_patterns = ["norm", "affine"]

    @register_to_config
    def __init__(
        self,
        image_size: int = 128,
        num_regions: int = 10,
        block_out_channels: tuple[int, ...] = (64, 128, 256),
        num_bottleneck_blocks: int = 6,
        flow_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024),
        region_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 1024),
        background_channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        motion_stride: int = 4,
        region_temperature: float = 0.1,
        image_sampling: str = "bilinear",
        image_border: str = "black",
        still_background: bool = False,
        with_motion_estimator: bool = True,
    ):
        super().__init__()
        check_sizes({
            "image_size": image_size,
            "num_regions": num_regions,
            "block_out_channels": block_out_channels,
            "num_bottleneck_blocks": num_bottleneck_blocks,
            "flow_channels": flow_channels,
            "region_channels": region_channels,
            "background_channels": background_channels,
        })
        check_numbers({"region_temperature": region_temperature}, 1e-6, 1e6)
        if motion_stride != 2 ** (len(block_out_channels) - 1):
            raise ValueError(
                f"`motion_stride` is {motion_stride}, must be {2 ** (len(block_out_channels) - 1)} "
                f"for {len(block_out_channels)} `block_out_channels`"
            )
        for name, given, allowed in (
            ("image_sampling", image_sampling, IMAGE_SAMPLINGS),
            ("image_border", image_border, IMAGE_BORDERS),
        ):
            if given not in allowed:
                raise ValueError(f"`{name}` is {given!r}, must be one of {', '.join(map(repr, allowed))}")
        self.encoder = ImageEncoder(block_out_channels)
        self.decoder = ImageDecoder(block_out_channels, num_bottleneck_blocks, image_sampling, image_border)
        if with_motion_estimator:
            self.region_predictor = RegionPredictor(num_regions, region_channels, motion_stride, region_temperature)
            self.background_predictor = BackgroundPredictor(background_channels)
            self.flow_predictor = FlowPredictor(num_regions, flow_channels, motion_stride)

    @apply_forward_hook
    def encode_image(self, image: torch.Tensor) -> EncodedImage:
        """Encode images once for any number of frames.

        Args:
            image: Images (B, 3, H, W) in [0, 1]; H and W divisible by `motion_stride`.

        Returns:
            The encoded images; `.features` (B, C, H / 4, W / 4) are the reference features.

        Raises:
            ValueError: The shape does not fit.
        """
        return self._encode(image)

    @apply_forward_hook
    def estimate_regions(self, image: torch.Tensor) -> Regions:
        """Find the regions of images (the equivariance losses of training compare them).

        Args:
            image: Images (B, 3, H, W) in [0, 1].

        Returns:
            The regions.

        Raises:
            ValueError: The shape does not fit, or the model has no motion estimator.
        """
        self._check_motion_input("image", image)
        return self.region_predictor(image.to(self.dtype))

    @apply_forward_hook
    def estimate_motion(self, source: torch.Tensor, driving: torch.Tensor) -> Motion:
        """Estimate how the source has to move to look like the driving image.

        Args:
            source: Images (B, 3, H, W) in [0, 1].
            driving: Images (B, 3, H, W) in [0, 1].

        Returns:
            The motion: flow (B, H / 4, W / 4, 2), occlusion (B, 1, H / 4, W / 4) and what they came from.

        Raises:
            ValueError: The shapes do not fit, or the model has no motion estimator.
        """
        return self._estimate(source, driving)

    @apply_forward_hook
    def decode_chunks(
        self, encoded: EncodedImage, flow: torch.Tensor, occlusion: torch.Tensor, chunk_size: int = 8
    ) -> Iterator[torch.Tensor]:
        """Draw frames from one encoded image, a few at a time, so that memory does not grow with their number.

        Args:
            encoded: Result of `encode_image`.
            flow: Positions in the image (B, F, h, w, 2) in grid_sample units.
            occlusion: Visibility (B, F, 1, h, w) in [0, 1].
            chunk_size: Frames drawn at once.

        Returns:
            An iterator over frames (B, up to chunk_size, 3, H, W) in [0, 1], in the dtype of the encoded image.

        Raises:
            ValueError: The shapes do not fit, or `chunk_size` is less than 1.
        """
        return self._decode_chunks(encoded, flow, occlusion, chunk_size)

    @apply_forward_hook
    def decode_motion(
        self, encoded: EncodedImage, flow: torch.Tensor, occlusion: torch.Tensor, chunk_size: int = 8
    ) -> torch.Tensor:
        """Draw all frames from one encoded image; `decode_chunks`, joined.

        Args:
            encoded: Result of `encode_image`.
            flow: Positions in the image (B, F, h, w, 2) in grid_sample units.
            occlusion: Visibility (B, F, 1, h, w) in [0, 1].
            chunk_size: Frames drawn at once.

        Returns:
            Frames (B, F, 3, H, W) in [0, 1], in the dtype of the encoded image.

        Raises:
            ValueError: The shapes do not fit, or `chunk_size` is less than 1.
        """
        return torch.cat(list(self._decode_chunks(encoded, flow, occlusion, chunk_size)), dim=1)

    def forward(
        self, source: torch.Tensor, driving: torch.Tensor, return_dict: bool = True
    ) -> LatentFlowGeneratorOutput | tuple[torch.Tensor, ...]:
        """Draw the driving image from the source, as in training.

        Args:
            source: Images (B, 3, H, W) in [0, 1].
            driving: Images (B, 3, H, W) in [0, 1].
            return_dict: Whether to return a record instead of a tuple.

        Returns:
            Prediction, deformed source and what the motion consists of.

        Raises:
            ValueError: The shapes do not fit, or the model has no motion estimator.
        """
        motion = self._estimate(source, driving)
        encoded = self._encode(source)
        flow, occlusion = motion.flow[:, None], motion.occlusion[:, None]
        prediction = self.decoder(encoded, flow, occlusion, self.decoder.blocks())[:, 0]
        # `device_map` may have put the estimator elsewhere
        deformed = warp(source.to(motion.flow.device), motion.flow)
        regions = {
            f"{image}_{name}": tensor
            for image, found in (("source", motion.source_regions), ("driving", motion.driving_regions))
            for name, tensor in found._asdict().items()
        }
        output = LatentFlowGeneratorOutput(
            prediction, deformed, motion.flow, motion.occlusion, motion.background, **regions
        )
        return output if return_dict else output.to_tuple()

    def _encode(self, image: torch.Tensor) -> EncodedImage:
        _check_image("image", image, self.config.motion_stride)
        return EncodedImage(image, self.encoder(image.to(self.dtype)))

    def _estimate(self, source: torch.Tensor, driving: torch.Tensor) -> Motion:
        self._check_motion_input("source", source)
        self._check_motion_input("driving", driving)
        if source.shape != driving.shape:
            raise ValueError(f"`driving` is {tuple(driving.shape)}, must be {tuple(source.shape)} as `source`")
        dtype = self.dtype
        source, driving = source.to(dtype), driving.to(dtype)
        source_regions, driving_regions = self.region_predictor(source), self.region_predictor(driving)
        background = self.background_predictor(source, driving)
        flow, occlusion = self.flow_predictor(source, source_regions, driving_regions, background)
        return Motion(flow, occlusion, source_regions, driving_regions, background)

    def _decode_chunks(
        self, encoded: EncodedImage, flow: torch.Tensor, occlusion: torch.Tensor, chunk_size: int
    ) -> Iterator[torch.Tensor]:
        batch = encoded.image.shape[0]
        if flow.ndim != 5 or flow.shape[0] != batch or flow.shape[1] == 0 or flow.shape[-1] != 2:
            raise ValueError(f"`flow` is {tuple(flow.shape)}, must be ({batch}, F, h, w, 2) with F at least 1")
        frames, height, width = flow.shape[1:4]
        if occlusion.shape != (batch, frames, 1, height, width):
            wanted = (batch, frames, 1, height, width)
            raise ValueError(f"`occlusion` is {tuple(occlusion.shape)}, must be {wanted} as `flow`")
        if chunk_size < 1:
            raise ValueError(f"`chunk_size` is {chunk_size}, must be at least 1")
        blocks = self.decoder.blocks()
        pairs = zip(flow.split(chunk_size, dim=1), occlusion.split(chunk_size, dim=1), strict=True)
        return (self.decoder(encoded, *pair, blocks) for pair in pairs)

    def _check_motion_input(self, name: str, image: torch.Tensor) -> None:
        if not self.config.with_motion_estimator:
            raise ValueError("`with_motion_estimator` is False: this model only encodes and decodes")
        levels = len(self.config.background_channels)
        hourglass_levels = max(len(self.config.flow_channels), len(self.config.region_channels)) - 1
        stride = max(2**levels, self.config.motion_stride * 2**hourglass_levels)
        _check_image(name, image, stride)


def _check_image(name: str, image: torch.Tensor, stride: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % stride or image.shape[3] % stride:
        raise ValueError(f"`{name}` is {tuple(image.shape)}, must be (B, 3, H, W) with H and W divisible by {stride}")
