"""Validate a training by rendering clips of unseen people with the pipeline."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, FaceState, Portrait
from training.data.clip_shards import ClipShards
from training.data.shard_journal import finished_shards, read_journal
from training.evaluation.face_reader import MOUTH_POINTS, FaceReader, labelled_opening
from training.evaluation.metrics.image_quality import psnr, ssim
from training.evaluation.metrics.landmark_distance import landmark_distance
from training.evaluation.metrics.track_agreement import best_lag, pearson_correlation

logger = logging.getLogger("training")


@dataclass(frozen=True)
class RenderedClip:
    """A clip made for validation.

    Attributes:
        frames: uint8 frames (F, H, W, 3).
        samples: Its sound at 16 kHz, float32.
    """

    frames: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        metrics: Numbers by name.
        clips: Rendered clips by name.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    clips: dict[str, RenderedClip] = field(default_factory=dict)


class TruthClip(NamedTuple):
    """A clip of the data set, as much of it as is rendered.

    Attributes:
        clip_id: Its name.
        frames: uint8 frames (F, H, W, 3).
        samples: Its sound at 16 kHz.
        labels: Its labels by name, (F, ...) each.
    """

    clip_id: str
    frames: np.ndarray
    samples: np.ndarray
    labels: dict[str, np.ndarray]

    def portrait(self) -> Portrait:
        """Take the first frame as the portrait."""
        size = self.frames.shape[1:3]
        face = FaceState(
            pose=self.labels["pose"][0],
            blink=self.labels["blink"][0],
            box_px=tuple(float(side) for side in self.labels["face_box_px"][0]),
            image_size=size,
            mouth_px=self.labels["mouth_px"][0],
        )
        return Portrait(self.frames[0], face)


def validation_clips(dataset: str | Mapping[str, float], count: int, max_frames: int) -> list[TruthClip]:
    """Read clips of people who are not in the training split.

    Args:
        dataset: Folder of the prepared data set, or shares by folder, the first of which is used.
        count: How many, at most.
        max_frames: How much of each.

    Returns:
        The first clips of the test split, of the training split (which is logged) where there are none; clips of one
        frame are left out.
    """
    dataset = dataset if isinstance(dataset, str) else next(iter(dataset))
    journals = [read_journal(path) for path in finished_shards(Path(dataset), "test")]
    has_tests = any("skipped" not in line for lines in journals for line in lines)
    if not has_tests:
        logger.warning("the data set has no test clips: validating on training clips")
    clips = ClipShards(dataset, "test" if has_tests else "train")
    usable = [index for index, entry in enumerate(clips.entries) if entry.num_frames >= 2]
    return [read_truth_clip(clips, index, max_frames) for index in usable[:count]]


def read_truth_clip(clips: ClipShards, index: int, max_frames: int) -> TruthClip:
    """Read a clip of a prepared data set.

    Args:
        clips: The data set.
        index: Which of its clips.
        max_frames: How much of it.

    Returns:
        The clip, or its beginning.
    """
    num_frames = min(max_frames, clips.entries[index].num_frames)
    return TruthClip(
        clips.entries[index].clip_id,
        clips.read_frames(index, range(num_frames)),
        clips.read_samples(index)[: num_frames * SAMPLE_RATE_HZ // FPS],
        {name: values[:num_frames] for name, values in clips.read_labels(index).items()},
    )


def render_clips(
    pipe: DAWNPipeline,
    dataset: str | Mapping[str, float],
    count: int,
    max_frames: int,
    num_inference_steps: int,
    seed: int,
    given_tracks: bool = True,
) -> Validation:
    """Render clips with their own speech, and compare them with what was filmed.

    Args:
        pipe: The pipeline.
        dataset: Folder of the prepared data set.
        count: How many clips.
        max_frames: How much of each.
        num_inference_steps: Denoising steps.
        seed: Seed of the noise.
        given_tracks: Whether pose and blinks are those that were filmed, or PBNet's.

    Returns:
        PSNR of the whole picture and of the mouth box, SSIM, how the mouth's opening follows the truth (where a face
        detector is installed and sees the faces), and the clips.
    """
    rows, rendered = [], {}
    for clip in validation_clips(dataset, count, max_frames):
        frames = pipe(
            image=clip.portrait(),
            audio_embeds=torch.from_numpy(clip.labels["audio_features"].astype(np.float32)),
            pose=torch.from_numpy(clip.labels["pose"]) if given_tracks else None,
            blink=torch.from_numpy(clip.labels["blink"]) if given_tracks else None,
            num_inference_steps=num_inference_steps,
            generator=torch.Generator().manual_seed(seed),
            height=clip.frames.shape[1],
            width=clip.frames.shape[2],
            output_type="np",
        ).frames[0]
        rows.append(picture_metrics(frames, clip) | mouth_metrics(frames, clip))
        shown = np.concatenate((clip.frames, (frames * 255).round().astype(np.uint8)), axis=2)
        rendered[clip.clip_id] = RenderedClip(shown, clip.samples)
    return Validation(mean_of_rows(rows), rendered)


def picture_metrics(frames: np.ndarray, clip: TruthClip) -> dict[str, float]:
    """Compare pictures with the truth.

    Args:
        frames: Float frames (F, H, W, 3) in [0, 1].
        clip: The truth.

    Returns:
        PSNR [dB] of the whole picture and of the box around the mouth, and SSIM; means over the frames after the
        first, which is the portrait itself.
    """
    made = torch.from_numpy(frames[1:]).permute(0, 3, 1, 2)
    truth = torch.from_numpy(clip.frames[1:]).permute(0, 3, 1, 2).float() / 255
    box_px = mouth_box(torch.from_numpy(clip.labels["mouth_px"][1:]), clip.frames.shape[1:3])
    return {
        "psnr": float(psnr(made, truth).mean()),
        "psnr_mouth": float(psnr(made, truth, box_px).mean()),
        "ssim": float(ssim(made, truth).mean()),
    }


def mouth_box(mouth_px: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Compute the boxes around mouths, as far as they are inside the picture.

    Args:
        mouth_px: Mouth landmarks (F, 20, 2) [px].
        size: Height and width of the picture [px].

    Returns:
        x_min, x_max, y_min, y_max (F, 4) [px].
    """
    low, high = mouth_px.amin(dim=1), mouth_px.amax(dim=1)
    return box_inside(torch.stack((low[:, 0], high[:, 0] + 1, low[:, 1], high[:, 1] + 1), dim=1), size)


