"""Published latent flow generator checkpoints → `LatentFlowGenerator`."""

import re
from collections.abc import Iterable, Mapping
from functools import partial

import torch

from .renaming import rename_keys, shape_of

ENTRIES = ("generator", "region_predictor", "bg_predictor")

_IMAGE_RULES = (
    (r"generator\.(first|down_blocks\.\d+)\.(.+)", r"encoder.\1.\2"),
    (r"generator\.(up_blocks\.\d+|final)\.(.+)", r"decoder.\1.\2"),
    (r"generator\.bottleneck\.r(\d+)\.(.+)", r"decoder.bottleneck.\1.\2"),
)
_MOTION_RULES = (
    (r"generator\.pixelwise_flow_predictor\.hourglass\.(?:en|de)coder\.(.+)", r"flow_predictor.hourglass.\1"),
    (r"generator\.pixelwise_flow_predictor\.(mask|occlusion)\.(.+)", r"flow_predictor.\1.\2"),
    (r"region_predictor\.predictor\.(?:en|de)coder\.(.+)", r"region_predictor.hourglass.\1"),
    (r"region_predictor\.regions\.(.+)", r"region_predictor.heatmap.\1"),
    (r"bg_predictor\.encoder\.(.+)", r"background_predictor.\1"),
    (r"bg_predictor\.fc\.(.+)", r"background_predictor.affine.\1"),
)
# the Gaussian of the anti-aliased shrinking follows from the stride
_BLUR_KERNELS = (r"generator\.pixelwise_flow_predictor\.down\.weight", r"region_predictor\.down\.weight")
_MOTION_ESTIMATOR = (r"generator\.pixelwise_flow_predictor\..+", r"region_predictor\..+", r"bg_predictor\..+")


def convert_lfg(
    published: Mapping[str, Mapping[str, torch.Tensor]], full: bool = False, image_size: int = 128
) -> tuple[dict, dict[str, torch.Tensor], list[str]]:
    """Translate a published checkpoint; every size comes from the shapes of its tensors.

    Args:
        published: The checkpoint, with entries `generator`, `region_predictor` and `bg_predictor`; other entries
            (optimizer states, counters) are left out.
        full: Whether to keep the motion estimators, which only training needs.
        image_size: Height and width [px] the checkpoint was trained for, which its shapes do not tell.

    Returns:
        The arguments of `LatentFlowGenerator`, its state dict, and the published keys that were left out.

    Raises:
        ValueError: An entry is missing, a key is not known, or one that tells a size is missing.
    """
    absent = [entry for entry in ENTRIES if entry not in published]
    if absent:
        raise ValueError(f"`published` lacks {absent}: is this a latent flow generator checkpoint?")
    tensors = {f"{entry}.{key}": tensor for entry in ENTRIES for key, tensor in published[entry].items()}
    if full:
        state_dict, ignored = rename_keys(tensors, _IMAGE_RULES + _MOTION_RULES, _BLUR_KERNELS)
    else:
        # renamed all the same, so that an unknown key is an error in either case
        rename_keys(tensors, _IMAGE_RULES + _MOTION_RULES, _BLUR_KERNELS)
        state_dict, ignored = rename_keys(tensors, _IMAGE_RULES, _MOTION_ESTIMATOR)
    ignored += [str(entry) for entry in published if entry not in ENTRIES]
    return _infer_config(tensors, full, image_size), state_dict, ignored


def _infer_config(tensors: Mapping[str, torch.Tensor], full: bool, image_size: int) -> dict:
    shape = partial(shape_of, tensors, name="latent flow generator")

    def widths(prefix: str) -> tuple[int, ...]:
        return tuple(shape(f"{prefix}.{index}.conv.weight")[0] for index in range(max(1, _count(tensors, prefix))))

    flow = "generator.pixelwise_flow_predictor.hourglass"
    region = "region_predictor.predictor"
    kernel_size = shape("region_predictor.down.weight")[-1]
    return {
        "image_size": image_size,
        "num_regions": shape("region_predictor.regions.weight")[0],
        "block_out_channels": (shape("generator.first.conv.weight")[0], *widths("generator.down_blocks")),
        "num_bottleneck_blocks": _count(tensors, "generator.bottleneck", "r"),
        "flow_channels": (widths(f"{flow}.decoder.up_blocks")[-1], *widths(f"{flow}.encoder.down_blocks")),
        "region_channels": (widths(f"{region}.decoder.up_blocks")[-1], *widths(f"{region}.encoder.down_blocks")),
        "background_channels": widths("bg_predictor.encoder.down_blocks"),
        # the blur reaches 4 sigma = 2·(stride - 1) pixels to either side
        "motion_stride": (kernel_size + 3) // 4,
        "with_motion_estimator": full,
    }


def _count(keys: Iterable[str], prefix: str, mark: str = "") -> int:
    pattern = re.compile(rf"{re.escape(prefix)}\.{mark}(\d+)\..+")
    return len({match[1] for key in keys if (match := pattern.fullmatch(key))})
