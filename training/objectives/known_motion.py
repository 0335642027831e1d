"""LFG's loss for pairs with known motion: encoder and decoder learn to draw from it."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.objectives.box_masks import box_mask, mouth_box_mask, open_eye_boxes
from training.objectives.losses import pixel_gradient_loss

# a box around the lips leaves out what moves with them
MOUTH_MARGIN = 0.15


class KnownMotionObjective(nn.Module):
    """Compare what LFG draws by a known motion with the driving picture.

    Args:
        lfg: The network.
        mouth_weight: How much a pixel of the mouth's box counts beside another one.
        eye_weight: The same for the eyes' boxes.
        hidden_weight: The same for what the source does not show.
        scales: Sizes at which pictures are compared.
    """

    def __init__(
        self,
        lfg: LatentFlowGenerator,
        mouth_weight: float,
        eye_weight: float,
        hidden_weight: float,
        scales: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.lfg, self.scales = lfg, scales
        self.mouth_weight, self.eye_weight, self.hidden_weight = mouth_weight, eye_weight, hidden_weight

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch of `KnownPairs`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; does not matter.

        Returns:
            "reconstruction" and "loss", the same.
        """
        encoded = self.lfg.encode_image(batch["source"])
        flow, occlusion = batch["flow"][:, None], batch["occlusion"][:, None]
        drawn = self.lfg.decoder(encoded, flow, occlusion, self.lfg.decoder.blocks())[:, 0]
        loss = pixel_gradient_loss(drawn, batch["driving"], self.scales, self.weight_map(batch))
        return {"reconstruction": loss, "loss": loss}

    def weight_map(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weigh the pixels (B, 1, H, W) of driving pictures."""
        size = batch["driving"].shape[-2:]
        mouth = mouth_box_mask(_widened(batch["mouth_px"])[:, None], size, *size)[:, :, 0]
        eyes = box_mask(open_eye_boxes(batch["eyes_px"]), *size).amax(dim=1, keepdim=True)
        hidden = 1 - functional.interpolate(batch["occlusion"], size, mode="bilinear", align_corners=False)
        extra = (self.mouth_weight - 1) * mouth + (self.eye_weight - 1) * eyes + (self.hidden_weight - 1) * hidden
        return 1 + extra


def _widened(mouth_px: torch.Tensor) -> torch.Tensor:
    middle = mouth_px.mean(dim=-2, keepdim=True)
    return middle + (1 + 2 * MOUTH_MARGIN) * (mouth_px - middle)
