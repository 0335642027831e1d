"""Tell a person from the background, by MediaPipe's selfie segmentation."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..records import Portrait
from .crop import check_image
from .detector import import_mediapipe_solutions, native_stderr_muted, refuse_forked_process

# all that motion needs to know: its cells are larger
MASK_SIZE_PX = 256
# The head around the box of its face, which goes from the chin to the upper forehead: half axes of an ellipse over the
# box's width and height, and how much higher its centre lies
HEAD_HALF_AXES, HEAD_RISE = (0.8, 0.95), 0.1


def with_person(portrait: Portrait, segment: Callable[[np.ndarray], np.ndarray]) -> Portrait:
    """Tell a portrait's person from the background.

    The head around the face always counts as the person, because segmentation misses parts of drawings and paintings.

    Args:
        portrait: The portrait.
        segment: Says how much of every pixel of a picture belongs to a person, such as `PersonSegmenter`.

    Returns:
        The portrait with its `person` (256, 256).
    """
    small = Image.fromarray(portrait.image).resize((MASK_SIZE_PX, MASK_SIZE_PX), Image.Resampling.BOX)
    person = segment(np.asarray(small))
    left, right, top, bottom = np.asarray(portrait.face.box_px) * (MASK_SIZE_PX / len(portrait.image))
    rows, columns = np.ogrid[:MASK_SIZE_PX, :MASK_SIZE_PX]
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    across = (columns + 0.5 - (left + right) / 2) / (HEAD_HALF_AXES[0] * width)
    down = (rows + 0.5 - (top + bottom) / 2 + HEAD_RISE * height) / (HEAD_HALF_AXES[1] * height)
    person = np.where(across**2 + down**2 < 1, 1.0, person)
    return replace(portrait, person=np.rint(person * 255).astype(np.uint8))


class PersonSegmenter:
    """Say how much of every pixel belongs to a person, with the model inside MediaPipe's wheel.

    Threads may share one: they wait for each other. A copy, also in another process, is a new one.

    Raises:
        ImportError: Mediapipe is missing, or is a version without this model.
    """

    def __init__(self) -> None:
        self._solutions = import_mediapipe_solutions()
        self._lock = threading.Lock()
        self._graph: Any = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Segment a picture.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            Float32 array (H, W) in [0, 1].

        Raises:
            ValueError: The image has another shape or type.
            ForkedProcess: MediaPipe was used before this process was forked.
        """
        check_image(image)
        refuse_forked_process()
        with self._lock, native_stderr_muted():
            if self._graph is None:
                self._graph = self._solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            return self._graph.process(np.ascontiguousarray(image)).segmentation_mask.astype(np.float32)

    def __reduce__(self) -> tuple[type["PersonSegmenter"], tuple[()]]:
        """Copy it as a new one: graphs and locks cannot be copied."""
        return PersonSegmenter, ()
