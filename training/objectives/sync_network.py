"""A small SyncNet: embeddings of lips and of sound that lie together where the two are of the same moment."""

import math
from typing import NamedTuple

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ

MOUTH_PX = 32
# of the face's box, in its widths: from its top to the upper side of the mouth's square, and the square's side. The
# box's lower side moves with the jaw, whose movement must stay in the picture
MOUTH_TOP, MOUTH_SIDE = 0.6, 0.8
# boxes tremble, the head does not: mean over so many frames
STEADY_FRAMES = 5
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
BANDS_PER_FRAME = 4
HOP = SAMPLES_PER_FRAME // BANDS_PER_FRAME
WINDOW, FFT_SIZE, NUM_BANDS = 400, 512, 40
LOWEST_HZ, HIGHEST_HZ, LEAST_ENERGY = 60.0, 7600.0, 1e-5


class SyncEmbeddings(NamedTuple):
    """Embeddings of every frame, of length 1.

    Attributes:
        lips: Tensor (B, F, D).
        sound: Tensor (B, F, D).
    """

    lips: torch.Tensor
    sound: torch.Tensor


class SyncNetwork(ModelMixin, ConfigMixin):
    """Embed what lips do and what sounds around each frame (after Chung and Zisserman 2016).

    Both see about a fifth of a second around the frame. Pictures come without colours, and beside them what differs
    from their mean over time: who speaks does not matter.

    Args:
        channels: Channels of the three convolutions of each picture.
        width: Channels of the convolutions in time.
        embedding_dim: Width of the embeddings D.
    """

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (16, 32, 64), width: int = 128, embedding_dim: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((2, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
        cells = (MOUTH_PX // 2 ** len(channels)) ** 2
        self.picture = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * cells, width), nn.GELU())
        self.lips = _in_time(width, width, embedding_dim)
        self.bands = nn.Sequential(
            nn.Conv1d(NUM_BANDS, width, 3, padding=1), nn.GELU(), nn.Conv1d(width, width, BANDS_PER_FRAME, stride=4)
        )
        self.sound = _in_time(width, width, embedding_dim)
        # how much similarities count in the loss
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, mouths: torch.Tensor, bands: torch.Tensor) -> SyncEmbeddings:
        """Embed clips.

        Args:
            mouths: Pictures (B, F, S, S), see `mouth_squares`.
            bands: Sound (B, 4 F, N), see `sound_bands`.

        Returns:
            The embeddings.
        """
        pictures = torch.stack((mouths - 0.5, mouths - mouths.mean(dim=1, keepdim=True)), dim=2)
        shown = self.picture(pictures.flatten(0, 1)).unflatten(0, mouths.shape[:2])
        heard = functional.gelu(self.bands(bands.mT))
        found = self.lips(shown.mT).mT, self.sound(heard).mT
        return SyncEmbeddings(*(functional.normalize(part, dim=-1) for part in found))


def sync_loss(embeddings: SyncEmbeddings, log_scale: torch.Tensor) -> torch.Tensor:
    """Let every frame's lips find their own sound among all of a batch, and every sound its lips (van den Oord 2018).

    Args:
        embeddings: Of the batch.
        log_scale: Logarithm of what similarities are multiplied by.

    Returns:
        The mean cross-entropy.
    """
    lips, sound = (part.flatten(0, 1) for part in embeddings)
    logits = log_scale.exp() * lips @ sound.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def mouth_squares(pictures: torch.Tensor, face_box_px: torch.Tensor) -> torch.Tensor:
    """Cut out the squares around mouths.

    Args:
        pictures: RGB (F, 3, H, W) in [0, 1].
        face_box_px: x_min, x_max, y_min, y_max (F, 4) [px], finite.

    Returns:
        Grey pictures (F, S, S) in [0, 1]; black beyond the pictures' border.
    """
    boxes = face_box_px.to(pictures)
    margin = STEADY_FRAMES // 2
    padded = functional.pad(boxes.T[None], (margin, margin), mode="replicate")
    x_min, x_max, y_min, _ = functional.avg_pool1d(padded, STEADY_FRAMES, 1)[0]
    width = (x_max - x_min).clamp(min=1)
    side = MOUTH_SIDE * width
    left, top = (x_min + x_max - side) / 2, y_min + MOUTH_TOP * width
    places = (torch.arange(MOUTH_PX, device=boxes.device) + 0.5) / MOUTH_PX
    sizes = pictures.shape[-1], pictures.shape[-2]
    columns, rows = (
        2 * (start[:, None] + side[:, None] * places) / size - 1
        for start, size in zip((left, top), sizes, strict=True)
    )
    shape = len(pictures), MOUTH_PX, MOUTH_PX
    grid = torch.stack((columns[:, None].expand(shape), rows[:, :, None].expand(shape)), dim=-1)
    grey = pictures.mean(dim=1, keepdim=True)
    return functional.grid_sample(grey, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]


def sound_bands(samples: torch.Tensor) -> torch.Tensor:
    """Compute how loud the bands of a recording are, four times per frame.

    Args:
        samples: Mono sound (640 F,) at 16 kHz.

    Returns:
        Logarithms (4 F, N) [decades] above or below their mean: how loud the whole is does not matter.
    """
    margin = (FFT_SIZE - HOP) // 2
    padded = functional.pad(samples.float(), (margin, margin))
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(padded, FFT_SIZE, HOP, WINDOW, window, center=False, return_complex=True)
    filters = torch.from_numpy(_filters()).to(samples.device)
    energy = spectrum.abs().square().T.float() @ filters
    levels = energy.clamp(min=LEAST_ENERGY).log10()
    return levels - levels.mean()


def _filters() -> np.ndarray:
    filters = mel_filter_bank(FFT_SIZE // 2 + 1, NUM_BANDS, LOWEST_HZ, HIGHEST_HZ, SAMPLE_RATE_HZ)
    return filters.astype(np.float32)


def _in_time(before: int, width: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(before, width, 3, padding=1), nn.GELU(), nn.Conv1d(width, after, 3, padding=1))
