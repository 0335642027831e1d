"""How much two pictures show the same person, by dlib's face embedding (weights in `face_recognition_models`, CC0)."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS, POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"


class FaceEmbedding:
    """Describe faces by 128 numbers: those of one person lie within 0.6 of each other, by Euclidean distance.

    Raises:
        ImportError: dlib or its weights are missing (extra `identity`).
    """

    def __init__(self) -> None:
        # the package that has the weights cannot be imported without setuptools, and need not be
        package = importlib.util.find_spec("face_recognition_models")
        if package is None or importlib.util.find_spec("dlib") is None:
            raise ImportError("faces are compared by dlib, which is missing: pip install diffusers_dawn[identity]")
        import dlib

        models = Path(package.submodule_search_locations[0], "models")
        self._dlib: Any = dlib
        self._points = dlib.shape_predictor(str(models / POINTS))
        self._network = dlib.face_recognition_model_v1(str(models / WEIGHTS))

    def __call__(self, picture: np.ndarray, face_box_px: np.ndarray) -> np.ndarray:
        """Describe a face.

        Args:
            picture: uint8 array (H, W, 3), RGB.
            face_box_px: x_min, x_max, y_min, y_max of the face [px].

        Returns:
            Float64 array (128,).
        """
        left, right, top, bottom = (round(float(side)) for side in face_box_px)
        box = self._dlib.rectangle(left, top, right, bottom)
        picture = np.ascontiguousarray(picture)
        return np.array(self._network.compute_face_descriptor(picture, self._points(picture, box)))
