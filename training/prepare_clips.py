r"""Turn a folder of talking videos into a prepared data set.

    accelerate launch training/prepare_clips.py --videos VIDEOS --output DATA --size 128 \
        --audio_encoder facebook/hubert-large-ls960-ft

The same command goes on after a kill, with any number of processes: finished clips stay, the bytes are those of an
uninterrupted run. Most time goes into finding faces, on the CPU: start one process per core, which share the GPUs
(`accelerate launch --multi_gpu --num_processes 16`, also where there is no GPU; `--cpu` starts one process only).
Processes on several machines need a file system that they share.

Who is seen decides what is training and what is test: by default the outermost folder, as in VoxCeleb and MEAD. HDTF's
file names tell it by `--identity_pattern "(RD_Radio\d+|W[DR]A_[A-Za-z]+)"`, CREMA-D's by
`--identity_pattern "(?:^|/)(\d{4})_"`.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import re
from collections.abc import Callable, Sequence

import numpy as np
from accelerate import PartialState
from tqdm.auto import tqdm

from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.face.person import PersonSegmenter
from diffusers_dawn.face.pose import box_area, landmark_box
from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS
from training.data.clip_members import PreparedClip
from training.data.clip_plan import (
    SourceVideo,
    identities_by_share,
    identities_in_list,
    identities_of,
    list_videos,
    names_that_look_shared,
    plan_clips,
    plan_shards,
    read_names,
    read_plan,
    write_plan,
)
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.prepared_report import write_contact_sheet, write_report, write_statistics
from training.data.shard_journal import read_journal
from training.data.shard_writing import write_shard
from training.data.speech_features import SpeechFeatures, stored_encoder_name
from training.data.video_clips import ClipMaker, ClipSettings
from training.engine import commands
from training.engine.processes import PATIENCE, device_of_process, each, together


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    # gloo on the CPU: as many processes as there are cores may share a GPU, which they need for the encoder only
    state = PartialState(cpu=True, timeout=PATIENCE)
    try:
        return commands.run("prepare_clips", lambda: prepare(options, state), debug=options.debug, shares_work=True)
    finally:
        # a process that leaves its threads of communication to the interpreter's end is now and then aborted there
        state.destroy_process_group()


def prepare(options: argparse.Namespace, state: PartialState) -> None:
    """Prepare a data set; see `prepare_clips.py --help`.

    Args:
        options: The parsed options.
        state: This process among the others.

    Raises:
        ValueError: An option is out of range, contradicts an earlier run in the same folder, or cannot be read.
    """
    device = each(state, lambda: device_of_process(options.device, state.local_process_index))
    root, videos = together(state, lambda: _plan(options))
    clips = plan_clips(videos, *_clip_lengths(options))
    shards = plan_shards(options.output, clips, options.clips_per_shard)
    own = shards[state.process_index :: state.num_processes]

    features = None
    if options.audio_encoder != "none":
        features = each(state, lambda: SpeechFeatures(options.audio_encoder, device))
    settings = ClipSettings(options.size, _min_face_px(options), options.allow_silent)
    with each(state, MediaPipeFaceDetector) as detector:
        measures = each(state, lambda: _measures_of_pictures(options, detector))
        maker = ClipMaker(root, clips, settings, detector, features, *measures)
        done = sum(len(read_journal(path)) for path, _ in own)
        total = sum(len(of_shard) for _, of_shard in own)
        label = "clips" if state.num_processes == 1 else f"clips of process 1 of {state.num_processes}"
        with tqdm(
            total=total, initial=done, desc=label, unit="clip", disable=not state.is_main_process or options.quiet
        ) as progress:
            for path, of_shard in own:
                write_shard(path, [clip.clip_id for clip in of_shard], _counting(maker, progress))
    state.wait_for_everyone()

    info = DatasetInfo(size_px=options.size)
    if features is not None:
        info = DatasetInfo(options.size, stored_encoder_name(options.audio_encoder, options.output), features.dim)
    together(state, lambda: _finish(options.output, info))


def _measures_of_pictures(
    options: argparse.Namespace, detector: MediaPipeFaceDetector
) -> tuple[Callable | None, Callable | None]:
    """Choose how the clips' pictures are measured and changed, see `ClipMaker`."""
    segment = PersonSegmenter() if options.morphable_head or options.replace_background else None
    motion = None
    if options.morphable_head is not None:
        # needs the packages of the extra `synthetic`
        from training.synthetic.puppets.head_fit import HeadFitter
        from training.synthetic.puppets.morphable_head import load_morphable_head
        from training.synthetic.puppets.video_motion import VideoMotion

        fitter = HeadFitter(load_morphable_head(options.morphable_head))
        motion = VideoMotion(fitter, lambda frame: _largest_face(detector, frame), segment, options.motion_references)
    if not options.replace_background:
        return motion, None
    from training.synthetic.puppets.replaced_background import replace_background

    return motion, lambda frames, clip_id: replace_background(frames, segment, clip_id)


