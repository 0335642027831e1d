"""All sections by name, and how they are run."""

from collections.abc import Sequence

from training.evaluation.clips import Evaluation
from training.evaluation.report import LeftOut, SectionReport
from training.evaluation.sections import films, guided, paper, portraits, unguided

SECTIONS = guided.SECTIONS | paper.SECTIONS | unguided.SECTIONS | films.SECTIONS | portraits.SECTIONS


def section_names(given: str | None) -> list[str]:
    """Choose sections.

    Args:
        given: Their names, joined by commas; None: all.

    Returns:
        The names, each once.

    Raises:
        ValueError: There is no such section.
    """
    if given is None:
        return list(SECTIONS)
    names = [name.strip() for name in given.split(",")]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise ValueError(f"`sections` has {', '.join(map(repr, unknown))}, must be some of {', '.join(SECTIONS)}")
    return list(dict.fromkeys(names))


def run_sections(
    evaluation: Evaluation, names: Sequence[str]
) -> tuple[dict[str, SectionReport | str], dict[str, dict[str, float]]]:
    """Run parts of an evaluation.

    Args:
        evaluation: The pipeline and the clips.
        names: Which parts, of `SECTIONS`.

    Returns:
        By name: what was found, or why the part was left out; and what was rendered for it: `videos`, `frames` and
        `seconds`, where it was any.
    """
    found: dict[str, SectionReport | str] = {}
    rendering: dict[str, dict[str, float]] = {}
    for name in names:
        before = evaluation.rendered.copy()
        try:
            found[name] = SECTIONS[name](evaluation)
        except LeftOut as error:
            found[name] = error.reason
        videos, frames, seconds = (evaluation.rendered - before).tolist()
        if videos:
            rendering[name] = {"videos": int(videos), "frames": int(frames), "seconds": seconds}
    return found, rendering
