"""Evaluate on films of real people: render from the first frame and the sound, and compare with the film."""

import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from diffusers_dawn.cli.evaluation_reports import HIGHER
from diffusers_dawn.face.crop import crop_square
from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.media.videos import stream_video
from diffusers_dawn.pipeline.clip_tensors import fit_samples
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Portrait, Waveform
from training.data.clip_plan import list_videos
from training.evaluation.clips import Evaluation, resized
from training.evaluation.face_reader import FaceReadings
from training.evaluation.figures import (
    FEWEST_FRAMES,
    MIN_OPENING_STD,
    correlation_where_seen,
    derangement,
    face_sharpness,
    finite_mean,
    opening_correlation,
    opening_lag,
    pauses_and_voice,
    quotient,
    sound_energy,
    spread_evenly,
)
from training.evaluation.likeness import frame_likeness
from training.evaluation.opening_plot import draw_openings
from training.evaluation.paper_figures import PaperFigures, WatchedClip
from training.evaluation.report import LeftOut, SectionReport, unseen_note
from training.evaluation.sections.paper import add_likeness, face_embedding
from training.evaluation.shared_work import Row

# clips with the noise of the same place, apart from that of the other parts
FILMS = 4


@dataclass(frozen=True)
class Film:
    """A film of somebody who speaks.

    Attributes:
        name: Its path below the folder.
        portrait: The square around the face of its first frame.
        frames: The same square of every frame, uint8 (F, S, S, 3).
        waveform: Its sound, F frames long, 16 kHz.
    """

    name: str
    portrait: Portrait
    frames: np.ndarray
    waveform: Waveform


def films_section(evaluation: Evaluation) -> SectionReport:
    """Judge a pipeline by films: it gets the first frame and the sound, and its video is compared with the film.

    Args:
        evaluation: The pipeline, and the folder of films.

    Returns:
        Mouth opening and width against the film's, with its own sound and with another film's; size of the mouth's
        movement; lag; opening in pauses above the portrait's own; sharpness; the figures of the paper's tables beside
        those of the films; how near the pictures are to the films'.

    Raises:
        LeftOut: There is no folder of films, or nothing reads faces.
    """
    reader = evaluation.needed_reader()
    if evaluation.settings.real_clips is None:
        raise LeftOut("no `--real_clips` are given")
    root, names = _chosen_films(evaluation)
    title = "Films: first frame and own sound against what was filmed, poses and blinks PBNet's"
    report = SectionReport(title, names)
    report.beside = "the films themselves"
    paper, partners = PaperFigures(evaluation.extractors, face_embedding()), _partners(evaluation, names)

    def judge(place: int) -> Row:
        film = _read_film(evaluation, root, names[place])
        truth, pictures = reader(film.frames), _rendered(evaluation, film, film.waveform, place)
        made, found = reader(pictures), {}
        if partners:
            other = _film_sound(evaluation, root, names[partners[place]])
            found["other_sound"] = _opening(truth, reader(_rendered(evaluation, film, other, place)))
        row = found | _followed(film, truth, made, pictures)
        return row | {
            "lag": opening_lag(truth.opening, made),
            "is_unseen": not made.show_face(),
            "curves": (film.name, truth.opening, made.opening, row["opening"]),
            "paper": paper.row(WatchedClip(pictures, made), WatchedClip(film.frames, truth), film.waveform.samples),
            "likeness": frame_likeness(pictures, film.frames, made, truth, evaluation.extractors),
        }

    rows = evaluation.each("films", {name: place for place, name in enumerate(names)}, judge)
    seed = evaluation.settings.seed
    for key, label in FIGURES.items():
        report.add_mean(key, label, [row[key] for row in rows], seed, better=BETTER[key])
    if partners:
        other = [row["other_sound"] for row in rows]
        report.add_mean("other_sound", "mouth opening with another film's sound, r", other, seed)
    lags = [row["lag"] for row in rows]
    within = [float(abs(lag) <= 1) if math.isfinite(lag) else math.nan for lag in lags]
    report.add_mean("lag_within_1", "share of films whose best lag is within ±1 frame", within, seed, better=HIGHER)
    add_likeness(report, [row["likeness"] for row in rows], evaluation)
    paper.report(report, [row["paper"] for row in rows], seed)
    report.notes.append(
        f"Films up to {evaluation.settings.clip_seconds:g} s. Mouths that hardly open (std below {MIN_OPENING_STD}) "
        "do not count. Pauses: energy below a tenth of its 95th percentile for 0.16 s or more."
    )
    if evaluation.work.is_main:
        shown = [row["curves"] for row in rows[: evaluation.settings.num_videos]]
        report.notes += draw_openings(evaluation.settings.output / "mouths_of_films.png", shown)
    unseen = sum(row["is_unseen"] for row in rows)
    if unseen:
        report.notes.append(unseen_note(unseen, f"{len(rows)} films"))
    return report


