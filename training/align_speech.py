r"""Find when every phoneme of a recording sounds, given its transcript (English).

    python training/align_speech.py --recordings SPEECH --transcripts SPEECH/transcripts.tsv --output labels/speech
    python training/align_speech.py --recordings GRID --grid_names --output labels/grid

Writes one small .npz per recording (see `synthetic/voice/aligned_recording.py`) and report.csv, which says of every
recording whether it was aligned, or why not. The same command goes on after a stop.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence

from tqdm.auto import tqdm

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.speech.alignment import AlignmentRefused
from training.data.dataset_info import write_text_atomically
from training.engine import commands
from training.synthetic.voice.aligned_recording import AlignedRecording, read_aligned, write_aligned
from training.synthetic.voice.alignment import Aligner
from training.synthetic.voice.transcripts import grid_sentence, list_recordings, read_transcripts, speaker_of

REPORT_COLUMNS = ("recording", "outcome", "reason", "duration_s", "num_phonemes")


def align_all(recordings: Path, transcripts: Path | None, output: Path) -> Counter[str]:
    """Align the recordings of a folder.

    Args:
        recordings: The folder; those in folders within count.
        transcripts: Table of what is said (see `read_transcripts`); None: the names are those of GRID.
        output: Where to write.

    Returns:
        How many were aligned, and how many refused, by reason.

    Raises:
        ImportError: A package of the extra `align` is missing.
        ValueError: The folder or the table cannot be read, or `output` not be filled.
    """
    check_folder(output, "output")
    files = list_recordings(recordings)
    texts = None if transcripts is None else read_transcripts(transcripts)
    aligner = Aligner()
    output.mkdir(parents=True, exist_ok=True)
    rows = [_align(path, texts, aligner, output) for path in tqdm(files, unit="recording")]
    missing = (texts or {}).keys() - {path.stem for path in files}
    rows += [(name, "refused", "there is no such recording", "", "") for name in sorted(missing)]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([REPORT_COLUMNS, *rows])
    write_text_atomically(output / "report.csv", table.getvalue())
    return Counter(outcome if outcome == "aligned" else f"refused: {reason}" for _, outcome, reason, *_ in rows)


def _align(path: Path, texts: dict[str, str] | None, aligner: Aligner, output: Path) -> tuple[str, ...]:
    """Align one recording unless it is done already; return its row of the report."""
    try:
        text = grid_sentence(path.stem) if texts is None else texts.get(path.stem)
        if text is None:
            raise AlignmentRefused("it has no transcript")
        result = output / f"{path.stem}.npz"
        aligned = read_aligned(result) if result.exists() else None
        if aligned is None or aligned.text != text:
            segments = aligner.align(read_waveform(path), text)
            aligned = AlignedRecording(path.resolve(), speaker_of(path.stem), text, tuple(segments))
            write_aligned(result, aligned)
    except ValueError as error:
        return path.stem, "refused", " ".join(str(error).split()), "", ""
    return path.stem, "aligned", "", f"{aligned.segments[-1].end_s:.3f}", str(len(aligned.segments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input or nothing could be aligned, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--recordings", type=Path, required=True, help="folder of recordings, or of videos with sound")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--transcripts", type=Path, metavar="FILE.tsv", help="file with lines of name, tab, and what is said"
    )
    source.add_argument(
        "--grid_names", action="store_true", help="file names encode what is said, as in GRID: s2_bbaf2n"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    options = parser.parse_args(arguments)
    return commands.run("align_speech", lambda: _align_and_print(options))


def _align_and_print(options: argparse.Namespace) -> None:
    counts = align_all(options.recordings, options.transcripts, options.output)
    for outcome, count in counts.most_common():
        print(f"{count} {outcome}")
    if not counts["aligned"]:
        raise ValueError(f"`recordings`: none of {options.recordings} could be aligned, see report.csv")


if __name__ == "__main__":
    commands.program(main)
