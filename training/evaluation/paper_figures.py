"""The figures of the paper's tables, of made videos beside the films whose portrait and sound they have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diffusers_dawn.cli.evaluation_reports import HIGHER, LOWER
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.evaluation.extractors import FIGURES_OF, Extractors
from training.evaluation.face_reader import FaceReadings
from training.evaluation.figures import finite_mean, pauses_and_voice, sound_energy
from training.evaluation.identity import FaceEmbedding
from training.evaluation.metrics.beat_alignment import beat_align_score, head_beats, sound_beats
from training.evaluation.metrics.face_similarity import csim
from training.evaluation.metrics.frechet_distance import (
    FeatureStatistics,
    frechet_distance,
    jackknife_interval,
    window_starts,
)
from training.evaluation.metrics.lip_sync import lip_sync
from training.evaluation.metrics.movement import blink_rate, mean_jerk, motion_diversity
from training.evaluation.report import SectionReport
from training.evaluation.shared_work import Row

DISTANCES = {"fid": "FID", "fvd16": "FVD16", "fvd32": "FVD32"}
WINDOWS = {"fvd16": 16, "fvd32": 32}
MOVEMENT = {
    "bas": "BAS",
    "blinks_per_s": "blinks per second",
    "head_diversity_deg": "diversity of head motion, std over time [°]",
    "head_jerk_deg_per_s3": "jerk of the head [°/s³]",
    "mouth_jerk_per_s3": "jerk of the mouth's opening [face heights/s³]",
    "opening_in_silence": "mouth opening in silence [face heights]",
}
SYNC = {"lse_c": "LSE-C", "lse_d": "LSE-D", "offset_frames": "offset of lips after sound [frames]"}
# the same by the network of `train_syncnet.py`
DAWN_SYNC = {f"{name}_dawn_sync": f"{label} (dawn-sync)" for name, label in SYNC.items()}
SYNC_NETWORKS = {"syncnet": SYNC, "dawn_sync": DAWN_SYNC}
IDENTITY = {"csim": "CSIM", "csim_dlib": "CSIM (dlib)"}
# of the others, what is nearer to the films' own figure is better
BETTER = {
    "lse_c": HIGHER,
    "lse_d": LOWER,
    "lse_c_dawn_sync": HIGHER,
    "lse_d_dawn_sync": LOWER,
    "csim": HIGHER,
    "csim_dlib": HIGHER,
}
# dlib's embedding takes 20 ms a face
EMBEDDED_EVERY = 10


@dataclass(frozen=True)
class WatchedClip:
    """A video as it is looked at.

    Attributes:
        frames: uint8 frames (F, H, W, 3).
        readings: What was read from them; None where nothing reads faces.
    """

    frames: np.ndarray
    readings: FaceReadings | None


class PaperFigures:
    """Find the figures, clip by clip.

    Args:
        extractors: The networks that are there.
        embed: dlib's face embedding; None where it is missing.
    """

    def __init__(self, extractors: Extractors, embed: FaceEmbedding | None) -> None:
        self._extractors, self._embed = extractors, embed

    def row(self, made: WatchedClip, truth: WatchedClip, samples: np.ndarray) -> Row:
        """Look at a made video and at the film whose first frame and sound it has.

        Args:
            made: The video.
            truth: The film, as long.
            samples: The sound at 16 kHz, 640 samples per frame.

        Returns:
            What the two say, for `report`; an entry for the video and one for the film in each list.

        Raises:
            ValueError: The lengths differ, or a network returns what it must not.
        """
        clips = made, truth
        if made.frames.shape != truth.frames.shape:
            raise ValueError(f"`made` has frames {made.frames.shape}, `truth` {truth.frames.shape}; must be equal")
        figures = [self._heard_and_read(clip, samples) for clip in clips]
        for name, similarities in self._face_similarities(made, truth).items():
            for found, similarity in zip(figures, similarities, strict=True):
                found[name] = similarity
        return {
            "figures": figures,
            "features": [self._features(clip.frames) for clip in clips],
            "is_unseen": made.readings is not None and not made.readings.show_face(),
        }

    def report(self, report: SectionReport, rows: Sequence[Row], seed: int) -> None:
        """Add the figures, and what is left out.

        Args:
            report: The part of the report that gets them.
            rows: What each video and its film say, see `row`.
            seed: Seed of the intervals.
        """
        statistics = {name: tuple(_statistics(rows, name, side) for side in range(2)) for name in DISTANCES}
        for name, label in DISTANCES.items():
            first, second = statistics[name]
            if first.count > 1:
                distance = frechet_distance(first, second)
                clips = [[side[name] for side in row["features"]] for row in rows if name in row["features"][0]]
                interval = jackknife_interval(distance, clips)
                report.add(name, label, distance, interval=interval, count=first.count, better=LOWER)
        for name, label in (SYNC | DAWN_SYNC | IDENTITY | MOVEMENT).items():
            if any(name in row["figures"][0] for row in rows):
                made, filmed = ([row["figures"][side][name] for row in rows] for side in range(2))
                beside = finite_mean(filmed)
                report.add_mean(name, label, made, seed, beside=beside, better=BETTER.get(name, beside))
        report.notes += self._notes(rows, {name: pair[0] for name, pair in statistics.items()})

    def _notes(self, rows: Sequence[Row], made: Mapping[str, FeatureStatistics]) -> list[str]:
        notes = []
        num_unseen = sum(row["is_unseen"] for row in rows)
        if num_unseen:
            notes.append(
                f"In {num_unseen} of {len(rows)} videos the reader sees the face in less than 90 % of the "
                "frames: they do not count in what is read from faces."
            )
        few = [name for name, found in made.items() if 1 < found.count <= len(found.mean)]
        if few:
            notes.append(
                f"{', '.join(few).upper()}: fewer pictures or windows (n) than features, so the distance is too high, "
                "and comparable only with that of as many."
            )
        # how near pictures are to the truth is not judged here
        missing = [name for name in self._extractors.missing() if name != "lpips"]
        if missing:
            listed = ", ".join(f"{FIGURES_OF[name]} ({name})" for name in missing)
            notes.append(f"Left out, as `--extractors` has no network for them: {listed}. See docs/evaluation.md.")
        if "i3d" not in missing:
            short = [name for name in WINDOWS if made[name].count < 2]
            notes += [f"Left out: {name.upper()}, for want of two windows of its length." for name in short]
        if self._embed is None:
            notes.append("Left out: CSIM (dlib), which needs the extra `identity`.")
        return notes

    def _features(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        if self._extractors.inception is not None:
            found["fid"] = self._extractors.picture_features(frames)
        for name, length in WINDOWS.items():
            starts = window_starts(len(frames), length)
            if self._extractors.i3d is not None and len(starts):
                windows = np.stack([frames[start : start + length] for start in starts])
                found[name] = self._extractors.window_features(windows)
        return found

    def _heard_and_read(self, clip: WatchedClip, samples: np.ndarray) -> dict[str, float]:
        readings = clip.readings
        if readings is None:
            return {}
        found = movement_figures(readings, samples)
        for network, names in SYNC_NETWORKS.items():
            if getattr(self._extractors, network) is not None:
                sync = (math.nan,) * len(names)
                if readings.show_face():
                    boxes = without_gaps(readings.face_box_px)
                    sync = lip_sync(*self._extractors.sync_embeddings(network, clip.frames, samples, boxes))
                found |= dict(zip(names, sync, strict=True))
        return found

    def _face_similarities(self, made: WatchedClip, truth: WatchedClip) -> dict[str, tuple[float, float]]:
        """CSIM of the made video and of the film with its first frame, by each network that is there."""
        networks = {}
        if self._extractors.arcface is not None:
            networks["csim"] = self._extractors.face_embeddings, 1
        if self._embed is not None:
            networks["csim_dlib"] = self._described_by_dlib, EMBEDDED_EVERY
        if made.readings is None or truth.readings is None:
            return {}
        found = dict.fromkeys(networks, (math.nan, math.nan))
        if not truth.readings.seen[0]:
            return found
        for name, (embedded, every) in networks.items():
            portrait = embedded(truth.frames[:1], truth.readings.face_box_px[:1])[0]
            similarities = []
            for clip in (made, truth):
                # the first frame is the portrait itself
                chosen = [frame for frame in range(1, len(clip.frames), every) if clip.readings.seen[frame]]
                is_judged = clip.readings.show_face() and chosen
                embeddings = embedded(clip.frames[chosen], clip.readings.face_box_px[chosen]) if is_judged else None
                similarities.append(float(csim(embeddings, portrait).mean()) if is_judged else math.nan)
            found[name] = tuple(similarities)
        return found

    def _described_by_dlib(self, frames: np.ndarray, face_box_px: np.ndarray) -> np.ndarray:
        return np.stack([self._embed(*pair) for pair in zip(frames, face_box_px, strict=True)])


def _statistics(rows: Sequence[Row], name: str, side: int) -> FeatureStatistics:
    """Of what `DISTANCES` names, statistics of the made videos (side 0) or the films (1)."""
    statistics = FeatureStatistics()
    for row in rows:
        if name in row["features"][side]:
            statistics.update(row["features"][side][name])
    return statistics


def movement_figures(readings: FaceReadings, samples: np.ndarray) -> dict[str, float]:
    """Compute what `MOVEMENT` names of one video.

    Args:
        readings: What was read from it (F frames).
        samples: Its sound at 16 kHz (640 F,).

    Returns:
        The figures; NaN where the face is seen in less than 90 % of the frames.

    Raises:
        ValueError: There are not 640 samples per frame.
    """
    energy = sound_energy(samples, len(readings.opening))
    if not readings.show_face():
        return dict.fromkeys(MOVEMENT, math.nan)
    angles = readings.pose[:, :3]
    beats_s = sound_beats(samples, SAMPLE_RATE_HZ)
    return {
        "bas": beat_align_score(beats_s, head_beats(without_gaps(angles), FPS), FPS),
        "blinks_per_s": blink_rate(torch.from_numpy(readings.blink[readings.seen]), FPS),
        "head_diversity_deg": motion_diversity(angles),
        "head_jerk_deg_per_s3": mean_jerk(angles, FPS),
        "mouth_jerk_per_s3": mean_jerk(readings.opening, FPS),
        "opening_in_silence": finite_mean(readings.opening[pauses_and_voice(energy)[0]]),
    }


def without_gaps(track: np.ndarray) -> np.ndarray:
    """Fill frames that show no face: in a straight line between their neighbours, at the ends with the nearest.

    Args:
        track: Array (F, K), NaN where no face is seen, which it is in one frame at least.

    Returns:
        Array (F, K), finite.
    """
    seen, frames = np.isfinite(track).all(axis=1), np.arange(len(track))
    return np.stack([np.interp(frames, frames[seen], column[seen]) for column in track.T], axis=1)
