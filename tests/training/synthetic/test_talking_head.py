import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.clip_members import check_clip
from training.synthetic.head_motion import speech_energy
from training.synthetic.phonemes import CLASS_INDEX
from training.synthetic.sentences import split_of
from training.synthetic.talking_head import (
    FIRST_TEST_IDENTITY,
    IDENTITIES_PER_SEED,
    identity_seed,
    make_talking_head,
)
from warm_processes import begin, exit_codes

pytest.importorskip("espeakng_loader")

INDICES = st.integers(0, IDENTITIES_PER_SEED - 1)


def digest(clip):
    parts = [clip.frames, clip.samples, *(clip.labels[name] for name in sorted(clip.labels))]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope="module")
def clip():
    return make_talking_head(3, 5, size_px=64, num_frames=50, flow_stride=4)


@pytest.fixture(scope="module")
def long_clips():
    return [make_talking_head(1, seed, size_px=32, num_frames=100) for seed in range(5)]


@given(INDICES, INDICES, INDICES, INDICES)
def test_no_identity_is_in_both_splits(first, first_seed, second, second_seed):
    assert (
        identity_seed(first, "train", first_seed) < FIRST_TEST_IDENTITY <= identity_seed(second, "test", second_seed)
    )


@given(INDICES, INDICES, INDICES, INDICES, st.sampled_from(["train", "test"]))
def test_no_identity_is_in_two_data_sets(first, first_seed, second, second_seed, split):
    same = (first, first_seed) == (second, second_seed)
    assert (identity_seed(first, split, first_seed) == identity_seed(second, split, second_seed)) == same


def test_clip_keeps_the_format(clip):
    check_clip(clip)
    assert clip.frames.shape == (50, 64, 64, 3) and clip.identity == "synthetic-3"
    shapes = {name: (values.shape, str(values.dtype)) for name, values in clip.labels.items()}
    assert shapes == {
        "pose": ((50, 6), "float32"),
        "blink": ((50, 2), "float32"),
        "face_box_px": ((50, 4), "float32"),
        "mouth_px": ((50, 20, 2), "float32"),
        "mouth_opening": ((50,), "float32"),
        "eyes_px": ((50, 2, 4), "float32"),
        "visemes": ((50, 4), "float32"),
        "phonemes": ((100,), "int16"),
        "flow": ((49, 16, 16, 2), "float16"),
        "flow_visible": ((49, 16, 16), "bool"),
    }
    assert all(split_of(sentence["text"]) == "train" for sentence in clip.info["sentences"])


def test_lips_meet_where_a_bilabial_sounds(long_clips):
    num_closed = 0
    for made in long_clips:
        # p closes for a part of its time only
        bilabial = np.isin(made.labels["phonemes"].reshape(100, 2), [CLASS_INDEX["b"], CLASS_INDEX["m"]]).all(axis=1)
        assert made.labels["mouth_opening"][bilabial].max(initial=0) < 0.005
        assert made.labels["mouth_opening"].max() > 0.04
        num_closed += bilabial.sum()
    assert num_closed > 5


def test_mouth_opens_with_the_speech(long_clips):
    correlations = []
    for made in long_clips:
        energy = speech_energy(made.samples, 100)
        correlations.append(np.corrcoef(energy, made.labels["mouth_opening"])[0, 1])
    assert np.mean(correlations) > 0.5 and min(correlations) > 0.2


def test_augmented_sound_leaves_everything_else_as_it_is(clip):
    augmented = make_talking_head(3, 5, size_px=64, num_frames=50, augment_audio=True)
    assert augmented.samples.tobytes() != clip.samples.tobytes()
    np.testing.assert_array_equal(augmented.frames, clip.frames)
    for name in augmented.labels:
        np.testing.assert_array_equal(augmented.labels[name], clip.labels[name])


def write_digest(words):
    make_talking_head(1, 1, size_px=32, num_frames=5)
    Path(words[0]).write_text(digest(make_talking_head(3, 5, size_px=64, num_frames=50, flow_stride=4)))


def test_another_process_makes_the_same_bytes(clip, tmp_path):
    assert exit_codes([begin(write_digest, [tmp_path / "digest"])]) == [0]
    assert (tmp_path / "digest").read_text() == digest(clip)


def test_another_clip_seed_says_something_else_and_moves_otherwise(clip):
    other = make_talking_head(3, 6, size_px=64, num_frames=50)
    assert other.samples.tobytes() != clip.samples.tobytes()
    assert not np.allclose(other.labels["pose"], clip.labels["pose"])
    assert other.info["speaker"] == clip.info["speaker"]


def test_shortest_clip_can_be_made():
    made = make_talking_head(identity_seed(0, "test"), 0, "test", size_px=32, num_frames=1, flow_stride=8)
    check_clip(made)
    assert made.labels["flow"].shape == (0, 4, 4, 2)


@pytest.mark.parametrize(("seed", "split"), [(0, "test"), (FIRST_TEST_IDENTITY, "train"), (0, "validation")])
def test_identity_of_the_other_split_is_refused(seed, split):
    with pytest.raises(ValueError, match=f"`split` is '{split}' and `identity_seed` {seed}"):
        make_talking_head(seed, 0, split)


@pytest.mark.parametrize(("seeds", "name"), [((-1, 0), "identity_seed"), ((0, -1), "clip_seed")])
def test_negative_seed_is_refused(seeds, name):
    with pytest.raises(ValueError, match=f"`{name}` is -1"):
        make_talking_head(*seeds)


def test_flow_stride_that_does_not_divide_the_size_is_refused():
    with pytest.raises(ValueError, match="`flow_stride` is 5"):
        make_talking_head(0, 0, size_px=64, flow_stride=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"index": -1}, "`index` is -1"), ({"seed": 2**20}, "`seed` is 1048576"), ({"split": "x"}, "`split` is 'x'")],
)
def test_identity_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        identity_seed(**{"index": 0, "split": "train"} | changes)