def _largest_face(detector: MediaPipeFaceDetector, frame: np.ndarray) -> np.ndarray | None:
    faces_px = detector.landmarks(frame)
    return max(faces_px, key=lambda points: box_area(landmark_box(points)), default=None)


def _plan(options: argparse.Namespace) -> tuple[Path, list[SourceVideo]]:
    """Folder of the videos, and the plan of an earlier run or a new one."""
    _check_options(options)
    check_folder(options.output, "output")
    root, paths = list_videos(options.videos)
    options.output.mkdir(parents=True, exist_ok=True)
    files = [(path, (root / path).stat().st_size) for path in paths]
    settings = _content_arguments(options)
    videos = read_plan(options.output, settings, files)
    if videos is not None:
        return root, videos
    if any(options.output.glob("*.jsonl")) or (options.output / "dataset.json").exists():
        raise ValueError(f"`output`: {options.output} holds a data set that was made otherwise; choose a new folder")
    pattern = None if options.identity_pattern is None else re.compile(options.identity_pattern)
    identities = identities_of(paths, pattern)
    _say_identities(identities, pattern is None)
    if options.test_split is None:
        test = identities_by_share(list(identities.values()), options.test_share, options.seed)
    else:
        test, unknown = identities_in_list(identities, settings["test_split"])
        if unknown:
            print(
                f"prepare_clips: warning: `test_split` names {len(unknown)} that are no identity and no video here: "
                f"{', '.join(unknown[:10])}{', …' if len(unknown) > 10 else ''}",
                file=sys.stderr,
            )
    videos = []
    for path, num_bytes in tqdm(files, desc="videos", unit="video", disable=options.quiet):
        num_frames, problem = _length_of(root, path, options.min_clip_seconds)
        split = "test" if identities[path] in test else "train"
        videos.append(SourceVideo(path, num_bytes, identities[path], split, num_frames, problem))
    write_plan(options.output, settings, videos)
    return root, videos


