"""Networks that metrics need and this project does not ship, and what they take and return."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

# what cannot be computed without each
FIGURES_OF = {
    "inception": "FID",
    "i3d": "FVD16 and FVD32",
    "syncnet": "LSE-C and LSE-D",
    "dawn_sync": "LSE-C (dawn-sync) and LSE-D (dawn-sync)",
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
        dawn_sync: The same, by this project's own network (`training/train_syncnet.py`).
        arcface: Pictures (B, 3, H, W) and face boxes (B, 4) to embeddings (B, D).
        lpips: Pictures (B, 3, H, W) and their truth, of the same shape, to distances (B,).
        sources: Where each comes from, for the report.
    """

    inception: Network | None = None
    i3d: Network | None = None
    syncnet: Network | None = None
    dawn_sync: Network | None = None
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
        self, name: str, frames: np.ndarray, samples: np.ndarray, face_box_px: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute embeddings of lips and sound.

        Args:
            name: By which network: "syncnet" or "dawn_sync".
            frames: uint8 frames (F, H, W, 3).
            samples: Their sound at 16 kHz (640 F,).
            face_box_px: x_min, x_max, y_min, y_max (F, 4) [px], finite.

        Returns:
            Embeddings of the lips (F, D) and of the sound (F, D), float64.

        Raises:
            ValueError: The network returns something else.
        """
        inputs = as_images(frames), *(torch.from_numpy(np.array(x, np.float32)) for x in (samples, face_box_px))
        found = self._call(name, *inputs)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ValueError(f"`{name}` must return two tensors: embeddings of the lips and of the sound")
        return tuple(_checked(name, part, (len(frames), None)) for part in found)

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


def as_images(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 frames (F, H, W, 3) into float32 images (F, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


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