FIGURES = {
    "opening": "mouth opening, r",
    "opening_size": "size of its movement (standard deviation), over the film's",
    "width": "mouth width, r",
    "pauses": "opening in pauses above the portrait's own, of the face's height",
    "sharpness": "sharpness of the face, over the film's",
}
BETTER = {"opening": HIGHER, "opening_size": 1.0, "width": HIGHER, "pauses": 0.0, "sharpness": 1.0}


def _chosen_films(evaluation: Evaluation) -> tuple[Path, list[str]]:
    root, names = list_videos(evaluation.settings.real_clips)
    return root, [names[index] for index in spread_evenly(len(names), evaluation.settings.num_clips)]


def _partners(evaluation: Evaluation, names: list[str]) -> list[int]:
    """Whose sound each film gets besides its own; none of a single film."""
    return derangement(len(names), evaluation.settings.seed) if len(names) > 1 else []


def _read_film(evaluation: Evaluation, root: Path, name: str) -> Film:
    """Read the beginning of a film, and cut the square around the face of its first frame out of all frames."""
    frames = list(islice(stream_video(root / name, FPS), evaluation.settings.num_frames))
    if len(frames) < FEWEST_FRAMES:
        raise ValueError(f"`real_clips`: {name} has {len(frames)} frames, must have at least {FEWEST_FRAMES}")
    portrait = evaluation.pipe.prepare_portrait(frames[0])
    size_px = evaluation.pipe.default_size
    upright = [np.rot90(frame, portrait.quarter_turns) for frame in frames]
    squares = [frame if portrait.crop is None else crop_square(frame, portrait.crop) for frame in upright]
    scaled = np.stack([resized(square, size_px) for square in squares])
    return Film(name, portrait, scaled, _sound(root / name, len(frames)))


def _film_sound(evaluation: Evaluation, root: Path, name: str) -> Waveform:
    """Read the sound of the beginning of a film, as `_read_film` does."""
    num_frames = sum(1 for _ in islice(stream_video(root / name, FPS), evaluation.settings.num_frames))
    return _sound(root / name, num_frames)


def _sound(path: Path, num_frames: int) -> Waveform:
    samples = fit_samples(resample(read_waveform(path, name="real_clips"), SAMPLE_RATE_HZ), num_frames)
    return Waveform(samples, SAMPLE_RATE_HZ)


def _rendered(evaluation: Evaluation, film: Film, sound: Waveform, place: int) -> np.ndarray:
    speech = evaluation.pipe.encode_audio(sound).cpu()
    generator = evaluation.random(FILMS, place)
    tracks = evaluation.free_tracks(film.portrait, speech, generator)
    return evaluation.pictures(evaluation.render(film.portrait, speech, tracks, generator))


def _followed(film: Film, truth: FaceReadings, made: FaceReadings, pictures: np.ndarray) -> dict[str, float]:
    num_frames = len(film.frames)
    pauses, _ = pauses_and_voice(sound_energy(film.waveform.samples, num_frames))
    moves = truth.opening[truth.seen].std() >= MIN_OPENING_STD
    return {
        "opening": _opening(truth, made),
        "opening_size": quotient(_spread(made.opening), _spread(truth.opening)) if moves else math.nan,
        "width": correlation_where_seen(truth.width, made.width) if moves else math.nan,
        "pauses": finite_mean(made.opening[pauses]) - float(made.opening[0]),
        "sharpness": quotient(
            face_sharpness(pictures, made.face_box_px), face_sharpness(film.frames, truth.face_box_px)
        ),
    }


def _spread(opening: np.ndarray) -> float:
    seen = opening[np.isfinite(opening)]
    return float(seen.std()) if len(seen) else 0.0


def _opening(truth: FaceReadings, made: FaceReadings) -> float:
    """Correlation of two openings, as long as both last: a sound may be longer than a film, or shorter."""
    made = made.first(len(truth.opening))
    return opening_correlation(truth.opening[: len(made.opening)], made)


SECTIONS = {"films": films_section}
