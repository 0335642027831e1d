import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffusers_dawn.face.crop import (
    MIN_SIDE_SHARE,
    check_image,
    choose_face,
    crop_face_state,
    crop_square,
    is_framed,
    paste_each,
    portrait_crop,
)
from diffusers_dawn.records import FaceState, SquareCrop


def face_with_box(box_px, image_size):
    return FaceState(pose=np.arange(6.0), blink=np.array([0.3, 0.3]), box_px=box_px, image_size=image_size)


# choice and framing


def test_the_largest_face_is_chosen_unless_another_is_asked_for():
    # whatever order a detector gives, and whatever it counts
    faces = [face_with_box((0, size, 0, size), (100, 100)) for size in (30, 50)]
    assert choose_face(faces).box_px == (0, 50, 0, 50)
    assert choose_face(faces, 1).box_px == (0, 30, 0, 30)
    assert choose_face(faces).num_faces == 2


def test_no_face_is_an_error():
    with pytest.raises(ValueError, match="no face found in `image`"):
        choose_face([])


@pytest.mark.parametrize("face_index", [1, -1, 7])
def test_a_face_index_out_of_range_is_an_error_that_counts_the_faces(face_index):
    with pytest.raises(ValueError, match=rf"`face_index` is {face_index}, must be .*: `image` shows 1 face\(s\)"):
        choose_face([face_with_box((0, 9, 0, 9), (10, 10))], face_index)


@settings(max_examples=100)
@given(
    height=st.integers(40, 1000),
    width=st.integers(40, 1000),
    centre=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    box=st.tuples(st.floats(8, 500), st.floats(8, 500)),
)
def test_the_portrait_crop_holds_the_face_and_stays_inside_where_it_fits(height, width, centre, box):
    x_min, y_min = centre[0] * (width - box[0]), centre[1] * (height - box[1])
    assume(x_min >= 0 and y_min >= 0)
    crop = portrait_crop(face_with_box((x_min, x_min + box[0], y_min, y_min + box[1]), (height, width)))
    # a pixel of rounding
    assert crop.left <= x_min + 1 and crop.left + crop.side >= x_min + box[0] - 1
    assert crop.top <= y_min + 1 and crop.top + crop.side >= y_min + box[1] - 1
    wanted_side = round(max(box) / 0.55)
    assert MIN_SIDE_SHARE * wanted_side <= crop.side <= wanted_side
    if crop.side <= width:
        assert 0 <= crop.left <= width - crop.side
    if crop.side <= height:
        assert 0 <= crop.top <= height - crop.side
    if crop.side < wanted_side:
        assert crop.side == max(min(height, width), math.ceil(MIN_SIDE_SHARE * wanted_side))


def test_the_portrait_crop_of_a_roomy_picture_has_the_documented_framing():
    crop = portrait_crop(face_with_box((445, 555, 400, 510), (1000, 1000)))
    assert crop == SquareCrop(left=400, top=round(455 - 0.57 * 200), side=200)


def test_a_crop_that_cannot_shrink_enough_sticks_out():
    crop = portrait_crop(face_with_box((5, 95, 5, 95), (100, 100)))
    # 90 / 0.55 = 164 px are wanted, 0.7 of them kept
    assert crop.side == 115 and crop.left < 0 and crop.top < 0


@pytest.mark.parametrize(
    ("box_px", "image_size", "framed"),
    [
        ((25, 75, 25, 80), (100, 100), True),
        ((25, 75, 25, 80), (100, 120), False),
        ((40, 60, 40, 60), (100, 100), False),
        ((5, 95, 5, 95), (100, 100), False),
        ((0, 50, 25, 80), (100, 100), False),
        ((25, 75, 45, 100), (100, 100), False),
    ],
)
def test_a_framed_face_is_square_large_and_central(box_px, image_size, framed):
    assert is_framed(face_with_box(box_px, image_size)) is framed


# crop and paste

crops = st.builds(SquareCrop, left=st.integers(-60, 60), top=st.integers(-60, 60), side=st.integers(4, 100))
image_sizes = st.tuples(st.integers(8, 70), st.integers(8, 70))


