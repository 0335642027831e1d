"""One prepared clip, and its four files inside a shard: mp4, wav, npz, json."""

import io
import json
import re
import wave
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.data.clip_video import encode_frames

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
INT16_SCALE = 32768
# a point would end the key that groups the files of a clip; tar's plain headers hold names of 100 bytes
CLIP_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,90}")
# label -> shape of one frame's values, and type; None is any length
REQUIRED_LABELS: dict[str, tuple[tuple[int, ...], str]] = {
    "pose": ((6,), "float32"),
    "blink": ((2,), "float32"),
    "face_box_px": ((4,), "float32"),
    "mouth_px": ((20, 2), "float32"),
}


@dataclass(frozen=True)
class PreparedClip:
    """One clip, ready for training.

    Attributes:
        clip_id: Letters, digits, _ and -; at most 90 of them.
        identity: Who is seen.
        frames: uint8 array (F, S, S, 3), RGB, at 25 fps.
        samples: Float32 array (640 F,): the sound at 16 kHz, in [-1, 1].
        labels: Arrays by name, one entry per frame. Always `pose` (F, 6) as `records.POSE_NAMES`, `blink` (F, 2),
            `face_box_px` (F, 4) as x_min, x_max, y_min, y_max, and `mouth_px` (F, 20, 2), all float32; where an audio
            encoder was given, `audio_features` (F, D) float16; extras of any name, shape and type.
        info: What else is known, as JSON allows it; for example `source`, the file's name.
    """

    clip_id: str
    identity: str
    frames: np.ndarray
    samples: np.ndarray
    labels: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)


def check_clip(clip: PreparedClip) -> None:
    """Refuse a clip that does not follow the format.

    Args:
        clip: The clip.

    Raises:
        ValueError: A name, shape, type or length is another than `PreparedClip` says, or a value is not finite.
    """
    name = f"clip {clip.clip_id!r}"
    if not CLIP_ID_PATTERN.fullmatch(clip.clip_id):
        raise ValueError(f"`clip_id` is {clip.clip_id!r}, must be 1 to 90 letters, digits, _ or -")
    if not clip.identity:
        raise ValueError(f"{name} has no `identity`")
    shape = clip.frames.shape
    if clip.frames.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or 0 in shape:
        raise ValueError(f"{name}: `frames` is {clip.frames.dtype} {shape}, must be uint8 (F, S, S, 3)")
    if shape[1] % 2:
        raise ValueError(f"{name}: `frames` is {shape[1]} px wide, must have an even width")
    if clip.samples.shape != (shape[0] * SAMPLES_PER_FRAME,) or not np.isfinite(clip.samples).all():
        raise ValueError(
            f"{name}: `samples` is {clip.samples.shape}, must be {shape[0] * SAMPLES_PER_FRAME} finite samples, "
            f"{SAMPLES_PER_FRAME} for each of its {shape[0]} frames"
        )
    for label, (frame_shape, dtype) in REQUIRED_LABELS.items():
        values = clip.labels.get(label)
        if values is None or values.shape != (shape[0], *frame_shape) or values.dtype != dtype:
            given = "missing" if values is None else f"{values.dtype} {values.shape}"
            raise ValueError(f"{name}: label `{label}` is {given}, must be {dtype} {(shape[0], *frame_shape)}")
    features = clip.labels.get("audio_features")
    if features is not None and (features.dtype != np.float16 or features.ndim != 2 or len(features) != shape[0]):
        raise ValueError(
            f"{name}: label `audio_features` is {features.dtype} {features.shape}, must be float16 ({shape[0]}, D)"
        )
    for label, values in clip.labels.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: label `{label}` holds values that are not finite")


def encode_members(clip: PreparedClip, split: str) -> dict[str, bytes]:
    """Turn a clip into its files. Equal clips give equal bytes.

    Args:
        clip: The clip.
        split: Name of its part of the data set, for example "train".

    Returns:
        Content by suffix: mp4, wav, npz, json.

    Raises:
        ValueError: As for `check_clip`.
    """
    check_clip(clip)
    about = clip.info | {
        "clip_id": clip.clip_id,
        "identity": clip.identity,
        "split": split,
        "num_frames": len(clip.frames),
    }
    labels = io.BytesIO()
    np.savez(labels, **dict(sorted(clip.labels.items())))
    return {
        "mp4": encode_frames(clip.frames),
        "wav": encode_wav(clip.samples),
        "npz": labels.getvalue(),
        "json": json.dumps(about, ensure_ascii=False, sort_keys=True, allow_nan=False).encode(),
    }


def decode_samples(content: bytes) -> np.ndarray:
    """Read the sound of a clip.

    Args:
        content: Content of its wav file.

    Returns:
        Float32 array (640 F,), in [-1, 1).

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with wave.open(io.BytesIO(content)) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    except (wave.Error, EOFError) as error:
        raise ValueError(f"the sound cannot be read: {error}") from error
    return (samples / INT16_SCALE).astype(np.float32)


def decode_labels(content: bytes, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read labels of a clip.

    Args:
        content: Content of its npz file.
        names: Which labels; None: all that there are.

    Returns:
        Arrays by name.

    Raises:
        ValueError: It cannot be read, or one of `names` is not there.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            missing = sorted(set(names or ()) - set(archive.files))
            if missing:
                raise ValueError(f"there is no label {', '.join(missing)}; there are {', '.join(archive.files)}")
            return {name: archive[name] for name in (archive.files if names is None else names)}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError) as error:
        raise ValueError(f"the labels cannot be read: {error}") from error


def encode_wav(samples: np.ndarray) -> bytes:
    """Write sound as a 16 bit WAV file.

    Args:
        samples: Float array (N,) at 16 kHz, in [-1, 1].

    Returns:
        The file's content.
    """
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        scaled = np.rint(samples.astype(np.float64) * INT16_SCALE).clip(-INT16_SCALE, INT16_SCALE - 1)
        sound.writeframes(scaled.astype("<i2").tobytes())
    return content.getvalue()
