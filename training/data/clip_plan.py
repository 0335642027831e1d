"""Decide which videos become which clips of which shards, from names, lengths and arguments alone."""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from training.data.dataset_info import read_record, write_text_atomically
from training.data.shard_journal import shard_path

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm"),
    ".wmv",
)
# words that sort files, not persons; folders may join and number them, as "test_clips" and "part 2" do
WORDS_OF_NO_ONE = {
    *("train", "training", "trainval", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"),
    *("pretrain", "main", "split", "fold", "part", "batch", "shard", "chunk", "set", "subset", "disc", "session"),
    *("data", "dataset", "datasets", "corpus", "clip", "clips", "video", "videos", "media", "footage", "raw", "all"),
    *("mp", "mov", "avi", "webm", "flv", "face", "faces", "original", "processed", "cropped", "aligned"),
    *("camera", "cam", "view", "front", "frontal", "side", "left", "right", "top", "down", "profile", "angle"),
    *("male", "female", "men", "women", "volunteers", "lipspeakers", "speakers", "actors", "subjects", "people"),
    *("emotion", "emotions", "level", "neutral", "angry", "anger", "happy", "sad", "fear", "disgust", "disgusted"),
    *("fearful", "surprise", "surprised", "contempt", "calm", "speech", "song", "talking"),
    *("arabic", "chinese", "dutch", "english", "french", "german", "hindi", "italian", "japanese", "korean"),
    *("mandarin", "polish", "portuguese", "russian", "spanish", "turkish"),
}
# letters that belong together; digits and other signs only number them
WORD = re.compile(r"[^\W\d_]+")
LAST_PART = re.compile(r"(.+)[-_. ]+[^-_. ]+")
SPLITS = ("train", "test")
PLAN_NAME = "plan.json"
# leaves room for a hash and the clip's number, see clip_members.CLIP_ID_PATTERN
MAX_NAME_LENGTH = 64


@dataclass(frozen=True)
class SourceVideo:
    """A video to be cut into clips.

    Attributes:
        path: Where it lies below the common folder, with forward slashes.
        num_bytes: Size of the file.
        identity: Who is seen.
        split: "train" or "test".
        num_frames: Its length at 25 fps; 0 if it cannot be read.
        problem: Why it cannot be read, or None.
    """

    path: str
    num_bytes: int
    identity: str
    split: str
    num_frames: int
    problem: str | None = None


@dataclass(frozen=True)
class PlannedClip:
    """A piece of a video.

    Attributes:
        clip_id: Its name.
        video: The video.
        start: Its first frame, at 25 fps.
        num_frames: Its length.
    """

    clip_id: str
    video: SourceVideo
    start: int
    num_frames: int


def list_videos(source: Path) -> tuple[Path, list[str]]:
    """Find the videos to be prepared.

    Args:
        source: A folder, searched with all its sub-folders; a text file with one path per line, relative to its own
            folder (lines that are empty or begin with # do not count); or one video.

    Returns:
        The folder that holds them all, and their paths below it, sorted.

    Raises:
        ValueError: There is no such folder or file, a listed file is not there, or there are no videos.
    """
    if source.is_dir():
        found = [path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
        # macOS leaves files such as ._name.mp4, which are no videos
        found = [path for path in found if not path.name.startswith(".")]
    elif source.suffix.lower() in VIDEO_SUFFIXES and source.is_file():
        found = [source]
    elif source.is_file():
        found = [source.parent / line for line in read_names(source)]
        missing = [str(path) for path in found if not path.is_file()]
        if missing:
            raise ValueError(f"`videos`: {source} lists files that do not exist: {', '.join(missing[:5])}")
    else:
        raise ValueError(f"`videos` is neither a folder nor a file: {source}")
    if not found:
        raise ValueError(f"`videos`: {source} holds no videos ({', '.join(VIDEO_SUFFIXES)})")
    absolute = {Path(os.path.abspath(path)) for path in found}
    root = Path(os.path.abspath(source)) if source.is_dir() else Path(os.path.commonpath([p.parent for p in absolute]))
    return root, sorted(path.relative_to(root).as_posix() for path in absolute)


def read_names(path: Path) -> list[str]:
    """Read a list of names, one per line; lines that are empty or begin with # do not count.

    Args:
        path: A text file.

    Returns:
        The names.

    Raises:
        ValueError: It is no text.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file, and not a video by its name: {error}") from error
    return [line for line in lines if line and not line.startswith("#")]


def identity_of(path: str, pattern: re.Pattern | None = None) -> str:
    """Tell who is seen in a video from its name.

    Args:
        path: Path of the video below the common folder, with forward slashes.
        pattern: Searched in the path; its first group is the identity. None: the outermost folder that the video lies
            in, as VoxCeleb, MEAD and RAVDESS sort theirs, names that say no more than "train", "mp4" or "front"
            passed over; the video's own name without suffix where there is no such folder.

    Returns:
        The identity.

    Raises:
        ValueError: The pattern finds nothing.
    """
    parts = PurePosixPath(path)
    if pattern is None:
        return next((folder for folder in parts.parent.parts if not _is_of_no_one(folder)), parts.stem)
    match = pattern.search(path)
    if match is None or not match[1]:
        raise ValueError(f"`identity_pattern` {pattern.pattern!r} finds no identity in {path}")
    return match[1]


def identities_of(paths: Sequence[str], pattern: re.Pattern | None = None) -> dict[str, str]:
    """Find the identity in each of many videos; folders shared by all of them do not count.

    Args:
        paths: Paths of the videos below the common folder.
        pattern: See `identity_of`.

    Returns:
        Identity by path.

    Raises:
        ValueError: The pattern finds nothing in one of them.
    """
    if pattern is not None:
        return {path: identity_of(path, pattern) for path in paths}
    folders = [PurePosixPath(path).parent.parts for path in paths]
    num_shared = len(os.path.commonprefix(folders)) if len(paths) > 1 else 0
    return {path: identity_of(str(PurePosixPath(*PurePosixPath(path).parts[num_shared:]))) for path in paths}


def _is_of_no_one(folder: str) -> bool:
    words = WORD.findall(folder.lower())
    return bool(words) and WORDS_OF_NO_ONE.issuperset(words)


def names_that_look_shared(identities: Iterable[str]) -> dict[str, list[str]]:
    """Find identities whose names differ only at the end, as those of two clips of one person do, or in their case.

    Args:
        identities: Names of identities.

    Returns:
        Identities by what they share, such as `{"1001_dfa_ang": ["1001_DFA_ANG_HI", "1001_DFA_ANG_LO"]}`; none where
        all of them share it, as numbered persons do.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(identities)):
        match = LAST_PART.fullmatch(name)
        # file systems write one name in several ways: cases, letters with accents in one piece or two
        shared = unicodedata.normalize("NFKC", match[1] if match else name).casefold()
        groups.setdefault(shared, []).append(name)
    return {} if len(groups) == 1 else {shared: names for shared, names in groups.items() if len(names) > 1}


def identities_in_list(identities: dict[str, str], names: Sequence[str]) -> tuple[set[str], list[str]]:
    """Find out which identities a list of test names means.

    Args:
        identities: Identity by path of the video.
        names: Identities, or names of videos without suffix; of a video, its identity counts.

    Returns:
        The identities, and the names that are neither.

    Raises:
        ValueError: A name is that of videos of several identities.
    """
    by_stem: dict[str, set[str]] = {}
    for path, identity in identities.items():
        by_stem.setdefault(PurePosixPath(path).stem, set()).add(identity)
    by_name = by_stem | {identity: {identity} for identity in identities.values()}
    for name in names:
        if len(meant := sorted(by_name.get(name, ()))) > 1:
            raise ValueError(
                f"`test_split` names {name!r}, a video of {len(meant)} identities ({', '.join(meant[:3])}), must name"
                " identities where videos are called alike"
            )
    return set().union(*(by_name.get(name, ()) for name in names)), [name for name in names if name not in by_name]


def identities_by_share(identities: Sequence[str], share: float, seed: int) -> set[str]:
    """Draw identities for the test.

    Args:
        identities: All there are.
        share: Share of them, in [0, 1); more than 0 takes one at least, if another one is left for training.
        seed: Another seed draws others.

    Returns:
        The drawn ones.
    """
    shuffled = sorted(set(identities), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    wanted = min(max(round(share * len(shuffled)), 1 if share > 0 else 0), len(shuffled) - 1)
    return set(shuffled[:wanted])


def cut_into_clips(num_frames: int, clip_frames: int, min_clip_frames: int) -> list[tuple[int, int]]:
    """Cut a video into consecutive clips.

    All are as long as allowed but for the last; where that would be too short, the last two share their frames evenly.

    Args:
        num_frames: Length of the video.
        clip_frames: Largest length of a clip; twice `min_clip_frames` or more.
        min_clip_frames: Smallest length, at least 1.

    Returns:
        First frame and length of each clip; none if the video is shorter than one.
    """
    if num_frames < min_clip_frames:
        return []
    ends = [*range(clip_frames, num_frames, clip_frames), num_frames]
    if len(ends) > 1 and ends[-1] - ends[-2] < min_clip_frames:
        last_start = ends[-3] if len(ends) > 2 else 0
        ends[-2] = (last_start + num_frames + 1) // 2
    return [(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]


def plan_clips(videos: Sequence[SourceVideo], clip_frames: int, min_clip_frames: int) -> list[PlannedClip]:
    """List the clips of all videos.

    A video that gives none, unreadable or too short, stands in the list as one clip, so that the report names it.

    Args:
        videos: The videos, sorted.
        clip_frames: Largest length of a clip.
        min_clip_frames: Smallest length of a clip.

    Returns:
        The clips, in the order of the videos.
    """
    plain = [_plain_name(video.path) for video in videos]
    count = Counter(plain)
    clips = []
    for video, name in zip(videos, plain, strict=True):
        if count[name] > 1 or len(name) > MAX_NAME_LENGTH:
            name = f"{name[:MAX_NAME_LENGTH]}-{hashlib.sha256(video.path.encode()).hexdigest()[:8]}"
        pieces = cut_into_clips(video.num_frames, clip_frames, min_clip_frames) or [(0, video.num_frames)]
        clips += [PlannedClip(f"{name}-{i:04d}", video, start, num) for i, (start, num) in enumerate(pieces)]
    return clips


def plan_shards(
    folder: Path, clips: Sequence[PlannedClip], clips_per_shard: int
) -> list[tuple[Path, list[PlannedClip]]]:
    """Distribute clips over shards.

    Args:
        folder: The data set's folder.
        clips: The clips.
        clips_per_shard: Most clips of a shard.

    Returns:
        Path and clips of each shard.
    """
    shards = []
    for split in SPLITS:
        of_split = [clip for clip in clips if clip.video.split == split]
        for index, start in enumerate(range(0, len(of_split), clips_per_shard)):
            shards.append((shard_path(folder, split, index), of_split[start : start + clips_per_shard]))
    return shards


def write_plan(folder: Path, arguments: dict[str, Any], videos: Sequence[SourceVideo]) -> None:
    """Write down what a data set is made from.

    Args:
        folder: The data set's folder.
        arguments: What decides about its content besides the videos.
        videos: The videos.
    """
    plan = {"arguments": arguments, "videos": [asdict(video) for video in videos]}
    write_text_atomically(folder / PLAN_NAME, json.dumps(plan, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def read_plan(folder: Path, arguments: dict[str, Any], files: Sequence[tuple[str, int]]) -> list[SourceVideo] | None:
    """Read the plan of an unfinished preparation, and refuse to continue with another one.

    Args:
        folder: The data set's folder.
        arguments: What decides about its content now.
        files: Path and size of the videos now.

    Returns:
        The videos; None if nothing was begun.

    Raises:
        ValueError: An argument or a video is another than then, or the file is damaged.
    """
    path = folder / PLAN_NAME
    if not path.exists():
        return None
    begun, videos = read_record(
        path,
        "output",
        lambda plan: (dict(plan["arguments"]), [SourceVideo(**video) for video in plan["videos"]]),
    )
    for name, value in arguments.items():
        if begun.get(name) != value:
            raise ValueError(
                f"`{name}` is {value!r}, but {folder} was started with {begun.get(name)!r}; "
                "choose a new folder, or the same value to continue"
            )
    then, now = {(video.path, video.num_bytes) for video in videos}, set(files)
    if then != now:
        changed = sorted({name for name, _ in then ^ now})
        raise ValueError(
            f"`videos`: {len(changed)} were added, removed or changed since {folder} was started:"
            f" {', '.join(changed[:5])}; choose a new folder"
        )
    return videos


def _plain_name(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(PurePosixPath(path).with_suffix("")))
