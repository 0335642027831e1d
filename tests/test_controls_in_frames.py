"""What every control of the motion does is read from rendered frames by the face detector, beside a render without it.

The checkpoint that ships renders in one denoising step. It turns heads by a tenth to a third of what they are told, as
its card says. A control without an effect has a share of 0, and the detector's noise makes that .015 or so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_dawn import DAWNPipeline, MotionTrack, demo_checkpoint
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.motion.script import Join, MotionScript, TakeFrom, parse_script
from diffusers_dawn.records import FPS, POSE_NAMES, FaceState
from training.evaluation.face_reader import FaceReader, FaceReadings

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_FRAMES = 40
LEAST_SHARE, LEAST_LIKENESS = 0.04, 0.5
# by how much faces must differ where there is no share: mean of all points of the mesh, in pictures of 128 px [px]
LEAST_DIFFERENCE_PX = 0.25


@dataclass(frozen=True)
class Seen:
    """What a clip was told to do, and what the detector sees."""

    pose: np.ndarray
    blink: np.ndarray
    readings: FaceReadings

    def numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what was told and seen of one of the pose's numbers, or of the eyes."""
        if name == "eyes":
            return self.blink.mean(axis=1), self.readings.blink.mean(axis=1)
        column = POSE_NAMES.index(name)
        return self.pose[:, column], self.readings.pose[:, column]


def share(edited: Seen, plain: Seen, name: str, frames: slice = slice(None)) -> float:
    """Measure how much of what a control was to change is seen to change."""
    told, seen = differences(edited, plain, name, frames)
    return float(seen @ told / (told @ told))


def likeness(edited: Seen, plain: Seen, name: str) -> float:
    """Measure how well the course of what is seen to change follows that of what was to change."""
    return float(np.corrcoef(*differences(edited, plain, name))[0, 1])


