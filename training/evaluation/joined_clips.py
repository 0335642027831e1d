"""Join clips of one person to longer ones, for lengths that single clips do not have."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from training.data.clip_shards import ClipEntry
from training.evaluation.figures import consecutive_groups
from training.evaluation.validation import TruthClip


def rows_of_clips(entries: Sequence[ClipEntry], usable: Sequence[int], num_frames: int) -> list[list[int]]:
    """Choose clips that last long enough together.

    Args:
        entries: All clips.
        usable: Those that may be taken.
        num_frames: How long a row must be.

    Returns:
        Rows of clips, each of one person, no clip in two of them; those of a person who has too few clips are missing.
    """
    by_identity = defaultdict(list)
    for index in usable:
        by_identity[entries[index].identity].append(index)
    rows = []
    for members in by_identity.values():
        groups = consecutive_groups([entries[index].num_frames for index in members], num_frames)
        rows += [[members[place] for place in group] for group in groups]
    return rows


def joined(clips: Sequence[TruthClip]) -> TruthClip:
    """Make one clip of several, with cuts between them.

    Args:
        clips: The clips in order.

    Returns:
        One clip; its name says how many others follow the first.
    """
    if len(clips) == 1:
        return clips[0]
    return TruthClip(
        f"{clips[0].clip_id}+{len(clips) - 1}",
        np.concatenate([clip.frames for clip in clips]),
        np.concatenate([clip.samples for clip in clips]),
        {name: np.concatenate([clip.labels[name] for clip in clips]) for name in clips[0].labels},
    )
