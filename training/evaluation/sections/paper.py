"""Sections with the paper's figures, and with how near the pictures are to what was filmed, of the test split."""

from collections.abc import Callable

import torch

from diffusers_dawn.cli.evaluation_reports import HIGHER, LOWER
from training.evaluation.clips import NO_READER, Evaluation
from training.evaluation.extractors import FIGURES_OF
from training.evaluation.identity import FaceEmbedding
from training.evaluation.likeness import HIGHER_LIKENESS, LANDMARK_LABELS, LIKENESS_LABELS, PICTURE_LABELS
from training.evaluation.paper_figures import PaperFigures, WatchedClip
from training.evaluation.report import LeftOut, SectionReport
from training.evaluation.sections.unguided import tracks_note
from training.evaluation.settings import GIVEN
from training.evaluation.shared_work import Row
from training.evaluation.side_by_side import write_pair, write_sheet

# clips with the noise of the same place, apart from that of the other parts
PAPER = 6


def paper_section(evaluation: Evaluation) -> SectionReport:
    """Compute the figures of the paper's tables: portrait and speech are a clip's, pose and blinks are made.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        FID, FVD16, FVD32, LSE-C, LSE-D, CSIM, BAS, blinks per second; diversity, jerk, mouth in silence. What needs a
        network that is not there is left out by name. Writes videos beside the films, and a contact sheet.

    Raises:
        LeftOut: Nothing reads faces, and no network judges pictures.
    """
    extractors = evaluation.extractors
    if evaluation.reader is None and extractors.inception is None and extractors.i3d is None:
        raise LeftOut(NO_READER)
    report = SectionReport("Paper: each clip's portrait speaks with its sound, and moves freely", evaluation.clip_ids)
    report.beside = "the clips themselves"
    figures, is_given = PaperFigures(extractors, face_embedding()), evaluation.settings.motion == GIVEN
    folder = evaluation.settings.output / "videos"

    def judge(place: int) -> Row:
        truth, portrait, speech = evaluation.truth(place), evaluation.portrait(place), evaluation.speech(place)
        generator = evaluation.random(PAPER, place)
        if is_given:
            tracks = tuple(torch.from_numpy(truth.labels[name]) for name in ("pose", "blink"))
        else:
            tracks = evaluation.free_tracks(portrait, speech, generator)
        pictures = evaluation.pictures(evaluation.render(portrait, speech, tracks, generator))
        shown = None
        if place < evaluation.settings.num_videos:
            shown = write_pair(folder, truth.clip_id, truth.frames, pictures, truth.samples)
        made, filmed = None, None
        if evaluation.reader is not None:
            made, filmed = evaluation.reader(pictures), evaluation.truth_readings(place)
        row = figures.row(WatchedClip(pictures, made), WatchedClip(truth.frames, filmed), truth.samples)
        return row | {"shown": shown}

    rows = evaluation.each("paper", evaluation.places, judge)
    if evaluation.work.is_main:
        write_sheet(folder, [row["shown"] for row in rows if row["shown"] is not None])
    figures.report(report, rows, evaluation.settings.seed)
    whose = "pose and eye openness are the clip's own" if is_given else tracks_note(evaluation)
    report.notes.append(f"Of each clip the first {evaluation.settings.clip_seconds:g} s; {whose}.")
    if evaluation.reader is None:
        report.notes.append(f"What is read from faces is left out: {NO_READER}.")
    return report


def pictures_section(evaluation: Evaluation) -> SectionReport:
    """Compare frames with what was filmed: portrait, speech, pose and blinks are a clip's.

    Args:
        evaluation: The pipeline and the clips.

    Returns:
        PSNR, SSIM, LPIPS, landmark distances of mouth and face.
    """
    title = "Pictures: frame by frame against the truth, own speech, pose and blinks given"
    report = SectionReport(title, evaluation.clip_ids)
    rows = evaluation.each("pictures", evaluation.places, evaluation.likeness)
    add_likeness(report, rows, evaluation)
    return report


def add_likeness(report: SectionReport, rows: list[dict[str, float]], evaluation: Evaluation) -> None:
    """Add how near videos are to what was filmed, and what is left out.

    Args:
        report: The part of the report that gets it.
        rows: A row per video, see `frame_likeness`.
        evaluation: Knows what is missing.
    """
    labels = PICTURE_LABELS if evaluation.reader is None else LIKENESS_LABELS
    for name, label in labels.items():
        if any(name in row for row in rows):
            better = HIGHER if name in HIGHER_LIKENESS else LOWER
            report.add_mean(name, label, [row[name] for row in rows], evaluation.settings.seed, better=better)
    if evaluation.reader is None:
        report.notes.append(f"Left out: {', '.join(LANDMARK_LABELS.values())}, as {NO_READER}.")
    if evaluation.extractors.lpips is None:
        report.notes.append(f"Left out, as `--extractors` has no network for it: {FIGURES_OF['lpips']} (lpips).")


def face_embedding() -> FaceEmbedding | None:
    """Load dlib's face embedding; None where it is missing."""
    try:
        return FaceEmbedding()
    except ImportError:
        return None


SECTIONS: dict[str, Callable[[Evaluation], SectionReport]] = {"pictures": pictures_section, "paper": paper_section}
