"""A denoiser small enough for tests, and inputs for it."""

import torch

WINDOW = 4
TINY = {
    "sample_size": 8,
    "reference_channels": 5,
    "face_location_channels": 4,
    "block_out_channels": (8, 16),
    "audio_dim": 6,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "condition_heads": 2,
    "condition_head_dim": 4,
    "temporal_window": WINDOW,
    "position_buckets": 8,
    "position_max_distance": 12,
    "norm_num_groups": 4,
}


def inputs_for(batch: int = 1, frames: int = 5, size: int = 8, dtype: torch.dtype = torch.float32) -> dict:
    generator = torch.Generator().manual_seed(frames)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator).to(dtype)

    return {
        "sample": normal(3, frames, size, size),
        "timestep": torch.randint(1000, (batch,), generator=generator),
        "reference_features": normal(5, size, size),
        "face_mask": (normal(1, 4 * size, 4 * size) > 0).to(dtype),
        "audio_features": normal(frames, 6),
        "pose": normal(frames, 6),
        "blink": normal(frames, 2),
    }
