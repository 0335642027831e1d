import numpy as np
import pytest

from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.face.person import PersonSegmenter
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.puppets.head_fit import HeadFitter
from training.synthetic.puppets.morphable_head import MorphableHead, load_morphable_head
from training.synthetic.puppets.puppet import Puppet
from training.synthetic.renderer import HeadRenderer


@pytest.fixture(scope="session")
def head(head_file) -> MorphableHead:
    return load_morphable_head(head_file)


@pytest.fixture(scope="session")
def fitter(head) -> HeadFitter:
    return HeadFitter(head)


@pytest.fixture(scope="session")
def detector() -> MediaPipeFaceDetector:
    return MediaPipeFaceDetector(max_num_faces=1)


@pytest.fixture(scope="session")
def segment() -> PersonSegmenter:
    return PersonSegmenter()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """Draw somebody with a smooth face, so that a detector reads it well."""
    return HeadRenderer(draw_identity(4), 256).render(HeadState()).image


@pytest.fixture(scope="session")
def puppet(fitter, portrait, detector, segment) -> Puppet:
    return Puppet(fitter, portrait, detector.landmarks(portrait)[0], segment(portrait))
