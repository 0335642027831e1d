"""Check what PBNet is given: the shapes of tensors, and which frames of padded clips count."""

import torch


def check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape.

    Args:
        name: Its name for the error message.
        tensor: The tensor.
        shape: What it must be.

    Raises:
        ValueError: It is another.
    """
    if tensor.shape != shape:
        raise ValueError(f"`{name}` is {tuple(tensor.shape)}, must be {shape}")


def size_of_audio(audio_features: torch.Tensor, audio_dim: int) -> tuple[int, int]:
    """Tell how many clips and frames there are features of.

    Args:
        audio_features: Tensor (B, F, D).
        audio_dim: Width D that they must have.

    Returns:
        B and F.

    Raises:
        ValueError: They have another shape, or are empty.
    """
    if audio_features.ndim != 3 or 0 in audio_features.shape or audio_features.shape[2] != audio_dim:
        raise ValueError(
            f"`audio_features` is {tuple(audio_features.shape)}, must be (clips, frames, {audio_dim}),"
            " at least one of each"
        )
    return audio_features.shape[0], audio_features.shape[1]


def mask_of_lengths(
    lengths: torch.Tensor | None, num_batch: int, num_frames: int, device: torch.device
) -> torch.Tensor | None:
    """Mark the frames that belong to their clip.

    Args:
        lengths: Integer tensor (B,), each in 1..F; None: all frames count.
        num_batch: Clips B.
        num_frames: Frames F.
        device: Where the result lives.

    Returns:
        Bool tensor (B, F); None where all count.

    Raises:
        ValueError: A length is out of range, or there is another number of them.
    """
    if lengths is None:
        return None
    check_shape("lengths", lengths, (num_batch,))
    # looking at values would break a compiled graph
    if not torch.compiler.is_compiling() and (lengths.min() < 1 or lengths.max() > num_frames):
        raise ValueError(f"`lengths` is {lengths.tolist()}, must be within 1 and {num_frames}")
    return torch.arange(num_frames, device=device) < lengths.to(device)[:, None]
