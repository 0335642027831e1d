import numpy as np
import pytest

from diffusers_dawn.face.pose import eye_openness, pose_from_landmarks
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.puppets.landmark_measures import openness_of
from training.synthetic.puppets.morphable_head import FACE, INNER_MOUTH
from training.synthetic.puppets.motion import coarse_motion, motion_between
from training.synthetic.puppets.puppet import PortraitRefused, Puppet, PuppetState
from training.synthetic.puppets.surface import pixel_centres, sample
from training.synthetic.renderer import HeadRenderer


def state(puppet, expression=None, **pose):
    weights = puppet.fit.expression + puppet.head.expression(expression or {})
    return PuppetState(weights, **pose)


def drawn(puppet, expression=None, **pose):
    surface = puppet.surface(state(puppet, expression, **pose))
    return surface, *puppet.frame(surface)


def gap(points):
    return np.linalg.norm(points[13, :2] - points[14, :2])


def test_at_rest_a_puppet_is_its_portrait(puppet, portrait):
    _, frame, motion = drawn(puppet)
    # softened edges between person and background
    assert np.abs(frame.astype(int) - portrait).mean() < 1
    np.testing.assert_allclose(motion.positions_px, pixel_centres(256), atol=0.05)
    assert motion.is_visible.mean() > 0.99


def test_motion_leads_from_every_visible_pixel_to_its_likeness(puppet, portrait):
    _, frame, motion = drawn(puppet, {"jawOpen": 0.4}, yaw_deg=10, roll_deg=5, y_cm=0.5)
    warped = sample(portrait, motion.positions_px).astype(int)
    error = np.abs(warped - frame).mean(axis=-1)
    assert error[motion.is_visible].mean() < 2
    assert error[~motion.is_visible].mean() > 4 * error[motion.is_visible].mean()


def test_the_background_stays_when_the_head_moves(puppet, portrait):
    _, frame, motion = drawn(puppet, yaw_deg=-12, x_cm=1)
    is_background = (motion.person < 0.01) & (puppet.person < 0.01)
    assert is_background.mean() > 0.15
    np.testing.assert_array_equal(motion.positions_px[is_background], pixel_centres(256)[is_background])
    assert np.abs(frame.astype(int) - portrait)[is_background].max() <= 2


def test_an_opened_jaw_is_read_from_the_picture(puppet, portrait, detector):
    gaps = [gap(detector.landmarks(drawn(puppet, {"jawOpen": opening})[1])[0]) for opening in (0, 0.3, 0.6)]
    assert gaps[0] + 4 < gaps[1] and gaps[1] + 4 < gaps[2]


def test_an_open_mouth_shows_what_the_portrait_does_not(puppet):
    surface, _, motion = drawn(puppet, {"jawOpen": 0.5})
    lips = surface.landmarks_px[60:68]
    x, y = lips.mean(axis=0).astype(int)
    assert motion.is_uncovered_inside[y, x] and not motion.is_visible[y, x]


def test_of_what_is_behind_the_lips_only_upper_teeth_that_the_source_shows_are_kept(puppet):
    opened = puppet.surface(state(puppet, {"jawOpen": 0.5, "mouthUpperUp": 0.5}))
    inside = np.isin(opened.part, INNER_MOUTH)
    lower = puppet.head.follows_jaw[puppet.head.triangles[opened.raster.triangle, 0]]
    from_closed = motion_between(puppet.head, puppet.rest, opened)
    assert inside.sum() > 100 and not from_closed.is_visible[inside].any()
    from_open = motion_between(puppet.head, opened, opened)
    assert from_open.is_visible[inside & ~lower].mean() > 0.5 and not from_open.is_visible[inside & lower].any()


def test_closed_lids_are_read_from_the_picture(puppet, portrait, detector):
    closed, frame, motion = drawn(puppet, {"eyeBlink": 1})
    open_reading = eye_openness(detector.landmarks(portrait)[0])
    assert (eye_openness(detector.landmarks(frame)[0]) < 0.4 * open_reading).all()
    assert (openness_of(closed.landmarks_px) < 0.35 * openness_of(puppet.rest.landmarks_px)).all()
    # lids are painted, the source shows none
    left, right = puppet.rest.landmarks_px[[36, 39]]
    x, y = ((left + right) / 2).astype(int)
    assert not motion.is_visible[y - 1 : y + 2, x].all()


def test_narrow_eyes_close_wholly_too(fitter, detector, segment):
    narrow = HeadRenderer(draw_identity(4), 256).render(HeadState(eye_left=0.45, eye_right=0.45)).image
    puppet = Puppet(fitter, narrow, detector.landmarks(narrow)[0], segment(narrow))
    already = puppet.fit.expression[puppet.head.expression_indices("eyeBlink")].max()
    (*_, at_rest), (*_, closed) = drawn(puppet), drawn(puppet, {"eyeBlink": 1 - already})
    for corners in ((36, 39), (42, 45)):
        x, y = puppet.rest.landmarks_px[list(corners)].mean(axis=0)[:2].astype(int)
        assert at_rest.is_visible[y, x] and not closed.is_visible[y, x]


@pytest.mark.parametrize(("name", "index"), [("yaw_deg", 0), ("pitch_deg", 1), ("roll_deg", 2)])
def test_a_turned_head_is_read_from_the_picture(puppet, portrait, detector, name, index):
    before = pose_from_landmarks(detector.landmarks(portrait)[0])[index]
    after = pose_from_landmarks(detector.landmarks(drawn(puppet, **{name: 10})[1])[0])[index]
    # the outline does not turn, and the detector reads pitch at three quarters of its size
    assert 5 < after - before < 13


def test_coarse_motion_trusts_what_is_still_and_paints_what_is_hidden(puppet):
    surface, _, motion = drawn(puppet, {"jawOpen": 0.5})
    positions, occlusion = coarse_motion(motion, surface.landmarks_px, 4)
    assert positions.shape == (64, 64, 2) and occlusion.shape == (64, 64)
    assert occlusion[:8, :8].min() == 1
    x, y = (surface.landmarks_px[60:68].mean(axis=0) / 4).astype(int)
    assert occlusion[y, x] < 0.2
    centres = (pixel_centres(64) * 4) * (2 / 256) - 1
    np.testing.assert_allclose(positions[:8, :8], centres[:8, :8], atol=1e-6)


def test_motion_between_two_states_joins_those_from_the_portrait(puppet):
    first, second = (puppet.surface(state(puppet, yaw_deg=yaw)) for yaw in (-6, 6))
    there = motion_between(puppet.head, first, second)
    back = motion_between(puppet.head, second, first)
    again = there.positions_px + sample(back.positions_px - pixel_centres(256), there.positions_px)
    is_face = (second.part == FACE) & there.is_visible & puppet.head.is_followed[np.maximum(second.raster.triangle, 0)]
    assert np.linalg.norm(again - pixel_centres(256), axis=-1)[is_face].mean() < 0.3


def test_a_face_that_no_head_fits_is_refused_with_its_error(fitter, portrait, detector, segment):
    landmarks_px = detector.landmarks(portrait)[0].copy()
    landmarks_px[:, 1] = 128 + 0.3 * (landmarks_px[:, 1] - 128)
    landmarks_px[::2, 0] += 12
    with pytest.raises(PortraitRefused, match="off by .* px"):
        Puppet(fitter, portrait, landmarks_px, segment(portrait))
