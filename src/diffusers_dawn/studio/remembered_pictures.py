"""Look once for what is in a picture, however often the page asks."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

Found = TypeVar("Found")
MOST_PICTURES = 32
# what was found in pictures, by a digest of each
KnownPictures = dict[bytes, Any]


class RememberedPictures(Generic[Found]):
    """A detector that remembers what it found in the last pictures.

    Args:
        make_detector: Makes what looks at a picture, when it is first needed.
    """

    def __init__(self, make_detector: Callable[[], Callable[[np.ndarray], Found]]) -> None:
        self._make_detector, self._detector = make_detector, None
        self._found: OrderedDict[bytes, Found] = OrderedDict()
        self._lock = Lock()

    def __call__(self, image: np.ndarray) -> Found:
        """Look at a picture.

        Args:
            image: uint8 array (H, W, 3), RGB.

        Returns:
            What the detector found.
        """
        key = hashlib.blake2b(np.ascontiguousarray(image), key=repr(image.shape).encode()).digest()
        with self._lock:  # who asks for the same picture meanwhile waits, and does not look again
            if key not in self._found:
                if self._detector is None:
                    self._detector = self._make_detector()
                self._found[key] = self._detector(image)
                self._forget_oldest()
            self._found.move_to_end(key)
            return self._found[key]

    def known(self) -> KnownPictures:
        """Give what is remembered, for `learn` in another process."""
        with self._lock:
            return dict(self._found)

    def learn(self, known: KnownPictures) -> None:
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
