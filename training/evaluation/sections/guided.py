"""Sections in which clips guide the video: the reader itself, lips, control, reconstruction."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from diffusers_dawn.cli.evaluation_reports import HIGHER
from diffusers_dawn.records import FPS
from training.evaluation.clips import NO_READER, Evaluation
from training.evaluation.face_reader import FaceReadings, labelled_opening
from training.evaluation.figures import (
    ANGLES,
    MIN_OPENING_STD,
    correlation_where_seen,
    derangement,
    face_sharpness,
    finite_mean,
    opening_correlation,
    opening_lag,
    quotient,
)
from training.evaluation.metrics.image_quality import LARGEST_PSNR_DB, psnr
from training.evaluation.metrics.movement import blink_rate
from training.evaluation.opening_plot import draw_openings
from training.evaluation.report import LeftOut, SectionReport, unseen_note
from training.evaluation.shared_work import Row
from training.evaluation.validation import TruthClip, box_inside, mouth_box
from training.objectives.box_masks import open_eye_boxes

# truths whose standard deviation is smaller hardly move: the reader's noise, which is about as large (in roll half as
# large), outweighs in them what it reads
MIN_ANGLE_STD_DEG = {"yaw": 1.0, "pitch": 1.0, "roll": 0.5}
# what is given besides speech, and its name in the report
FOLLOWED = {angle: angle for angle in ANGLES} | {"eyes": "eye openness"}
PLACES = ("mouth_px", "face_box_px", "eyes_px")
CEILING = "read from the truth's frames"

Labels = dict[str, np.ndarray]


def reader_section(evaluation: Evaluation) -> SectionReport:
    """Judge the reader: what it reads from the truth's own frames.

    Args:
        evaluation: The clips.

    Returns:
        Correlations of mouth opening, pose and eye openness with the labels: the ceiling of the other parts.
    """
    title = "Reader: what it reads from the truth's own frames, the ceiling of what follows"
    report = SectionReport(title, evaluation.clip_ids)
    evaluation.needed_reader()

    def judge(place: int) -> Row:
        readings, labels = evaluation.truth_readings(place), evaluation.labels(place)
        return _opening_correlation(labels, readings), followed(labels, readings), not readings.show_face()

    openings, rows, unseen = zip(*evaluation.each("reader", evaluation.places, judge), strict=True)
    seed = evaluation.settings.seed
    report.add_mean("mouth_opening", "mouth opening, r", openings, seed)
    for (key, label), values in zip(FOLLOWED.items(), zip(*rows, strict=True), strict=True):
        report.add_mean(key, f"{label}, r", values, seed)
    report.notes += [_movement_note(), *_unseen(sum(unseen), evaluation)]
    return report


def lips_section(evaluation: Evaluation) -> SectionReport:
    """Judge the lips: they should follow the truth with the clip's own speech, and not with another's.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        Correlation of mouth opening with the truth, with a clip's own speech and with that of another clip; lag.
    """
    title = "Lips: mouth opening read from the video against the truth, pose and blinks given"
    report = SectionReport(title, evaluation.clip_ids)
    report.beside = CEILING
    evaluation.needed_reader()

    def judge(place: int) -> Row:
        readings, labels = evaluation.readings(place, place), evaluation.labels(place)
        correlation, truth = _opening_correlation(labels, readings), labelled_opening(labels)
        return {
            "own": correlation,
            "ceiling": _opening_correlation(labels, evaluation.truth_readings(place)),
            "lag": opening_lag(truth, readings) if math.isfinite(correlation) else None,
            "is_unseen": not readings.show_face(),
            "curves": (evaluation.clip_ids[place], truth, readings.opening, correlation),
        }

    rows = evaluation.each("lips, own speech", evaluation.places, judge)
    own, ceiling, lags = ([row[name] for row in rows] for name in ("own", "ceiling", "lag"))
    unseen = sum(row["is_unseen"] for row in rows)
    seed = evaluation.settings.seed
    beside = finite_mean(ceiling)
    report.add_mean("own_speech", "with the clip's own speech, r", own, seed, beside=beside, better=HIGHER)
    if len(evaluation) > 1:
        report.add_mean("other_speech", "with the speech of another clip, r", _other_speech(evaluation), seed)
    else:
        report.notes.append("There is one clip only: none has the speech that it could be tried with.")
    told = [lag for lag in lags if lag is not None and math.isfinite(lag)]
    median = np.median(told) if told else math.nan
    report.add("lag_frames", "best lag, median [frames]", median, count=len(told), better=0.0)
    # a lag that cannot be told is not within; that of a mouth that hardly opens does not count
    within = [math.nan if lag is None else float(abs(lag) <= 1) for lag in lags]
    report.add_mean("lag_within_1", "share of clips whose best lag is within ±1 frame", within, seed, better=HIGHER)
    report.notes += _unseen(unseen, evaluation)
    if evaluation.work.is_main:
        shown = [row["curves"] for row in rows[: evaluation.settings.num_videos]]
        report.notes += draw_openings(evaluation.settings.output / "mouths_of_clips.png", shown)
    still = sum(math.isnan(value) for value in own)
    if still:
        report.notes.append(f"{still} clips whose mouth hardly opens (std below {MIN_OPENING_STD}) do not count.")
    return report


def control_section(evaluation: Evaluation) -> SectionReport:
    """Judge whether given pose and blinks are followed.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        Correlations of what is read from the video with what was given, and with what is read from the truth's frames:
        in the latter what the reader always gets wrong, such as a pitch that grows with the mouth, counts for both.
    """
    title = "Control: pose and blinks read from the video against those that were given"
    report = SectionReport(title, evaluation.clip_ids)
    report.beside = CEILING
    evaluation.needed_reader()

    def judge(place: int) -> Row:
        made, truth = evaluation.readings(place, place), evaluation.truth_readings(place)
        labels = evaluation.labels(place)
        return (followed(labels, made), followed(labels, truth), followed(labels, made, truth)), not made.show_face()

    rows, unseen = zip(*evaluation.each("control", evaluation.places, judge), strict=True)
    given, ceiling, as_read = np.array(rows).transpose(1, 2, 0)
    seed = evaluation.settings.seed
    for column, (key, label) in enumerate(FOLLOWED.items()):
        beside = finite_mean(ceiling[column])
        report.add_mean(key, f"{label}, r", given[column], seed, beside=beside, better=HIGHER)
    for column, (key, label) in enumerate(FOLLOWED.items()):
        label = f"{label}, r with what is {CEILING}"
        report.add_mean(f"{key}_as_read", label, as_read[column], seed, better=HIGHER)
    report.notes += [_movement_note(), *_unseen(sum(unseen), evaluation)]
    return report


def reconstruction_section(evaluation: Evaluation) -> SectionReport:
    """Judge LFG alone: it draws other frames of a clip from the first one.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        PSNR of the whole picture, of the mouth and of the eyes beside that of the source left as it is; mouth opening;
        sharpness.

    Raises:
        LeftOut: LFG cannot estimate motion.
    """
    if not evaluation.lfg.config.with_motion_estimator:
        raise LeftOut("this LFG has no motion estimator; pass one that has it with `--lfg`")
    title = "Reconstruction: LFG draws the frames of a clip from the first one"
    report = SectionReport(title, evaluation.clip_ids)
    report.beside = "source left as it is"

    def judge(place: int) -> Row:
        source, frames, labels = _pairs(evaluation.truth(place), evaluation.settings.frame_stride)
        drawn = evaluation.reconstruct(source, frames)
        row = dict(fidelity(source, frames, drawn, labels))
        row["sharpness"] = quotient(*(face_sharpness(pictures, labels["face_box_px"]) for pictures in (drawn, frames)))
        if evaluation.reader is not None:
            readings = evaluation.reader(drawn)
            row |= {"opening": _opening_correlation(labels, readings), "is_unseen": not readings.show_face()}
        return row

    rows = evaluation.each("reconstruction", evaluation.places, judge)
    _add_reconstruction(report, rows, evaluation.settings.seed)
    report.notes += _unseen(sum(row.get("is_unseen", 0) for row in rows), evaluation)
    return report


def fidelity(
    source: np.ndarray, frames: np.ndarray, drawn: np.ndarray, labels: Labels
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Compare drawn frames, and the unchanged source, with the truth.

    Frames in which nothing has changed since the source do not count.

    Args:
        source: uint8 picture (1, H, W, 3).
        frames: The truth (N, H, W, 3).
        drawn: What was drawn (N, H, W, 3).
        labels: `mouth_px` (N, 20, 2), and `eyes_px` (N, 2, 4) where it is known.

    Yields:
        Part of the picture ("picture", "mouth" and, where they are known, "eyes"), with the PSNR of what was drawn and
        of the source [dB].
    """
    made, truth, copied = (torch.from_numpy(part).permute(0, 3, 1, 2) / 255 for part in (drawn, frames, source))
    copied, size = copied.expand_as(truth), frames.shape[1:3]
    boxes = {"picture": None, "mouth": mouth_box(torch.from_numpy(labels["mouth_px"]), size)}
    if "eyes_px" in labels:
        boxes["eyes"] = box_inside(open_eye_boxes(torch.from_numpy(labels["eyes_px"])), size)
    for name, box_px in boxes.items():
        measured = [_psnr(images, truth, box_px) for images in (made, copied)]
        changed = measured[1].isfinite()
        yield name, tuple(finite_mean(values[changed].clamp(max=LARGEST_PSNR_DB).tolist()) for values in measured)


