"""Sections in which speech alone guides the video: PBNet's tracks, long videos, recordings."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from diffusers_dawn.cli.evaluation_reports import HIGHER, LOWER
from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.media.video_writer import VideoWriter
from diffusers_dawn.pipeline.clip_tensors import fit_samples
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Waveform
from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import labelled_opening
from training.evaluation.figures import (
    ANGLES,
    angular_speed,
    bootstrap_interval,
    consecutive_groups,
    correlation_where_seen,
    face_sharpness,
    finite_mean,
    mean_quotient,
    opening_correlation,
    pauses_and_voice,
    quotient,
    sound_energy,
    spread_evenly,
)
from training.evaluation.metrics.movement import blink_rate
from training.evaluation.report import LeftOut, SectionReport, unseen_note
from training.evaluation.shared_work import Row

# enough for the distribution of the training split's movements
MAX_TRAINING_CLIPS = 1000
# clips with the noise of the same place, apart from that of the guided parts
TRACKS, LONG, RECORDINGS = 1, 2, 3


def tracks_section(evaluation: Evaluation) -> SectionReport:
    """Judge PBNet: blinks, variety, and speed of the head, for the speech of the test split.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        What PBNet makes beside the training split.

    Raises:
        LeftOut: The pipeline has no PBNet.
    """
    pbnet = evaluation.pipe.pbnet
    if pbnet is None:
        raise LeftOut("the pipeline has no PBNet")
    if not evaluation.makes_tracks:
        raise LeftOut("pose and blinks are held")
    title = "Tracks: pose and blinks that PBNet makes for the speech of the test split"
    report = SectionReport(title, evaluation.clip_ids)
    report.beside = "training split"

    def judge(place: int) -> Row:
        portrait, speech = evaluation.portrait(place), evaluation.speech(place)
        (pose, blink), (other_pose, _) = (
            evaluation.free_tracks(portrait, speech, evaluation.random(TRACKS, place, sample)) for sample in range(2)
        )
        difference = float((pose - other_pose)[:, 0].abs().mean())
        return blink_rate(blink, FPS), difference, angular_speed(pose.numpy())

    rates, differences, speeds = zip(*evaluation.each("tracks", evaluation.places, judge), strict=True)
    training_rate, training_speeds = _training_movement(evaluation, report)
    seed = evaluation.settings.seed
    if pbnet.makes_blink:
        report.add_mean("blinks_per_s", "blinks per second", rates, seed, beside=training_rate, better=training_rate)
    else:
        report.notes.append("This PBNet makes no blinks.")
    if pbnet.makes_pose:
        report.add_mean("yaw_difference_deg", "yaw of two samples, mean difference [°]", differences, seed)
        least, count = min(differences), len(differences)
        report.add("least_yaw_difference_deg", "the same of the two that are most alike [°]", least, count=count)
        _add_speeds(report, np.concatenate(speeds), training_speeds)
    else:
        report.notes.append("This PBNet makes no poses.")
    return report


def long_section(evaluation: Evaluation) -> SectionReport:
    """Judge whether a long video is as good at its end as at its beginning.

    Consecutive clips' speech is joined, and rendered once forwards and once backwards: so the same sentences are said
    at the beginning and at the end.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        Lips and sharpness in the first and in the last seconds, and last over first.

    Raises:
        LeftOut: The clips are too short together, or nothing reads faces.
    """
    evaluation.needed_reader()
    settings = evaluation.settings
    lengths = [evaluation.num_frames(place) for place in range(len(evaluation))]
    groups = consecutive_groups(lengths, settings.num_long_frames)
    if not groups:
        raise LeftOut(f"the measured clips together do not last {settings.long_seconds:g} s")
    groups = [groups[index] for index in spread_evenly(len(groups), settings.num_long)]
    ends = f"{settings.clip_seconds:g} s"
    title = f"Long: the first and the last {ends} of videos of {settings.long_seconds:g} s"
    report = SectionReport(title, [f"from {evaluation.clip_ids[group[0]]}" for group in groups])
    orders = {"forwards": slice(None), "backwards": slice(None, None, -1)}
    runs = {
        f"{name}, {order}": (group[0], group[direction])
        for name, group in zip(report.clips, groups, strict=True)
        for order, direction in orders.items()
    }
    found = evaluation.each("long", runs, lambda run: _long_run(evaluation, *run))
    seed = settings.seed
    _add_ends(report, "mouth_opening", f"mouth opening, r, {{}} {ends}", [run[0] for run in found], seed, HIGHER)
    _add_ends(report, "sharpness", f"sharpness of the face, {{}} {ends}", [run[1] for run in found], seed)
    report.notes.append(
        f"Of {len(groups)} rows of joined clips, each forwards and backwards, so that both ends say the same; "
        f"{tracks_note(evaluation)}."
    )
    unseen = sum(run[2] for run in found)
    if unseen:
        report.notes.append(unseen_note(unseen, f"{2 * len(found)} ends"))
    return report


def recordings_section(evaluation: Evaluation) -> SectionReport:
    """Judge real speech: the mouth should open with the voice and close in pauses. There is no ground truth.

    Args:
        evaluation: The pipeline, the clips whose portraits speak, and the recordings.

    Returns:
        By recording: correlation of mouth opening with the energy of the sound, opening in pauses and in speech,
        sharpness beside the portrait's.

    Raises:
        LeftOut: There is no recording, or nothing reads faces.
    """
    evaluation.needed_reader()
    if not evaluation.settings.recordings:
        raise LeftOut("no `--recordings` are given")
    places = spread_evenly(len(evaluation), evaluation.settings.num_portraits)
    title = "Recordings: mouth opening read from the video against the energy of the sound"
    report = SectionReport(title, [evaluation.clip_ids[place] for place in places])
    for number, path in enumerate(evaluation.settings.recordings, 1):
        rows = _recording_rows(evaluation, number, path, places)
        _add_recording(report, number, path.name, rows, evaluation.settings.seed)
    report.notes.append(
        f"Portraits from the test split; {tracks_note(evaluation)}. Pauses: energy below a tenth of its 95th "
        "percentile for 0.16 s or more; speech: above three tenths of it."
    )
    return report


def _recording_rows(evaluation: Evaluation, number: int, path: Path, places: list[int]) -> list[Row]:
    """What each portrait says that speaks a recording, see `_spoken`."""
    waveform = read_waveform(path, name="recordings")
    speech = evaluation.pipe.encode_audio(waveform).cpu()
    energy = sound_energy(fit_samples(resample(waveform, SAMPLE_RATE_HZ), len(speech)), len(speech))

    def judge(place: int) -> Row:
        video = evaluation.settings.output / f"recording_{number}-{evaluation.clip_ids[place]}.mp4"
        return _spoken(evaluation, place, speech, energy, video, waveform)

    chosen = {evaluation.clip_ids[place]: place for place in places}
    return evaluation.each(f"recording {number}, {path.name}", chosen, judge)


def _training_movement(evaluation: Evaluation, report: SectionReport) -> tuple[float | None, np.ndarray | None]:
    """Blinks per second and angular speeds (N, 3) [°/s] of the training split."""
    shards = evaluation.training
    if shards is None:
        report.notes.append("The data set has no training split to compare with.")
        return None, None
    rates, speeds = [], []
    chosen = spread_evenly(len(shards), MAX_TRAINING_CLIPS)
    for index in evaluation.work.progress(chosen, "tracks, training split"):
        labels = shards.read_labels(index, ["pose", "blink"])
        pose, blink = (labels[name][: evaluation.settings.num_frames] for name in ("pose", "blink"))
        rates.append(blink_rate(torch.from_numpy(blink), FPS))
        speeds.append(angular_speed(pose))
    report.notes.append(f"Training split: {len(chosen)} of its {len(shards)} clips.")
    return finite_mean(rates), np.concatenate(speeds)


def _add_speeds(report: SectionReport, made: np.ndarray, training: np.ndarray | None) -> None:
    for column, angle in enumerate(ANGLES):
        for key, label, percent in (("median", "median", 50), ("p90", "90th percentile", 90)):
            beside = None if training is None else float(np.percentile(training[:, column], percent))
            value = np.percentile(made[:, column], percent)
            name = f"{angle}_speed_{key}_deg_per_s"
            report.add(name, f"speed of {angle}, {label} [°/s]", value, beside=beside, better=beside)


def _long_run(evaluation: Evaluation, place: int, order: list[int]) -> tuple[list[float], list[float], int]:
    """Mouth opening (first, last), sharpness (first, last), and how many of the two ends show no face."""
    settings = evaluation.settings
    num_frames, length = settings.num_frames, settings.num_long_frames
    speech = torch.cat([evaluation.speech(member) for member in order])[:length]
    truth = np.concatenate([labelled_opening(evaluation.labels(member)) for member in order])[:length]
    portrait, generator = evaluation.portrait(place), evaluation.random(LONG, place)
    stretches = evaluation.render(portrait, speech, evaluation.free_tracks(portrait, speech, generator), generator)
    openings, sharpness, unseen = [], [], 0
    for end in (slice(num_frames), slice(length - num_frames, length)):
        pictures = evaluation.pictures(stretches, end)
        readings = evaluation.needed_reader()(pictures)
        openings.append(opening_correlation(truth[end], readings))
        sharpness.append(face_sharpness(pictures, readings.face_box_px))
        unseen += not readings.show_face()
    return openings, sharpness, unseen


def _add_ends(
    report: SectionReport, key: str, label: str, runs: list[list[float]], seed: int, better: str | None = None
) -> None:
    """Means of first and last end, and their quotient, over rows of clips: two runs each."""
    rows = np.array(runs).reshape(-1, 2, 2).mean(axis=1)
    # a row of clips counts with both ends or not at all
    rows[~np.isfinite(rows).all(axis=1)] = math.nan
    for column, end in enumerate(("first", "last")):
        report.add_mean(f"{key}_{end}", label.format(end), rows[:, column], seed, better=better)
    rows = rows[np.isfinite(rows).all(axis=1)]
    last_and_first = rows[:, ::-1]
    value = mean_quotient(last_and_first) if len(rows) else math.nan
    interval = bootstrap_interval(last_and_first, seed, mean_quotient)
    name, label = f"{key}_ratio", label.format("last over first")
    report.add(name, label, value, interval=interval, count=len(rows), better=1.0)


def _spoken(
    evaluation: Evaluation, place: int, speech: torch.Tensor, energy: np.ndarray, video: Path, sound: Waveform
) -> list[float]:
    """Correlation with the energy, opening in pauses and in speech, sharpness over the portrait's, 1 if face seen."""
    portrait, generator = evaluation.portrait(place), evaluation.random(RECORDINGS, place)
    tracks = evaluation.free_tracks(portrait, speech, generator)
    pictures = evaluation.pictures(evaluation.render(portrait, speech, tracks, generator))
    with VideoWriter(video, waveform=sound, metadata={"comment": "synthetic video made by diffusers_dawn"}) as writer:
        writer.write(pictures)
    readings = evaluation.needed_reader()(pictures)
    own_sharpness = face_sharpness(portrait.image[None], np.array([portrait.face.box_px]))
    return [
        correlation_where_seen(energy, readings.opening),
        *(finite_mean(readings.opening[frames]) for frames in pauses_and_voice(energy)),
        quotient(face_sharpness(pictures, readings.face_box_px), own_sharpness),
        float(readings.show_face()),
    ]


