"""The names of the page's controls, and messages in these words."""

import re

LABELS = {
    "image": "Portrait",
    "audio": "Speech",
    "seed": "Seed",
    "preset": "Preset",
    "head_motion": "Head motion",
    "motion": "What the head does",
    "size": "Size",
    "speech_guidance": "Guidance of speech",
    "label": "Label in the picture",
    "face_index": "Number of the face",
    "enhance": "Enhance",
    "square": "Adjust the square",
    "right": "Move right",
    "down": "Move down",
    "width": "Width",
    "keyframes": "Keyframes",
}
# what else arguments, options and fields are called that a control sets
OTHER_NAMES = {
    "guidance_scale": LABELS["speech_guidance"],
    "height": LABELS["size"],
    "crop": LABELS["square"],
    "at_s": "time",
    "yaw_deg": "yaw",
    "pitch_deg": "pitch",
    "roll_deg": "roll",
}
_NAMES = {name: LABELS[name] for name in LABELS if name not in {"square", "right", "down", "width"}} | OTHER_NAMES


def in_words_of_page(message: str) -> str:
    """Let a message name the controls of the page instead of arguments and options.

    Args:
        message: An error or a warning of the pipeline or the command.

    Returns:
        The message; names that no control has stay.
    """
    message = re.sub(r"`num_frames` is (\d+)", rf"`{LABELS['audio']}` has \1 frames", message)
    return re.sub(r"`(?:--)?([a-z][a-z_-]*)`", _named, message)


def _named(name: re.Match) -> str:
    label = _NAMES.get(name[1].replace("-", "_"))
    return name[0] if label is None else f"`{label}`"
