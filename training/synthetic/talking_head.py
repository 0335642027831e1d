"""One clip of a synthetic person who speaks, with everything that is known about it."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache

import numpy as np

from diffusers_dawn.records import FPS
from training.data.clip_members import PreparedClip
from training.synthetic.audio_augmentation import augment
from training.synthetic.espeak import Espeak
from training.synthetic.head_motion import head_states, speech_energy
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.mouth_track import mouth_track
from training.synthetic.phonemes import frame_labels
from training.synthetic.renderer import HeadRenderer
from training.synthetic.sentences import SPLITS
from training.synthetic.speakers import draw_speaker
from training.synthetic.spoken_clip import speak_clip

# training's identities have seeds below, testing's from here on
FIRST_TEST_IDENTITY = 2**40
IDENTITIES_PER_SEED = 2**20
FRAME_LABELS = ("pose", "blink", "face_box_px", "mouth_px", "mouth_opening", "eyes_px")


def identity_seed(index: int, split: str, seed: int = 0) -> int:
    """Number the identities of a data set; no number belongs to two data sets, or to two splits.

    Args:
        index: Which identity of the data set's split, 0 to 1048575.
        split: "train" or "test".
        seed: The data set's seed, 0 to 1048575.

    Returns:
        What `identity.draw_identity` draws the person from.

    Raises:
        ValueError: There is no such split, or a number is out of its range.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` is {split!r}, must be one of {', '.join(SPLITS)}")
    for name, given in (("index", index), ("seed", seed)):
        if not 0 <= given < IDENTITIES_PER_SEED:
            raise ValueError(f"`{name}` is {given}, must be from 0 to {IDENTITIES_PER_SEED - 1}")
    return (FIRST_TEST_IDENTITY if split == "test" else 0) + seed * IDENTITIES_PER_SEED + index


def make_talking_head(
    identity_seed: int,
    clip_seed: int,
    split: str = "train",
    size_px: int = 128,
    num_frames: int = 100,
    clip_id: str | None = None,
    augment_audio: bool = False,
    flow_stride: int = 0,
) -> PreparedClip:
    """Make a clip of a talking head.

    Args:
        identity_seed: Who, see the function of that name.
        clip_seed: What is said and how the head moves; not negative.
        split: "train" or "test"; must be the identity's.
        size_px: Width and height of the frames.
        num_frames: Length, at 25 frames per second.
        clip_id: The clip's name; None makes one from the two seeds.
        augment_audio: Write the sound as a bad microphone in a loud room hears it, see `audio_augmentation`.
        flow_stride: Store the optical flow of every N-th pixel; 0 stores none.

    Returns:
        The clip: besides the labels that every prepared clip has `mouth_opening` (F,), `eyes_px` (F, 2, 4) as
        `HeadRenderer.labels`, `visemes` (F, 4) as `phonemes.MOUTH_SHAPE_NAMES`, `phonemes` (2F,) as
        `phonemes.frame_labels`, and with a flow stride k `flow` (F-1, S/k, S/k, 2) and `flow_visible` (F-1, S/k, S/k).

    Raises:
        ValueError: The identity belongs to the other split, or a number is out of its range.
        ImportError: A package of the extra `synthetic` is missing.
    """
    _check_clip(identity_seed, clip_seed, split, size_px, flow_stride)
    renderer = _renderer(identity_seed, size_px)
    speaker = draw_speaker(identity_seed, renderer.identity.is_feminine)
    speech_seed, motion_seed, sound_seed = (
        int(state) for state in np.random.SeedSequence((identity_seed, clip_seed)).generate_state(3)
    )
    spoken = speak_clip(Espeak(), speaker, num_frames, speech_seed, split)
    mouth = mouth_track(spoken.segments, num_frames)
    states = head_states(mouth, speech_energy(spoken.samples, num_frames), motion_seed)
    frames, labels = _draw(renderer, states, flow_stride)
    labels["visemes"] = mouth
    labels["phonemes"] = frame_labels(spoken.segments, 2 * num_frames)
    return PreparedClip(
        clip_id=clip_id or f"synthetic-{identity_seed}-{clip_seed}",
        identity=f"synthetic-{identity_seed}",
        frames=frames,
        samples=augment(spoken.samples, sound_seed) if augment_audio else spoken.samples,
        labels=labels,
        info={
            "source": "synthetic",
            "identity_seed": identity_seed,
            "clip_seed": clip_seed,
            "augmented_audio": augment_audio,
            "speaker": asdict(speaker),
            "sentences": [asdict(sentence) for sentence in spoken.sentences],
            "duration_s": num_frames / FPS,
        },
    )


def _check_clip(identity_seed: int, clip_seed: int, split: str, size_px: int, flow_stride: int) -> None:
    if split not in SPLITS or (identity_seed >= FIRST_TEST_IDENTITY) != (split == "test"):
        raise ValueError(
            f"`split` is {split!r} and `identity_seed` {identity_seed}; splits are {', '.join(SPLITS)}, and "
            f"identities from {FIRST_TEST_IDENTITY} on are for testing only"
        )
    for name, given in (("identity_seed", identity_seed), ("clip_seed", clip_seed)):
        if given < 0:
            raise ValueError(f"`{name}` is {given}, must not be negative")
    if flow_stride < 0 or (flow_stride and size_px % flow_stride):
        raise ValueError(f"`flow_stride` is {flow_stride}, must be 0 or a divisor of `size_px` ({size_px})")


@lru_cache(maxsize=4)
def _renderer(identity_seed: int, size_px: int) -> HeadRenderer:
    return HeadRenderer(draw_identity(identity_seed), size_px)


def _draw(
    renderer: HeadRenderer, states: Sequence[HeadState], flow_stride: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures (F, S, S, 3) and what the renderer knows about them."""
    cells = renderer.size_px // max(flow_stride, 1)
    images = np.empty((len(states), renderer.size_px, renderer.size_px, 3), np.uint8)
    flow = np.empty((len(states) - 1, cells, cells, 2) if flow_stride else 0, np.float16)
    flow_visible = np.empty(flow.shape[:3], bool)
    labels: dict[str, list[np.ndarray]] = {name: [] for name in FRAME_LABELS}
    # a frame's geometry takes far more memory than its picture: only the first and the last are kept
    first, last = None, None
    for index, state in enumerate(states):
        frame = renderer.render(state)
        first = first or frame
        images[index] = frame.image
        values = renderer.labels(frame, first)
        for name in FRAME_LABELS:
            labels[name].append(values[name])
        if flow_stride and last is not None:
            flow[index - 1], flow_visible[index - 1] = renderer.optical_flow(last, frame, flow_stride)
        last = frame
    stacked = {name: np.stack(track).astype(np.float32) for name, track in labels.items()}
    return images, stacked | ({"flow": flow, "flow_visible": flow_visible} if flow_stride else {})
