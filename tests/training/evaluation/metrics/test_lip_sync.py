import numpy as np
import pytest

from training.evaluation.metrics.lip_sync import MAX_OFFSET_FRAMES, lip_sync


def embeddings(num_frames: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num_frames, 32))


@pytest.mark.parametrize("offset", [-15, -4, 0, 1, 15])
def test_shifted_sound_gives_its_offset_and_late_lips_are_positive(offset):
    track = embeddings(120)
    sound, lips = track[20:100], track[20 - offset : 100 - offset]
    found = lip_sync(lips, sound)
    assert found.offset_frames == offset
    # the frames whose sound is beyond the ends are compared with 0
    alone = sum(np.linalg.norm(lips, axis=1)[:offset] if offset > 0 else np.linalg.norm(lips, axis=1)[80 + offset :])
    assert found.distance == pytest.approx(alone / 80 if offset else 0)


def test_lips_without_their_sound_have_little_confidence():
    track = embeddings()
    with_sound, without = lip_sync(track, track), lip_sync(track, embeddings(seed=1))
    assert with_sound.distance == 0 and with_sound.confidence > 5 > 1 > without.confidence >= 0


def test_confidence_is_the_median_of_all_offsets_minus_the_least():
    lips, sound = embeddings(40), embeddings(40, seed=1)
    padded = np.concatenate((np.zeros((3, 32)), sound, np.zeros((3, 32))))
    distances = [np.mean([np.linalg.norm(lips[i] - padded[i + shift]) for i in range(40)]) for shift in range(7)]
    found = lip_sync(lips, sound, 3)
    assert found.distance == pytest.approx(min(distances))
    assert found.confidence == pytest.approx(np.median(distances) - min(distances))
    assert found.offset_frames == 3 - int(np.argmin(distances))


def test_of_equal_offsets_the_nearest_to_zero_is_taken():
    assert lip_sync(np.zeros((40, 4)), np.zeros((40, 4))) == (0, 0, 0)


def test_all_offsets_of_syncnet_are_looked_for():
    assert MAX_OFFSET_FRAMES == 15


def test_embeddings_that_do_not_fit_are_refused():
    for video, sound in ((np.zeros((5, 4)), np.zeros((6, 4))), (np.zeros(5), np.zeros(5)), (np.zeros((0, 4)),) * 2):
        with pytest.raises(ValueError, match="`video` is .* and `sound`"):
            lip_sync(video, sound)
    with pytest.raises(ValueError, match="`video` and `sound` must be finite"):
        lip_sync(np.zeros((5, 4)), np.full((5, 4), np.nan))
    with pytest.raises(ValueError, match="`max_offset_frames` is 0"):
        lip_sync(np.zeros((5, 4)), np.zeros((5, 4)), 0)
