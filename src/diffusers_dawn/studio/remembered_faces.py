"""Look for the faces of a picture once, however often the page asks."""

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TypeAlias

import numpy as np

from ..face.detector import FaceDetector
from ..records import FaceState

MOST_PICTURES = 32
# the faces of a picture, by a digest of it
KnownFaces: TypeAlias = dict[bytes, tuple[FaceState, ...]]


class RememberedFaces:
    """A face detector that remembers what it found in the last pictures.

    Args:
        detector: Finds the faces; None: MediaPipe's, made when it is first needed.
    """

    def __init__(self, detector: FaceDetector | None = None) -> None:
        self._detector = detector
        self._found: OrderedDict[bytes, tuple[FaceState, ...]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, image: np.ndarray) -> list[FaceState]:
        """Find faces.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            One state per face, the largest box first.
        """
        key = hashlib.blake2b(np.ascontiguousarray(image), key=repr(image.shape).encode()).digest()
        with self._lock:  # who asks for the same picture meanwhile waits, and does not look again
            if key not in self._found:
                self._found[key] = tuple(self._made_detector()(image))
                self._forget_oldest()
            self._found.move_to_end(key)
            return list(self._found[key])

    def known(self) -> KnownFaces:
        """Give what is remembered, for `learn` in another process."""
        with self._lock:
            return dict(self._found)

    def learn(self, known: KnownFaces) -> None:
        """Remember what was found in another process.

        Args:
            known: Result of `known` there.
        """
        with self._lock:
            self._found.update(known)
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        while len(self._found) > MOST_PICTURES:
            self._found.popitem(last=False)

    def _made_detector(self) -> FaceDetector:
        if self._detector is None:
            from ..face.detector import MediaPipeFaceDetector

            self._detector = MediaPipeFaceDetector()
        return self._detector
