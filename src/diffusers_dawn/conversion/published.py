"""Convert the published checkpoint files to one pipeline."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoModel

from ..models.a2v_fdm import A2VFlowDiffusionModel
from ..models.lfg import LatentFlowGenerator
from ..models.pbnet import PoseBlinkNet
from ..pipeline.pipeline_dawn import DAWNPipeline
from ..sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from ..sharing.model_card import packaged_card
from .a2v_fdm import convert_a2v_fdm, training_seed_confirmed
from .lfg import ENTRIES as LFG_ENTRIES
from .lfg import convert_lfg
from .pbnet import convert_pbnet, read_options
from .renaming import load_strictly

PUBLISHED_SIZES_PX = (128, 256)
OPTIONS_FILE = "opt.yaml"


def convert_published(
    dawn: str | Path,
    lfg: str | Path,
    hubert: str | Path,
    pbnet_pose: str | Path | None = None,
    pbnet_blink: str | Path | None = None,
    size_px: int | None = None,
    full: bool = False,
    say: Callable[[str], None] = print,
) -> DAWNPipeline:
    """Turn the published files into a pipeline; every key is used, or left out by name, or an error.

    Args:
        dawn: `DAWN_128.pth` or `DAWN_256.pth`.
        lfg: `LFG_128_1000ep.pth` or `LFG_256_400ep.pth`.
        hubert: Folder or Hub id of the audio encoder (published: facebook/hubert-large-ls960-ft).
        pbnet_pose: Folder with the pose network's checkpoint and `opt.yaml`, or the checkpoint beside its `opt.yaml`.
        pbnet_blink: The same of the blink network; both or none.
        size_px: Size of the video; None: read from the names of both files.
        full: Whether to keep what only training and reenactment from images need.
        say: Called with a line for each thing that was done.

    Returns:
        The pipeline, in eval mode.

    Raises:
        ValueError: A file is not the right one; the message names file and keys.
    """
    if (pbnet_pose is None) != (pbnet_blink is None):
        raise ValueError("give both `pbnet_pose` and `pbnet_blink`, or neither")
    size_px = _size_px(size_px, Path(dawn), Path(lfg))
    checkpoint = read_checkpoint(dawn, "dawn")
    published = _entry(checkpoint, "diffusion", "dawn")
    others = [entry for entry in checkpoint if entry != "diffusion"]
    config, tensors, ignored = convert_a2v_fdm(published, sample_size=size_px // 4)
    unet = _build(A2VFlowDiffusionModel, config, tensors, "denoiser")
    say(f"denoiser: {len(published) - len(ignored)} tensors used; left out: {_summary(ignored + others)}")
    say(f"face-location encoder: not in the file, redrawn under the training seed; {_seed_report(published)}")

    published = read_checkpoint(lfg, "lfg")
    for entry in LFG_ENTRIES:
        _entry(published, entry, "lfg")
    config, tensors, ignored = convert_lfg(published, full=full, image_size=size_px)
    generator = _build(LatentFlowGenerator, config, tensors, "LFG")
    say(f"LFG: {len(tensors)} tensors used; left out: {_summary(ignored)}")

    pbnet = None
    if pbnet_pose is not None:
        (pose, pose_options), (blink, blink_options) = _read_pbnet(pbnet_pose), _read_pbnet(pbnet_blink)
        config, tensors, ignored = convert_pbnet(
            pose, blink, pose_options=pose_options, blink_options=blink_options, full=full
        )
        pbnet = _build(PoseBlinkNet, config, tensors, "PBNet")
        say(f"PBNet: {len(tensors)} tensors used; left out: {_summary(ignored)}")

    try:
        audio_encoder = AutoModel.from_pretrained(hubert, trust_remote_code=False).eval()
        feature_extractor = AutoFeatureExtractor.from_pretrained(hubert, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"`hubert` {str(hubert)!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    say(f"audio encoder: {type(audio_encoder).__name__}, features of width {audio_encoder.config.hidden_size}")
    pipe = DAWNPipeline(
        unet=unet,
        lfg=generator,
        audio_encoder=audio_encoder,
        feature_extractor=feature_extractor,
        scheduler=DAWNDDIMScheduler(),
        pbnet=pbnet,
    )
    if size_px in PUBLISHED_SIZES_PX:
        pipe.model_card = packaged_card(f"dawn-{size_px}")
    return pipe


def read_checkpoint(path: str | Path, name: str) -> Any:
    """Read a file written by `torch.save` without running any code in it.

    Args:
        path: The file.
        name: Argument name for error messages.

    Returns:
        Its content.

    Raises:
        ValueError: There is no such file, it is no checkpoint, or loading it would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"`{name}` {path} is not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"`{name}` {path} is empty: it has 0 bytes")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"(?:GLOBAL|class) (\S+)", str(error))
        what = f" ({blocked.group(1)})" if blocked else ""
        raise ValueError(
            f"`{name}` {path} is refused: it is not a plain checkpoint of tensors; loading it could run code{what}"
        ) from error
    except Exception as error:
        # bytes that are no checkpoint make the unpickler fail in any way: EOFError, IndexError, KeyError, ...
        says_why = isinstance(error, RuntimeError | OSError) and str(error)
        reason = str(error).splitlines()[0] if says_why else "it is none, or damaged"
        raise ValueError(f"`{name}` {path} cannot be read as a checkpoint: {reason}") from error


