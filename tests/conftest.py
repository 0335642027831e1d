import pytest

from diffusers_dawn.face_analysis import MediaPipeFaceDetector


@pytest.fixture(scope="session")
def detector():
    try:
        made = MediaPipeFaceDetector()
    except ImportError as error:
        pytest.skip(str(error))
    with made:
        yield made
