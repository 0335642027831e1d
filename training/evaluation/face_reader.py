"""Read faces from pictures: mouth opening, head pose, eye openness."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from types import TracebackType

import numpy as np
import torch

from diffusers_dawn.face.crop import check_image
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.face.pose import (
    INNER_LIP_POINTS,
    NUM_MESH_POINTS,
    OUTER_LIP_POINTS,
    box_area,
    face_state_from_landmarks,
    landmark_box,
    pose_in_crop_of,
)
from diffusers_dawn.records import FaceState
from training.data.mouth import mouth_opening, mouth_width

# what is read from fewer frames of a clip says nothing about the clip
MIN_SEEN_SHARE = 0.9
MOUTH_POINTS = (*OUTER_LIP_POINTS, *INNER_LIP_POINTS)
# state and points of the mesh of the face in a frame
ReadFace = tuple[FaceState, np.ndarray]


@dataclass(frozen=True)
class FaceReadings:
    """What was read from the frames of a clip; NaN where no face is seen.

    Attributes:
        opening: Float32 array (F,): how far the mouth is open, see `data.mouth.mouth_opening`.
        pose: Float32 array (F, 6), as `records.POSE_NAMES`; scale, x and y in the crop of the first face.
        blink: Float32 array (F, 2): openness of the left and right eye.
        face_box_px: Float32 array (F, 4): x_min, x_max, y_min, y_max.
        width: Float32 array (F,): how wide the mouth is, see `data.mouth.mouth_width`.
        mesh_px: Float32 array (F, 468, 2): points of mediapipe's face mesh; `MOUTH_POINTS` lie on the lips.
    """

    opening: np.ndarray
    pose: np.ndarray
    blink: np.ndarray
    face_box_px: np.ndarray
    width: np.ndarray
    mesh_px: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Whether each frame shows a face, bool (F,)."""
        return np.isfinite(self.opening)

    def first(self, num_frames: int) -> "FaceReadings":
        """Return the readings of the first frames."""
        return FaceReadings(*(getattr(self, field.name)[:num_frames] for field in fields(self)))

    def show_face(self, fewest_frames: int = 2) -> bool:
        """Tell whether the face is seen often enough to judge the clip: in 90 % of the frames.

        Args:
            fewest_frames: In how many frames it must be seen at least.

        Returns:
            Whether it is.
        """
        return bool(self.seen.sum() >= max(MIN_SEEN_SHARE * len(self.opening), fewest_frames))


class FaceReader:
    """Read the largest face of pictures with mediapipe, each picture by itself. Use as a context manager.

    Args:
        num_processes: How many processes look at pictures at once; 1: this one alone.

    Raises:
        ImportError: Mediapipe is missing.
        ValueError: `num_processes` is not positive.
    """

    def __init__(self, num_processes: int = 1):
        if num_processes < 1:
            raise ValueError(f"`num_processes` is {num_processes}, must be positive")
        # also where other processes look: they could not say as well that mediapipe is missing
        self._detector = MediaPipeFaceDetector(max_num_faces=1)
        self._workers = None
        if num_processes > 1:
            context = multiprocessing.get_context("spawn")
            self._workers = ProcessPoolExecutor(num_processes, context, _start_worker)

    def __call__(self, frames: Iterable[np.ndarray]) -> FaceReadings:
        """Read frames.

        Args:
            frames: uint8 frames (H, W, 3), RGB; an array (F, H, W, 3), or an iterable.

        Returns:
            What they show.
        """
        if self._workers is None:
            return readings_of([_largest_face(self._detector, frame) for frame in frames])
        return readings_of(list(self._workers.map(_find, frames)))

    def close(self) -> None:
        """Free what the detectors hold."""
        self._detector.close()
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)

    def __enter__(self) -> "FaceReader":
        """Return the reader."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free what the detectors hold."""
        self.close()


def readings_of(faces: Sequence[ReadFace | None]) -> FaceReadings:
    """Collect the readings of every frame.

    Args:
        faces: State per frame, with mouth landmarks, and mesh (468, 2) [px]; None where no face is seen.

    Returns:
        The readings.
    """
    seen = [index for index, face in enumerate(faces) if face is not None]
    found = [faces[index][0] for index in seen]
    shape_of_mesh = (NUM_MESH_POINTS, 2)
    columns = {"opening": (), "pose": (6,), "blink": (2,), "face_box_px": (4,), "width": (), "mesh_px": shape_of_mesh}
    values = {name: np.full((len(faces), *shape), np.nan, np.float32) for name, shape in columns.items()}
    if found:
        values["pose"][seen] = [pose_in_crop_of(face, found[0]) for face in found]
        values["blink"][seen] = [face.blink for face in found]
        values["face_box_px"][seen] = [face.box_px for face in found]
        values["mesh_px"][seen] = [faces[index][1] for index in seen]
        mouths_px = np.stack([face.mouth_px for face in found])
        boxes_px = np.array([face.box_px for face in found])
        values["opening"][seen] = mouth_opening(mouths_px, boxes_px).numpy()
        values["width"][seen] = mouth_width(mouths_px, boxes_px).numpy()
    return FaceReadings(**values)


def labelled_opening(labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the truth that `FaceReadings.opening` is compared with.

    Args:
        labels: Labels of a prepared clip.

    Returns:
        Float32 array (F,).
    """
    return mouth_opening(torch.from_numpy(labels["mouth_px"]), torch.from_numpy(labels["face_box_px"])).numpy()


_worker_detector: MediaPipeFaceDetector | None = None


def _start_worker() -> None:
    global _worker_detector
    # an interrupt reaches the parent too, which ends its workers; they must not outlive it when it is killed either
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_detector = MediaPipeFaceDetector(max_num_faces=1)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _find(frame: np.ndarray) -> ReadFace | None:
    return _largest_face(_worker_detector, frame)


def _largest_face(detector: MediaPipeFaceDetector, frame: np.ndarray) -> ReadFace | None:
    check_image(frame)
    meshes = detector.landmarks(frame)
    if not meshes:
        return None
    mesh = max(meshes, key=lambda points: box_area(landmark_box(points)))
    state = face_state_from_landmarks(mesh, frame.shape[:2], len(meshes))
    return state, mesh[:NUM_MESH_POINTS, :2].astype(np.float32)
