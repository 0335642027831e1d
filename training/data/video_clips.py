"""Turn pieces of videos into prepared clips: follow the face, choose and cut out one square, measure it."""

import errno
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from PIL import Image

from diffusers_dawn.face.crop import FRAMED_HEIGHTS, crop_face_state, crop_square, portrait_crop
from diffusers_dawn.face.detector import FaceDetector
from diffusers_dawn.face.pose import box_area, pose_in_crop_of, shared_area
from diffusers_dawn.face.track import find_missing_frames, follow_face, interpolate_missing
from diffusers_dawn.media.recordings import SILENCE_PEAK, read_waveform, resample
from diffusers_dawn.media.videos import stream_video
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, FaceState, SquareCrop, Waveform
from training.data.clip_members import SAMPLES_PER_FRAME, PreparedClip
from training.data.clip_plan import PlannedClip
from training.data.shard_writing import ClipSkipped

# Neighbouring frames show different scenes when small grey copies of them correlate by less: speech and turning heads
# stay above 0.9, another camera, or the same one zoomed in by a tenth, falls below 0.7
MIN_SCENE_CORRELATION = 0.75
THUMBNAIL_SIDE_PX = 32
# the edge is repeated where the square sticks out of the picture: little of it is learned from, much of it is seen
MAX_OUTSIDE_SHARE = 0.1
# a second face of half the size may be the one that speaks; in a tenth of the frames it is a mistake or a passer-by
NEAR_FACE_SHARE, MAX_SHARE_WITH_OTHERS = 0.5, 0.1
# sound that ends this much before the picture is filled up with silence: encoders lose up to two blocks of AAC
MAX_SILENT_END_S = 0.12
# what the machine fails by, not a video: disk, open files, network drive, rights
MACHINE_ERRNOS = (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EACCES)
READ_BYTES = 2**20


@dataclass(frozen=True)
class ClipSettings:
    """What is made of every clip.

    Attributes:
        size_px: Width and height of the frames.
        min_face_px: Smallest height or width (the larger of both) that a face may have in the video.
        allow_silent: Whether clips without a sound in their sound track are taken.
    """

    size_px: int
    min_face_px: int
    allow_silent: bool = False


class ClipMaker:
    """Make prepared clips. Clips of one video are made fastest in order of time.

    Holds one frame at a time: every clip is decoded twice, to find its square and to cut it out.

    Args:
        root: Folder that the videos' paths are relative to.
        clips: The clips that can be asked for.
        settings: What is made of them.
        detector: Finds the faces of a frame.
        features: Computes audio features (num_frames, D) of a recording; None: none are stored.
        more_labels: Measures more labels of the cut-out frames (F, S, S, 3), see `PreparedClip`; None: there are none.
        retouch: Changes the cut-out frames of the clip of that name after they were measured; None: they stay.
    """

    def __init__(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        settings: ClipSettings,
        detector: FaceDetector,
        features: Callable[[Waveform, int], np.ndarray] | None = None,
        more_labels: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
        retouch: Callable[[np.ndarray, str], np.ndarray] | None = None,
    ):
        self._root = root
        self._clips = {clip.clip_id: clip for clip in clips}
        self._settings = settings
        self._detector = detector
        self._features, self._more_labels, self._retouch = features, more_labels, retouch
        self._to_follow, self._to_cut_out = FrameCursor(), FrameCursor()
        self._sound: _Sound | None = None

    def __call__(self, clip_id: str) -> PreparedClip:
        """Make a clip.

        Args:
            clip_id: Its name.

        Returns:
            The clip.

        Raises:
            ClipSkipped: It cannot be used.
            OSError: The machine fails, as when the videos' disk is gone: the clip may be usable in another run.
            ValueError: The same, where the machine failed in the middle of decoding.
        """
        clip = self._clips[clip_id]
        try:
            return self._make(clip)
        except (ValueError, OSError) as error:
            if _is_gone(self._root) or _is_machine_failure(error, self._root / clip.video.path):
                raise
            # where the videos lie is nobody else's concern
            reason = str(error).replace(str(self._root / clip.video.path), clip.video.path)
            raise ClipSkipped(" ".join(reason.split())) from error

    def _make(self, clip: PlannedClip) -> PreparedClip:
        if clip.video.problem is not None:
            raise ClipSkipped(clip.video.problem)
        path = self._root / clip.video.path
        if self._sound is None or self._sound.path != path:
            self._sound = _Sound(path)
        samples = self._sound.samples_of(clip, self._settings.allow_silent)
        frames = self._to_follow.read(path, clip.start, clip.num_frames)
        company = _Company(self._detector)
        faces = follow_face(refuse_cuts(frames), company, "clip")
        missing = find_missing_frames(faces, name="clip")
        company.refuse(len(faces))
        crop = choose_crop(faces, self._settings.min_face_px)
        size_px = self._settings.size_px
        frames = self._to_cut_out.read(path, clip.start, clip.num_frames)
        pictures = np.stack([crop_square(frame, crop, size_px) for frame in frames])
        labels = measure_faces(faces, crop, size_px)
        if self._more_labels is not None:
            labels |= self._more_labels(pictures)
        if self._retouch is not None:
            pictures = self._retouch(pictures, clip.clip_id)
        if self._features is not None:
            labels["audio_features"] = self._sound.features_of(clip, self._features)
        info = {
            "source": path.name,
            "start_frame": clip.start,
            "crop": [crop.left, crop.top, crop.side],
            "interpolated_frames": list(missing),
            "frames_with_other_faces": company.num_seen,
        }
        return PreparedClip(clip.clip_id, clip.video.identity, pictures, samples, labels, info)


