"""The Fréchet distance between features of made and of real pictures or videos: FID, FVD16, FVD32."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

# the distance is found once without each of so many groups of clips; of wide features that takes seconds
JACKKNIFE_GROUPS = 10


class FeatureStatistics:
    """Mean and covariance of features that come batch by batch, in float64.

    Neither the sizes nor the order of the batches change them beyond rounding (pairwise update of Chan, Golub and
    LeVeque 1983).

    Attributes:
        count: How many features came.
        mean: Their mean (D,).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def update(self, features: np.ndarray) -> None:
        """Add features.

        Args:
            features: Array (N, D), finite, N at least 1, of the same width D every time.

        Raises:
            ValueError: The shape does not fit, or a feature is not finite.
        """
        features = np.asarray(features, np.float64)
        width = len(self.mean) if self.count else features.shape[-1] if features.ndim == 2 else 0
        if features.ndim != 2 or features.shape[1] != width or 0 in features.shape:
            raise ValueError(f"`features` is {features.shape}, must be (N, {width or 'D'}) with N at least 1")
        if not np.isfinite(features).all():
            raise ValueError("`features` has values that are not finite, all must be")
        if not self.count:
            self.mean, self._scatter = np.zeros(width), np.zeros((width, width))
        mean = features.mean(axis=0)
        centred, step = features - mean, mean - self.mean
        total = self.count + len(features)
        self._scatter += centred.T @ centred + np.outer(step, step) * (self.count * len(features) / total)
        self.mean = self.mean + step * (len(features) / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """Compute the covariance (D, D), with N - 1 in the denominator.

        Returns:
            The covariance.

        Raises:
            ValueError: Fewer than two features came.
        """
        if self.count < 2:
            raise ValueError(f"`features` came {self.count} times, must come at least twice to have a covariance")
        return self._scatter / (self.count - 1)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Compute the squared Fréchet distance of two Gaussians with the means and covariances of two sets of features.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau 1982). At least 0, 0 for equal statistics; lower is
    better. Of Inception's features of single pictures it is FID (Heusel et al. 2017), of I3D's features of videos of
    16 or 32 frames FVD16 or FVD32 (Unterthiner et al. 2018). It is too high for few features, all the more for fewer
    than D: only distances of equally many can be compared.

    Args:
        first: Statistics of one set, of at least two features.
        second: Those of the other.

    Returns:
        The distance, symmetric in the two.

    Raises:
        ValueError: The widths differ, or a set has fewer than two features.
    """
    if len(first.mean) != len(second.mean):
        raise ValueError(
            f"`first` has features of width {len(first.mean)}, `second` of {len(second.mean)}; both must be equal"
        )
    roots = [_root(statistics.covariance()) for statistics in (first, second)]
    # tr (C1 C2)^(1/2) is the sum of the singular values of A1' A2 where C = A A': no root of rounding errors is taken
    shared = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum() if min(r.shape[1] for r in roots) else 0.0
    spread = sum(np.square(root).sum() for root in roots)
    return max(0.0, float(np.square(first.mean - second.mean).sum() + spread - 2 * shared))


def jackknife_interval(distance: float, clips: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float] | None:
    """Compute the 95 % interval of a distance over clips, by leaving out a tenth of them at a time.

    A jackknife of groups (Tukey 1958; Shao and Tu 1995, section 2.3) with Student's t. The bootstrap does not serve
    here: clips that are drawn twice narrow the covariance, and every resample is farther away than the whole.

    Args:
        distance: Of all clips.
        clips: Of every clip, the features of what was made (N, D) and of what is real (M, D).

    Returns:
        Lower end, at least 0, and upper end; None for fewer than four clips, or where leaving out a group leaves too
        few features.

    Raises:
        ValueError: As for `FeatureStatistics`.
    """
    count = min(len(clips), JACKKNIFE_GROUPS)
    if count < 4:
        return None
    found = []
    for group in range(count):
        pair = FeatureStatistics(), FeatureStatistics()
        for index, features in enumerate(clips):
            if index % count != group:
                for statistics, one in zip(pair, features, strict=True):
                    statistics.update(one)
        if min(statistics.count for statistics in pair) < 2:
            return None
        found.append(frechet_distance(*pair))
    deviation = np.sqrt((count - 1) * np.var(found))
    reach = float(student.ppf(0.975, count - 1) * deviation)
    return max(0.0, distance - reach), distance + reach


def window_starts(num_frames: int, length: int) -> range:
    """Split a clip into windows that do not overlap; a rest that is shorter is left out.

    Args:
        num_frames: Frames of the clip.
        length: Frames of a window, at least 1.

    Returns:
        First frames of the windows; none where the clip is too short.

    Raises:
        ValueError: `length` is not positive.
    """
    if length < 1:
        raise ValueError(f"`length` is {length}, must be at least 1")
    return range(0, num_frames - length + 1, length)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A (D, R) with A A' = covariance, of its rank R: directions within rounding of zero have no length."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])
