"""Networks that metrics need and this project does not ship: files or functions of the user's, never downloaded."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

# what cannot be computed without each
FIGURES_OF = {
    "inception": "FID",
    "i3d": "FVD16 and FVD32",
    "syncnet": "LSE-C and LSE-D",
    "arcface": "CSIM",
    "lpips": "LPIPS",
}
PICTURES_AT_ONCE, WINDOWS_AT_ONCE = 8, 4

Network = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Extractors:
    """The networks that metrics need; None where there is none, so that its metric is left out.

    All take float32 tensors on the CPU, pictures RGB in [0, 1], and return float tensors.

    Attributes:
        inception: Pictures (B, 3, H, W) to features (B, D).
        i3d: Videos (B, 3, F, H, W) to features (B, D).
        syncnet: Pictures (F, 3, H, W), samples (640 F,) at 16 kHz and face boxes (F, 4) as x_min, x_max, y_min,
            y_max [px] to embeddings of the lips (F, D) and of the sound (F, D).
        arcface: Pictures (B, 3, H, W) and face boxes (B, 4) to embeddings (B, D).
        lpips: Pictures (B, 3, H, W) and their truth, of the same shape, to distances (B,).
        sources: Where each comes from, for the report.
    """

    inception: Network | None = None
    i3d: Network | None = None
    syncnet: Network | None = None
    arcface: Network | None = None
    lpips: Network | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Name the networks that are not there."""
        return [name for name in FIGURES_OF if getattr(self, name) is None]

    def picture_features(self, frames: np.ndarray) -> np.ndarray:
        """Compute Inception's features of frames.

        Args:
            frames: uint8 frames (F, H, W, 3).

        Returns:
            Float64 array (F, D).

        Raises:
            ValueError: The network returns something else.
        """
        parts = [self._run("inception", part) for part in as_images(frames).split(PICTURES_AT_ONCE)]
        return np.concatenate(parts)

    def window_features(self, windows: np.ndarray) -> np.ndarray:
        """Compute I3D's features of short videos.

        Args:
            windows: uint8 videos (N, F, H, W, 3).

        Returns:
            Float64 array (N, D).

        Raises:
            ValueError: The network returns something else.
        """
        parts = (windows[start : start + WINDOWS_AT_ONCE] for start in range(0, len(windows), WINDOWS_AT_ONCE))
        videos = (torch.from_numpy(np.ascontiguousarray(part)).permute(0, 4, 1, 2, 3).float() / 255 for part in parts)
        return np.concatenate([self._run("i3d", video) for video in videos])

    def face_embeddings(self, frames: np.ndarray, face_box_px: np.ndarray) -> np.ndarray:
        """Compute ArcFace's embeddings of the faces in frames.

        Args:
            frames: uint8 frames (F, H, W, 3).
            face_box_px: x_min, x_max, y_min, y_max (F, 4) [px], finite.

        Returns:
            Float64 array (F, D).

        Raises:
            ValueError: The network returns something else.
        """
        boxes = torch.from_numpy(np.asarray(face_box_px, np.float32))
        pairs = zip(as_images(frames).split(PICTURES_AT_ONCE), boxes.split(PICTURES_AT_ONCE), strict=True)
        return np.concatenate([self._run("arcface", *pair) for pair in pairs])

    def sync_embeddings(
        self, frames: np.ndarray, samples: np.ndarray, face_box_px: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute SyncNet's embeddings of lips and sound.

        Args:
            frames: uint8 frames (F, H, W, 3).
            samples: Their sound at 16 kHz (640 F,).
            face_box_px: x_min, x_max, y_min, y_max (F, 4) [px], finite.

        Returns:
            Embeddings of the lips (F, D) and of the sound (F, D), float64.

        Raises:
            ValueError: The network returns something else.
        """
        inputs = as_images(frames), *(torch.from_numpy(np.array(x, np.float32)) for x in (samples, face_box_px))
        found = self._call("syncnet", *inputs)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ValueError("`syncnet` must return two tensors: embeddings of the lips and of the sound")
        return tuple(_checked("syncnet", part, (len(frames), None)) for part in found)

    def perceptual_distances(self, made: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Compute LPIPS between frames.

        Args:
            made: uint8 frames (F, H, W, 3).
            truth: uint8 frames (F, H, W, 3).

        Returns:
            Float64 array (F,).

        Raises:
            ValueError: The network returns something else.
        """
        pairs = zip(*(as_images(frames).split(PICTURES_AT_ONCE) for frames in (made, truth)), strict=True)
        return np.concatenate([self._run("lpips", *pair) for pair in pairs])

    def _call(self, name: str, *inputs: torch.Tensor) -> Any:
        # a program of the user's may fail in any way
        try:
            with torch.no_grad():
                return getattr(self, name)(*inputs)
        except Exception as error:
            raise ValueError(f"`{name}` fails: {str(error).strip() or type(error).__name__}") from error

    def _run(self, name: str, *inputs: torch.Tensor) -> np.ndarray:
        found = self._call(name, *inputs)
        return _checked(name, found, (len(inputs[0]),) if name == "lpips" else (len(inputs[0]), None))


class ScriptedNetwork:
    """A network from a TorchScript file.

    The files in which Inception and I3D are usually passed on take bytes, scale and resize them themselves, and return
    features only when asked; they have an argument `return_features`, by which they are known.

    Args:
        module: The network.
        device: Where it runs.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self._module, self._device = module.to(device).eval(), device
        arguments = {argument.name for argument in module.forward.schema.arguments}
        self._takes_bytes = "return_features" in arguments
        names = arguments & {"return_features", "rescale", "resize"} if self._takes_bytes else ()
        self._options = dict.fromkeys(sorted(names), True)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the network on its device."""
        inputs = [tensor.to(self._device) for tensor in inputs]
        if self._takes_bytes:
            inputs[0] = (inputs[0] * 255).round().byte()
        return self._module(*inputs, **self._options)


def load_extractors(given: Sequence[str], trust_remote_code: bool, device: torch.device) -> Extractors:
    """Load networks from files.

    Args:
        given: NAME=FILE.pt, a TorchScript file, or NAME=FILE.py:FUNCTION, a function that takes nothing and returns
            the network; NAME as in `Extractors`.
        trust_remote_code: Whether the files may run: both kinds are programs.
        device: Where TorchScript runs.

    Returns:
        The networks.

    Raises:
        ValueError: A name is unknown or comes twice, a file cannot be loaded, or may not run.
    """
    networks, sources = {}, {}
    for words in given:
        name, _, where = words.partition("=")
        if name not in FIGURES_OF or not where:
            raise ValueError(
                f"`extractors` has {words!r}, must be NAME=FILE.pt or NAME=FILE.py:FUNCTION, NAME one of "
                f"{', '.join(FIGURES_OF)}"
            )
        if name in networks:
            raise ValueError(f"`extractors` has {name} twice, must have it once")
        path, function = _split_place(where)
        if not path.is_file():
            raise ValueError(f"`extractors` has {words!r}, but {path} is not a file")
        if not function and path.suffix not in (".pt", ".pth", ".ts", ".torchscript"):
            raise ValueError(
                f"`extractors` has {words!r}, must be TorchScript (FILE.pt) or FILE.py:FUNCTION: weights alone, such "
                "as safetensors, do not say what network they belong to"
            )
        if not trust_remote_code:
            raise ValueError(f"`extractors` has {words!r}, which is a program: pass `trust_remote_code` to let it run")
        networks[name] = _from_function(path, function) if function else _from_script(path, device)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sources[name] = f"{path.name}{':' + function if function else ''}, SHA-256 {digest[:12]}"
    return Extractors(**networks, sources=sources)


def as_images(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 frames (F, H, W, 3) into float32 images (F, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def _split_place(where: str) -> tuple[Path, str]:
    path, _, function = where.rpartition(":")
    return (Path(path), function) if path.endswith(".py") else (Path(where), "")


def _from_script(path: Path, device: torch.device) -> ScriptedNetwork:
    try:
        return ScriptedNetwork(torch.jit.load(path, map_location="cpu"), device)
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"`extractors`: {path} cannot be loaded as TorchScript: {reason}") from error


def _from_function(path: Path, function: str) -> Network:
    name = f"extractors_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # the user's own program may fail in any way
    try:
        spec.loader.exec_module(module)
        network = getattr(module, function)()
    except Exception as error:
        raise ValueError(
            f"`extractors`: {path}:{function} cannot be loaded: {str(error) or type(error).__name__}"
        ) from error
    if not callable(network):
        raise ValueError(f"`extractors`: {path}:{function} returns {type(network).__name__}, must return a function")
    return network


def _checked(name: str, found: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    shown = f"({', '.join('D' if size is None else str(size) for size in shape)}{',' * (len(shape) == 1)})"
    if not isinstance(found, torch.Tensor):
        raise ValueError(f"`{name}` returns {type(found).__name__}, must return a tensor {shown}")
    fits = found.ndim == len(shape) and all(
        size in (None, given) for size, given in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"`{name}` returns {tuple(found.shape)}, must return {shown}")
    if not found.isfinite().all():
        raise ValueError(f"`{name}` returns values that are not finite")
    return found.detach().cpu().double().numpy()
