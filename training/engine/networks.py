"""The networks of a training: new ones from settings, or loaded from wherever they were saved."""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers import ModelMixin

from diffusers_dawn.models.blocks_track import TrackSizes
from diffusers_dawn.models.pbnet import PoseBlinkNet
from training.data.clip_shards import ClipShards
from training.data.speech_features import load_speech_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Network = TypeVar("Network", bound=ModelMixin)


def load_network(network_class: type[Network], source: str, part: str, name: str, **changes: Any) -> Network:
    """Load a network from its own folder, a training's output, a saved pipeline, or the Hub.

    Args:
        network_class: Class of the network.
        source: Folder or Hub id of the network, or of something that holds it as `part/`.
        part: Name of the sub-folder: "lfg", "pbnet" or "unet".
        name: Argument name for error messages.
        **changes: Arguments of the constructor that replace the saved ones.

    Returns:
        The network in float32.

    Raises:
        ValueError: There is no such network.
    """
    folder = Path(source)
    try:
        if (folder / "config.json").is_file():
            return network_class.from_pretrained(source, **changes)
        return network_class.from_pretrained(source, subfolder=part, **changes)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`{name}` is {source!r}, which holds no {network_class.__name__} (looked for config.json and "
            f"{part}/config.json): {str(error).splitlines()[0]}"
        ) from error


def load_pbnet(source: str, blink_source: str | None = None) -> PoseBlinkNet:
    """Load a PBNet, or join one for poses with one for blinks, which as published are trained separately.

    Args:
        source: Folder or Hub id of the PBNet, or of something that holds it as `pbnet/`.
        blink_source: The same for the one that makes blinks; None: there is no other.

    Returns:
        The network in float32.

    Raises:
        ValueError: There is no such network, the two are not one for poses and one for blinks, or they differ in the
            width of the audio features or in how many frames share a latent.
    """
    pbnet = load_network(PoseBlinkNet, source, "pbnet", "pbnet")
    if blink_source is None:
        return pbnet
    blink = load_network(PoseBlinkNet, blink_source, "pbnet", "pbnet_blink")
    for name, network, wanted in (("pbnet", pbnet, "pose"), ("pbnet_blink", blink, "blink")):
        if network.config.networks != wanted:
            raise ValueError(
                f"`{name}` has the networks {network.config.networks!r}, must have {wanted!r} to be joined"
            )
    widths = blink.config.audio_dim, pbnet.config.audio_dim
    if widths[0] != widths[1]:
        raise ValueError(f"`pbnet_blink` takes audio features of width {widths[0]}, `pbnet` of {widths[1]}")
    strides = blink.config.latent_stride, pbnet.config.latent_stride
    if strides[0] != strides[1]:
        raise ValueError(f"`pbnet_blink` has a latent for every {strides[0]} frames, `pbnet` for every {strides[1]}")
    sizes = [item.name for item in dataclasses.fields(TrackSizes) if item.name not in ("state_dim", "audio_dim")]
    settings = {key: value for key, value in pbnet.config.items() if not key.startswith("_")}
    settings |= {
        "networks": "separate",
        "blink_window": blink.config.blink_window,
        "blink_sizes": {name: blink.config[name] for name in sizes},
        "with_encoder": pbnet.config.with_encoder and blink.config.with_encoder,
    }
    joined = PoseBlinkNet(**settings)
    joined.load_state_dict(pbnet.state_dict() | blink.state_dict())
    return joined


def build_network(
    network_class: type[Network],
    settings: Mapping[str, Any],
    pretrained: str | None,
    part: str,
    seed: int,
    changeable: Sequence[str] = (),
    **fixed: Any,
) -> Network:
    """Make the network that is to be trained.

    Args:
        network_class: Class of the network.
        settings: Section `model` of the training's settings: arguments of the constructor.
        pretrained: Where to start from; None: random weights.
        part: Name of the network's folder in a pipeline.
        seed: Seed of random weights.
        changeable: Settings that may differ from the pretrained network's, since its weights fit any of them.
        **fixed: Arguments that the data set decides.

    Returns:
        The network in train mode.

    Raises:
        ValueError: A setting is unknown, decided by the data set, or differs from the pretrained network's.
    """
    known = [item for item in inspect.signature(network_class.__init__).parameters if item != "self"]
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise ValueError(f"`model` has unknown key(s) {', '.join(unknown)}; known are {', '.join(known)}")
    wanted = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    for key, value in fixed.items():
        if wanted.setdefault(key, value) != value:
            raise ValueError(f"`model.{key}` is {wanted[key]}, but the data set makes it {value}; leave it out")
    if pretrained is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return network_class(**wanted).train()
    changes = {key: wanted.pop(key) for key in changeable if key in wanted}
    network = load_network(network_class, pretrained, part, "pretrained_model", **changes)
    for key, value in wanted.items():
        found = network.config[key]
        if (tuple(found) if isinstance(found, list) else found) != value:
            raise ValueError(f"`model.{key}` is {value}, but `pretrained_model` {pretrained} has {found}")
    return network.train()


def add_lora(network: ModelMixin, rank: int, alpha: float, layers: Sequence[str], seed: int) -> None:
    """Freeze a network and add a LoRA adapter (arXiv 2106.09685), which changes nothing until it is trained.

    Args:
        network: The network; needs diffusers' `PeftAdapterMixin`.
        rank: Rank of the changes.
        alpha: Their factor, times rank.
        layers: Last parts of the names of the layers that are changed.
        seed: Seed of the adapter's weights.

    Raises:
        ImportError: peft is not installed.
        ValueError: No layer has such a name.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("`lora_rank` needs peft: pip install 'diffusers_dawn[lora]'") from error

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    # of a layer in a list, with the list's name
    known = {re.search(r"[^.]+(\.\d+)?$", name).group() for name in names}
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers:
        raise ValueError(f"`lora_layers` is {list(layers)}, must be some of {', '.join(sorted(known))}")
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers)))


def has_adapter(network: ModelMixin) -> bool:
    """Tell whether a network has an adapter, which alone is trained then."""
    return bool(getattr(network, "peft_config", None))


def load_audio_encoder(source: str | None, clips: ClipShards) -> "tuple[PreTrainedModel, Any]":
    """Load the encoder that made a data set's audio features.

    Args:
        source: Folder or Hub id; None: as the data set says.
        clips: The prepared clips.

    Returns:
        The encoder in evaluation mode, and its feature extractor.

    Raises:
        ValueError: The data set has no features, there is no such encoder, or its width is another.
    """
    info = clips.info
    if info.audio_encoder is None:
        raise ValueError(f"`dataset` {clips.folder} was prepared without audio features; prepare it with an encoder")
    inside = Path(clips.folder, info.audio_encoder)
    source = source or str(inside if inside.is_dir() else info.audio_encoder)
    encoder, extractor = load_speech_encoder(source)
    if encoder.config.hidden_size != info.audio_dim:
        raise ValueError(
            f"`audio_encoder` {source!r} makes features of width {encoder.config.hidden_size}, the data set's have "
            f"{info.audio_dim}"
        )
    return encoder.requires_grad_(False), extractor