def differences(edited: Seen, plain: Seen, name: str, frames: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    (told, seen), (plain_told, plain_seen) = edited.numbers(name), plain.numbers(name)
    return (told - plain_told)[frames], (seen - plain_seen)[frames]


def difference_px(first: Seen, second: Seen) -> float:
    return float(np.abs(first.readings.mesh_px - second.readings.mesh_px).mean())


@pytest.fixture(scope="module")
def render(detector):
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    pipe.face_detector = detector
    portrait, speech = pipe.prepare_portrait(EXAMPLES / "portrait_1.png"), read_waveform(EXAMPLES / "speech_1.wav")
    with FaceReader() as reader:

        def render(motion=None, seed=0, size=128, num_frames=NUM_FRAMES, **arguments) -> Seen:
            if callable(motion):
                motion = motion(portrait.face)
            out = pipe(
                portrait,
                speech.samples[: num_frames * speech.sample_rate_hz // FPS],
                speech.sample_rate_hz,
                motion=motion,
                preset="fast",
                generator=torch.Generator().manual_seed(seed),
                height=size,
                width=size,
                output_type="np",
                **arguments,
            )
            frames = (out.frames[0] * 255).round().astype(np.uint8)
            return Seen(np.asarray(out.pose[0]), np.asarray(out.blink[0]), reader(frames))

        yield render


@pytest.fixture(scope="module")
def plain(render):
    return render()


def held(num_frames: int = NUM_FRAMES, lids: np.ndarray | float = 1.0, **numbers: np.ndarray) -> Callable:
    """Make a track that does nothing but what is given: offsets of the pose's numbers, and factors of the lids."""

    def track(face: FaceState) -> MotionTrack:
        pose, blink = np.tile(face.pose, (num_frames, 1)), np.tile(face.blink, (num_frames, 1))
        for name, offset in numbers.items():
            pose[:, POSE_NAMES.index(name)] += offset
        return MotionTrack(pose, blink * np.broadcast_to(lids, num_frames)[:, None], face.pose, face.blink)

    return track


def edited(track: Callable, text: str, start: Callable | None = None) -> Callable:
    """Direct a track by a text, which may begin after another one."""

    def script(face: FaceState) -> MotionScript:
        joins = () if start is None else (Join("start", "other.json", start(face)),)
        said = parse_script(text).statements
        return MotionScript((TakeFrom("motion", "track.json", track(face)), *said, *joins), text)

    return script


SWAYING = held(yaw_deg=25 * np.sin(np.arange(NUM_FRAMES) / FPS * 2 * np.pi / 0.8))


@pytest.fixture(scope="module")
def swaying(render):
    return render(SWAYING)


@pytest.mark.slow
def test_keyframes_turn_the_head(render, plain):
    text = "at 0.6 s yaw 25 pitch 5 roll 0; at 1.1 s yaw 0 pitch 20 roll 0; at 1.55 s yaw -10 pitch 5 roll 20"
    turned = render(text)
    for name in ("yaw_deg", "pitch_deg", "roll_deg"):
        assert share(turned, plain, name) > LEAST_SHARE, name
        assert likeness(turned, plain, name) > LEAST_LIKENESS, name


def test_an_offset_turns_the_head_in_all_frames(render, plain):
    turned = render("offset yaw 20 pitch -12 roll 12")
    for name in ("yaw_deg", "pitch_deg", "roll_deg"):
        assert share(turned, plain, name) > LEAST_SHARE, name


def test_a_head_turns_farther_to_either_side_where_it_is_told_to(render):
    seen = {
        degrees: float(np.mean(render(held(8, yaw_deg=np.full(8, degrees)), num_frames=8).numbers("yaw_deg")[1]))
        for degrees in (-20, -8, 0, 8, 20)
    }
    for side in (-1, 1):
        near, far = (side * (seen[side * degrees] - seen[0]) for degrees in (8, 20))
        assert far > near + 12 * LEAST_SHARE, seen


@pytest.mark.slow
def test_every_gesture_is_seen_while_it_lasts(render):
    plain = render(num_frames=80)
    for gestures in (
        ("look left by 25 degrees", "look up by 25 degrees", "tilt left by 20 degrees", "nod by 20 degrees"),
        ("look right by 25 degrees", "look down by 25 degrees", "tilt right by 20 degrees", "shake by 25 degrees"),
    ):
        moved = render("; ".join(f"{text} for 0.8 s at {0.8 * n} s" for n, text in enumerate(gestures)), num_frames=80)
        numbers = ("yaw_deg", "pitch_deg", "roll_deg", "yaw_deg" if "shake" in gestures[3] else "pitch_deg")
        for n, (text, name) in enumerate(zip(gestures, numbers, strict=True)):
            assert share(moved, plain, name, slice(20 * n, 20 * n + 20)) > LEAST_SHARE, text


@pytest.mark.slow
def test_edits_of_a_track_and_the_head_motion_are_seen(render, swaying):
    """A head that sways is kept within limits, smoothed, made still, and begins as another clip ended."""
    aside = held(1, yaw_deg=np.full(1, 25.0))
    for change in (
        {"motion": edited(SWAYING, "limit yaw 5")},
        {"motion": edited(SWAYING, "smooth 1.5 s")},
        {"motion": edited(SWAYING, "head motion 0.2")},
        {"motion": edited(SWAYING, "head motion 0")},
    ):
        changed = render(**change)
        assert share(changed, swaying, "yaw_deg") > LEAST_SHARE, change
        assert likeness(changed, swaying, "yaw_deg") > LEAST_LIKENESS, change
    joined = render(edited(SWAYING, "end at rest", aside))
    assert share(joined, swaying, "yaw_deg", slice(0, 10)) > LEAST_SHARE


def test_a_track_moves_the_head_in_the_picture(render):
    first, second = np.arange(NUM_FRAMES) < 20, np.arange(NUM_FRAMES) >= 20
    still, moved = render(held()), render(held(x=8.0 * first, y=8.0 * second))
    for name in ("x", "y"):
        told, seen = differences(moved, still, name)
        # read in the square of the first frame's face, from which it has moved
        told, seen = told - told.mean(), seen - seen.mean()
        assert seen @ told / (told @ told) > 0.3, name


def test_guidance_of_the_pose_turns_the_head_farther(render, swaying):
    guided = render(SWAYING, guidance_scale={"speech": 4, "pose": 2})
    assert np.ptp(guided.numbers("yaw_deg")[1]) > 1.1 * np.ptp(swaying.numbers("yaw_deg")[1])


def test_seed_take_and_temperature_move_the_face_otherwise(render, plain):
    seen = [plain, render(seed=1), render("take 2"), render("temperature 0")]
    for number, first in enumerate(seen):
        for second in seen[:number]:
            assert difference_px(first, second) > LEAST_DIFFERENCE_PX


# eyes and mouths are too small in pictures of 128 px
LARGE = {"size": 256, "num_frames": 25}
LEAST_SHARE_OF_EYES = 0.1
BLINKING = held(25, lids=np.where((np.arange(25) % 10 >= 6) & (np.arange(25) < 20), 0.0, 1.0))


@pytest.fixture(scope="module")
def blinking(render):
    return render(BLINKING, **LARGE)


@pytest.mark.slow
def test_what_is_said_about_the_eyes_is_seen(render, blinking):
    # the track's own blinks are seen as well: without them, the eyes differ
    awake = render(edited(BLINKING, "no blinks"), **LARGE)
    assert share(awake, blinking, "eyes") > LEAST_SHARE_OF_EYES
    weaker = render(edited(BLINKING, "blink strength 0.2"), **LARGE)
    assert share(weaker, blinking, "eyes") > LEAST_SHARE_OF_EYES
    others = render(edited(BLINKING, "blink rate 1.25"), **LARGE)
    assert share(others, awake, "eyes") > LEAST_SHARE_OF_EYES
    text = "no blinks; at 0.24 s eyes 0; at 0.4 s eyes 0; at 0.48 s eyes 1; blink for 0.4 s at 0.56 s"
    shut = render(edited(BLINKING, text), **LARGE)
    for frames in (slice(0, 13), slice(14, 25)):  # the keyframes, the gesture
        assert share(shut, awake, "eyes", frames) > LEAST_SHARE_OF_EYES


def test_guidance_moves_the_mouth_farther_and_shuts_the_eyes_farther(render, blinking):
    guided = render(BLINKING, guidance_scale={"speech": 2, "blink": 2}, **LARGE)
    assert guided.readings.opening.std() > 1.3 * blinking.readings.opening.std()
    told, openness = blinking.numbers("eyes")
    shut = told < 0.1
    assert guided.numbers("eyes")[1][shut].mean() < 0.9 * openness[shut].mean()
