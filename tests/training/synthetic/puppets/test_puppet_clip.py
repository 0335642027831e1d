import numpy as np
import pytest

from diffusers_dawn.face.pose import pose_from_landmarks
from training.data.clip_members import check_clip
from training.synthetic.head_state import HeadState
from training.synthetic.phonemes import CLASS_INDEX, PHONEME_CLASSES
from training.synthetic.puppets.landmark_measures import mouth_opening
from training.synthetic.puppets.morphable_head import LANDMARK_VERTICES
from training.synthetic.puppets.motion import coarse_motion
from training.synthetic.puppets.puppet_clip import make_puppet_clip
from training.synthetic.puppets.replaced_background import replace_background
from training.synthetic.puppets.speech_expression import (
    SpeakingStyle,
    expression_of_shapes,
    face_expressions,
    relative_speech,
    resting_mouth,
)
from training.synthetic.puppets.surface import pixel_centres
from training.synthetic.puppets.video_motion import VideoMotion, choose_references

NUM_FRAMES = 6


@pytest.fixture(scope="module")
def clip(puppet):
    shapes = np.zeros((NUM_FRAMES, 4))
    shapes[2:4, 0] = 1.0
    speech = expression_of_shapes(puppet.head, shapes, SpeakingStyle())
    eyes = [1, 1, 1, 1, 0, 1]
    states = [HeadState(yaw_deg=2.0 * index, eye_left=eye, eye_right=eye) for index, eye in enumerate(eyes)]
    samples = np.zeros(640 * NUM_FRAMES, np.float32)
    return make_puppet_clip(puppet, "photo-0", "drawn", samples, speech, states)


def test_a_puppet_clip_keeps_the_format_and_begins_with_the_portrait(clip, portrait):
    check_clip(clip)
    np.testing.assert_array_equal(clip.frames[0], portrait)
    assert clip.labels["motion"].shape == (NUM_FRAMES, 2, 3, 64, 64)
    assert clip.labels["motion_references"][0] == 0


def test_labels_tell_what_the_puppet_does(clip):
    opening, blink, pose = (clip.labels[name] for name in ("mouth_opening", "blink", "pose"))
    assert opening[2:4].min() > opening[[1, 5]].max() + 0.04
    assert blink[4].max() < 0.4 * blink[1].min()
    np.testing.assert_allclose(np.diff(pose[:, 0]), 0.75 * 2.0, atol=0.2)


def test_pose_labels_are_what_a_detector_reads_but_for_its_slope(clip, detector):
    read = np.array([pose_from_landmarks(detector.landmarks(frame)[0])[0] for frame in clip.frames[[0, 5]]])
    labelled = clip.labels["pose"][[0, 5], 0]
    assert abs(read[0] - labelled[0]) < 0.5
    assert 0.5 < (read[1] - read[0]) / (labelled[1] - labelled[0]) < 1.2


@pytest.mark.parametrize(("pivot", "moves"), [(0.0, True), (1.0, False)])
def test_a_head_turns_about_its_neck_or_where_the_pose_says_it_is(puppet, pivot, moves):
    states = [HeadState(yaw_deg=yaw, pitch_deg=-yaw / 2, roll_deg=yaw / 3) for yaw in (0.0, 12.0)]
    speech = np.zeros((2, puppet.head.num_expressions), np.float32)
    clip = make_puppet_clip(puppet, "photo-0", "drawn", np.zeros(1280, np.float32), speech, states, pivot=pivot)
    before, after = clip.labels["pose"]
    assert after[0] - before[0] > 8
    assert (np.abs(after[4:] - before[4:]).max() > 1.0) == moves
    if not moves:
        np.testing.assert_allclose(after[3:], before[3:], rtol=1e-4)


def test_a_film_of_a_puppet_is_measured_as_it_was_made(clip, fitter, detector, segment):
    measured = VideoMotion(fitter, lambda frame: detector.landmarks(frame)[0], segment)(clip.frames)
    made, found = (labels["motion"][:, 0].astype(np.float32) for labels in (clip.labels, measured))
    assert found.shape == made.shape
    # cells of the face [px of 256]; the fit is off by one or two
    x_min, x_max, y_min, y_max = (clip.labels["face_box_px"][0] / 4).astype(int)
    face = (slice(None), slice(0, 2), slice(y_min, y_max), slice(x_min, x_max))
    assert np.abs(made[face] - found[face]).mean() * 128 < 2.0
    # the detector reads drawn mouths as less open than they are
    assert np.corrcoef(measured["mouth_opening"], clip.labels["mouth_opening"])[0, 1] > 0.9


