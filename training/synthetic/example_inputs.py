"""Portraits and recordings to try a pipeline on."""

from pathlib import Path

from PIL import Image

from diffusers_dawn.machine.output_places import part_beside, put_in_place
from training.data.clip_members import encode_wav
from training.synthetic.espeak import Espeak
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.renderer import HeadRenderer
from training.synthetic.speakers import draw_speaker
from training.synthetic.spoken_clip import speak_clip

PORTRAIT_SIZE_PX = 256


def write_portrait(path: Path, identity_seed: int) -> None:
    """Draw a person at rest, who looks at the camera.

    Args:
        path: Picture file, 256 x 256 px, which is complete or not there.
        identity_seed: Who, see `talking_head.identity_seed`.
    """
    picture = HeadRenderer(draw_identity(identity_seed), PORTRAIT_SIZE_PX).render(HeadState()).image
    # who finds the file takes it for whole
    with part_beside(path) as part:
        Image.fromarray(picture).save(part, optimize=True)
        put_in_place(part, path)


def write_speech(path: Path, identity_seed: int, num_frames: int) -> tuple[str, ...]:
    """Record the voice of a person saying sentences of the test split.

    Args:
        path: Wave file to write, mono, 16 bits, 16 kHz.
        identity_seed: Whose voice; the same person says the same.
        num_frames: Length, in frames of 1 / 25 s.

    Returns:
        What is said; the last sentence may be cut.

    Raises:
        ImportError: Espeak-ng is missing (extra `synthetic`).
    """
    speaker = draw_speaker(identity_seed, draw_identity(identity_seed).is_feminine)
    spoken = speak_clip(Espeak(), speaker, num_frames, identity_seed, "test")
    path.write_bytes(encode_wav(spoken.samples))
    return tuple(sentence.text for sentence in spoken.sentences)