def box_inside(box_px: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut boxes at the border of the picture; one that is beyond it becomes one pixel at the border.

    Args:
        box_px: x_min, x_max, y_min, y_max (..., 4) [px].
        size: Height and width of the picture [px].

    Returns:
        The boxes (..., 4).
    """
    height, width = size
    x_min, y_min = (box_px[..., side].clamp(0, count - 1) for side, count in ((0, width), (2, height)))
    x_max = torch.maximum(box_px[..., 1].clamp(max=width), x_min + 1)
    y_max = torch.maximum(box_px[..., 3].clamp(max=height), y_min + 1)
    return torch.stack((x_min, x_max, y_min, y_max), dim=-1)


def mouth_metrics(frames: np.ndarray, clip: TruthClip, max_lag: int = 5) -> dict[str, float]:
    """Compare the mouth, read from the pictures by mediapipe, with the truth.

    Args:
        frames: Float frames (F, H, W, 3) in [0, 1].
        clip: The truth.
        max_lag: Largest lag that is looked for [frames].

    Returns:
        Of how far it opens over time: the correlation, and the lag at which it is highest [frames]. M-LMD: how far its
        landmarks lie from their true places [px]. Nothing where mediapipe is missing, finds no face in a tenth of the
        frames, or a mouth does not move.
    """
    try:
        reader = FaceReader()
    except ImportError:
        logger.info("no mouth metrics: mediapipe is not installed (extra `face`)")
        return {}
    with reader:
        readings = reader((frame * 255).round().astype(np.uint8) for frame in frames)
    if not readings.show_face(2 * max_lag + 3):
        return {}
    made, truth = readings.opening[readings.seen], labelled_opening(clip.labels)[readings.seen]
    correlation = float(pearson_correlation(made, truth))
    if not np.isfinite(correlation):
        return {}
    mouths_px = readings.mesh_px[:, list(MOUTH_POINTS)]
    return {
        "mouth_correlation": correlation,
        "mouth_lag_frames": float(best_lag(truth, made, max_lag)[0]),
        "m_lmd_px": landmark_distance(mouths_px, clip.labels["mouth_px"]),
    }


def mean_of_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average the metrics of clips; one that some clips lack is averaged over the others."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
