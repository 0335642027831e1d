from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusers_dawn.face.crop import is_framed
from diffusers_dawn.face.pose import pose_in_crop_of
from diffusers_dawn.geometry.flow import warp
from diffusers_dawn.records import FaceState
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.renderer import HeadRenderer

SIZE_PX = 128
# glasses and beard, bald, long hair, updo, curly, bob
SEEDS = (0, 9, 22, 24, 28, 29)
NEUTRAL = HeadState()


@pytest.fixture(scope="module")
def renderers():
    return {seed: HeadRenderer(draw_identity(seed), SIZE_PX) for seed in SEEDS}


@pytest.fixture(scope="module")
def renderer(renderers):
    return renderers[0]


def random_state(rng):
    openness = rng.choice([0.0, 0.6, 1.0])
    return HeadState(
        yaw_deg=rng.uniform(-25, 25),
        pitch_deg=rng.uniform(-12, 12),
        roll_deg=rng.uniform(-10, 10),
        scale=rng.uniform(0.95, 1.05),
        x_cm=rng.uniform(-1, 1),
        y_cm=rng.uniform(-1, 1),
        eye_left=openness,
        eye_right=openness,
        jaw=rng.uniform(0, 0.8),
    )


def sampled_at(image, flow_px):
    """`image` looked up at every pixel's place plus its flow."""
    size = image.shape[0]
    rows, columns = np.mgrid[:size, :size]
    positions = np.stack([columns, rows], axis=-1) + flow_px
    grid = torch.from_numpy((2 * positions + 1) / size - 1).float()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return warp(pixels, grid[None])[0].permute(1, 2, 0).numpy()


def test_the_same_state_gives_the_same_bytes_from_any_renderer(renderer):
    state = HeadState(yaw_deg=12, jaw=0.4, eye_left=0.3)
    other = HeadRenderer(draw_identity(0), SIZE_PX)
    first, second = renderer.render(state), other.render(state)
    assert first.image.tobytes() == second.image.tobytes()
    renderer.render(HeadState(yaw_deg=-30))
    assert renderer.render(state).image.tobytes() == first.image.tobytes()
    labels, other_labels = renderer.labels(first), other.labels(second)
    assert all(np.array_equal(labels[name], other_labels[name]) for name in labels)


@pytest.mark.parametrize(("size_px", "supersampling"), [(64, 1), (96, 2), (64, 3)])
def test_the_picture_has_the_asked_size_and_shows_the_same(renderer, size_px, supersampling):
    image = HeadRenderer(draw_identity(0), size_px, supersampling).render(NEUTRAL).image
    assert image.shape == (size_px, size_px, 3) and image.dtype == np.uint8
    # the mean colour hardly depends on the resolution
    np.testing.assert_allclose(image.mean(axis=(0, 1)), renderer.render(NEUTRAL).image.mean(axis=(0, 1)), atol=2)


