import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from diffusers_dawn.media.frame_label import FrameLabel, label_text


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
    with pytest.raises(ValueError, match=r"`label` is 'a{40}', which takes .* px, must fit in frames of 64x64"):
        FrameLabel("a" * 40, 64, 64)


def test_a_text_that_no_width_holds_is_refused_without_being_repeated():
    with pytest.raises(ValueError, match="^`label` has 201 letters, must have 200 at most$"):
        label_text("A" * 201)


@pytest.mark.parametrize(("text", "lacking"), [("für Zoë", "'ü', 'ë'"), ("日本 日", "'日', '本'"), ("ok 🙂", "'🙂'")])
def test_characters_that_the_font_lacks_are_refused_by_name(text, lacking):
    for refuse in (label_text, lambda text: FrameLabel(text, 128, 128)):
        with pytest.raises(ValueError, match=f"`label` is '{text}', but the font .* lacks {lacking}; give another"):
            refuse(text)


def test_every_printable_character_of_ascii_can_be_drawn():
    printable = "".join(map(chr, range(33, 127)))
    assert label_text(f"  {printable} ") == printable


@pytest.fixture
def other_font(tmp_path):
    """A font file: that of Pillow, by another way."""
    (tmp_path / "font.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    return tmp_path / "font.ttf"


def test_label_is_drawn_in_a_font_file(other_font):
    # of one letter, because the spaces between letters depend on how Pillow was built
    expected = FrameLabel("A", 128, 128).draw(grey())
    for font in (other_font, str(other_font)):
        assert np.array_equal(FrameLabel("A", 128, 128, font=font).draw(grey()), expected)
    with pytest.raises(ValueError, match="lacks 'é'"):
        FrameLabel("é", 128, 128, font=other_font)


def test_files_that_are_no_fonts_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the label's font is not a file: .*none.ttf"):
        label_text("text", tmp_path / "none.ttf")
    (tmp_path / "text.ttf").write_text("no font")
    with pytest.raises(ValueError, match=r"the label's font .*text.ttf cannot be read: "):
        FrameLabel("text", 128, 128, font=tmp_path / "text.ttf")


@pytest.mark.parametrize("frames", [grey(64, 128), grey().astype(np.float32)])
def test_frames_of_another_size_or_type_are_refused(frames):
    with pytest.raises(ValueError, match="`frames` is"):
        FrameLabel("synthetic", 128, 128).draw(frames)
