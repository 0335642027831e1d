"""From speech to the mouth: two numbers per frame that the denoiser is told beside speech itself."""

import torch
from torch import nn
from torch.nn import functional

# how far open and how wide
NUM_MOUTH_NUMBERS = 2
# of both, over the height of the face, in films and puppets; width counts from what is usual of the mouth
MOUTH_MEANS, MOUTH_DEVIATIONS = (0.025, 0.0), (0.025, 0.02)
# least and largest opening and width, over the height of the face: what hardly any frame of films and puppets exceeds
MOUTH_LIMITS = ((0.0, 0.12), (-0.05, 0.05))
KERNEL = 5


class MouthReader(nn.Module):
    """Read from speech features how far a mouth is open and how wide it is.

    Not of the paper, whose denoiser finds lips in the speech features by itself. How far a mouth opens is one number
    among thousands of cells of motion; told as a number, as pose and blinks are, few training steps teach lips to
    follow it, and what follows from it is sharp.

    Args:
        audio_dim: Width of the speech features.
        channels: Channels of the layers.
        num_layers: Convolutions over time; each sees two frames more to either side.
        dropout: Share of the channels that are lost in training; with .2, it learns the voices of few films by heart.
    """

    def __init__(self, audio_dim: int, channels: int, num_layers: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(audio_dim)
        self.linear_in = nn.Linear(audio_dim, channels)
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2) for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(channels)
        self.linear_out = nn.Linear(channels, NUM_MOUTH_NUMBERS)

    def forward(self, audio_features: torch.Tensor) -> torch.Tensor:
        """Map speech features (B, F, D) to the mouth (B, F, 2), see `A2VFlowDiffusionModel.forward`."""
        x = self.linear_in(self.dropout(self.norm_in(audio_features)))
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            hidden = self.dropout(functional.gelu(norm(x)))
            x = x + convolution(hidden.transpose(1, 2)).transpose(1, 2)
        return self.linear_out(functional.gelu(self.norm_out(x)))


def bounded_mouth(mouth: torch.Tensor) -> torch.Tensor:
    """Bound what was read by what mouths do: told of a mouth as no film shows it, a denoiser smears lips.

    Args:
        mouth: Opening and width (..., 2), less `MOUTH_MEANS` and over `MOUTH_DEVIATIONS`.

    Returns:
        The same, within `MOUTH_LIMITS`.
    """
    means, deviations = mouth.new_tensor(MOUTH_MEANS), mouth.new_tensor(MOUTH_DEVIATIONS)
    least, largest = ((mouth.new_tensor(limit) - means) / deviations for limit in zip(*MOUTH_LIMITS, strict=True))
    return mouth.clamp(least, largest)
