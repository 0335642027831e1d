"""What is found out on portraits that speak with a given pose and given blinks: nobody knows their true lips."""

import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from diffusers_dawn.cli.evaluation_reports import HIGHER, LOWER
from diffusers_dawn.face.person import PersonSegmenter
from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.pipeline.clip_tensors import fit_samples
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Portrait, Waveform
from training.evaluation.clips import Evaluation, resized
from training.evaluation.face_reader import FaceReadings
from training.evaluation.figures import (
    ANGLES,
    correlation_where_seen,
    finite_mean,
    pauses_and_voice,
    quotient,
    slope_where_seen,
    sound_energy,
    spread_evenly,
)
from training.evaluation.identity import FaceEmbedding
from training.evaluation.report import LeftOut, SectionReport, unseen_note
from training.synthetic.puppets.portraits import list_pictures

# clips with the noise of the same place, apart from that of the other parts
PORTRAITS = 5
# the given pose: amplitude [deg] and period [s] of yaw, pitch and roll, around the portrait's own
TURNS_DEG, PERIODS_S = (10.0, 5.0, 4.0), (2.6, 1.9, 3.3)
# the given blinks: how often, how long the lids stay down, and how open they are then
BLINK_EVERY_S, CLOSED_FRAMES, CLOSED_BLINK = 1.2, 3, 0.05
# lids close and open within two frames, which are neither open nor closed
LID_FRAMES = 2
EMBEDDED_EVERY = 10
# width of the border beside the picture's, and difference of levels that makes a pixel of the background another one
BORDER_SHARE, CHANGED_LEVELS = 0.06, 24
# a pixel of the background: the person's share in it and in the pixels around is smaller
BACKGROUND_PERSON, AROUND_PX = 0.1, 8

FIGURES = {
    "energy": "mouth opening with the energy of the sound, r",
    "pauses": "opening in pauses above the portrait's own, of the face's height",
    **{angle: f"{angle} as given, r" for angle in ANGLES},
    **{f"{angle}_slope": f"{angle}, degrees for each that is given" for angle in ANGLES},
    "eyes": "eyes closed by a given blink, over open",
    "identity": "distance of the face's embedding (dlib) to the portrait's",
    "border": "share of the border's background that changes",
}
BETTER = dict.fromkeys(("energy", *ANGLES), HIGHER) | dict.fromkeys(("eyes", "identity", "border"), LOWER)
BETTER |= {"pauses": 0.0} | {f"{angle}_slope": 1.0 for angle in ANGLES}


def portraits_section(evaluation: Evaluation) -> SectionReport:
    """Let portraits speak the recordings in turn, with a pose that swings and blinks that are given.

    Args:
        evaluation: The pipeline, the folder of portraits, and the recordings.

    Returns:
        Means over portraits: lips in pauses and with the voice, pose and lids as given, identity, border.

    Raises:
        LeftOut: There are no portraits or no recordings, or nothing reads faces.
        ValueError: The folder has no picture with a face.
    """
    evaluation.needed_reader()
    settings = evaluation.settings
    if settings.portraits is None:
        raise LeftOut("no `--portraits` are given")
    if not settings.recordings:
        raise LeftOut("no `--recordings` are given, which portraits speak")
    names, portraits, refused = _read_portraits(evaluation)
    report = SectionReport("Portraits: real speech, pose and blinks given", names)
    try:
        embed = FaceEmbedding()
    except ImportError as error:
        report.notes.append(f"Identity is left out: {error}.")
        embed = None
    segment = PersonSegmenter()
    places = dict(zip(names, enumerate(portraits), strict=True))
    found = evaluation.each("portraits", places, lambda which: _judged(evaluation, *which, embed, segment))
    rows, seen = zip(*found, strict=True)
    unseen = len(seen) - sum(seen)
    for key, label in FIGURES.items():
        if key != "identity" or embed is not None:
            report.add_mean(key, label, [row[key] for row in rows], settings.seed, better=BETTER[key])
    report.notes.append(
        f"{len(portraits)} portraits, {settings.clip_seconds:g} s each. Yaw, pitch and roll swing by "
        f"{', '.join(f'{turn:g}' for turn in TURNS_DEG)}° around the portrait's; eyes are closed for {CLOSED_FRAMES} "
        f"frames every {BLINK_EVERY_S:g} s. Border: the outer {BORDER_SHARE:.0%} of the picture where it shows no "
        f"person; changed: by more than {CHANGED_LEVELS} of 255 levels."
    )
    if refused:
        report.notes.append(f"{refused} pictures cannot be used: they show no face, or cannot be read.")
    if unseen:
        report.notes.append(unseen_note(unseen, f"{len(portraits)} portraits"))
    return report