class FrameCursor:
    """Read runs of frames of videos at 25 fps; a run that follows the last one goes on decoding from there."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._next = 0
        self._frames: Iterator[np.ndarray] = iter(())

    def read(self, path: Path, start: int, num_frames: int) -> Iterator[np.ndarray]:
        """Read a run of frames.

        Args:
            path: The video.
            start: First frame.
            num_frames: How many.

        Yields:
            uint8 arrays (H, W, 3).

        Raises:
            ClipSkipped: They cannot all be decoded.
        """
        if path != self._path or start < self._next:
            self._path, self._next = path, start
            self._frames = stream_video(path, FPS, first_frame=start)
        for index in range(self._next, start + num_frames):
            frame = next(self._frames, None)
            if frame is None:
                found = max(index - start, 0)
                raise ClipSkipped(f"only {found} of the clip's {num_frames} frames can be decoded")
            self._next = index + 1
            if index >= start:
                yield frame


def refuse_cuts(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Pass frames on as long as they show one scene.

    Args:
        frames: uint8 frames (H, W, 3).

    Yields:
        The frames.

    Raises:
        ClipSkipped: A frame shows another scene than the one before.
    """
    last = None
    for index, frame in enumerate(frames):
        thumbnail = _thumbnail(frame)
        if last is not None and _correlation(last, thumbnail) < MIN_SCENE_CORRELATION:
            raise ClipSkipped(f"the scene changes at {index / FPS:.2f} s of the clip")
        last = thumbnail
        yield frame


def choose_crop(faces: Sequence[FaceState | None], min_face_px: int) -> SquareCrop:
    """Choose one square for a whole clip, in which the head has room to move.

    Args:
        faces: State of the face per frame; None where it is missing.
        min_face_px: Smallest face that is taken.

    Returns:
        The square that frames the union of all face boxes as a portrait.

    Raises:
        ClipSkipped: The face is too small, moves too far, or too much of the square lies outside of the picture.
    """
    found = [face for face in faces if face is not None]
    boxes_px = np.array([face.box_px for face in found])
    face_px = float(np.median(np.maximum(boxes_px[:, 1] - boxes_px[:, 0], boxes_px[:, 3] - boxes_px[:, 2])))
    if face_px < min_face_px:
        raise ClipSkipped(f"the face is {face_px:.0f} px large, must be at least {min_face_px}")
    lowest, highest = boxes_px.min(axis=0), boxes_px.max(axis=0)
    union_px = (lowest[0], highest[1], lowest[2], highest[3])
    crop = portrait_crop(replace(found[0], box_px=tuple(map(float, union_px))))
    if face_px < FRAMED_HEIGHTS[0] * crop.side:
        raise ClipSkipped(
            f"the head moves too far: the square around its way is {crop.side} px, the face {face_px:.0f} px large"
        )
    height, width = found[0].image_size
    square = (crop.left, crop.left + crop.side, crop.top, crop.top + crop.side)
    outside = 1 - shared_area(square, (0, width, 0, height)) / box_area(square)
    if outside > MAX_OUTSIDE_SHARE:
        raise ClipSkipped(
            f"{outside:.0%} of the square around the head lie outside of the picture, must be at most "
            f"{MAX_OUTSIDE_SHARE:.0%}"
        )
    return crop


