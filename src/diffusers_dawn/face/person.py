"""Tell a person from the background, by MediaPipe's selfie segmentation."""

import threading
from typing import Any

import numpy as np

from .crop import check_image
from .detector import import_mediapipe_solutions, native_stderr_muted


class PersonSegmenter:
    """Say how much of every pixel belongs to a person, with the model inside MediaPipe's wheel.

    Threads may share one: they wait for each other.

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
        """
        check_image(image)
        with self._lock, native_stderr_muted():
            if self._graph is None:
                self._graph = self._solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            return self._graph.process(np.ascontiguousarray(image)).segmentation_mask.astype(np.float32)
