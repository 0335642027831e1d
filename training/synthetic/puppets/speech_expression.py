"""From what is said to a morphable head's expressions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.synthetic.head_state import HeadState
from training.synthetic.puppets.morphable_head import MorphableHead

# expressions that speech moves; all others are the face's own
SPEECH_EXPRESSIONS = ("jaw", "mouth")
# how far each of the mouth's four shapes goes at 1, see `phonemes.MOUTH_SHAPE_NAMES`: together they move mouths as far
# as those of filmed people
JAW_SHAPE = {"jawOpen": 0.48, "mouthLowerDown": 0.45, "mouthUpperUp": 0.34}
WIDTH_SHAPE = {"mouthStretch": 0.21, "mouthSmile": 0.11, "mouthLowerDown": 0.24, "mouthUpperUp": 0.14}
ROUND_SHAPE = {"mouthPucker": 0.38, "mouthFunnel": 0.24}
PRESS_SHAPE = {"mouthPress": 0.4, "mouthRollLower": 0.22, "mouthRollUpper": 0.16}
# of the portrait's own mouth so much stays: open lips close, a smile remains a part of itself
KEPT_OPENING, KEPT_SMILE = 0.12, 0.45
SMILES = ("mouthSmile", "mouthFrown", "mouthDimple")


@dataclass(frozen=True)
class SpeakingStyle:
    """How a person articulates.

    Attributes:
        opening: Factor of the jaw's movement.
        width: Factor of spreading.
        rounding: Factor of rounding.
    """

    opening: float = 1.0
    width: float = 1.0
    rounding: float = 1.0


def draw_style(rng: np.random.Generator) -> SpeakingStyle:
    """Draw how a person articulates."""
    return SpeakingStyle(rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.3), rng.uniform(0.8, 1.2))


def expression_of_shapes(head: MorphableHead, shapes: np.ndarray, style: SpeakingStyle) -> np.ndarray:
    """Turn mouth shapes to expressions, relative to a closed mouth.

    Args:
        head: Names the expressions.
        shapes: Float array (F, 4), see `mouth_track.mouth_track`.
        style: How the person articulates.

    Returns:
        Float32 array (F, E).
    """
    jaw, width, rounding, press = shapes.T
    opened = head.expression(JAW_SHAPE) * style.opening
    spread, rounded = head.expression(WIDTH_SHAPE) * style.width, head.expression(ROUND_SHAPE) * style.rounding
    free = 1 - press
    return (
        np.outer(jaw * (1 - 0.2 * rounding) * free, opened)
        + np.outer(width * (0.4 + 0.6 * free), spread)
        + np.outer(rounding, rounded)
        + np.outer(press, head.expression(PRESS_SHAPE))
    ).astype(np.float32)


def relative_speech(head: MorphableHead, expression: np.ndarray) -> np.ndarray:
    """Take a filmed person's speech out of their expressions.

    Args:
        head: Names the expressions.
        expression: Fitted weights (F, E).

    Returns:
        Float32 array (F, E): weights of mouth and jaw, from where the mouth is most closed.
    """
    speech = np.zeros(expression.shape, np.float32)
    indices = head.expression_indices(*SPEECH_EXPRESSIONS)
    values = expression[:, indices].astype(np.float32)
    opening = values[:, [indices.index(index) for index in head.expression_indices("jawOpen")]].sum(axis=1)
    closed = opening <= np.quantile(opening, 0.2)
    speech[:, indices] = values - values[closed].mean(axis=0)
    return speech


def resting_mouth(head: MorphableHead, expression: np.ndarray) -> np.ndarray:
    """What stays of a portrait's own expression (E,) while it speaks."""
    rest = expression.astype(np.float32).copy()
    rest[head.expression_indices(*SPEECH_EXPRESSIONS)] *= KEPT_OPENING
    smiles = head.expression_indices(*SMILES)
    rest[smiles] = KEPT_SMILE * expression[smiles]
    return rest


def face_expressions(
    head: MorphableHead, portrait: np.ndarray, speech: np.ndarray, states: Sequence[HeadState], is_closing: bool = True
) -> np.ndarray:
    """Join speech, blinks, brows and smile with a portrait's own expression.

    Args:
        head: Names the expressions.
        portrait: Expression of the portrait (E,).
        speech: Expression of the speech (F, E), relative to a closed mouth.
        states: Lids, brows, smile and gaze of every frame.
        is_closing: Whether the portrait's own mouth closes to speak; False: it speaks from what it shows.

    Returns:
        Float32 array (F, E).
    """
    rest = resting_mouth(head, portrait) if is_closing else portrait
    tracks = np.tile(rest, (len(speech), 1)).astype(np.float32) + speech
    speaking = head.expression_indices(*SPEECH_EXPRESSIONS)
    tracks[:, speaking] = tracks[:, speaking].clip(-0.2, 1.1)
    brows = np.array([state.brow for state in states], np.float32)
    brows -= brows[0]
    tracks += np.outer(np.maximum(brows, 0) * 0.8, head.expression({"browInnerUp": 1, "browOuterUp": 0.8}))
    tracks += np.outer(np.maximum(-brows, 0) * 0.5, head.expression({"browDown": 1}))
    smile = np.array([state.smile for state in states], np.float32)
    tracks += np.outer(smile - smile[0], head.expression({"mouthSmile": 0.35, "cheekSquint": 0.3}))
    for name, side in (("eye_left", "L"), ("eye_right", "R")):
        openness = np.array([getattr(state, name) for state in states], np.float32)
        openness = (openness / max(openness.max(), 1e-3)).clip(0, 1)
        blink = head.expression_indices(f"eyeBlink_{side}")[0]
        # a lid that the portrait holds half closed closes from there
        tracks[:, blink] += (1 - openness) * (1 - tracks[:, blink])
    return tracks