def measure_faces(faces: Sequence[FaceState | None], crop: SquareCrop, size_px: int) -> dict[str, np.ndarray]:
    """Make the labels of a clip from its faces.

    Args:
        faces: State of the face per frame of the video; None where it is missing, which is interpolated.
        crop: The square that was cut out.
        size_px: Side to which it was resized.

    Returns:
        `pose` (in the crop of the clip's first face), `blink`, `face_box_px` and `mouth_px` in pixels of the square.

    Raises:
        ValueError: The detector gives no mouth landmarks.
    """
    first = next(face for face in faces if face is not None)
    if first.mouth_px is None:
        raise ValueError("`detector` gives no mouth landmarks, which training needs")
    in_square = [None if face is None else crop_face_state(face, crop, size_px) for face in faces]
    return {
        "pose": interpolate_missing(faces, lambda face: pose_in_crop_of(face, first)),
        "blink": interpolate_missing(faces, lambda face: face.blink),
        "face_box_px": interpolate_missing(in_square, lambda face: np.array(face.box_px)),
        "mouth_px": interpolate_missing(in_square, lambda face: face.mouth_px),
    }


class _Company:
    """A face detector that notes where others are seen beside the person who speaks.

    Args:
        detector: Finds the faces.

    Attributes:
        num_seen: Frames that show more than one face.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self.num_seen, self._num_near, self._detector = 0, 0, detector

    def __call__(self, image: np.ndarray) -> list[FaceState]:
        faces = self._detector(image)
        if len(faces) > 1:
            second, first = sorted(box_area(face.box_px) for face in faces)[-2:]
            self.num_seen += 1
            self._num_near += second >= NEAR_FACE_SHARE**2 * first
        return faces

    def refuse(self, num_frames: int) -> None:
        if self._num_near > MAX_SHARE_WITH_OTHERS * num_frames:
            raise ClipSkipped(
                f"another face of at least half the size is in {self._num_near} of {num_frames} frames, so it is "
                "unclear who speaks"
            )


class _Sound:
    """The sound of one video, and its features as soon as a clip needs them."""

    def __init__(self, path: Path):
        self.path = path
        self._features: np.ndarray | None = None
        with warnings.catch_warnings():
            # silence is looked for in every clip by itself
            warnings.filterwarnings("ignore", message=".* is silent")
            samples = resample(read_waveform(path, name="video"), SAMPLE_RATE_HZ).samples
        self._num_frames = int((len(samples) + MAX_SILENT_END_S * SAMPLE_RATE_HZ) // SAMPLES_PER_FRAME)
        padding = max(self._num_frames * SAMPLES_PER_FRAME - len(samples), 0)
        self._samples = np.pad(samples, (0, padding))[: self._num_frames * SAMPLES_PER_FRAME]

    def samples_of(self, clip: PlannedClip, allow_silent: bool) -> np.ndarray:
        end = clip.start + clip.num_frames
        if end > self._num_frames:
            raise ClipSkipped(f"the sound ends {(end - self._num_frames) / FPS:.2f} s before the clip does")
        samples = self._samples[clip.start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        if not allow_silent and np.abs(samples).max() < SILENCE_PEAK:
            raise ClipSkipped("the sound track is silent")
        return samples

    def features_of(self, clip: PlannedClip, features: Callable[[Waveform, int], np.ndarray]) -> np.ndarray:
        if self._features is None:
            self._features = features(Waveform(self._samples, SAMPLE_RATE_HZ), self._num_frames)
        return self._features[clip.start : clip.start + clip.num_frames]


def _is_gone(folder: Path) -> bool:
    """Whether a folder that had files is empty now, as after a disk was unmounted."""
    try:
        return next(folder.iterdir(), None) is None
    except OSError:
        return True


def _is_machine_failure(error: Exception, video: Path) -> bool:
    """Whether the machine is at fault, not the video."""
    # decoding errors have become ValueErrors
    cause = error.__cause__ or error
    if isinstance(cause, av.FFmpegError) and cause.errno == errno.EIO:
        # FFmpeg says so of damaged files as well, but those can be read
        cause = _reading_error(video)
    return getattr(cause, "errno", None) in MACHINE_ERRNOS


def _reading_error(path: Path) -> OSError | None:
    try:
        with open(path, "rb") as file:
            while file.read(READ_BYTES):
                pass
    except OSError as error:
        return error
    return None


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """Small grey copy: speech changes few of its pixels, another scene most."""
    factor = max(min(frame.shape[:2]) // THUMBNAIL_SIDE_PX, 1)
    return np.asarray(Image.fromarray(frame).reduce(factor).convert("L")).astype(np.float64)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if first.shape != second.shape:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    energy = np.sqrt((first**2).sum() * (second**2).sum())
    # plain pictures (fades, covers) resemble each other, and nothing else
    return float((first * second).sum() / energy) if energy > 0 else float(np.ptp(first) == np.ptp(second))
