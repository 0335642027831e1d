"""What an evaluation was made of, so that others can tell whether theirs is the same: weights, data, versions."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable

import torch
from torch import nn

from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.data.clip_shards import ClipEntry

# what the figures depend on; those that are not installed are left out
PACKAGES = (
    "diffusers_dawn",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "librosa",
    "av",
    "mediapipe",
    "dlib-bin",
)
NETWORKS = ("unet", "lfg", "pbnet", "audio_encoder")
# of a SHA-256: enough to tell files apart
NUM_DIGITS = 12


def weights_digest(network: nn.Module) -> str:
    """Compute the SHA-256 of a network's weights, by which checkpoints are told apart wherever they lie.

    Args:
        network: The network, adapters included.

    Returns:
        Its first digits. Another precision has another one.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:NUM_DIGITS]


def digests_of_networks(pipe: DAWNPipeline) -> dict[str, str]:
    """Compute `weights_digest` of each of a pipeline's networks, by name."""
    networks = {name: getattr(pipe, name) for name in NETWORKS}
    return {name: weights_digest(network) for name, network in networks.items() if network is not None}


def split_digest(entries: Iterable[ClipEntry]) -> str:
    """Compute the SHA-256 of how clips are stored: names and sizes, which other clips hardly share.

    Args:
        entries: The clips of a split.

    Returns:
        Its first digits.
    """
    stored = [[entry.clip_id, entry.num_frames, sorted(entry.members.items())] for entry in entries]
    return hashlib.sha256(repr(stored).encode()).hexdigest()[:NUM_DIGITS]


def versions() -> dict[str, str]:
    """Read the versions of Python and of the packages that the figures depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
