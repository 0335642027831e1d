"""How well lips and sound agree, by embeddings of both: SyncNet's LSE-D, LSE-C and offset."""

from typing import NamedTuple

import numpy as np

# 0.6 s at 25 frames per second, as in SyncNet's own evaluation
MAX_OFFSET_FRAMES = 15


class LipSync(NamedTuple):
    """What the offset search found.

    Attributes:
        confidence: LSE-C: the median over all offsets of the mean distance, minus the least; at least 0, higher is
            better.
        distance: LSE-D: the mean distance at the best offset; at least 0, lower is better.
        offset_frames: The best offset, positive where the lips come later than their sound; 0 is best.
    """

    confidence: float
    distance: float
    offset_frames: int


def lip_sync(video: np.ndarray, sound: np.ndarray, max_offset_frames: int = MAX_OFFSET_FRAMES) -> LipSync:
    """Search the offset at which lips and sound agree best (SyncNet, Chung and Zisserman 2016).

    LSE-D and LSE-C are its distance and confidence (Wav2Lip, Prajwal et al. 2020). At every offset the mean is
    taken of the Euclidean distances between the embedding of each video frame and that of the sound so many frames
    away; where the sound has not begun or has ended, that embedding is 0, as in SyncNet's own evaluation.

    Args:
        video: Embeddings of the lips around each frame (F, D).
        sound: Embeddings of the sound around each frame (F, D).
        max_offset_frames: Largest offset in either direction [frames].

    Returns:
        Confidence, distance and offset; of equal distances the offset nearest to 0.

    Raises:
        ValueError: The shapes do not fit, an embedding is not finite, or `max_offset_frames` is not positive.
    """
    video, sound = np.asarray(video, np.float64), np.asarray(sound, np.float64)
    if video.ndim != 2 or video.shape != sound.shape or 0 in video.shape:
        raise ValueError(f"`video` is {video.shape} and `sound` {sound.shape}, must be equal: (F, D)")
    if not (np.isfinite(video).all() and np.isfinite(sound).all()):
        raise ValueError("`video` and `sound` must be finite, an embedding is not")
    if max_offset_frames < 1:
        raise ValueError(f"`max_offset_frames` is {max_offset_frames}, must be at least 1")
    num_frames = len(video)
    padded = np.pad(sound, ((max_offset_frames, max_offset_frames), (0, 0)))
    # lips that come late agree with earlier sound
    offsets = sorted(range(-max_offset_frames, max_offset_frames + 1), key=abs)
    starts = [max_offset_frames - offset for offset in offsets]
    distances = [float(np.linalg.norm(video - padded[start : start + num_frames], axis=1).mean()) for start in starts]
    least = min(distances)
    return LipSync(float(np.median(distances)) - least, least, offsets[distances.index(least)])