def _other_speech(evaluation: Evaluation) -> list[float]:
    """Correlation with a clip's own truth when it speaks as another one."""
    partners = derangement(len(evaluation), evaluation.settings.seed)

    def judge(place: int) -> float:
        return _opening_correlation(evaluation.labels(place), evaluation.readings(place, partners[place]))

    return evaluation.each("lips, other speech", evaluation.places, judge)


def _opening_correlation(labels: Labels, readings: FaceReadings) -> float:
    # of a clip that was cut to the length of another one's speech the beginning counts
    return opening_correlation(labelled_opening(labels)[: len(readings.opening)], readings)


def followed(labels: Labels, readings: FaceReadings, truth: FaceReadings | None = None) -> list[float]:
    """Correlate what `FOLLOWED` names with the labels, or with another reading.

    Args:
        labels: Labels of a clip: pose (F, 6) and blink (F, 2).
        readings: What was read from a video of F frames.
        truth: What was read from the truth's frames, to be compared with instead of the labels.

    Returns:
        A correlation for each, in their order; NaN where the labels hardly move, or nobody blinks.
    """
    pose, blink = (labels["pose"], labels["blink"]) if truth is None else (truth.pose, truth.blink)
    found = []
    for column, angle in enumerate(ANGLES):
        moves = labels["pose"][:, column].std() >= MIN_ANGLE_STD_DEG[angle]
        found.append(correlation_where_seen(pose[:, column], readings.pose[:, column]) if moves else math.nan)
    blinks = blink_rate(torch.from_numpy(labels["blink"]), FPS) > 0
    openness = blink.mean(axis=1), readings.blink.mean(axis=1)
    return [*found, correlation_where_seen(*openness) if blinks else math.nan]