def test_labels_have_the_shapes_and_types_of_the_prepared_format(renderer):
    labels = renderer.labels(renderer.render(NEUTRAL))
    shapes = {name: values.shape for name, values in labels.items()}
    assert shapes == {
        "pose": (6,),
        "blink": (2,),
        "face_box_px": (4,),
        "mouth_px": (20, 2),
        "mouth_opening": (),
        "eyes_px": (2, 4),
    }
    assert all(values.dtype == np.float32 for values in labels.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_neutral_face_is_framed_as_in_the_training_clips(renderers, seed):
    labels = renderers[seed].labels(renderers[seed].render(NEUTRAL))
    x_min, x_max, y_min, y_max = labels["face_box_px"] / SIZE_PX
    assert y_max - y_min == pytest.approx(0.6, abs=0.02)
    assert x_min + x_max == pytest.approx(1, abs=0.02)
    face = FaceState(labels["pose"], labels["blink"], tuple(labels["face_box_px"]), (SIZE_PX, SIZE_PX))
    assert is_framed(face)


def test_angles_are_exactly_those_of_the_state(renderer):
    state = HeadState(yaw_deg=17.5, pitch_deg=-6.25, roll_deg=3.125)
    np.testing.assert_array_equal(renderer.labels(renderer.render(state))["pose"][:3], [17.5, -6.25, 3.125])


@pytest.mark.parametrize("seed", SEEDS)
def test_scale_and_position_lie_where_face_pose_measures_them(renderers, seed):
    scale, x, y = renderers[seed].labels(renderers[seed].render(NEUTRAL))["pose"][3:]
    assert 4.5e-4 < scale < 5.6e-4
    assert 58 < x < 64
    assert 64 < y < 77


def test_a_clip_is_measured_in_the_crop_of_its_first_frame(renderer):
    states = (NEUTRAL, HeadState(x_cm=1.0), HeadState(y_cm=1.0), HeadState(scale=1.1))
    frames = [renderer.render(state) for state in states]
    track = np.stack([renderer.labels(frame, frames[0])["pose"] for frame in frames])
    assert track.shape == (4, 6) and track.dtype == np.float32
    # scale is px per µm of a face that is a little smaller than this one
    step_px = track[1, 4] - track[0, 4]
    assert step_px == pytest.approx(track[0, 3] * 1e4, rel=0.03)
    np.testing.assert_allclose(track[1] - track[0], [0, 0, 0, 0, step_px, 0], atol=1e-3)
    np.testing.assert_allclose(track[2] - track[0], [0, 0, 0, 0, 0, step_px], atol=1e-3)
    assert track[3, 3] == pytest.approx(1.1 * track[0, 3], rel=1e-5)
    # in its own crop a larger face is no larger, up to the lens's missing perspective
    assert renderer.labels(frames[3])["pose"][3] == pytest.approx(track[0, 3], rel=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_closed_eyes_have_no_openness_and_open_ones_about_a_third(renderers, seed):
    renderer = renderers[seed]
    open_eyes, left_closed = (
        renderer.labels(renderer.render(state))["blink"] for state in (NEUTRAL, HeadState(eye_left=0.0))
    )
    assert ((open_eyes > 0.24) & (open_eyes < 0.4)).all()
    assert left_closed[0] == pytest.approx(0, abs=1e-6)
    assert left_closed[1] == open_eyes[1]


def test_openness_grows_steadily_with_the_lids(renderer):
    openness = [
        renderer.labels(renderer.render(HeadState(eye_left=eye, eye_right=eye)))["blink"][0]
        for eye in np.linspace(0, 1, 7)
    ]
    assert (np.diff(openness) > 0.02).all()


def test_the_opening_of_the_mouth_grows_with_the_jaw_from_zero(renderer):
    opening = [
        float(renderer.labels(renderer.render(HeadState(jaw=jaw)))["mouth_opening"]) for jaw in np.linspace(0, 1, 6)
    ]
    assert opening[0] == 0
    assert (np.diff(opening) > 0.01).all()


def test_pressed_lips_close_the_mouth_whatever_the_jaw_does(renderer):
    labels = renderer.labels(renderer.render(HeadState(jaw=0.5, mouth_press=1.0)))
    assert labels["mouth_opening"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "state",
    [NEUTRAL, HeadState(jaw=0.8), HeadState(jaw=0.4, mouth_round=1.0), HeadState(mouth_width=1.0, smile=0.7)],
)
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_the_outer_lip_encloses_the_inner_one_in_order(renderers, seed, state):
    mouth = renderers[seed].labels(renderers[seed].render(state))["mouth_px"]
    outer, inner = mouth[:12], mouth[12:]
    assert (outer.min(axis=0) < inner.min(axis=0) + 1e-3).all()
    assert (outer.max(axis=0) > inner.max(axis=0) - 1e-3).all()
    # 48 and 54 are the corners, the subject's right one first, which is to the image's left
    assert outer[:, 0].argmin() == 0 and outer[:, 0].argmax() == 6
    assert (np.diff(outer[:7, 0]) > 0).all() and (np.diff(outer[6:, 0]) < 0).all()
    assert outer[3, 1] < inner[2, 1] <= inner[6, 1] < outer[9, 1]


def test_rounding_narrows_and_spreading_widens_the_mouth(renderer):
    def width(state):
        mouth = renderer.labels(renderer.render(state))["mouth_px"]
        return mouth[6, 0] - mouth[0, 0]

    assert width(HeadState(mouth_round=1.0)) < 0.7 * width(NEUTRAL)
    assert width(HeadState(mouth_width=1.0)) > 1.1 * width(NEUTRAL)


def test_an_open_mouth_is_dark_inside(renderer):
    frame = renderer.render(HeadState(jaw=1.0))
    x, y = renderer.labels(frame)["mouth_px"][[14, 18]].mean(axis=0).astype(int)
    assert frame.image[y, x].mean() < 0.5 * renderer.render(NEUTRAL).image[y, x].mean()


def test_the_gaze_moves_the_iris_only(renderer):
    left, right = (renderer.render(HeadState(gaze_x_rad=gaze)).image.astype(int) for gaze in (-0.3, 0.3))
    changed = np.argwhere((left != right).any(axis=-1))[:, ::-1] + 0.5
    boxes = renderer.labels(renderer.render(NEUTRAL))["eyes_px"]
    inside = [
        (changed[:, 0] > box[0] - 1)
        & (changed[:, 0] < box[1] + 1)
        & (changed[:, 1] > box[2] - 1)
        & (changed[:, 1] < box[3] + 1)
        for box in boxes
    ]
    assert len(changed) > 10
    assert np.logical_or(*inside).all()


def test_nothing_moves_between_equal_frames(renderer):
    frame = renderer.render(HeadState(yaw_deg=10, jaw=0.5))
    flow, visible = renderer.optical_flow(frame, frame)
    # positions are stored in float32: exact to a thousandth of a pixel
    np.testing.assert_allclose(flow, 0, atol=1e-3)
    assert visible.all()


def test_a_shift_of_the_head_is_its_flow(renderer):
    first, second = renderer.render(NEUTRAL), renderer.render(HeadState(x_cm=1.0))
    flow, visible = renderer.optical_flow(first, second)
    nose = SIZE_PX // 2 + 4
    np.testing.assert_allclose(flow[nose, nose], [-first.px_per_cm, 0], atol=1e-3)
    assert visible[nose, nose]
    # the background stays
    np.testing.assert_array_equal(flow[0, 0], 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_flow_warps_the_first_frame_to_the_second(renderers, seed):
    """Light changes as the head turns, and pixels on an outline mix two surfaces; so the median is compared."""
    renderer = renderers[seed]
    first = renderer.render(HeadState(yaw_deg=-8, x_cm=-0.4, jaw=0.1))
    second = renderer.render(HeadState(yaw_deg=-2, roll_deg=4, pitch_deg=3, x_cm=0.6, jaw=0.6, eye_left=0.6))
    flow, visible = renderer.optical_flow(first, second)
    moved = visible & (np.linalg.norm(flow, axis=-1) > 0.5)
    assert visible.mean() > 0.9
    assert moved.mean() > 0.25
    warped = sampled_at(first.image, flow)
    target = second.image.astype(float)
    # textures and edges are what a misplaced pixel would spoil
    rough = moved & (np.abs(np.diff(target, axis=1, prepend=target[:, :1])).mean(axis=-1) > 6)
    error = np.abs(warped - target).mean(axis=-1)[rough]
    unwarped_error = np.abs(first.image - target).mean(axis=-1)[rough]
    assert np.median(error) < 0.5 * np.median(unwarped_error)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_turn_the_warped_frame_is_nearly_the_second(renderers, seed):
    """As long as the head does not turn, its light stays; what is left is resampling."""
    renderer = renderers[seed]
    first = renderer.render(HeadState(x_cm=-0.5, y_cm=0.3, jaw=0.7, mouth_width=0.5))
    second = renderer.render(HeadState(x_cm=0.5, y_cm=-0.3, jaw=0.3, eye_left=0.5, eye_right=0.5, brow=0.5))
    flow, visible = renderer.optical_flow(first, second)
    moved = visible & (np.linalg.norm(flow, axis=-1) > 0.5)
    target = second.image.astype(float)
    error = np.abs(sampled_at(first.image, flow) - target).mean(axis=-1)[moved]
    unwarped_error = np.abs(first.image - target).mean(axis=-1)[moved]
    assert np.median(error) < 0.2 * np.median(unwarped_error)
    assert error.mean() < 0.35 * unwarped_error.mean()


def test_what_opens_was_hidden(renderer):
    closed, opened = renderer.render(NEUTRAL), renderer.render(HeadState(jaw=1.0))
    _, visible = renderer.optical_flow(closed, opened)
    x, y = renderer.labels(opened)["mouth_px"][[14, 18]].mean(axis=0).astype(int)
    assert not visible[y, x]
    asleep, awake = renderer.render(HeadState(eye_left=0.0)), renderer.render(NEUTRAL)
    _, visible = renderer.optical_flow(asleep, awake)
    x_min, x_max, y_min, y_max = renderer.labels(awake)["eyes_px"][0]
    assert not visible[int((y_min + y_max) / 2), int((x_min + x_max) / 2)]


def test_a_coarser_flow_follows_the_middles_of_its_blocks(renderer):
    first, second = renderer.render(NEUTRAL), renderer.render(HeadState(yaw_deg=8))
    fine, _ = renderer.optical_flow(first, second)
    coarse, visible = renderer.optical_flow(first, second, stride=4)
    assert coarse.shape == (SIZE_PX // 4, SIZE_PX // 4, 2) and coarse.dtype == np.float32
    assert visible.shape == coarse.shape[:2] and visible.dtype == bool
    # the middle of a block of 4 pixels lies between two of them, and outlines may pass there
    assert np.median(np.abs(coarse[10:24, 10:22] - fine[42:98:4, 42:90:4])) < 0.05


def test_pictures_of_the_face_agree_with_the_detector(renderers, detector):
    """The detector itself is off by a few degrees on real faces; sign, order and most of the size must agree."""
    rng = np.random.default_rng(0)
    labelled, detected, num_frames = [], [], 0
    for renderer in renderers.values():
        for state in (NEUTRAL, *(random_state(rng) for _ in range(6))):
            frame = renderer.render(state)
            num_frames += 1
            faces = detector(frame.image)
            if not faces:
                continue
            labels, face = renderer.labels(frame), faces[0]
            height = face.box_px[3] - face.box_px[2]
            opening = np.linalg.norm(face.mouth_px[14] - face.mouth_px[18]) / height
            labelled.append([*labels["pose"], labels["blink"].mean(), labels["mouth_opening"], *labels["face_box_px"]])
            detected.append([*face.pose, face.blink.mean(), opening, *face.box_px])
    assert len(labelled) >= 0.95 * num_frames
    labelled, detected = np.array(labelled), np.array(detected)
    correlation = [np.corrcoef(labelled[:, index], detected[:, index])[0, 1] for index in range(8)]
    yaw, pitch, roll, _, _, _, blink, opening = correlation
    assert yaw > 0.95 and roll > 0.95 and pitch > 0.8
    assert blink > 0.75 and opening > 0.85
    difference = np.abs(labelled - detected)
    # scale, x and y in the detector's crop of 120 px; box in the picture of 128 px
    assert np.median(difference[:, 3] / detected[:, 3]) < 0.05
    assert np.median(difference[:, 4]) < 1.5 and np.median(difference[:, 5]) < 3
    assert (np.median(difference[:, 8:], axis=0) < 4).all()


def test_mouth_landmarks_lie_where_the_detector_finds_them(renderers, detector):
    for renderer in renderers.values():
        frame = renderer.render(HeadState(jaw=0.5))
        (face,) = detector(frame.image)
        distance_px = np.linalg.norm(renderer.labels(frame)["mouth_px"] - face.mouth_px, axis=1)
        # a twentieth of the face's height
        assert distance_px.mean() < 3.5


def test_a_pose_agrees_with_the_tools_for_tracks(renderer):
    frames = [renderer.render(state) for state in (NEUTRAL, HeadState(scale=1.06, x_cm=0.8, yaw_deg=9))]
    faces = []
    for frame in frames:
        labels = renderer.labels(frame)
        faces.append(FaceState(labels["pose"], labels["blink"], tuple(labels["face_box_px"]), (SIZE_PX, SIZE_PX)))
    pose = renderer.labels(frames[1], frames[0])["pose"]
    np.testing.assert_allclose(pose, pose_in_crop_of(faces[1], faces[0]), rtol=1e-4)


@pytest.mark.parametrize("size_px", [0, 16, 2048, 128.0])
def test_a_size_out_of_range_is_refused(size_px):
    with pytest.raises(ValueError, match="`size_px` is .*, must be a whole number from 32 to 1024"):
        HeadRenderer(draw_identity(0), size_px)


def test_a_supersampling_out_of_range_is_refused():
    with pytest.raises(ValueError, match="`supersampling` is 0, must be a whole number from 1 to 4"):
        HeadRenderer(draw_identity(0), 64, supersampling=0)


@pytest.mark.parametrize("stride", [0, 3])
def test_a_stride_that_does_not_divide_the_side_is_refused(renderer, stride):
    frame = renderer.render(NEUTRAL)
    with pytest.raises(ValueError, match=f"`stride` is {stride}, must divide the picture's side of 128 px"):
        renderer.optical_flow(frame, frame, stride)


@pytest.mark.parametrize("change", [{"jaw": 1.5}, {"eye_left": -0.1}, {"scale": 0.0}, {"yaw_deg": float("nan")}])
def test_an_impossible_state_is_refused(renderer, change):
    with pytest.raises(ValueError, match=f"`{next(iter(change))}` is .*, must be"):
        renderer.render(replace(NEUTRAL, **change))
