"""What a clip is told, as the cross-attentions get it: checked, scaled, and the mouth read from speech."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from .mouth_reader import NUM_MOUTH_NUMBERS, bounded_mouth
from .size_limits import CONDITION_SCALES, check_numbers


def check_scales(scales: Mapping[str, Sequence[float] | None], widths: Mapping[str, int]) -> None:
    """Refuse factors of conditions that are out of range or do not fit them.

    Args:
        scales: Factors of each number by the condition's name; None: none.
        widths: How many numbers each condition has.

    Raises:
        ValueError: A factor is no number or out of range, or there are not as many as the condition has numbers.
    """
    for name, scale in scales.items():
        check_numbers({f"{name}_scale": scale}, *CONDITION_SCALES)
        if scale is not None and len(scale) != widths[name]:
            raise ValueError(f"`{name}_scale` has {len(scale)} numbers, must have `{name}_dim`, {widths[name]}")


def condition_inputs(
    config: Mapping,
    mouth_reader: nn.Module | None,
    audio_features: torch.Tensor,
    pose: torch.Tensor,
    blink: torch.Tensor,
    mouth: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Check the conditions of a clip, and prepare them for the cross-attentions.

    Args:
        config: Config of the denoiser: `audio_dim`, `pose_dim`, `blink_dim`, `pose_scale` and `blink_scale`.
        mouth_reader: The denoiser's `MouthReader`, if it has one.
        audio_features: Speech features (B, F, D).
        pose: Pose minus that of the reference (B, F, 6).
        blink: Eye openness minus that of the reference (B, F, 2).
        mouth: Opening and width of the mouth (B, F, 2), see `mouth_reader.MOUTH_MEANS`; None: as read from speech.

    Returns:
        Tensors by the names of the conditions: "audio", "pose", "blink" and, with a reader, "mouth".

    Raises:
        ValueError: A width or a number of frames does not fit, or a mouth is given without a reader.
    """
    conditions = {"audio": audio_features, "pose": pose, "blink": blink}
    widths = {name: config[f"{name}_dim"] for name in conditions}
    if mouth is not None:
        if mouth_reader is None:
            raise ValueError(
                "`mouth` is given, but this denoiser is told of no mouth: its `mouth_reader_channels` is None"
            )
        conditions["mouth"], widths["mouth"] = mouth, NUM_MOUTH_NUMBERS
    for name, condition in conditions.items():
        expected = (*audio_features.shape[:-1], widths[name])
        if condition.ndim != 3 or tuple(condition.shape) != expected:
            argument = "audio_features" if name == "audio" else name
            raise ValueError(f"`{argument}` is {tuple(condition.shape)}, must be (B, F, D), here {expected}")
    for name in ("pose", "blink"):
        if (scale := config[f"{name}_scale"]) is not None:
            conditions[name] = conditions[name] * conditions[name].new_tensor(scale)
    if mouth_reader is not None:
        mouth = bounded_mouth(mouth_reader(audio_features)) if mouth is None else mouth
        # frames without speech say nothing about the mouth either
        conditions["mouth"] = mouth.masked_fill((audio_features == 0).all(dim=-1, keepdim=True), 0)
    return conditions