def test_closed_lids_of_a_film_are_to_be_painted(clip, fitter, detector, segment):
    measured = VideoMotion(fitter, lambda frame: detector.landmarks(frame)[0], segment)(clip.frames[[0, 0, 4, 4, 4]])
    occlusion = measured["motion"][:, 0, 2].astype(np.float32)
    for frame, (least, most) in ((0, (0.95, 1.0)), (4, (0.0, 0.3))):
        for x_min, x_max, y_min, y_max in (measured["eyes_px"][frame] / 4).round().astype(int):
            assert least <= occlusion[frame, y_min : y_max + 1, x_min : x_max + 1].mean() <= most


def test_a_film_without_a_face_is_refused(fitter, segment):
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="`frames` shows no face in frame 0"):
        VideoMotion(fitter, lambda frame: None, segment)(frames)


def test_references_are_the_first_frame_and_open_mouths_apart():
    opening = np.array([0.0, 0.1, 0.3, 0.29, 0.0, 0.2, 0.1, 0.0])
    np.testing.assert_array_equal(choose_references(opening, 1), [0])
    np.testing.assert_array_equal(choose_references(opening, 3), [0, 2, 5])


def test_pressed_lips_close_an_open_jaw(head):
    shapes = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 1.0]])
    opened, pressed = expression_of_shapes(head, shapes, SpeakingStyle())
    jaw = head.expression_indices("jawOpen")[0]
    assert opened[jaw] > 0.2 and pressed[jaw] == 0


def test_an_open_vowel_opens_the_mouth_as_far_as_filmed_people_do(head):
    # the widest of twenty talkers' sentences, read from their films: .10 to .16 of the face's height
    aa = np.array([PHONEME_CLASSES[CLASS_INDEX["aa"]].mouth])
    (expression,) = expression_of_shapes(head, aa, SpeakingStyle())
    landmarks_cm = (head.neutral_cm + head.expression_shift(expression))[LANDMARK_VERTICES]
    assert 0.14 < mouth_opening(landmarks_cm[:, :2]) < 0.2


def test_a_portrait_speaks_with_its_lips_closed_but_keeps_its_smile(head):
    portrait = head.expression({"jawOpen": 0.5, "mouthSmile": 0.8, "browInnerUp": 0.3})
    rest = resting_mouth(head, portrait)
    jaw, smile, brow = (head.expression_indices(name)[0] for name in ("jawOpen", "mouthSmile", "browInnerUp"))
    assert rest[jaw] < 0.1 and 0.2 < rest[smile] < 0.8 and rest[brow] == portrait[brow]


def test_half_closed_lids_close_from_there(head):
    portrait = head.expression({"eyeBlink": 0.4})
    states = [HeadState(), HeadState(eye_left=0, eye_right=0)]
    tracks = face_expressions(head, portrait, np.zeros((2, head.num_expressions), np.float32), states)
    np.testing.assert_allclose(tracks[:, head.expression_indices("eyeBlink")], [[0.4] * 2, [1.0] * 2])


def test_filmed_speech_counts_from_the_closed_mouth(head):
    expression = np.zeros((10, head.num_expressions))
    jaw = head.expression_indices("jawOpen")[0]
    expression[:, jaw] = 0.2
    expression[5:8, jaw] = 0.6
    expression[:, head.expression_indices("browDown")] = 0.5
    speech = relative_speech(head, expression)
    np.testing.assert_allclose(speech[[0, 6], jaw], [0, 0.4], atol=1e-6)
    assert not speech[:, head.expression_indices("browDown")].any()


def test_a_replaced_background_is_the_same_for_a_name_and_leaves_the_person(clip, segment):
    first, again, other = (replace_background(clip.frames[:1], segment, name) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    share = segment(clip.frames[0])
    assert np.abs(first[0].astype(int) - other[0])[share < 0.05].mean() > 5
    # but for its very edge
    assert np.quantile(np.abs(first[0].astype(int) - clip.frames[0])[share > 0.95], 0.97) <= 1


def test_still_cells_have_their_own_centres_as_positions(puppet):
    _, motion = puppet.frame(puppet.rest)
    positions, _ = coarse_motion(motion, puppet.rest.landmarks_px, 4)
    np.testing.assert_allclose(positions, pixel_centres(64) * 4 * (2 / 256) - 1, atol=2e-3)
