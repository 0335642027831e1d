"""Head motion during speech: pose, nods, gaze, blinks, brows."""

import numpy as np

from diffusers_dawn.records import FPS
from training.data.clip_members import SAMPLES_PER_FRAME
from training.synthetic.head_state import HeadState

BLINKS_PER_S = (0.2, 0.8)
MIN_BLINK_GAP_S = 0.45
# lids close faster than they open; together six frames at most
CLOSING_S, CLOSED_S, OPENING_S = (0.04, 0.07), (0.01, 0.03), (0.10, 0.14)
# standard deviation and time scale of the wander of each track, and its largest distance from the clip's own centre
WANDER = {
    "yaw_deg": (5.0, 0.55, 16.0),
    "pitch_deg": (2.2, 0.45, 8.0),
    "roll_deg": (2.0, 0.6, 7.0),
    "scale": (0.012, 1.0, 0.08),
    "x_cm": (0.4, 0.8, 1.2),
    "y_cm": (0.25, 0.8, 0.8),
}
# what livelier heads do more of: they turn, and lean towards the camera and back
LIVELY = ("yaw_deg", "pitch_deg", "roll_deg", "scale")
# standard deviation of the clip's own centre
CENTRES = {"yaw_deg": 6.0, "pitch_deg": 3.0, "roll_deg": 1.5, "scale": 0.015, "x_cm": 0.3, "y_cm": 0.2}
# loudness from which a peak is an accent, and how often a head nods or brows rise with one
ACCENT_ENERGY, NOD_SHARE, BROW_SHARE = 0.55, 0.6, 0.35
NODS_DEG, BROW_RISES = (1.5, 5.0), (0.2, 0.7)
FIXATIONS_S = (0.4, 2.2)
GAZE_SPREAD_RAD = (0.07, 0.035)
# how much of the head's turning the eyes take back to keep looking at the camera
GAZE_COMPENSATION = 0.7


def head_states(mouth_track: np.ndarray, energy: np.ndarray, seed: int, liveliness: float = 1.0) -> list[HeadState]:
    """Generate head motion for speech.

    The head wanders smoothly and nods on loud syllables, where the brows rise too; the eyes rest and jump, make up for
    most of the head's turning, and blink 0.2 to 0.8 times per second.

    Args:
        mouth_track: Array (F, 4), see `mouth_track.mouth_track`.
        energy: Array (F,): loudness of the speech in every frame, in [0, 1], see `speech_energy`.
        seed: Same seed, same motion.
        liveliness: Factor of how far and how fast the head turns and leans; not of how far at most.

    Returns:
        One state per frame.

    Raises:
        ValueError: `energy` and `mouth_track` are not of one length.
    """
    num_frames = len(mouth_track)
    if len(energy) != num_frames:
        raise ValueError(f"`energy` has {len(energy)} frames, `mouth_track` {num_frames}, must be equal")
    rng = np.random.default_rng(seed)
    tracks = {}
    for name, (spread, scale_s, largest) in WANDER.items():
        factor = liveliness if name in LIVELY else 1.0
        tracks[name] = _wander(num_frames, factor * spread, scale_s, largest, rng)
    for name, spread in CENTRES.items():
        tracks[name] += np.clip(rng.normal(), -2, 2) * spread
    tracks["scale"] += 1
    accents = accent_frames(energy)
    tracks["pitch_deg"] += _bumps(num_frames, accents, NOD_SHARE, NODS_DEG, 0.11, rng)
    brow = _bumps(num_frames, accents, BROW_SHARE, BROW_RISES, 0.14, rng)
    tracks["brow"] = (brow + _wander(num_frames, 0.12, 0.8, 0.3, rng)).clip(-1, 1)
    tracks["smile"] = (rng.uniform(0, 0.35) + _wander(num_frames, 0.1, 1.0, 0.25, rng)).clip(0, 0.6)
    tracks["gaze_x_rad"], tracks["gaze_y_rad"] = _gaze(tracks["yaw_deg"], tracks["pitch_deg"], rng)
    openness = rng.uniform(0.85, 1.0) + 0.12 * np.maximum(tracks["brow"], 0) + tracks["gaze_y_rad"].clip(-0.2, 0)
    lids = blink_track(num_frames, rng)
    for name in ("eye_left", "eye_right"):
        tracks[name] = openness.clip(0.7, 1) * (lids + (1 - lids) * rng.uniform(0, 0.04))
    for name, column in zip(("jaw", "mouth_width", "mouth_round", "mouth_press"), mouth_track.T, strict=True):
        tracks[name] = column
    return [HeadState(**{name: float(track[index]) for name, track in tracks.items()}) for index in range(num_frames)]


