"""A visible label on frames, so that whoever sees a video knows what it is."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..ranges import check_class, check_counts

# of the picture's height; smaller letters than the least cannot be read after encoding
LETTER_SHARE, LEAST_LETTER_PX, MARGIN_SHARE = 1 / 18, 8, 1 / 60
DARKENING = 0.45
# at this size no letter looks like the box that stands for a missing one
COMPARED_PX = 64
NO_CHARACTER = "\U0010ffff"
MOST_LETTERS = 200


def label_text(text: str, font: str | os.PathLike | None = None) -> str:
    """Tidy a label's text, and refuse one that cannot be drawn, at whatever size.

    Args:
        text: What a label says.
        font: Font file; None: Pillow's own, which has the letters of English.

    Returns:
        The text without spaces around it.

    Raises:
        FileNotFoundError: There is no such font.
        ValueError: The text is empty or too long, has several lines or characters that the font lacks; or the file is
            no font.
    """
    check_class("label", text, str)
    text = text.strip()
    if not text or len(text.splitlines()) != 1:
        raise ValueError(f"`label` is {text[:MOST_LETTERS]!r}, must be one line of text")
    if len(text) > MOST_LETTERS:
        raise ValueError(f"`label` has {len(text)} letters, must have {MOST_LETTERS} at most")
    letters = _font(font, COMPARED_PX)
    missing = _drawn(letters, NO_CHARACTER)
    lacking = [letter for letter in dict.fromkeys(text) if not letter.isspace() and _drawn(letters, letter) == missing]
    if lacking:
        font_name = " ".join(filter(None, letters.getname()))
        raise ValueError(
            f"`label` is {text!r}, but the font {font_name} lacks {', '.join(map(repr, lacking))}; give another"
            " font file"
        )
    return text


def _font(path: str | os.PathLike | None, size_px: int) -> ImageFont.FreeTypeFont:
    if path is None:
        return ImageFont.load_default(size_px)
    if not Path(path).is_file():  # Pillow would look for the name elsewhere
        raise FileNotFoundError(f"the label's font is not a file: {path}")
    try:
        return ImageFont.truetype(str(path), size_px)
    except OSError as error:
        raise ValueError(f"the label's font {path} cannot be read: {error}") from error


def _drawn(font: ImageFont.FreeTypeFont, text: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(text)
    return mask.size, bytes(mask)


class FrameLabel:
    """A line of white text on a darkened strip at the lower left corner of frames.

    Args:
        text: What it says; one line.
        height: Height of the frames [px].
        width: Width of the frames [px].
        font: Font file; None: Pillow's own, which has the letters of English.

    Raises:
        FileNotFoundError: There is no such font.
        ValueError: The text cannot be drawn, see `label_text`, or does not fit in the width; or a size is no whole
            number from 1.
    """

    def __init__(self, text: str, height: int, width: int, font: str | os.PathLike | None = None) -> None:
        check_counts(height=height, width=width)
        text = label_text(text, font)
        font = _font(font, max(LEAST_LETTER_PX, round(height * LETTER_SHARE)))
        left, top, right, bottom = (round(side) for side in font.getbbox(text))
        margin = max(1, round(height * MARGIN_SHARE))
        strip_height, strip_width = bottom - top + 2 * margin, right - left + 2 * margin
        if strip_width > width or strip_height > height:
            raise ValueError(
                f"`label` is {text!r}, which takes {strip_width}x{strip_height} px,"
                f" must fit in frames of {width}x{height}"
            )
        strip = Image.new("L", (strip_width, strip_height))
        ImageDraw.Draw(strip).text((margin - left, margin - top), text, fill=255, font=font)
        self._letters = np.asarray(strip, dtype=np.float32)[..., None] / 255
        self._frame_size = height, width

    def draw(self, frames: np.ndarray) -> np.ndarray:
        """Draw the label.

        Args:
            frames: uint8 frames (F, H, W, 3), or (F, H, W, 4) with opacity, of the label's height and width; not
                changed.

        Returns:
            New frames.

        Raises:
            ValueError: The frames have another size or type.
        """
        check_class("frames", frames, np.ndarray)
        if frames.dtype != np.uint8 or frames.shape[1:] not in ((*self._frame_size, 3), (*self._frame_size, 4)):
            height, width = self._frame_size
            raise ValueError(f"`frames` is {frames.dtype} {frames.shape}, must be uint8 (F, {height}, {width}, 3)")
        frames = frames.copy()
        height, width = self._letters.shape[:2]
        frames[:, -height:, :width, 3:] = 255  # the strip is seen over any background
        corner = frames[:, -height:, :width, :3]
        corner[:] = (corner * (1 - DARKENING) * (1 - self._letters) + 255 * self._letters).round().astype(np.uint8)
        return frames
