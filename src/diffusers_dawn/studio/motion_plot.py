"""Draw a recording's waveform and, below it on the same time, what head and eyes do: an SVG that any width shows."""

from collections.abc import Sequence

import numpy as np

from ..motion.track import MotionTrack
from ..records import FPS, Waveform

# in the drawing's own units; it is about as wide on a phone, so that its letters can be read there
WIDTH, LEFT, RIGHT = 400, 30, 8
WAVE_TOP, WAVE_HEIGHT = 4, 44
ANGLES_TOP, ANGLES_HEIGHT = 58, 96
EYES_TOP, EYES_HEIGHT = 170, 30
HEIGHT = 218
MOST_POINTS, MOST_TICKS = 400, 8
TICK_STEPS_S = (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
LEAST_ANGLE_DEG = 20
# at least 3 to 1 against white and against the page's dark background; the dashes tell them apart, too
ANGLE_LINES = (("yaw", "#d9480f", ""), ("pitch", "#3b82f6", "6 3"), ("roll", "#2f9e44", "2 2"))


def draw_motion(waveform: Waveform, track: MotionTrack, marks_s: Sequence[float], title: str) -> str:
    """Draw them.

    Args:
        waveform: The recording.
        track: Head pose and eyes of its frames, or of its first ones.
        marks_s: Times that get a vertical line [s].
        title: What is seen, for the caption.

    Returns:
        HTML without anything that was given as a text by a user.
    """
    duration_s = waveform.duration_s
    angles, eyes = track.pose[:, :3], (track.blink / np.maximum(track.rest_blink, 1e-3)).mean(axis=1)
    most = max(LEAST_ANGLE_DEG, 10 * int(np.ceil(np.abs(angles).max() / 10)))
    times_s = np.arange(len(angles)) / FPS
    parts = [_waveform(waveform), *_time_axis(duration_s)]
    for angle in (-most, 0, most):
        y = _height(angle, most, -most, ANGLES_TOP, ANGLES_HEIGHT)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, 0.25), _text(LEFT - 4, y + 4, f"{angle}°", "end")]
    parts += [_text(LEFT - 4, EYES_TOP + 8, "open", "end"), _text(LEFT - 4, EYES_TOP + EYES_HEIGHT, "shut", "end")]
    for at_s in marks_s:
        x = _place(at_s, duration_s)
        parts.append(_line(x, WAVE_TOP, x, EYES_TOP + EYES_HEIGHT, 0.6, "1 3"))
    for column, (name, colour, dashes) in enumerate(ANGLE_LINES):
        heights = _height(angles[:, column], most, -most, ANGLES_TOP, ANGLES_HEIGHT)
        parts.append(_curve(name, _place(times_s, duration_s), heights, colour, dashes))
    heights = _height(np.clip(eyes, 0, 1.2), 1.2, 0, EYES_TOP, EYES_HEIGHT)
    parts.append(_curve("eyes", _place(times_s, duration_s), heights, "currentColor", ""))
    extremes = zip(ANGLE_LINES, angles.min(axis=0), angles.max(axis=0), strict=True)
    seen = ", ".join(f"{name} from {round(low)} to {round(high)} degrees" for (name, *_), low, high in extremes)
    keys = "".join(_key(*line) for line in ANGLE_LINES)
    return (
        f'<figure style="margin:0"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}: {seen}"'
        f' style="width:100%;height:auto;display:block" font-size="10" fill="none">{"".join(parts)}</svg>'
        f"<figcaption>{title}: {keys}</figcaption></figure>"
    )


def _place(times_s: np.ndarray | float, duration_s: float) -> np.ndarray | float:
    return LEFT + (WIDTH - LEFT - RIGHT) * times_s / duration_s


def _height(values: np.ndarray | float, top: float, bottom: float, top_y: float, height: float) -> np.ndarray | float:
    return top_y + height * (top - values) / (top - bottom)


def _waveform(waveform: Waveform) -> str:
    """One vertical line for every stretch of the recording, as long as its loudest sample."""
    columns = np.array_split(np.abs(waveform.samples), min(WIDTH - LEFT - RIGHT, len(waveform.samples)))
    peaks = np.array([column.max() for column in columns])
    peaks = peaks / max(peaks.max(), 1e-6) * WAVE_HEIGHT / 2
    xs, middle = np.linspace(LEFT, WIDTH - RIGHT, len(peaks)), WAVE_TOP + WAVE_HEIGHT / 2
    path = "".join(f"M{x:.1f} {middle - peak:.1f}V{middle + peak:.1f}" for x, peak in zip(xs, peaks, strict=True))
    return f'<path class="wave" d="{path}" stroke="currentColor" stroke-opacity=".6"/>'


def _time_axis(duration_s: float) -> list[str]:
    step_s = next((step for step in TICK_STEPS_S if duration_s / step <= MOST_TICKS), duration_s / MOST_TICKS)
    marks = []
    for number in range(int(duration_s / step_s + 1e-6) + 1):
        x = _place(number * step_s, duration_s)
        marks += [_line(x, EYES_TOP + EYES_HEIGHT, x, EYES_TOP + EYES_HEIGHT + 4, 0.8)]
        marks += [_text(min(x, WIDTH - RIGHT - 6), HEIGHT - 3, f"{number * step_s:g} s", "middle")]
    return marks


def _line(x_1: float, y_1: float, x_2: float, y_2: float, opacity: float, dashes: str = "") -> str:
    return (
        f'<path d="M{x_1:.1f} {y_1:.1f}L{x_2:.1f} {y_2:.1f}" stroke="currentColor" stroke-opacity="{opacity}"'
        f' stroke-dasharray="{dashes}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{text}</text>'


def _curve(name: str, xs: np.ndarray, ys: np.ndarray, colour: str, dashes: str) -> str:
    kept = slice(None, None, -(-len(xs) // MOST_POINTS))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs[kept], ys[kept], strict=True))
    stroke = f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"'
    return f'<polyline class="{name}" points="{points}" {stroke}/>'


def _key(name: str, colour: str, dashes: str) -> str:
    path = f'<path d="M0 4H26" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'
    return f'<svg width="26" height="8" style="display:inline" aria-hidden="true">{path}</svg> {name} '
