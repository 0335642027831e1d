"""LFG's losses for pairs with known motion: encoder and decoder learn to draw from it, and to fool a discriminator."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.objectives.box_masks import box_mask, mouth_box_mask, open_eye_boxes
from training.objectives.losses import discriminator_loss, generator_adversarial_loss, pixel_gradient_loss
from training.objectives.picture_discriminator import PictureDiscriminator, squares_of_details

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
        discriminator: Judges mouths and eyes; None: pixels alone are compared.
        adversarial_weight: Weight of its verdict.
    """

    def __init__(
        self,
        lfg: LatentFlowGenerator,
        mouth_weight: float,
        eye_weight: float,
        hidden_weight: float,
        scales: tuple[float, ...],
        discriminator: PictureDiscriminator | None = None,
        adversarial_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self._discriminator = (discriminator,)  # a tuple hides it from the modules: it has its own objective
        self.adversarial_weight = adversarial_weight
        self.lfg, self.scales = lfg, scales
        self.mouth_weight, self.eye_weight, self.hidden_weight = mouth_weight, eye_weight, hidden_weight

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch of `KnownPairs`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; does not matter.

        Returns:
            "reconstruction", with a discriminator "adversarial", and "loss".
        """
        drawn = draw_known(self.lfg, batch)
        terms = {"reconstruction": pixel_gradient_loss(drawn, batch["driving"], self.scales, self.weight_map(batch))}
        (discriminator,) = self._discriminator
        if discriminator is None:
            return terms | {"loss": terms["reconstruction"]}
        # its weights are constants here: they learn from their own objective only
        constants = {key: value.detach() for key, value in discriminator.named_parameters()}
        verdict = functional_call(discriminator, constants, (squares_of_details(drawn, batch),))
        terms["adversarial"] = generator_adversarial_loss(*verdict)
        return terms | {"loss": terms["reconstruction"] + self.adversarial_weight * terms["adversarial"]}

    def weight_map(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weigh the pixels (B, 1, H, W) of driving pictures."""
        size = batch["driving"].shape[-2:]
        mouth = mouth_box_mask(_widened(batch["mouth_px"])[:, None], size, *size)[:, :, 0]
        eyes = box_mask(open_eye_boxes(batch["eyes_px"]), *size).amax(dim=1, keepdim=True)
        hidden = 1 - functional.interpolate(batch["occlusion"], size, mode="bilinear", align_corners=False)
        extra = (self.mouth_weight - 1) * mouth + (self.eye_weight - 1) * eyes + (self.hidden_weight - 1) * hidden
        return 1 + extra


class DetailDiscriminatorObjective(nn.Module):
    """The loss of the discriminator of mouths and eyes.

    Args:
        discriminator: What is trained.
        lfg: The network whose pictures it judges.
    """

    def __init__(self, discriminator: PictureDiscriminator, lfg: LatentFlowGenerator) -> None:
        super().__init__()
        self.discriminator = discriminator
        self._lfg = (lfg,)  # hidden from the modules: it has its own objective

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss on a batch of `KnownPairs`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; does not matter.

        Returns:
            The "loss".
        """
        (lfg,) = self._lfg
        with torch.no_grad():
            drawn = draw_known(lfg, batch)
        real, fake = (self.discriminator(squares_of_details(part, batch)) for part in (batch["driving"], drawn))
        return {"loss": discriminator_loss(real.logits, fake.logits, real.mask)}


def draw_known(lfg: LatentFlowGenerator, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Draw the driving pictures (B, 3, H, W) of a batch of `KnownPairs` from source and motion."""
    flow, occlusion = batch["flow"][:, None], batch["occlusion"][:, None]
    encoded = lfg.encode_image(batch["source"])
    return lfg.decoder(encoded, flow, occlusion, lfg.decoder.blocks())[:, 0]


def _widened(mouth_px: torch.Tensor) -> torch.Tensor:
    middle = mouth_px.mean(dim=-2, keepdim=True)
    return middle + (1 + 2 * MOUTH_MARGIN) * (mouth_px - middle)
