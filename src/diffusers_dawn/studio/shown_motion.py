"""Show under the recording what head and eyes are told to do, or what they did."""

from typing import TYPE_CHECKING

import numpy as np

from ..media.recordings import read_waveform
from ..motion.direction import direct
from ..motion.keyframe_rows import keyframe_rows
from ..motion.reading import read_motion
from ..motion.track import MotionTrack
from ..motion.track_files import load_track
from ..records import FaceState
from ..speech.features import num_video_frames
from .motion_plot import draw_motion
from .settings import Settings

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

# who looks straight ahead with open eyes, where there is no portrait yet
NOBODY = FaceState(np.zeros(6), np.full(2, 0.3), (0, 1, 0, 1), (1, 1))


def show_directed(image: str | None, audio: str, settings: Settings, pipe: "DAWNPipeline") -> str:
    """Draw what is said about the motion, on a head that does nothing else.

    Args:
        image: File of the portrait; None: not given yet.
        audio: File of the recording.
        settings: What is set.
        pipe: The pipeline.

    Returns:
        HTML.

    Raises:
        ValueError: A file cannot be read, or what is said is not understood or does not fit into the recording.
    """
    script, waveform = settings.script(), read_waveform(audio, choice_names=None)
    num_frames = num_video_frames(len(waveform.samples), waveform.sample_rate_hz)
    face = _face_of(image, settings, pipe)
    track = MotionTrack(np.tile(face.pose, (num_frames, 1)), np.tile(face.blink, (num_frames, 1)))
    if script is None:
        return draw_motion(waveform, track, [], "At rest")
    script = read_motion(script, waveform, num_frames, pipe.detect_faces, name="--motion")
    track = direct(script, face, num_frames).edited(track)
    marks_s = [row[0] for row in keyframe_rows(settings.motion, "--motion")]
    return draw_motion(waveform, track, marks_s, "What is said, on a head that is otherwise at rest")


def _face_of(image: str | None, settings: Settings, pipe: "DAWNPipeline") -> FaceState:
    """Find the face; wherever the square lies, the head in it is turned alike."""
    if image is None:
        return NOBODY
    try:
        return pipe.prepare_portrait(image, face_index=settings.face_index).face
    except (ValueError, OSError):  # what is wrong with the portrait is said beside it
        return NOBODY


def show_made(audio: str, track: str) -> str:
    """Draw the motion of a video.

    Args:
        audio: File of its recording.
        track: File of its motion.

    Returns:
        HTML.

    Raises:
        ValueError: A file cannot be read.
    """
    return draw_motion(read_waveform(audio, choice_names=None), load_track(track), [], "Motion of the video")