def _add_recording(report: SectionReport, number: int, name: str, rows: list[list[float]], seed: int) -> None:
    correlations, pauses, voice, sharpness, seen = zip(*rows, strict=True)
    key = f"recording_{number}"
    report.add_mean(f"{key}_energy", f"{name}: mouth opening with the energy, r", correlations, seed, better=HIGHER)
    report.add_mean(f"{key}_pauses", f"{name}: mean mouth opening in pauses", pauses, seed, better=LOWER)
    report.add_mean(f"{key}_voice", f"{name}: mean mouth opening in speech", voice, seed)
    label = f"{name}: sharpness of the face, over the portrait's"
    report.add_mean(f"{key}_sharpness", label, sharpness, seed, better=1.0)
    if sum(seen) < len(seen):
        report.notes.append(unseen_note(len(seen) - round(sum(seen)), f"{len(seen)} videos of {name}"))


def tracks_note(evaluation: Evaluation) -> str:
    """Say whose pose and eye openness `Evaluation.free_tracks` returns."""
    pbnet = evaluation.pipe.pbnet if evaluation.makes_tracks else None
    pose, eyes = (
        "PBNet's" if made else "the portrait's"
        for made in (getattr(pbnet, "makes_pose", False), getattr(pbnet, "makes_blink", False))
    )
    return f"pose is {pose}, eye openness {eyes}"


SECTIONS: dict[str, Callable[[Evaluation], SectionReport]] = {
    "tracks": tracks_section,
    "long": long_section,
    "recordings": recordings_section,
}
