"""A PBNet small enough for tests, and inputs for it."""

import torch

from diffusers_dawn.models.pbnet import PoseBlinkNet

AUDIO_DIM = 5
TINY = {
    "audio_dim": AUDIO_DIM,
    "latent_dim": 8,
    "state_width": 6,
    "audio_width": 8,
    "decoder_width": 12,
    "feed_forward_dim": 10,
    "num_layers": 1,
    "num_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    "num_buckets": 8,
    "max_distance": 16,
    "pose_window": 4,
    "blink_window": 6,
}


def make_model(**options) -> PoseBlinkNet:
    torch.manual_seed(0)
    return PoseBlinkNet(**TINY | options).eval()


def make_audio(num_batch: int, num_frames: int) -> torch.Tensor:
    return torch.randn(num_batch, num_frames, AUDIO_DIM, generator=torch.Generator().manual_seed(1))


def make_initial(num_batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    pose = torch.tensor([[10.0, -20.0, 5.0, 5e-4, 56.0, 65.0]]).repeat(num_batch, 1)
    return pose + torch.arange(num_batch)[:, None], torch.full((num_batch, 2), 0.3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
