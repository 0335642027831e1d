"""A prepared clip of a portrait that speaks."""

from collections.abc import Sequence

import numpy as np

from diffusers_dawn.face.pose import (
    RIGID_POINTS,
    TEMPLATE_CM,
    TEMPLATE_WEIGHTS,
    angles_from_rotation,
    face_state_from_landmarks,
    fit_similarity,
    landmark_box,
    pose_in_crop_of,
)
from diffusers_dawn.records import FaceState
from training.data.clip_members import PreparedClip
from training.synthetic.head_state import HeadState
from training.synthetic.puppets.landmark_measures import eye_boxes, mouth_opening, openness_of
from training.synthetic.puppets.morphable_head import LIPS
from training.synthetic.puppets.motion import coarse_motion, motion_between
from training.synthetic.puppets.puppet import Puppet, PuppetState
from training.synthetic.puppets.speech_expression import face_expressions
from training.synthetic.puppets.surface import RigidPose, Surface
from training.synthetic.puppets.video_motion import STRIDE, choose_references

# a photograph bears so much of the motion of a drawn head
HEAD_MOTION = 0.75
GAZE_SHARE = 0.5


def make_puppet_clip(
    puppet: Puppet,
    clip_id: str,
    identity: str,
    samples: np.ndarray,
    speech: np.ndarray,
    states: Sequence[HeadState],
    num_references: int = 2,
    is_closing: bool = True,
    pivot: float = 0.0,
) -> PreparedClip:
    """Let a portrait speak.

    Frame 0 is the portrait itself, the first of the references that `motion` is measured from.

    Args:
        puppet: The portrait.
        clip_id: The clip's name.
        identity: Who is seen.
        samples: The sound, float32 (640 F,) at 16 kHz.
        speech: Expressions of the speech, float32 (F, E), relative to a closed mouth.
        states: What head, lids, brows and eyes do in the F frames; relative to the first of them.
        num_references: Number R of references.
        is_closing: Whether the portrait's own mouth closes to speak.
        pivot: What the head turns about, see `PuppetState`.

    Returns:
        The clip, with the labels of `video_motion.VideoMotion` besides those that every clip has.
    """
    expressions = face_expressions(puppet.head, puppet.fit.expression, speech, states, is_closing)
    first = states[0]
    surfaces, frames, motions = [puppet.rest], [puppet.image], []
    poses = [RigidPose(puppet.fit.scale_px_per_cm, puppet.fit.rotation, puppet.fit.translation_px)]
    for expression, state in zip(expressions[1:], states[1:], strict=True):
        surface = puppet.surface(_puppet_state(expression, state, first, pivot))
        frame, motion = puppet.frame(surface)
        surfaces.append(surface)
        frames.append(frame)
        motions.append(coarse_motion(motion, surface.landmarks_px, STRIDE))
        poses.append(surface.pose)
    opening = np.array([mouth_opening(surface.landmarks_px) for surface in surfaces], np.float32)
    references = choose_references(opening, num_references)
    still = coarse_motion(motion_between(puppet.head, puppet.rest, puppet.rest), puppet.rest.landmarks_px, STRIDE)
    labels = _face_labels(puppet, surfaces)
    labels["mouth_opening"] = opening
    labels["expression"] = expressions.astype(np.float16)
    labels["motion_references"] = references
    labels["motion"] = _motion_labels(puppet, surfaces, [still, *motions], references)
    return PreparedClip(clip_id, identity, np.stack(frames), samples, labels, {"source": "photo puppet"})


def _puppet_state(expression: np.ndarray, state: HeadState, first: HeadState, pivot: float) -> PuppetState:
    def change(name: str, share: float = HEAD_MOTION) -> float:
        return share * (getattr(state, name) - getattr(first, name))

    return PuppetState(
        expression=expression,
        yaw_deg=change("yaw_deg"),
        pitch_deg=change("pitch_deg"),
        roll_deg=change("roll_deg"),
        scale=1 + change("scale"),
        x_cm=change("x_cm"),
        y_cm=change("y_cm"),
        pivot=pivot,
        gaze_x_rad=change("gaze_x_rad", GAZE_SHARE),
        gaze_y_rad=change("gaze_y_rad", GAZE_SHARE),
    )


def _motion_labels(
    puppet: Puppet, surfaces: Sequence[Surface], from_portrait: Sequence[tuple], references: Sequence[int]
) -> np.ndarray:
    rows = []
    for index, driven in enumerate(surfaces):
        row = []
        for reference in references:
            flow, occlusion = from_portrait[index]
            if reference:
                motion = motion_between(puppet.head, surfaces[reference], driven)
                flow, occlusion = coarse_motion(motion, driven.landmarks_px, STRIDE)
            row.append(np.concatenate([flow.transpose(2, 0, 1), occlusion[None]]))
        rows.append(row)
    return np.array(rows, np.float16)


def _face_labels(puppet: Puppet, surfaces: Sequence[Surface]) -> dict[str, np.ndarray]:
    """What a detector reads from the portrait, moved as the puppet moves."""
    size = puppet.image.shape[:2]
    read = face_state_from_landmarks(puppet.portrait_landmarks_px, size)
    points = puppet.portrait_landmarks_px[RIGID_POINTS] * (1, -1, -1)
    template = fit_similarity(TEMPLATE_CM, points, TEMPLATE_WEIGHTS)
    rest_openness = openness_of(puppet.rest.landmarks_px)
    rows: dict[str, list] = {"pose": [], "blink": [], "face_box_px": [], "mouth_px": [], "eyes_px": []}
    for surface in surfaces:
        box_px = _moved_box(puppet, surface)
        pose = _moved_pose(read, template, puppet.rest.pose, surface.pose)
        rows["pose"].append(pose_in_crop_of(FaceState(pose, read.blink, read.box_px, size), read))
        rows["blink"].append(read.blink * openness_of(surface.landmarks_px) / rest_openness)
        rows["face_box_px"].append(box_px)
        rows["mouth_px"].append(surface.landmarks_px[LIPS])
        rows["eyes_px"].append(eye_boxes(surface.landmarks_px))
    return {name: np.array(values, np.float32) for name, values in rows.items()}


def _moved_pose(read: FaceState, template: tuple, rest: RigidPose, moved: RigidPose) -> np.ndarray:
    """Pose numbers in the crop of the portrait, of a detector's template that moves rigidly with the head."""
    scale, rotation, translation = template
    turn = moved.rotation @ rest.rotation.T
    growth = moved.scale_px_per_cm / rest.scale_px_per_cm
    place = growth * turn @ (translation - rest.translation_px) + moved.translation_px
    x, y = read.pose[4:]
    zoom = read.pose[3] / scale
    # `read` holds the template's scale, x and y in the detector's crop; they change by the same zoom
    zoom_px = zoom * 1e4
    shift = (place - translation)[:2] * zoom_px
    angles = angles_from_rotation(turn @ rotation)
    return np.array([*angles, read.pose[3] * growth, x + shift[0], y + shift[1]])


def _moved_box(puppet: Puppet, surface: Surface) -> tuple[float, float, float, float]:
    """The landmarks' box of the portrait, as far as the 68 landmarks' box moved."""
    x_min, x_max, y_min, y_max = landmark_box(puppet.portrait_landmarks_px)
    rest, moved = puppet.rest.landmarks_px, surface.landmarks_px
    low = moved.min(axis=0) - rest.min(axis=0)
    high = moved.max(axis=0) - rest.max(axis=0)
    return x_min + low[0], x_max + high[0], y_min + low[1], y_max + high[1]