def speech_energy(samples: np.ndarray, num_frames: int) -> np.ndarray:
    """Measure how loud a recording is in every video frame.

    Args:
        samples: Array (640 F,), 16 kHz.
        num_frames: Frames F.

    Returns:
        Float64 array (F,) in [0, 1], smoothed over about a fifth of a second; 1 is the loudest frame.

    Raises:
        ValueError: There are not 640 samples per frame.
    """
    if num_frames < 1 or samples.shape != (num_frames * SAMPLES_PER_FRAME,):
        raise ValueError(
            f"`samples` has shape {samples.shape}; {num_frames} frames have {num_frames * SAMPLES_PER_FRAME} samples"
        )
    loudness = np.sqrt(np.mean(np.square(samples, dtype=np.float64).reshape(num_frames, -1), axis=1))
    kernel = np.hanning(7)[1:-1]
    smoothed = np.convolve(np.pad(loudness, 2, mode="edge"), kernel / kernel.sum(), mode="valid")
    return smoothed / max(smoothed.max(), 1e-9)


def accent_frames(energy: np.ndarray) -> np.ndarray:
    """Find the loud syllables.

    Args:
        energy: Array (F,), see `speech_energy`.

    Returns:
        Indices of the frames where the loudness peaks above 0.55.
    """
    inner = energy[1:-1]
    peaks = (inner > energy[:-2]) & (inner >= energy[2:]) & (inner > ACCENT_ENERGY)
    return np.flatnonzero(peaks) + 1


def blink_track(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the blinks of a clip: between 0.2 and 0.8 per second, as far as its length allows.

    Args:
        num_frames: Frames F.
        rng: Draws how many, when, and how long.

    Returns:
        Float64 array (F,): 1 open, 0 closed. Every blink closes the lids completely in one frame at least.
    """
    duration_s = num_frames / FPS
    fewest, most = (rate * duration_s for rate in BLINKS_PER_S)
    # a clip too short for a whole number in between blinks once or not at all, as often as is right on average
    wanted = rng.uniform(fewest, most)
    num_blinks = int(np.floor(wanted + rng.random()))
    if np.ceil(fewest) <= np.floor(most):
        num_blinks = int(np.clip(num_blinks, np.ceil(fewest), np.floor(most)))
    centres_s = (np.arange(num_frames) + 0.5) / FPS
    room_s = max(duration_s - num_blinks * MIN_BLINK_GAP_S, 0)
    starts_s = np.sort(rng.uniform(0, room_s, num_blinks)) + MIN_BLINK_GAP_S * np.arange(num_blinks)
    openness = np.ones(num_frames)
    for start_s in starts_s:
        closing_s, closed_s, opening_s = (rng.uniform(*limits) for limits in (CLOSING_S, CLOSED_S, OPENING_S))
        corners_s = start_s + np.cumsum([0, closing_s, closed_s, opening_s])
        lid = np.interp(centres_s, corners_s, [1, 0, 0, 1])
        lid[np.abs(centres_s - corners_s[1:3].mean()).argmin()] = 0
        openness = np.minimum(openness, lid * lid * (3 - 2 * lid))
    return openness


def _wander(num_frames: int, spread: float, scale_s: float, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise around 0: white noise through a Gaussian of the given width."""
    width = scale_s * FPS
    reach = int(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    noise = np.convolve(rng.normal(size=num_frames + 2 * reach), kernel / np.sqrt(np.sum(kernel**2)), mode="valid")
    return (noise * spread).clip(-largest, largest)


def _bumps(
    num_frames: int,
    peaks: np.ndarray,
    share: float,
    heights: tuple[float, float],
    width_s: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """A bump at some of the peaks, which the body reaches a little after the voice."""
    frames = np.arange(num_frames)
    track = np.zeros(num_frames)
    for peak in peaks:
        chosen, height, delay = rng.random() < share, rng.uniform(*heights), rng.uniform(0, 3)
        if chosen:
            track += height * np.exp(-0.5 * ((frames - peak - delay) / (width_s * FPS)) ** 2)
    return track.clip(0, 1.4 * heights[1])


def _gaze(yaw_deg: np.ndarray, pitch_deg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Direction of the eyes relative to the head [rad]: points to rest on, less most of the head's own turning."""
    num_frames = len(yaw_deg)
    targets = np.zeros((num_frames, 2))
    frame = 0
    while frame < num_frames:
        until = frame + max(round(rng.uniform(*FIXATIONS_S) * FPS), 1)
        targets[frame:until] = np.clip(rng.normal(size=2), -2.5, 2.5) * GAZE_SPREAD_RAD
        frame = until
    # a head turned to the image's left by a positive yaw, or down by a positive pitch, has eyes turned back
    x_rad, y_rad = targets.T + GAZE_COMPENSATION * np.radians(np.stack([yaw_deg, pitch_deg]))
    return x_rad.clip(-0.5, 0.5), y_rad.clip(-0.3, 0.3)
