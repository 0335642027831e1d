"""The published denoiser (`diffusion` of DAWN_128.pth, DAWN_256.pth), translated."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import safetensors.torch
import torch

from .renaming import rename_keys, shape_of

# Two values of the published model that no tensor's shape shows
PUBLISHED_WINDOW = 40
PUBLISHED_MAX_DISTANCE = 32

_FACE_LOCATION_FILE = Path(__file__).with_name("face_location_seed1234.safetensors")
_FINGERPRINT_FILE = Path(__file__).with_name("seed1234_fingerprint.safetensors")

_LEVELS = [
    (r"downs\.(\d+)\.", r"down_levels.\1."),
    (r"ups\.(\d+)\.", r"up_levels.\1."),
]
_PARTS = [
    (r"0\.", "block1."),
    (r"1\.", "block2."),
    (r"2\.fn\.fn\.", "spatial_attention."),
    (r"2\.fn\.norm\.gamma", "spatial_attention.norm.weight"),
    (r"3\.fn\.fn\.fn\.", "temporal_attention."),
    (r"3\.fn\.norm\.gamma", "temporal_attention.norm.weight"),
    (r"4\.", "resample."),
]
_MIDDLE = [
    (r"mid_block(\d)\.", r"middle.block\1."),
    (r"mid_spatial_attn\.fn\.fn\.fn\.", "middle.spatial_attention."),
    (r"mid_spatial_attn\.fn\.norm\.gamma", "middle.spatial_attention.norm.weight"),
    (r"mid_temporal_attn\.fn\.fn\.fn\.", "middle.temporal_attention."),
    (r"mid_temporal_attn\.fn\.norm\.gamma", "middle.temporal_attention.norm.weight"),
]
_ENDS = [
    (r"time_rel_pos_bias\.relative_attention_bias\.", "position_bias.table."),
    (r"init_conv\.", "conv_in."),
    (r"init_temporal_attn\.fn\.fn\.fn\.rotary_emb\.freqs", "rotary.frequencies"),
    (r"init_temporal_attn\.fn\.fn\.fn\.", "temporal_attention_in."),
    (r"init_temporal_attn\.fn\.norm\.gamma", "temporal_attention_in.norm.weight"),
    (r"time_mlp\.1\.", "time_embedding.linear1."),
    (r"time_mlp\.3\.", "time_embedding.linear2."),
    (r"final_conv\.0\.", "flow_head.block."),
    (r"final_conv\.1\.", "flow_head.linear."),
    (r"occlusion_map\.0\.", "occlusion_head.block."),
    (r"occlusion_map\.1\.", "occlusion_head.linear."),
]
_BLOCK = [
    (r"time_mlp\.1\.(weight|bias)", r"time_projection.\1"),
    (r"block(\d)\.proj\.(weight|bias)", r"conv\1.\2"),
    (r"block(\d)\.norm\.(weight|bias)", r"norm\1.\2"),
    (r"res_conv\.(weight|bias)", r"shortcut.\1"),
]
_CONDITION_NAMES = {"audio": ("audio", "aud"), "pose": ("pose", "pose"), "blink": ("eye", "eye")}
_CROSS_ATTENTION = [
    (r"null_kv", "null_key_value"),
    (r"q_scale", "query_scale"),
    (r"k_scale", "key_scale"),
    (r"norm\.g", "norm_in.weight"),
    (r"to_q\.weight", "to_query.weight"),
    (r"to_kv\.weight", "to_key_value.weight"),
    (r"to_out\.0\.weight", "to_out.0.weight"),
    (r"to_out\.1\.g", "norm_out.weight"),
]
# the diffusion schedule is computed; the output blocks' cross-attentions were never used
_IGNORED = [
    r"(final_conv|occlusion_map)\.0\.cross_attn_(aud|pose|eye)\..*",
]
# one table of rotary frequencies serves every layer; each layer's copy of it must be the same
_ROTARY_COPIES = r"denoise_fn\.(downs|ups|mid_).*rotary_emb\.freqs"
_SCHEDULE = (
    r"betas|alphas_cumprod|alphas_cumprod_prev|sqrt_.*|log_one_minus_alphas_cumprod"
    r"|posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)"
)


def convert_a2v_fdm(
    published: Mapping[str, torch.Tensor], sample_size: int = 32, temporal_window: int | None = PUBLISHED_WINDOW
) -> tuple[dict, dict[str, torch.Tensor], list[str]]:
    """Translate the published denoiser; sizes are read from the tensors' shapes.

    The face-location encoder, which the published files lack, gets the values that the released training scripts
    draw under their fixed seed (shipped with this package).

    Args:
        published: State dict with keys `denoise_fn.*` and the schedule's buffers.
        sample_size: Height and width of the motion (image size / 4).
        temporal_window: Window of the temporal attention at inference [frames].

    Returns:
        Config and state dict of `A2VFlowDiffusionModel`, and the keys left out on purpose.

    Raises:
        ValueError: A key is not known, one that tells a size is missing, or layers differ in their rotary
            frequencies.
    """
    prefix = r"denoise_fn\."
    _check_rotary_copies(published)
    ignored = [_SCHEDULE, _ROTARY_COPIES, *(prefix + pattern for pattern in _IGNORED)]
    renamed, left_out = rename_keys(published, [(prefix + a, b) for a, b in _rules()], ignored)
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in renamed.items():
        tensors |= _separate(key, _reshape(key, tensor))
    face_location = safetensors.torch.load_file(_FACE_LOCATION_FILE)
    tensors |= {f"face_location_encoder.{key}": tensor for key, tensor in face_location.items()}
    return _config(tensors, sample_size, temporal_window), tensors, left_out


def training_seed_confirmed(published: Mapping[str, torch.Tensor]) -> bool | None:
    """Say whether the checkpoint's never-trained tensors equal those drawn under the released training seed.

    Args:
        published: State dict with keys `denoise_fn.*`.

    Returns:
        True or False; None when the checkpoint is of another size, so that nothing can be compared.
    """
    fingerprint = safetensors.torch.load_file(_FINGERPRINT_FILE)
    if any(key not in published or published[key].shape != tensor.shape for key, tensor in fingerprint.items()):
        return None
    return all(torch.equal(published[key].float().cpu(), tensor) for key, tensor in fingerprint.items())


def _check_rotary_copies(published: Mapping[str, torch.Tensor]) -> None:
    first = published.get("denoise_fn.init_temporal_attn.fn.fn.fn.rotary_emb.freqs")
    for key, tensor in published.items():
        if re.fullmatch(_ROTARY_COPIES, key) and (first is None or not torch.equal(tensor, first)):
            raise ValueError(f"`{key}` of the checkpoint differs from those of the first temporal attention")


def _rules() -> list[tuple[str, str]]:
    block = [*_BLOCK]
    for name, (embedding, attention) in _CONDITION_NAMES.items():
        new = f"conditions.attentions.{name}."
        block.append((rf"{embedding}_mlp\.1\.(weight|bias)", rf"{new}embed.\1"))
        block += [(rf"cross_attn_{attention}\.{a}", new + b) for a, b in _CROSS_ATTENTION]
    parts = [(level + part, new_level + new_part) for level, new_level in _LEVELS for part, new_part in _PARTS]
    rules = []
    for old, new in [*parts, *_MIDDLE, *_ENDS]:
        if not old.endswith(r"\."):
            rules.append((old, new))
        elif new.endswith(("block1.", "block2.", "block.", r"block\1.")):
            # a rule of the block counts its groups after those of the prefix
            shift = old.count("(")
            rules += [(old + a, new + _shift_groups(b, shift)) for a, b in block]
        else:
            group = old.count("(") + 1
            rules.append((old + r"(weight|bias|(?:to_qkv|to_out)\.(?:weight|bias))", rf"{new}\{group}"))
    return rules


def _shift_groups(replacement: str, by: int) -> str:
    for group in (2, 1):
        replacement = replacement.replace(f"\\{group}", f"\\{group + by}")
    return replacement


def _reshape(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Drop the axes of length one that 3-D layers have and 2-D and linear layers lack."""
    if tensor.ndim == 5 and key.endswith("norm.weight"):
        return tensor.flatten()
    if tensor.ndim == 5:
        tensor = tensor.squeeze(2)
    is_linear = key.endswith(("shortcut.weight", "to_qkv.weight", "to_out.weight", "linear.weight"))
    return tensor.flatten(1) if is_linear else tensor


