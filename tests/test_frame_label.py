import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.frame_label import FrameLabel


def grey(height=128, width=128, count=2):
    return np.full((count, height, width, 3), 200, np.uint8)


def test_the_label_is_bright_text_on_a_darker_strip_in_the_lower_left_corner():
    frames = grey()
    labelled = FrameLabel("AI generated", 128, 128).draw(frames)
    changed = (labelled != frames).any(axis=(0, 3))
    rows, columns = np.nonzero(changed)
    assert rows.max() == 127 and columns.min() == 0
    assert rows.min() > 100 and columns.max() < 100
    strip = labelled[0, rows.min() :, : columns.max() + 1]
    assert strip.max() > 220 and strip.min() < 120


def test_frames_given_are_not_changed():
    frames = grey()
    FrameLabel("synthetic", 128, 128).draw(frames)
    assert (frames == 200).all()


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(64, 700),
    width=st.integers(600, 2800),
    text=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8),
)
def test_any_short_text_fits_and_keeps_the_shape(height, width, text):
    labelled = FrameLabel(text, height, width).draw(grey(height, width, 1))
    assert labelled.shape == (1, height, width, 3) and labelled.dtype == np.uint8
    assert (labelled[:, : height // 2] == 200).all()


@pytest.mark.parametrize("text", ["", "  ", "two\nlines"])
def test_no_line_and_several_lines_are_refused(text):
    with pytest.raises(ValueError, match="must be one line of text"):
        FrameLabel(text, 128, 128)


def test_a_text_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`label` is 'a{40}', which takes .* px; the frames have 64x64"):
        FrameLabel("a" * 40, 64, 64)


@pytest.mark.parametrize("frames", [grey(64, 128), grey().astype(np.float32)])
def test_frames_of_another_size_or_type_are_refused(frames):
    with pytest.raises(ValueError, match="`frames` is"):
        FrameLabel("synthetic", 128, 128).draw(frames)