def given_tracks(portrait: Portrait, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the pose and the blinks that a portrait is given.

    Args:
        portrait: The portrait, whose own pose and eyes they begin with.
        num_frames: Frames F.

    Returns:
        Pose (F, 6) and eye openness (F, 2), float32; whether lids are down in the middle of a blink, bool (F,).
    """
    seconds = np.arange(num_frames) / FPS
    pose = np.repeat(portrait.face.pose[None].astype(np.float32), num_frames, axis=0)
    for column, (turn_deg, period_s) in enumerate(zip(TURNS_DEG, PERIODS_S, strict=True)):
        pose[:, column] += turn_deg * np.sin(2 * math.pi * seconds / period_s)
    into_blink = np.arange(num_frames) % round(BLINK_EVERY_S * FPS) - round(BLINK_EVERY_S * FPS / 2)
    is_closed = (into_blink >= 0) & (into_blink < CLOSED_FRAMES)
    away = np.maximum(-into_blink, into_blink - (CLOSED_FRAMES - 1)).clip(0, LID_FRAMES) / LID_FRAMES
    blink = CLOSED_BLINK + away[:, None] * (portrait.face.blink.astype(np.float32) - CLOSED_BLINK)
    return pose, blink.astype(np.float32), is_closed


def eyes_closed_over_open(blink: np.ndarray, is_closed: np.ndarray) -> float:
    """Compare how far eyes are open while the lids should be down with how far they are otherwise.

    Args:
        blink: Openness of both eyes that was read (F, 2); NaN where no face is seen.
        is_closed: Whether the lids should be down, bool (F,).

    Returns:
        Mean over the frames of blinks, over the median of the frames outside of them; NaN without both.
    """
    openness = blink.mean(axis=1)
    near = np.convolve(is_closed, np.ones(2 * LID_FRAMES + 1), mode="same") > 0
    closed, opened = (openness[frames & np.isfinite(openness)] for frames in (is_closed, ~near))
    return quotient(float(closed.mean()), float(np.median(opened))) if len(closed) and len(opened) else math.nan


def changed_border(pictures: np.ndarray, portrait: np.ndarray, person: np.ndarray) -> float:
    """Measure how much of the background at the border of the picture does not stay what it is.

    Args:
        pictures: uint8 frames (F, S, S, 3).
        portrait: uint8 portrait (S, S, 3).
        person: How much of each pixel of the portrait belongs to the person, float (S, S).

    Returns:
        Share of the border's pixels that show no person and change, mean over the frames; NaN if all show the person.
    """
    size_px = len(portrait)
    width_px = round(BORDER_SHARE * size_px)
    border = np.ones((size_px, size_px), bool)
    border[width_px:-width_px, width_px:-width_px] = False
    widened = functional.max_pool2d(torch.from_numpy(person)[None, None], 2 * AROUND_PX + 1, 1, AROUND_PX)
    background = border & (widened[0, 0].numpy() < BACKGROUND_PERSON)
    if not background.any():
        return math.nan
    difference = np.abs(pictures[:, background].astype(np.int16) - portrait[background].astype(np.int16))
    return float((difference.max(axis=-1) > CHANGED_LEVELS).mean())


def _read_portraits(evaluation: Evaluation) -> tuple[list[str], list[Portrait], int]:
    """Names of the pictures that are looked at, their portraits, and how many of the chosen ones show no face."""
    source = evaluation.settings.portraits
    folder, paths = source if source.is_dir() else source.parent, list_pictures(source)
    names: list[str] = []
    found: list[Portrait] = []
    chosen = spread_evenly(len(paths), evaluation.settings.num_clips) if paths else []
    for path in (paths[index] for index in chosen):
        try:
            found.append(evaluation.pipe.prepare_portrait(path))
        except ValueError:
            continue
        names.append(str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name)
    if not found:
        raise ValueError(f"`portraits` has no picture with a face: {source}")
    return names, found, len(chosen) - len(found)


def _judged(
    evaluation: Evaluation,
    place: int,
    portrait: Portrait,
    embed: FaceEmbedding | None,
    segment: PersonSegmenter,
) -> tuple[dict[str, float], bool]:
    settings = evaluation.settings
    speech, energy = _beginning(evaluation, settings.recordings[place % len(settings.recordings)])
    pose, blink, is_closed = given_tracks(portrait, len(speech))
    tracks = (torch.from_numpy(pose), torch.from_numpy(blink))
    pictures = evaluation.pictures(evaluation.render(portrait, speech, tracks, evaluation.random(PORTRAITS, place)))
    readings = evaluation.needed_reader()(pictures)
    source = resized(portrait.image, pictures.shape[1])
    pauses, _ = pauses_and_voice(energy)
    row = {
        "energy": correlation_where_seen(energy, readings.opening),
        "pauses": finite_mean(readings.opening[pauses]) - float(readings.opening[0]),
        "eyes": eyes_closed_over_open(readings.blink, is_closed),
        "border": changed_border(pictures, source, segment(source)),
    }
    for column, angle in enumerate(ANGLES):
        row[angle] = correlation_where_seen(pose[:, column], readings.pose[:, column])
        row[f"{angle}_slope"] = slope_where_seen(pose[:, column], readings.pose[:, column])
    if embed is not None:
        row["identity"] = _identity_distance(embed, pictures, readings, source, evaluation)
    return row, readings.show_face()


def _beginning(evaluation: Evaluation, recording: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Features (F, D) and energy (F,) of the first seconds of a recording."""
    waveform = resample(read_waveform(recording, name="recordings"), SAMPLE_RATE_HZ)
    num_frames = min(evaluation.settings.num_frames, max(1, len(waveform.samples) * FPS // SAMPLE_RATE_HZ))
    samples = fit_samples(waveform, num_frames)
    speech = evaluation.pipe.encode_audio(Waveform(samples, SAMPLE_RATE_HZ)).cpu()
    return speech, sound_energy(samples, num_frames)


def _identity_distance(
    embed: FaceEmbedding, pictures: np.ndarray, readings: FaceReadings, source: np.ndarray, evaluation: Evaluation
) -> float:
    own = evaluation.needed_reader()(source[None])
    if not own.seen[0]:
        return math.nan
    whose = embed(source, own.face_box_px[0])
    looked_at = [frame for frame in range(0, len(pictures), EMBEDDED_EVERY) if readings.seen[frame]]
    distances = (np.linalg.norm(embed(pictures[frame], readings.face_box_px[frame]) - whose) for frame in looked_at)
    return finite_mean(distances)


SECTIONS = {"portraits": portraits_section}
