"""How much memory a clip needs, before it is rendered."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from diffusers.hooks import TaylorSeerCacheConfig

from ..models.video_layers import CHUNK_TOKENS_CPU, CHUNK_TOKENS_DEVICE, LEAST_PIXELS
from ..records import FPS, SAMPLE_RATE_HZ
from ..speech.features import FRAMES_PER_PIECE

# Fitted to peaks measured at three sizes of the networks on a CPU (benchmarks/long_audio.py prints them beside the
# estimate). The widest part of the denoiser holds about this many copies of the first convolution's output, the
# decoder of its first layer's, the audio encoder of its first convolution's. Half precision saves little of them on a
# CPU, because much is computed in float32; of the denoiser's it saves more
ACTIVATION_COPIES = 7.8
DECODER_COPIES = 4.0
AUDIO_ENCODER_COPIES = 3.4
SHARE_IN_HALF_PRECISION = 0.9
DENOISER_SHARE_IN_HALF_PRECISION = 0.65
# Counted, not fitted: in temporal attention a token of a chunk exists this many times, heads * head_dim wide. On a CPU
# chunks are small; on a GPU, where they are large, this has not been measured yet
CHUNK_COPIES = 10
# Copies of all frames' latents in a sampler's step, by its class, and in one of those that hold the most of them
LATENT_COPIES = {"DAWNDDIMScheduler": 6, "DDIMScheduler": 8}
MOST_LATENT_COPIES = 12
# Copies of the recording: as given, resampled, normalised twice
RECORDING_COPIES = 4
# what convolutions and products work in, beside their inputs and outputs
WORKSPACE_BYTES = 130 * 2**20
# Of the denoiser's activations, what glibc keeps after they are freed; later tensors take its place unless they are
# large, for which glibc always asks the system
KEPT_BYTES = 100 * 2**20
LARGE_BYTES = 32 * 2**20
FLOAT_BYTES = 4
# what is kept per window is kept twice of frames that windows share, usually one in four
SHARE_IN_WINDOWS = 1.25
# of diffusers, on the attentions that a cache makes remember
CACHE_HOOKS = frozenset({"pyramid_attention_broadcast", "taylorseer_cache"})


class ClipSize(NamedTuple):
    """What the memory for rendering depends on, apart from the networks.

    Attributes:
        num_frames: Frames F.
        height: Height of the video [px].
        width: Width of the video [px].
        window_frames: Frames that are denoised at once; F for one pass.
        batch_size: Clips that are rendered together.
        num_guiding: How many calls guidance adds to each, without conditions or some of them.
        output_type: Form of the frames, one of `pipeline.output.OUTPUT_TYPES`.
        decode_chunk_size: Frames drawn at once.
        latent_copies: Copies of the latents that the sampler's step holds.
        keeps_deep_features: Whether the denoiser's deep features are kept for later steps.
    """

    num_frames: int
    height: int
    width: int
    window_frames: int
    batch_size: int = 1
    num_guiding: int = 0
    output_type: str = "pil"
    decode_chunk_size: int = 8
    latent_copies: int = MOST_LATENT_COPIES
    keeps_deep_features: bool = False


def latent_copies(scheduler: object) -> int:
    """Tell how many copies of all frames' latents a sampler's step holds."""
    return LATENT_COPIES.get(type(scheduler).__name__, MOST_LATENT_COPIES)


def weight_bytes(modules: Iterable[torch.nn.Module], dtype: torch.dtype | None = None) -> int:
    """Sum the sizes of all tensors of modules [bytes], floating ones as they are or in another precision."""
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    if dtype is None:
        return sum(tensor.nbytes for tensor in tensors)
    return sum(tensor.numel() * (dtype if tensor.is_floating_point() else tensor.dtype).itemsize for tensor in tensors)


def stage_bytes(
    denoiser: torch.nn.Module,
    decoder: torch.nn.Module,
    audio_encoder: torch.nn.Module,
    size: ClipSize,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> dict[str, int]:
    """Estimate what each stage of rendering holds at its peak, beside the weights.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        decoder: `LatentFlowGenerator`.
        audio_encoder: The encoder of speech.
        size: What is rendered.
        device: Where.
        dtype: In which precision; None: that of each network.

    Returns:
        Bytes by stage.
    """
    stride = decoder.config.motion_stride
    height, width = size.height // stride, size.width // stride
    num_frames = size.batch_size * size.num_frames
    features = num_frames * denoiser.config.audio_dim * FLOAT_BYTES
    latents = num_frames * denoiser.config.in_channels * height * width * FLOAT_BYTES
    window = size.batch_size * min(size.window_frames, size.num_frames)
    network = denoising_bytes(denoiser, window, height, width, size.num_guiding, device, dtype)
    layer, weights = _drawing_bytes(decoder, size, dtype)
    on_cpu = device.type == "cpu"
    kept = min(network, KEPT_BYTES) if on_cpu else 0
    output = output_bytes(size) if on_cpu or size.output_type == "pt" else 0
    kept_frames = (
        (1 + size.num_guiding) * num_frames * (SHARE_IN_WINDOWS if size.window_frames < size.num_frames else 1)
    )
    between_steps = kept_attention_bytes(denoiser, kept_frames, height, width, dtype)
    if size.keeps_deep_features:
        between_steps += _deep_feature_bytes(denoiser, kept_frames, height, width, dtype)
    return {
        "speech features": features + _speech_bytes(audio_encoder, size.num_frames, dtype),
        # the noisy latents, and the prediction so far
        "denoising": features + 2 * latents + network + between_steps,
        "sampler's step": features + size.latent_copies * latents + between_steps + kept * (latents >= LARGE_BYTES),
        "frames": latents + output + round(DECODER_COPIES * layer) + weights + kept * (layer >= LARGE_BYTES),
    }


def denoising_bytes(
    denoiser: torch.nn.Module,
    num_frames: int,
    height: int,
    width: int,
    num_guiding: int = 0,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> int:
    """Estimate what one call of the denoiser holds beside the weights, contexts included; linear in the frames.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        num_frames: Frames of all clips together.
        height: Height of the motion h.
        width: Width of the motion w.
        num_guiding: How many contexts of guidance exist beside it.
        device: Where it runs; None: where it is.
        dtype: In which precision; None: its own.

    Returns:
        Bytes.
    """
    config, dtype = denoiser.config, dtype or denoiser.dtype
    height, width = _in_patches(denoiser, height, width)
    value_bytes = _activation_bytes(dtype, DENOISER_SHARE_IN_HALF_PRECISION)
    activations = ACTIVATION_COPIES * value_bytes * height * width * config.block_out_channels[0]
    on_cpu = (device or denoiser.device).type == "cpu"
    chunk = max(CHUNK_TOKENS_CPU if on_cpu else CHUNK_TOKENS_DEVICE, LEAST_PIXELS * num_frames)
    chunk = min(chunk, num_frames * height * width)
    heads = config.num_attention_heads * config.attention_head_dim
    contexts = (1 + num_guiding) * _context_bytes(config, dtype.itemsize)
    return round(WORKSPACE_BYTES + CHUNK_COPIES * chunk * heads * FLOAT_BYTES + num_frames * (activations + contexts))


def kept_attention_bytes(
    denoiser: torch.nn.Module, num_frames: float, height: int, width: int, dtype: torch.dtype | None = None
) -> int:
    """Count what the attentions keep for later steps under a cache of diffusers (`unet.enable_cache`).

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        num_frames: Frames that are kept, of all clips, windows and conditions together.
        height: Height of the motion h.
        width: Width of the motion w.
        dtype: In which precision the denoiser runs; None: its own.

    Returns:
        Bytes; none without a cache.
    """
    if not denoiser.is_cache_enabled:
        return 0
    cache = denoiser._cache_config
    copies, kept_dtype = 1, dtype or denoiser.dtype
    if isinstance(cache, TaylorSeerCacheConfig):
        copies, kept_dtype = cache.max_order + 1, cache.taylor_factors_dtype or kept_dtype
    height, width = _in_patches(denoiser, height, width)
    widths = list(denoiser.config.block_out_channels)
    deepest = len(widths) - 1
    # resolution and channels of each level's attentions
    levels = {f"down_levels.{index}": (index, channels) for index, channels in enumerate(widths)}
    up = [*widths[-2::-1], widths[0]]
    levels |= {f"up_levels.{index}": (deepest - index, channels) for index, channels in enumerate(up)}
    levels |= {"middle": (deepest, widths[-1]), "": (0, widths[0])}
    values = 0
    for name, module in denoiser.named_modules():
        hooks = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        if not CACHE_HOOKS.isdisjoint(hooks):
            level, channels = levels[re.match(r"((down|up)_levels\.\d+|middle)?", name).group()]
            values += (height >> level) * (width >> level) * channels
    return round(copies * num_frames * values * kept_dtype.itemsize)


def output_bytes(size: ClipSize) -> int:
    """Count what the finished frames take that a call returns.

    Args:
        size: What is rendered.

    Returns:
        Bytes; none for latents, and for frames that are drawn while they are read.
    """
    channel_bytes = {"pil": 1, "np": FLOAT_BYTES, "pt": FLOAT_BYTES}.get(size.output_type, 0)
    return size.batch_size * size.num_frames * 3 * size.height * size.width * channel_bytes


def _in_patches(denoiser: torch.nn.Module, height: int, width: int) -> tuple[int, int]:
    # what the network's first level has of a motion (h, w)
    return height // denoiser.config.patch_size, width // denoiser.config.patch_size


def _deep_feature_bytes(
    denoiser: torch.nn.Module, num_frames: float, height: int, width: int, dtype: torch.dtype | None
) -> int:
    height, width = _in_patches(denoiser, height, width)
    values = num_frames * height // 2 * (width // 2) * denoiser.config.block_out_channels[0]
    return round(values * (dtype or denoiser.dtype).itemsize)


def _context_bytes(config: Any, item_bytes: int) -> int:
    # of one frame: score maps (C_in, groups), bases (groups, C_out) and Gram matrices of all blocks, see
    # `condition_attention.ConditionContext`
    widths = list(config.block_out_channels)
    down = list(zip([widths[0], *widths], widths, strict=False))
    up = [(2 * width, out) for width, out in zip(widths[::-1], [*widths[-2::-1], widths[0]], strict=True)]
    pairs = [*down, (widths[-1], widths[-1]), *up]
    # a level's second block has its width in and out; so have both of the middle
    num_channels = sum(channels_in + 3 * channels_out for channels_in, channels_out in pairs)
    groups = (3 if config.mouth_reader_channels is None else 4) * (1 + config.condition_heads)
    if any(scale is not None for scale in (config.pose_scale, config.blink_scale, config.mouth_reader_channels)):
        num_channels += sum(2 * channels_out for _, channels_out in pairs)  # vectors in proportion
    return groups * num_channels * item_bytes + 2 * len(pairs) * groups**2 * FLOAT_BYTES


def _speech_bytes(audio_encoder: torch.nn.Module, num_frames: int, dtype: torch.dtype | None) -> int:
    config = audio_encoder.config
    num_samples = num_frames * SAMPLE_RATE_HZ // FPS
    piece = min(num_samples, FRAMES_PER_PIECE * math.prod(config.conv_stride)) // config.conv_stride[0]
    encoding = AUDIO_ENCODER_COPIES * piece * config.conv_dim[0] * _activation_bytes(dtype or audio_encoder.dtype)
    # the encoder's frames are twice as many as the video's; spreading them takes two neighbours of each of these
    hidden = 2 * num_frames * config.hidden_size * FLOAT_BYTES
    return round(RECORDING_COPIES * num_samples * FLOAT_BYTES + hidden + max(encoding, hidden))


def _drawing_bytes(decoder: torch.nn.Module, size: ClipSize, dtype: torch.dtype | None) -> tuple[float, int]:
    # the output of one layer at full resolution; batch norms are folded into copies of the weights
    num_frames = size.batch_size * min(size.decode_chunk_size, size.num_frames)
    values = num_frames * size.height * size.width * decoder.config.block_out_channels[0]
    return values * _activation_bytes(dtype or decoder.dtype), weight_bytes([decoder.decoder], dtype)


def _activation_bytes(dtype: torch.dtype, share_in_half: float = SHARE_IN_HALF_PRECISION) -> float:
    return share_in_half * FLOAT_BYTES if dtype.itemsize < FLOAT_BYTES else dtype.itemsize