def _check_tensors(tensors: Mapping, name: str) -> None:
    """Refuse weights that are not tensors by text, which nothing here can rename."""
    strange = [key for key, tensor in tensors.items() if not (isinstance(key, str) and torch.is_tensor(tensor))]
    if strange:
        raise ValueError(f"`{name}` holds {strange[0]!r} among its weights, must hold tensors by text")


def _build(model_class: type, config: dict, tensors: Mapping[str, torch.Tensor], name: str) -> torch.nn.Module:
    model = model_class(**config)
    load_strictly(model, tensors, name)
    return model.eval()


def _entry(checkpoint: Any, key: str, name: str) -> Mapping[str, torch.Tensor]:
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get(key), Mapping):
        found = ", ".join(map(str, checkpoint)) if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        raise ValueError(f"`{name}` must hold a dict with an entry `{key}`; it holds {found[:200] or 'nothing'}")
    _check_tensors(checkpoint[key], name)
    return checkpoint[key]


def _read_pbnet(path: str | Path) -> tuple[Mapping, dict]:
    path = Path(path)
    if path.is_dir():
        checkpoints = sorted(path.glob("*.pth.tar"))
        if len(checkpoints) != 1:
            found = ", ".join(file.name for file in checkpoints) or "none"
            raise ValueError(f"{path} must hold exactly one *.pth.tar, holds {found}; name the file instead")
        path = checkpoints[0]
    return read_checkpoint(path, "pbnet"), read_options(path.with_name(OPTIONS_FILE))


def _size_px(size_px: int | None, *files: Path) -> int:
    if size_px is not None:
        return size_px
    named = {size for file in files for size in PUBLISHED_SIZES_PX if re.search(rf"(?<!\d){size}(?!\d)", file.name)}
    if len(named) != 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"the file names {names} do not say the video's size; give `--size 128` or `--size 256`")
    return named.pop()


def _seed_report(published: Mapping[str, torch.Tensor]) -> str:
    confirmed = training_seed_confirmed(published)
    if confirmed is None:
        return "this checkpoint has another size than the published one, so the seed could not be checked"
    if confirmed:
        return "the seed is confirmed: the file's never-trained tensors equal those drawn under it"
    return (
        "the seed is NOT confirmed: the file's never-trained tensors differ, these values may not be the trained ones"
    )


def _summary(keys: list[str]) -> str:
    """Name keys by their first two parts, each once, with a count."""
    groups: dict[str, int] = {}
    for key in keys:
        group = ".".join(key.split(".")[:2])
        groups[group] = groups.get(group, 0) + 1
    return ", ".join(f"{group} ({count})" for group, count in groups.items()) or "nothing"