def _say_identities(identities: dict[str, str], by_default: bool) -> None:
    """Print the identities, and warn of names that may be the same person's and land in both splits."""
    names = sorted(set(identities.values()))
    where = "folder or file names" if by_default else "`identity_pattern`"
    print(f"identities by {where}: {len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
    shared = names_that_look_shared(names) if by_default else {}
    if shared:
        examples = "; ".join(" and ".join(group[:2]) for group in list(shared.values())[:3])
        print(
            f"prepare_clips: warning: {examples} count as different persons, who may come into training and test; if "
            "they are one, give `identity_pattern`",
            file=sys.stderr,
        )


def _length_of(root: Path, path: str, min_clip_seconds: float) -> tuple[int, str | None]:
    """Number of frames of a video, and the reason if it gives no clip."""
    try:
        num_frames = count_video_frames(root / path, FPS)
    except (ValueError, OSError) as error:
        return 0, str(error).replace(str(root / path), path)
    if num_frames < round(min_clip_seconds * FPS):
        return num_frames, f"the video lasts {num_frames / FPS:.2f} s, must last at least {min_clip_seconds:g} s"
    return num_frames, None


def _finish(folder: Path, info: DatasetInfo) -> None:
    """Write the reports once all clips are there, and print a summary."""
    write_dataset_info(folder, info)
    write_report(folder)
    statistics = write_statistics(folder)
    sheet = write_contact_sheet(folder)
    for split, numbers in statistics["splits"].items():
        print(
            f"{split}: {numbers['num_clips']} clips of {numbers['num_identities']} identities, "
            f"{numbers['hours']:.2f} h; {sum(numbers['skipped'].values())} skipped"
        )
    print(f"wrote {folder}: report.csv, statistics.json" + ("" if sheet is None else f", {sheet.name}: look at it"))


def _counting(make_clip: Callable[[str], PreparedClip], progress: tqdm) -> Callable[[str], PreparedClip]:
    def make_and_count(clip_id: str) -> PreparedClip:
        try:
            return make_clip(clip_id)
        finally:
            progress.update()

    return make_and_count


def _content_arguments(options: argparse.Namespace) -> dict:
    """Arguments that decide about the content of the data set, by the names of their flags."""
    return {
        "size": options.size,
        "audio_encoder": stored_encoder_name(options.audio_encoder, options.output),
        "clip_seconds": options.clip_seconds,
        "min_clip_seconds": options.min_clip_seconds,
        "clips_per_shard": options.clips_per_shard,
        "min_face_px": _min_face_px(options),
        "allow_silent": options.allow_silent,
        "identity_pattern": options.identity_pattern,
        "test_split": None if options.test_split is None else read_names(options.test_split),
        "test_share": options.test_share,
        "seed": options.seed,
        "morphable_head": None if options.morphable_head is None else options.morphable_head.name,
        "motion_references": options.motion_references,
        "replace_background": options.replace_background,
    }


def _min_face_px(options: argparse.Namespace) -> int:
    return options.size // 3 if options.min_face_px is None else options.min_face_px


def _clip_lengths(options: argparse.Namespace) -> tuple[int, int]:
    """Frames of the longest and of the shortest clip."""
    return round(options.clip_seconds * FPS), round(options.min_clip_seconds * FPS)


def _check_options(options: argparse.Namespace) -> None:
    clip_frames, min_clip_frames = _clip_lengths(options)
    if min_clip_frames < 1:
        raise ValueError(f"`min_clip_seconds` is {options.min_clip_seconds:g}, must be at least {1 / FPS:g}")
    if clip_frames < 2 * min_clip_frames:
        raise ValueError(
            f"`clip_seconds` is {options.clip_seconds:g}, must be at least twice `min_clip_seconds` "
            f"({2 * options.min_clip_seconds:g}), so that no tail is lost"
        )
    if options.size < 16 or options.size % 2:
        raise ValueError(f"`size` is {options.size}, must be an even number from 16")
    if options.min_face_px is not None and options.min_face_px < 1:
        raise ValueError(f"`min_face_px` is {options.min_face_px}, must be positive")
    if options.motion_references < 1:
        raise ValueError(f"`motion_references` is {options.motion_references}, must be positive")
    if options.clips_per_shard < 1:
        raise ValueError(f"`clips_per_shard` is {options.clips_per_shard}, must be positive")
    if not 0 <= options.test_share < 1:
        raise ValueError(f"`test_share` is {options.test_share}, must be in [0, 1)")
    if options.test_split is not None and not options.test_split.is_file():
        raise ValueError(f"`test_split` is no file: {options.test_split}")
    if options.identity_pattern is not None:
        try:
            num_groups = re.compile(options.identity_pattern).groups
        except re.error as error:
            raise ValueError(f"`identity_pattern` is no regular expression: {error}") from error
        if num_groups < 1:
            raise ValueError("`identity_pattern` has no group; the identity is what its first group finds")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Turn a folder of talking videos into a prepared data set.")
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder, searched with its sub-folders, or a list of paths")
    add("--output", type=Path, required=True, help="folder of the data set; an unfinished one is continued")
    add("--size", type=int, required=True, help="width and height of the frames: 128 or 256")
    add(
        "--audio_encoder",
        required=True,
        help="folder or Hub id of a HuBERT, or folder of a pipeline; or none to store no features",
    )
    add("--clip_seconds", type=float, default=10, help="longest clip (default: 10)")
    add("--min_clip_seconds", type=float, default=1, help="shortest clip (default: 1)")
    add("--clips_per_shard", type=int, default=100, help="clips in one tar file (default: 100)")
    add("--min_face_px", type=int, help="smallest face to accept in the video [px] (default: a third of --size)")
    add("--allow_silent", action="store_true", help="accept clips whose sound track is silent")
    add(
        "--identity_pattern",
        help="regular expression whose first group is the person's identity "
        "(default: the outermost folder, or the file's name)",
    )
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test_split", type=Path, help="identities or videos for testing, one per line")
    test.add_argument("--test_share", type=float, default=0.1, help="share of identities for testing (default: 0.1)")
    add("--seed", type=int, default=0, help="seed of the test share (default: 0)")
    add(
        "--morphable_head",
        type=Path,
        metavar="HEAD.npz",
        help="morphable head to fit to every frame, so that the motion is known (see docs/training.md)",
    )
    add("--motion_references", type=int, default=2, help="frames from which motion is measured (default: 2)")
    add("--replace_background", action="store_true", help="put drawn backgrounds behind the people")
    add("--device", help="where the audio encoder runs (default: a GPU if there is one)")
    add("--quiet", action="store_true", help="show no progress bars")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    commands.program(main)