def _add_reconstruction(report: SectionReport, rows: list[dict], seed: int) -> None:
    for name, label in (("picture", "whole picture"), ("mouth", "box of the mouth"), ("eyes", "boxes of the eyes")):
        if all(name in row for row in rows):
            made, copied = np.array([row[name] for row in rows]).T
            beside = finite_mean(copied)
            report.add_mean(f"psnr_{name}", f"PSNR, {label} [dB]", made, seed, beside=beside, better=HIGHER)
            report.add_mean(f"gain_{name}", f"gain, {label} [dB]", made - copied, seed, better=HIGHER)
    if "opening" in rows[0]:
        openings = [row["opening"] for row in rows]
        report.add_mean("mouth_opening", "mouth opening, r", openings, seed, better=HIGHER)
    else:
        report.notes.append(f"The mouth's opening is left out: {NO_READER}.")
    sharpness = [row["sharpness"] for row in rows]
    report.add_mean("sharpness", "sharpness of the face, over the truth's", sharpness, seed, better=1.0)
    if not all("eyes" in row for row in rows):
        report.notes.append("The eyes are left out: the data set has no label `eyes_px`, which synthetic clips have.")


def _movement_note() -> str:
    limits = ", ".join(f"{angle} {limit:g}°" for angle, limit in MIN_ANGLE_STD_DEG.items())
    return (
        f"Angles count in clips in which they move (std of the truth at least {limits}), eye openness in clips with a "
        "blink."
    )


def _unseen(unseen: int, evaluation: Evaluation) -> list[str]:
    return [unseen_note(unseen, f"{len(evaluation)} clips")] if unseen else []


def _pairs(clip: TruthClip, stride: int) -> tuple[np.ndarray, np.ndarray, Labels]:
    """The first frame (1, H, W, 3), every N-th of the others (N, H, W, 3), and the labels of the latter."""
    chosen = slice(1, None, stride)
    labels = {name: clip.labels[name][chosen] for name in PLACES if name in clip.labels}
    return clip.frames[:1], clip.frames[chosen], labels


def _psnr(images: torch.Tensor, truth: torch.Tensor, box_px: torch.Tensor | None) -> torch.Tensor:
    if box_px is None or box_px.ndim == 2:
        return psnr(images, truth, box_px)
    pairs = (tensor[:, None].expand(-1, box_px.shape[1], -1, -1, -1) for tensor in (images, truth))
    return psnr(*pairs, box_px)


SECTIONS: dict[str, Callable[[Evaluation], SectionReport]] = {
    "reader": reader_section,
    "lips": lips_section,
    "control": control_section,
    "reconstruction": reconstruction_section,
}
