import math

import numpy as np
import pytest

from training.evaluation.metrics.face_similarity import csim


def test_similarity_is_the_cosine_and_knows_no_length():
    portrait = np.array([3.0, 0.0])
    frames = np.array([[0.1, 0], [5, 5], [0, 2], [-1, 0]])
    assert csim(frames, portrait) == pytest.approx([1, math.sqrt(0.5), 0, -1])


def test_every_frame_may_have_its_own_reference():
    frames = np.random.default_rng(0).normal(size=(4, 8))
    assert csim(frames, 7 * frames) == pytest.approx(1)
    assert (csim(frames, frames[::-1]) < 0.99).all()


def test_embeddings_that_do_not_fit_are_refused():
    for shapes in ((4, 4), ((2, 4), 5), ((2, 4), ())):
        with pytest.raises(ValueError, match="`embeddings` is"):
            csim(*map(np.ones, shapes))
    for embeddings in (np.zeros((2, 4)), np.full((2, 4), np.nan)):
        with pytest.raises(ValueError, match="must be finite and longer than 0"):
            csim(embeddings, np.ones(4))