def noise_image(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def touches(crop, size):
    return -crop.side < crop.left < size[1] and -crop.side < crop.top < size[0]


def inside(crop, size):
    """Mask (H, W) of the pixels that the square covers."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (
        (rows >= crop.top) & (rows < crop.top + crop.side) & (columns >= crop.left) & (columns < crop.left + crop.side)
    )


@given(size=image_sizes, crop=crops)
def test_a_crop_equals_a_slice_of_the_edge_padded_image(size, crop):
    assume(touches(crop, size))
    image = noise_image(size)
    padded = np.pad(image, ((160, 160), (160, 160), (0, 0)), mode="edge")
    top, left = crop.top + 160, crop.left + 160
    assert np.array_equal(crop_square(image, crop), padded[top : top + crop.side, left : left + crop.side])


def pasted_into(image: np.ndarray, frames: np.ndarray, crop: SquareCrop, feather: float = 0.1) -> np.ndarray:
    return np.stack(list(paste_each(image, frames, crop, feather)))


def test_a_crop_can_be_resized():
    image, crop = noise_image((70, 70)), SquareCrop(10, 20, 40)
    resized = Image.fromarray(crop_square(image, crop)).resize((96, 96), Image.Resampling.BICUBIC)
    assert np.array_equal(crop_square(image, crop, 96), np.array(resized))
    assert np.array_equal(crop_square(image, crop, 40), crop_square(image, crop))


@given(size=image_sizes, crop=crops, feather=st.floats(0, 0.5))
def test_pasting_a_crop_back_returns_the_image(size, crop, feather):
    assume(touches(crop, size))
    image = noise_image(size)
    frames = np.stack([crop_square(image, crop)] * 2)
    assert np.array_equal(pasted_into(image, frames, crop, feather), np.stack([image] * 2))


@given(size=image_sizes, crop=crops, feather=st.floats(0, 0.5))
def test_pasting_changes_nothing_outside_of_the_square_and_mixes_inside(size, crop, feather):
    assume(touches(crop, size))
    image = noise_image(size)
    before = image.copy()
    frame = noise_image((crop.side, crop.side), seed=1)
    pasted = pasted_into(image, frame[None], crop, feather)[0]
    covered = inside(crop, size)
    assert np.array_equal(image, before)
    assert np.array_equal(pasted[~covered], image[~covered])
    low, high = np.minimum(image, _in_place(frame, crop, image)), np.maximum(image, _in_place(frame, crop, image))
    assert (pasted >= low)[covered].all() and (pasted <= high)[covered].all()


def _in_place(frame, crop, image):
    """The image with the frame put over it, hard-edged."""
    placed = np.pad(image, ((160, 160), (160, 160), (0, 0)))
    top, left = crop.top + 160, crop.left + 160
    placed[top : top + crop.side, left : left + crop.side] = frame
    return placed[160 : 160 + image.shape[0], 160 : 160 + image.shape[1]]


@given(size=image_sizes, crop=crops)
def test_without_feather_the_square_is_the_frame(size, crop):
    assume(touches(crop, size))
    image, frame = noise_image(size), noise_image((crop.side, crop.side), seed=1)
    assert np.array_equal(pasted_into(image, frame[None], crop, feather=0)[0], _in_place(frame, crop, image))


def test_the_square_fades_in_smoothly_from_its_border():
    image, frames = np.zeros((200, 200, 3), np.uint8), np.full((1, 100, 100, 3), 255, np.uint8)
    row = pasted_into(image, frames, SquareCrop(50, 50, 100), feather=0.2)[0, 100, :, 0].astype(int)
    assert (row[:50] == 0).all() and (row[70:130] == 255).all() and (row[150:] == 0).all()
    steps = np.diff(row[49:71])
    # a smoothstep over 20 px rises by 1.5 / 20 of 255 at most
    assert (steps >= 0).all() and steps.max() <= 20
    assert np.array_equal(row, row[::-1])


def test_the_square_does_not_fade_where_it_reaches_the_edge_of_the_image():
    image, frames = np.zeros((100, 100, 3), np.uint8), np.full((1, 60, 60, 3), 255, np.uint8)
    pasted = pasted_into(image, frames, SquareCrop(20, 50, 60))[0]
    assert (pasted[90:, 40:60] == 255).all()  # sticks out below
    assert pasted[50, 50, 0] < 10  # fades in from above
    whole = pasted_into(image, np.full((1, 50, 50, 3), 255, np.uint8), SquareCrop(0, 0, 100))
    assert (whole == 255).all()


def test_frames_of_another_size_are_resized_to_the_square():
    smooth = np.array(Image.fromarray(noise_image((5, 5))).resize((240, 200), Image.Resampling.BICUBIC))
    crop = SquareCrop(40, 30, 128)
    frame = np.array(Image.fromarray(crop_square(smooth, crop)).resize((64, 64), Image.Resampling.BICUBIC))
    pasted = pasted_into(smooth, frame[None], crop)
    # halved and doubled again, a picture this smooth moves by a few grey levels at most
    assert np.abs(pasted[0].astype(int) - smooth).max() <= 6
    assert not np.array_equal(pasted[0], smooth)


@given(crop=crops, size=st.integers(1, 300))
def test_a_face_state_follows_its_crop(crop, size):
    assume(touches(crop, (70, 70)))
    face = FaceState(np.arange(6.0), np.array([0.3, 0.2]), (10, 30, 12, 40), (70, 70), np.full((20, 2), 20.0), 3)
    moved = crop_face_state(face, crop, size)
    zoom = size / crop.side
    x_min, x_max, y_min, y_max = moved.box_px
    np.testing.assert_allclose([x_min, y_min], [(10 - crop.left) * zoom, (12 - crop.top) * zoom])
    np.testing.assert_allclose([x_max - x_min, y_max - y_min], [20 * zoom, 28 * zoom])
    np.testing.assert_allclose(moved.mouth_px[0], [(20 - crop.left) * zoom, (20 - crop.top) * zoom])
    assert moved.image_size == (size, size) and moved.num_faces == 3
    assert np.array_equal(moved.pose, face.pose) and np.array_equal(moved.blink, face.blink)


def test_a_face_state_without_size_keeps_the_pixels_of_the_crop():
    moved = crop_face_state(face_with_box((10, 30, 12, 40), (70, 70)), SquareCrop(5, 5, 50))
    assert moved.box_px == (5, 25, 7, 35) and moved.image_size == (50, 50) and moved.mouth_px is None


@pytest.mark.parametrize("crop", [SquareCrop(0, 0, 0), SquareCrop(70, 0, 9), SquareCrop(0, -9, 9)])
def test_a_crop_of_nothing_is_an_error(crop):
    image = noise_image((70, 70))
    for use in (
        lambda: crop_square(image, crop),
        lambda: pasted_into(image, noise_image((9, 9))[None], crop),
        lambda: crop_face_state(face_with_box((1, 2, 1, 2), (70, 70)), crop),
    ):
        with pytest.raises(ValueError, match="`crop` is .* must overlap the 70x70 image"):
            use()


def test_a_crop_of_no_size_is_an_error():
    with pytest.raises(ValueError, match="`size` is 0"):
        crop_face_state(face_with_box((1, 2, 1, 2), (70, 70)), SquareCrop(0, 0, 9), 0)
    with pytest.raises(ValueError, match="`size` is -1"):
        crop_square(noise_image((70, 70)), SquareCrop(0, 0, 9), -1)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 3))],
)
def test_what_is_no_picture_is_an_error_that_names_the_argument(image):
    with pytest.raises(ValueError, match="`frame` is .* must be uint8"):
        check_image(image, "frame")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((9, 9), np.uint8)}, "`image` is"),
        ({"image": np.zeros((9, 9, 3))}, "`image` is float64"),
        ({"frames": np.zeros((9, 9, 3), np.uint8)}, "`frames` is"),
        ({"frames": np.zeros((1, 9, 8, 3), np.uint8)}, "`frames` is"),
        ({"frames": np.zeros((1, 9, 9, 3))}, "`frames` is float64"),
        ({"feather": 0.6}, "`feather` is 0.6"),
        ({"feather": -0.1}, "`feather` is -0.1"),
    ],
)
def test_bad_arguments_of_a_paste_are_errors(arguments, message):
    good = {"image": noise_image((9, 9)), "frames": noise_image((9, 9))[None], "crop": SquareCrop(0, 0, 9)}
    with pytest.raises(ValueError, match=message):
        pasted_into(**(good | arguments))


def test_a_portrait_that_is_the_whole_picture_has_no_square_to_be_pasted_into():
    image, frames = noise_image((90, 90)), noise_image((64, 64))[None]
    assert np.array_equal(pasted_into(image, frames, None), pasted_into(image, frames, SquareCrop(0, 0, 90)))
    with pytest.raises(ValueError, match="`crop` is None, must be a SquareCrop: `image` is 90x80, not square"):
        pasted_into(noise_image((80, 90)), frames, None)


def test_frames_are_pasted_one_by_one_as_all_at_once():
    image, frames = noise_image((700, 650)), np.stack([noise_image((64, 64)) for _ in range(3)])
    crop = SquareCrop(-20, 30, 600)
    one_by_one = paste_each(image, iter(frames), crop)
    assert np.array_equal(next(one_by_one), pasted_into(image, frames[:1], crop)[0])
    assert np.array_equal(np.stack(list(one_by_one)), pasted_into(image, frames[1:], crop))
    assert list(paste_each(image, frames[:0], crop)) == []
    with pytest.raises(ValueError, match="`frames` is float64"):
        next(paste_each(image, [frames[0] / 255], crop))
