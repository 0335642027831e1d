import copy
import pickle

import pytest
import torch

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.face.person import PersonSegmenter
from pipeline_calls import face, picture, run


def test_a_pipeline_that_has_searched_faces_and_people_can_be_copied(pipe, detector):
    pipe.face_detector, pipe.person_segmenter = detector, PersonSegmenter()
    pipe.person_segmenter(picture())
    try:
        deep, shallow = copy.deepcopy(pipe), copy.copy(pipe)
        assert type(deep.person_segmenter) is PersonSegmenter and deep.person_segmenter is not pipe.person_segmenter
    finally:
        pipe.face_detector = pipe.person_segmenter = None
    assert type(deep) is type(shallow) is DAWNPipeline
    assert deep.unet is not pipe.unet and shallow.unet is pipe.unet
    assert deep.face_detector is not detector and deep.prepare_portrait(picture(), face()).crop is None
    assert torch.equal(run(deep).frames, run(pipe).frames)


def test_a_pipeline_cannot_be_pickled_and_says_what_to_do(pipe):
    with pytest.raises(TypeError, match="DAWNPipeline cannot be pickled: save it by `save_pretrained`.*`from_pipe`"):
        pickle.dumps(pipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    random_pipeline("tiny").save_pretrained(place)
    return place


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", torch.bfloat16, {"default": "bfloat16"}])
def test_precision_may_be_given_as_text(folder, name, dtype):
    assert DAWNPipeline.from_pretrained(folder, **{name: dtype}).unet.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bf16", "int8", torch.int32, 16, "nn"])
def test_what_names_no_floating_type_is_refused(folder, dtype):
    with pytest.raises(ValueError, match="`dtype` is .*, must be a floating-point dtype of torch"):
        DAWNPipeline.from_pretrained(folder, dtype=dtype)
