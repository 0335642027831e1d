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
from training.evaluation.opening_plot import OpeningPlot
from training.evaluation.paper_figures import PaperFigures, WatchedClip
from training.evaluation.report import LeftOut, SectionReport, unseen_note
from training.evaluation.sections.paper import add_likeness, face_embedding

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
    films = _read_films(evaluation)
    title = "Films: first frame and own sound against what was filmed, poses and blinks PBNet's"
    report = SectionReport(title, [film.name for film in films])
    truths = [reader(film.frames) for film in evaluation.progress(films, "films, as filmed")]
    report.beside = "the films themselves"
    paper, likenesses = PaperFigures(evaluation.extractors, face_embedding()), []
    plot = OpeningPlot(evaluation.settings.output / "mouths_of_films.png", evaluation.settings.num_videos)
    rows, lags, unseen = [], [], 0
    for place, film in enumerate(evaluation.progress(films, "films, own sound")):
        pictures = _rendered(evaluation, film, film.waveform, place)
        made = reader(pictures)
        rows.append(_followed(film, truths[place], made, pictures))
        plot.add(film.name, truths[place].opening, made.opening, rows[-1]["opening"])
        lags.append(opening_lag(truths[place].opening, made))
        unseen += not made.show_face()
        paper.add(WatchedClip(pictures, made), WatchedClip(film.frames, truths[place]), film.waveform.samples)
        likenesses.append(frame_likeness(pictures, film.frames, made, truths[place], evaluation.extractors))
    seed = evaluation.settings.seed
    for key, label in FIGURES.items():
        report.add_mean(key, label, [row[key] for row in rows], seed, better=BETTER[key])
    if len(films) > 1:
        other = _other_sound(evaluation, films, truths)
        report.add_mean("other_sound", "mouth opening with another film's sound, r", other, seed)
    within = [float(abs(lag) <= 1) if math.isfinite(lag) else math.nan for lag in lags]
    report.add_mean("lag_within_1", "share of films whose best lag is within ±1 frame", within, seed, better=HIGHER)
    add_likeness(report, likenesses, evaluation)
    paper.report(report, seed)
    report.notes.append(
        f"Films up to {evaluation.settings.clip_seconds:g} s. Mouths that hardly open (std below {MIN_OPENING_STD}) "
        "do not count. Pauses: energy below a tenth of its 95th percentile for 0.16 s or more."
    )
    drawn = plot.write()
    if drawn:
        report.notes.append(drawn)
    if unseen:
        report.notes.append(unseen_note(unseen, f"{len(films)} films"))
    return report


FIGURES = {
    "opening": "mouth opening, r",
    "opening_size": "size of its movement (standard deviation), over the film's",
    "width": "mouth width, r",
    "pauses": "opening in pauses above the portrait's own, of the face's height",
    "sharpness": "sharpness of the face, over the film's",
}
BETTER = {"opening": HIGHER, "opening_size": 1.0, "width": HIGHER, "pauses": 0.0, "sharpness": 1.0}


def _read_films(evaluation: Evaluation) -> list[Film]:
    settings = evaluation.settings
    root, names = list_videos(settings.real_clips)
    chosen = [names[index] for index in spread_evenly(len(names), settings.num_clips)]
    return [_read_film(evaluation, root, name) for name in evaluation.progress(chosen, "films")]


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
    samples = fit_samples(resample(read_waveform(root / name, name="real_clips"), SAMPLE_RATE_HZ), len(frames))
    return Film(name, portrait, scaled, Waveform(samples, SAMPLE_RATE_HZ))


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
        "opening": opening_correlation(truth.opening[: len(made.opening)], made),
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


def _other_sound(evaluation: Evaluation, films: list[Film], truths: list[FaceReadings]) -> list[float]:
    partners, reader = derangement(len(films), evaluation.settings.seed), evaluation.needed_reader()
    found = []
    for place, film in enumerate(evaluation.progress(films, "films, other sound")):
        readings = reader(_rendered(evaluation, film, films[partners[place]].waveform, place))
        # a film that is shorter than the other's sound
        readings = readings.first(len(truths[place].opening))
        found.append(opening_correlation(truths[place].opening[: len(readings.opening)], readings))
    return found


SECTIONS = {"films": films_section}