def _separate(key: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut the one projection of the attentions in space and time into three, and name the last one as diffusers."""
    if key.endswith("to_qkv.weight"):
        # copies: three views of one tensor cannot be saved as safetensors
        rows = zip("qkv", tensor.chunk(3), strict=True)
        return {key.replace("to_qkv", f"to_{name}"): part.clone() for name, part in rows}
    return {re.sub(r"(temporal_attention_in|(spatial|temporal)_attention)\.to_out\.", r"\1.to_out.0.", key): tensor}


def _config(tensors: Mapping[str, torch.Tensor], sample_size: int, temporal_window: int | None) -> dict:
    shape = partial(shape_of, tensors, name="denoiser")
    num_levels = 1 + max((int(key.split(".")[1]) for key in tensors if key.startswith("down_levels.")), default=0)
    block = "down_levels.0.block1.conditions.attentions."
    num_heads = shape("position_bias.table.weight")[1]
    condition_head_dim = shape(f"{block}audio.query_scale")[0]
    in_channels = sum(shape(f"{head}.linear.weight")[0] for head in ("flow_head", "occlusion_head"))
    face_location_channels = shape("face_location_encoder.conv2.weight")[0]
    return {
        "sample_size": sample_size,
        "in_channels": in_channels,
        "reference_channels": shape("conv_in.weight")[1] - in_channels - face_location_channels,
        "face_location_channels": face_location_channels,
        "block_out_channels": tuple(shape(f"down_levels.{i}.block1.conv1.weight")[0] for i in range(num_levels)),
        **{f"{name}_dim": shape(f"{block}{name}.embed.weight")[1] for name in _CONDITION_NAMES},
        "num_attention_heads": num_heads,
        "attention_head_dim": shape("temporal_attention_in.to_q.weight")[0] // num_heads,
        "condition_heads": shape(f"{block}audio.to_query.weight")[0] // condition_head_dim,
        "condition_head_dim": condition_head_dim,
        "temporal_window": temporal_window,
        "position_buckets": shape("position_bias.table.weight")[0],
        "position_max_distance": PUBLISHED_MAX_DISTANCE,
    }
