"""Portraits for puppets: found in a folder, cropped as the pipeline does, and degraded like real uploads."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diffusers_dawn.face.crop import prepare_portrait
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from training.data.clip_plan import identity_of, read_names

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# portraits are drawn alike from so many classes of skin luminance
NUM_TONES = 5
# points between nose and cheeks, left and right: skin without hair, beard or make-up, mostly
SKIN_POINTS = (117, 118, 50, 205, 346, 347, 280, 425)
# shares of the portraits that were enlarged, compressed, or are noisy; and how much
ENLARGED_SHARE, SHRINKINGS = 0.35, (0.45, 1.0)
COMPRESSED_SHARE, JPEG_QUALITIES = 0.4, (35, 92)
NOISY_SHARE, NOISES = 0.2, (1.0, 5.0)


@dataclass(frozen=True)
class ListedPortrait:
    """A portrait that can be used.

    Attributes:
        path: Its path below the folder.
        identity: Who it shows.
        luminance: Luminance of the skin, 0 to 255.
    """

    path: str
    identity: str
    luminance: float


def list_pictures(source: Path) -> list[Path]:
    """Find pictures.

    Args:
        source: A folder, searched with its sub-folders (hidden files do not count), or a text file with one path per
            line, relative to its own folder.

    Returns:
        Their paths, sorted.
    """
    if source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
        return sorted(path for path in found if not path.name.startswith("."))
    return sorted(source.parent / name for name in read_names(source))


def list_portraits(
    folder: Path,
    detector: MediaPipeFaceDetector,
    identity_pattern: re.Pattern | None,
    on_picture: Callable[[], None] | None = None,
) -> tuple[list[ListedPortrait], dict[str, str]]:
    """Find the portraits of a folder.

    Args:
        folder: The folder, searched with its sub-folders.
        detector: Finds the faces.
        identity_pattern: See `clip_plan.identity_of`; None: every picture shows somebody else.
        on_picture: Called after every picture.

    Returns:
        The portraits, and the reason by path of those that cannot be used.

    Raises:
        ValueError: There are none, or the pattern finds no identity.
    """
    found, refused = [], {}
    for path in list_pictures(folder):
        name = path.relative_to(folder).as_posix()
        identity = Path(name).stem if identity_pattern is None else identity_of(name, identity_pattern)
        try:
            picture = prepare_portrait(path, None, None, None, detector).image
            faces_px = detector.landmarks(picture)
            if not faces_px:
                raise ValueError("no face is found in the square around its face")
            found.append(ListedPortrait(name, identity, _skin_luminance(picture, faces_px[0])))
        except ValueError as error:
            refused[name] = str(error)
        if on_picture is not None:
            on_picture()
    if not found:
        raise ValueError(f"`portraits` {folder} holds no picture with a face ({', '.join(PICTURE_SUFFIXES)})")
    return found, refused


def draw_portrait(portraits: list[ListedPortrait], rng: np.random.Generator) -> ListedPortrait:
    """Draw a portrait: light and dark skins alike, however many portraits show them.

    Args:
        portraits: At least one.
        rng: Draws.

    Returns:
        One of them.
    """
    luminance = np.array([portrait.luminance for portrait in portraits])
    edges = np.linspace(luminance.min(), luminance.max() + 1e-6, NUM_TONES + 1)
    tones = np.digitize(luminance, edges[1:-1])
    of_tone = np.flatnonzero(tones == rng.choice(np.unique(tones)))
    return portraits[int(rng.choice(of_tone))]


def make_worse(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, compress or add noise to some pictures, like those that people upload.

    Args:
        image: uint8 array (S, S, 3), RGB.
        rng: Draws what and how much.

    Returns:
        uint8 array like `image`.
    """
    if rng.random() < ENLARGED_SHARE:
        side = round(len(image) * rng.uniform(*SHRINKINGS))
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        image = np.array(small.resize(image.shape[1::-1], Image.Resampling.BICUBIC))
    if rng.random() < COMPRESSED_SHARE:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG", quality=int(rng.integers(*JPEG_QUALITIES)))
        image = np.array(Image.open(content))
    if rng.random() < NOISY_SHARE:
        noisy = image + rng.normal(size=image.shape) * rng.uniform(*NOISES)
        image = noisy.clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(image)


def _skin_luminance(image: np.ndarray, landmarks_px: np.ndarray) -> float:
    x, y = landmarks_px[list(SKIN_POINTS), :2].astype(int).T
    skin = image[y.clip(0, len(image) - 1), x.clip(0, image.shape[1] - 1)]
    return float(np.median(skin @ np.array([0.299, 0.587, 0.114])))
