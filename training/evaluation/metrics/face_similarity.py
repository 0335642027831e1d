"""How alike two faces are, by embeddings of them: CSIM."""

import numpy as np


def csim(embeddings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Compute the cosine similarity of face embeddings (CSIM; Zakharov et al. 2019).

    From -1 to 1 (same direction); higher is better. The embeddings must be ArcFace's (Deng et al. 2019) for the
    figure of the paper's tables; those of another network are comparable with nothing but themselves.

    Args:
        embeddings: Embeddings of the frames (F, D).
        reference: Embedding of the portrait (D,), or one for each frame (F, D).

    Returns:
        Float64 array (F,).

    Raises:
        ValueError: The shapes do not fit, or an embedding has no length.
    """
    embeddings, reference = np.asarray(embeddings, np.float64), np.asarray(reference, np.float64)
    if embeddings.ndim != 2 or reference.shape not in (embeddings.shape, embeddings.shape[1:]):
        raise ValueError(
            f"`embeddings` is {embeddings.shape} and `reference` {reference.shape}, must be (F, D), and (D,) or (F, D)"
        )
    lengths = np.linalg.norm(embeddings, axis=-1) * np.linalg.norm(reference, axis=-1)
    if not (lengths > 0).all() or not np.isfinite(lengths).all():
        raise ValueError("`embeddings` and `reference` must be finite and longer than 0, one is not")
    return np.clip((embeddings * reference).sum(axis=-1) / lengths, -1, 1)
