"""VGG19 up to relu5_1, whose features the perceptual loss compares; weights as torchvision publishes them."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from diffusers_dawn.conversion.published import read_checkpoint
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.sharing.checkpoint_folder import fetch_folder

# channels of the convolutions of each block; a block ends with pooling
BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAFETENSORS, PICKLES = (".safetensors",), (".pth", ".pt", ".bin")


class VGG19Features(nn.Module):
    """Features of VGG19 (arXiv 1409.1556, configuration E) after the first convolution of each block.

    The names of its tensors are those of torchvision's VGG19. It is frozen, but lets gradients through to the images.
    It starts with random weights: see `load_vgg19`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.outputs = set()
        channels = 3
        for block, widths in enumerate(BLOCKS):
            if block:
                self.features.append(nn.MaxPool2d(2))
            self.outputs.add(len(self.features) + 1)
            for width in widths:
                self.features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()])
                channels = width
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def smallest_size_px(self) -> int:
        """Smallest height and width of an image, as every block but the last halves it."""
        return 2 ** (len(BLOCKS) - 1)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute features.

        Args:
            image: Images (B, 3, H, W) in [0, 1], RGB; H and W at least `smallest_size_px`.

        Returns:
            relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1: (B, 64, H, W) to (B, 512, H / 16, W / 16).

        Raises:
            ValueError: The images have another shape, or are too small.
        """
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < self.smallest_size_px:
            smallest = self.smallest_size_px
            raise ValueError(f"`image` is {tuple(image.shape)}, must be (B, 3, H, W), H and W at least {smallest}")
        x = (image - self.mean) / self.std
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.outputs:
                maps.append(x)
        return maps


def load_vgg19(source: str | os.PathLike, local_files_only: bool = False) -> VGG19Features:
    """Load VGG19's features from a state dict with torchvision's keys.

    The Hub is asked only if `source` is neither a file nor a folder; of what it holds, .safetensors files are
    fetched. With `HF_HUB_OFFLINE=1`, or `local_files_only`, the Hub's cache on this machine is all there is.

    Args:
        source: A .safetensors file, a .pth file (read without running code), a folder with exactly one of them, or an
            id on the Hub such as "timm/vgg19.tv_in1k". The classifier and layers after relu5_1 are not needed, and
            left out if they are there.
        local_files_only: Whether to do without the network.

    Returns:
        The network, frozen, in eval mode.

    Raises:
        ValueError: Nothing is found, the file cannot be read, or tensors are missing or of another shape; the message
            names them.
    """
    model = VGG19Features()
    path = _find_weights(source, local_files_only)
    tensors = _read_tensors(path)
    needed = model.state_dict()
    others = ("classifier.", "features.", "pre_logits.", "head.")
    kept = {key: value for key, value in tensors.items() if key in needed or not str(key).startswith(others)}
    load_strictly(model, kept, f"VGG19 ({path.name})")
    return model


def _find_weights(source: str | os.PathLike, local_files_only: bool) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        if path.suffix in SAFETENSORS + PICKLES or path.is_absolute():
            raise ValueError(f"`vgg` {path} is neither a file nor a folder")
        try:
            path = Path(fetch_folder(os.fspath(source), {"local_files_only": local_files_only}))
        except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"`vgg` {path} is neither a file nor a folder, and cannot be fetched from the Hub: {reason}"
            ) from error
    for suffixes in (SAFETENSORS, PICKLES):
        found = sorted(file for file in path.iterdir() if file.suffix in suffixes)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"`vgg` {path} holds {', '.join(file.name for file in found)}; name the file instead")
    raise ValueError(f"`vgg` {path} holds no .safetensors or .pth file")


def _read_tensors(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix not in SAFETENSORS:
        tensors = read_checkpoint(path, "vgg")
        if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise ValueError(f"`vgg` {path} must hold a dict of tensors")
        return tensors
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"`vgg` {path} cannot be read as safetensors: {error}") from error
