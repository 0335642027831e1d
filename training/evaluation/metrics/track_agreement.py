"""How well a track over time follows another one: correlation, and the lag at which it is highest."""

import torch


def pearson_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the correlation of two tracks over time.

    Args:
        first: Tracks (..., F), F at least 2.
        second: Tracks (..., F).

    Returns:
        Float32 tensor (...) in [-1, 1] on the CPU; NaN where a track is constant, as it is undefined there.

    Raises:
        ValueError: The shapes do not fit.
    """
    first, second = _track_pair(first, second)
    # rounding would give a constant a direction
    is_constant = (first.amin(-1) == first.amax(-1)) | (second.amin(-1) == second.amax(-1))
    first, second = (track - track.mean(dim=-1, keepdim=True) for track in (first, second))
    correlation = (first * second).sum(dim=-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    return correlation.clamp(-1, 1).masked_fill(is_constant, torch.nan).float()


def best_lag(first: torch.Tensor, second: torch.Tensor, max_lag: int) -> tuple[int, float]:
    """Find the time shift at which two tracks correlate best.

    Args:
        first: Track (F,).
        second: Track (F,).
        max_lag: Largest shift in either direction [frames], in 0..F - 2.

    Returns:
        The lag [frames], positive where the second track comes later, and the correlation there; of equal ones the
        lag nearest to 0. The correlation is NaN, and the lag 0, if a track is constant.

    Raises:
        ValueError: The shapes do not fit, or `max_lag` is out of range.
    """
    first, second = _track_pair(first, second)
    num_frames = first.shape[-1]
    if first.ndim != 1:
        raise ValueError(f"`first` is {tuple(first.shape)}, must be (F,)")
    if not 0 <= max_lag <= num_frames - 2:
        raise ValueError(f"`max_lag` is {max_lag}, must be within 0 and {num_frames - 2}")
    best, highest = 0, float("nan")
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        early, late = max(-lag, 0), max(lag, 0)
        common = num_frames - abs(lag)
        found = float(pearson_correlation(first[early : early + common], second[late : late + common]))
        if found > highest or highest != highest and found == found:
            best, highest = lag, found
    return best, highest


def _track_pair(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # small and worth float64, which not every device has: the spread may be little beside the mean
    first, second = torch.as_tensor(first).cpu().double(), torch.as_tensor(second).cpu().double()
    if first.ndim < 1 or first.shape != second.shape or first.shape[-1] < 2:
        raise ValueError(
            f"`first` is {tuple(first.shape)} and `second` {tuple(second.shape)}, must be equal: (..., F) with F at "
            "least 2"
        )
    return first, second
