"""Find the faces in a picture and measure their state, with MediaPipe or any other detector."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..records import FaceState, SquareCrop
from .crop import check_image, crop_square
from .pose import NUM_MESH_POINTS, box_area, face_state_from_landmarks, landmark_box, shared_area

MIN_DETECTION_SCORE = 0.5
# two results that overlap more than this (intersection over the smaller box) show one face
SAME_FACE_OVERLAP = 0.5
# around a detection, the mesh looks at a square of this many times its box, enlarged to at least 256 px
MESH_CROP_TO_DETECTION = 2.0
MESH_CROP_SIZE_PX = 256
# a face that only smaller quarters would show has too few pixels to animate, and nine of them take long to look at
MIN_QUARTER_PX = 64
# the last version with these models, also extra `face` in setup.cfg
INSTALLATION = "pip install mediapipe==0.10.14"


# a box (x_min, x_max, y_min, y_max) [px] and the detector's score
_Detection: TypeAlias = tuple[tuple[float, float, float, float], float]
# the process that made the first graph; threads of mediapipe's do not live on in a fork of it
_first_process: int | None = None


class FaceDetector(Protocol):
    """Anything that finds the faces of a picture."""

    def __call__(self, image: np.ndarray) -> list[FaceState]:
        """Find faces.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            One state per face, the largest box first.
        """
        ...


class MediaPipeFaceDetector:
    """Find faces with the models inside MediaPipe's wheel, each picture by itself.

    The face mesh alone misses faces that are small in the picture. Therefore two face detectors (near, far) look too,
    and the mesh looks again at an enlarged crop around each face that it missed. If the whole picture shows no face,
    the detectors look at overlapping quarters of it, where these have 64 px or more. Threads may share one: they wait
    for each other. A copy, also in another process, is a new one with the same settings; a process that was forked
    after a search finds no faces.

    Args:
        max_num_faces: Largest number of faces that the mesh looks for in the whole picture.

    Raises:
        ImportError: Mediapipe is missing, or is a version without these models.
    """

    def __init__(self, max_num_faces: int = 10):
        solutions = import_mediapipe_solutions()
        self._max_num_faces = max_num_faces
        # two threads in one graph would crash the process
        self._lock = threading.Lock()
        self._graphs: dict[str, Any] = {}
        self._makers = {
            "mesh": lambda: solutions.face_mesh.FaceMesh(
                static_image_mode=True, refine_landmarks=True, max_num_faces=max_num_faces
            ),
            "mesh_of_crop": lambda: solutions.face_mesh.FaceMesh(
                static_image_mode=True, refine_landmarks=True, max_num_faces=1
            ),
            "near": lambda: solutions.face_detection.FaceDetection(
                model_selection=0, min_detection_confidence=MIN_DETECTION_SCORE
            ),
            "far": lambda: solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=MIN_DETECTION_SCORE
            ),
        }

    def __call__(self, image: np.ndarray) -> list[FaceState]:
        """Find faces.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            One state per face, the largest box first.

        Raises:
            ValueError: The image has another shape or type.
        """
        check_image(image)
        faces = self._landmarks_and_scores(image)
        states = [
            replace(face_state_from_landmarks(points, image.shape[:2], len(faces)), score=score)
            for points, score in faces
        ]
        return sorted(states, key=lambda state: -box_area(state.box_px))

    def landmarks(self, image: np.ndarray) -> list[np.ndarray]:
        """Find faces and give their landmarks.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            Per face an array (478, 3) [px]: x, y (down), z (away from the viewer, relative to the head).
        """
        return [points for points, _ in self._landmarks_and_scores(image)]

    def _landmarks_and_scores(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        refuse_forked_process()
        with self._lock:
            return self._find(image)

    def __reduce__(self) -> tuple[type["MediaPipeFaceDetector"], tuple[int]]:
        """Copy it as a new one: graphs and locks cannot be copied."""
        return MediaPipeFaceDetector, (self._max_num_faces,)

    def close(self) -> None:
        """Free the graphs; a later call makes new ones."""
        if _first_process not in (None, os.getpid()):
            return  # they are the parent's, and freeing them here would wait for its threads
        with self._lock:
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()

    def __enter__(self) -> "MediaPipeFaceDetector":
        """Return the detector."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the graphs."""
        self.close()

    def _find(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Landmarks of each face, and how sure the detectors are of it."""
        height, width = image.shape[:2]
        faces_px = _without_duplicates(self._run_mesh("mesh", image))
        detections = self._detect(image, search_quarters=not faces_px)
        for box_px, _ in detections:
            if any(_overlap(box_px, landmark_box(points)) > SAME_FACE_OVERLAP for points in faces_px):
                continue
            x_min, x_max, y_min, y_max = box_px
            side = round(MESH_CROP_TO_DETECTION * max(x_max - x_min, y_max - y_min))
            crop = SquareCrop(round((x_min + x_max - side) / 2), round((y_min + y_max - side) / 2), side)
            enlarged = crop_square(image, crop, max(side, MESH_CROP_SIZE_PX))
            for points in self._run_mesh("mesh_of_crop", enlarged):
                points = points * (side / len(enlarged)) + (crop.left, crop.top, 0)
                x, y = points[:NUM_MESH_POINTS, :2].mean(axis=0)
                # a face in the filled border, or beside the one that was looked for, is none of this detection
                if 0 <= x < width and 0 <= y < height and _overlap(box_px, landmark_box(points)) > SAME_FACE_OVERLAP:
                    faces_px.append(points)
        return [(points, _score_of(points, detections)) for points in _without_duplicates(faces_px)]

    def _run(self, name: str, image: np.ndarray) -> Any:
        image = np.ascontiguousarray(image)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="SymbolDatabase.GetPrototype")
            if name in self._graphs:
                return self._graphs[name].process(image)
            with native_stderr_muted():
                self._graphs[name] = self._makers[name]()
                return self._graphs[name].process(image)

    def _run_mesh(self, name: str, image: np.ndarray) -> list[np.ndarray]:
        height, width = image.shape[:2]
        faces = self._run(name, image).multi_face_landmarks or []
        # the mesh measures depth in image widths
        return [np.array([(p.x * width, p.y * height, p.z * width) for p in face.landmark]) for face in faces]

    def _detect(self, image: np.ndarray, search_quarters: bool) -> list[_Detection]:
        found = self._detect_in(image)
        side = (max(image.shape[:2]) + 1) // 2
        if found or not search_quarters or side < MIN_QUARTER_PX:
            return found
        for top in range(0, max(image.shape[0] - side // 2, 1), side // 2 or 1):
            for left in range(0, max(image.shape[1] - side // 2, 1), side // 2 or 1):
                found += [
                    ((x_min + left, x_max + left, y_min + top, y_max + top), score)
                    for (x_min, x_max, y_min, y_max), score in self._detect_in(
                        image[top : top + side, left : left + side]
                    )
                ]
        return found

    def _detect_in(self, image: np.ndarray) -> list[_Detection]:
        height, width = image.shape[:2]
        found = []
        for name in ("near", "far"):
            for detection in self._run(name, image).detections or []:
                box = detection.location_data.relative_bounding_box
                x_min, y_min = box.xmin * width, box.ymin * height
                box_px = (x_min, x_min + box.width * width, y_min, y_min + box.height * height)
                found.append((box_px, detection.score[0]))
        return found


class ForkedProcess(RuntimeError):
    """MediaPipe was used before this process was forked."""


def refuse_forked_process() -> None:
    """Refuse to use MediaPipe in a fork of a process that used it, and remember this one.

    Raises:
        ForkedProcess: This is such a fork, in which it would wait forever.
    """
    global _first_process
    if _first_process not in (None, os.getpid()):
        raise ForkedProcess(
            "faces were searched before this process was forked, which mediapipe does not survive: start processes by"
            " multiprocessing.get_context('spawn'), or search faces only after the fork"
        )
    _first_process = os.getpid()


def _score_of(points: np.ndarray, detections: list[_Detection]) -> float:
    """Mean score of the two detectors for a face, 0 for one that does not see it."""
    box_px = landmark_box(points)
    scores = [score for other_px, score in detections if _overlap(box_px, other_px) > SAME_FACE_OVERLAP]
    return sum(sorted(scores)[-2:]) / 2


def import_mediapipe_solutions() -> Any:
    """Import MediaPipe's solutions, which come with their models.

    Returns:
        The module `mediapipe.solutions`.

    Raises:
        ImportError: mediapipe is missing, or is a version without these models.
    """
    try:
        import mediapipe
    except ImportError as error:
        if error.name not in (None, "mediapipe"):  # mediapipe is installed, but something that it needs is missing
            raise ImportError(
                f"mediapipe cannot be loaded: {error} (on Debian: apt install libgl1 libglib2.0-0)"
            ) from error
        raise ImportError(
            f"face detection needs mediapipe: {INSTALLATION} on Python up to 3.12, or pass `face`"
        ) from error
    if not hasattr(mediapipe, "solutions"):
        raise ImportError(
            f"mediapipe {mediapipe.__version__} comes without the face models, as all versions above 0.10.14 do:"
            f" {INSTALLATION} on Python up to 3.12, or pass `face`"
        )
    return mediapipe.solutions


@contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Drop what is written to the process's error stream.

    TensorFlow Lite prints several lines when a graph starts and heeds no setting. Exceptions are not affected.
    """
    try:
        saved = os.dup(2)
    except OSError:  # a process without an error stream needs no muting
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Area that two boxes share, over the smaller one's."""
    return shared_area(first, second) / max(min(box_area(first), box_area(second)), 1e-6)


def _without_duplicates(faces_px: list[np.ndarray]) -> list[np.ndarray]:
    kept: list[np.ndarray] = []
    for points in faces_px:
        if all(_overlap(landmark_box(points), landmark_box(other)) <= SAME_FACE_OVERLAP for other in kept):
            kept.append(points)
    return kept
