"""Draw how far mouths open over time, as filmed and as made: what a correlation alone does not tell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusers_dawn.records import FPS

# of one clip's curves; wide enough to count frames
WIDTH_INCH, HEIGHT_INCH, BOTTOM_INCH = 8, 1.5, 0.5
FILMED_COLOUR, MADE_COLOUR = "0.45", "#d9480f"


# name, opening as filmed and as made (F,), of the face's height, NaN where no face was seen; how well the two agree
MouthCurves = tuple[str, np.ndarray, np.ndarray, float]


def draw_openings(path: Path, clips: Sequence[MouthCurves]) -> list[str]:
    """Draw the curves of clips, one below the other.

    Args:
        path: Picture to write, PNG or SVG.
        clips: The clips; what was made may end earlier than what was filmed.

    Returns:
        A note that names the picture; none where there was no clip to draw.
    """
    if not clips:
        return []
    # needed by what reads faces, too
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCH, HEIGHT_INCH * len(clips) + BOTTOM_INCH), layout="constrained")
    panels = figure.subplots(len(clips), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, filmed, made, correlation) in zip(panels, clips, strict=True):
        axes.plot(np.arange(len(filmed)) / FPS, filmed, color=FILMED_COLOUR, label="filmed")
        axes.plot(np.arange(len(made)) / FPS, made, color=MADE_COLOUR, label="made")
        axes.set_title(f"{name}   r = {correlation:.2f}", fontsize="small", loc="left")
    panels[0].legend(loc="upper right", fontsize="small")
    panels[-1].set_xlabel("time [s]")
    figure.supylabel("mouth opening, of the face's height", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return [f"Curves of the mouth's opening: {path.name}."]
