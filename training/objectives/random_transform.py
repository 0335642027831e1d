"""Random smooth deformations of images; regions must move along with them (equivariance)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from diffusers_dawn.geometry.flow import coordinate_grid, transform_points

# keeps the logarithm of the spline finite at a control point
SMALLEST_DISTANCE_SQUARED = 1e-12


@dataclass(frozen=True)
class RandomTransform:
    """An affine map plus a thin-plate spline per sample (first order motion model, supplementary A.1).

    T(z) = A·z + b + sum over control points c of w_c·r²·log(r), r = |z - c|. Positions are those of
    `geometry.flow.coordinate_grid`, in which regions are measured. The released code differs in r, the sum of the
    absolute differences there, and moves x and y by the same amount; this is the spline that it names. At the same
    sigma the released one moves points about 2.6 times as far (root mean square over the image).

    Attributes:
        affine: A and b side by side (B, 2, 3).
        spline_weights: w (B, P, 2).
        control_points: c (P, 2).
    """

    affine: torch.Tensor
    spline_weights: torch.Tensor
    control_points: torch.Tensor

    @classmethod
    def draw(
        cls,
        seeds: Sequence[int | torch.Generator] | torch.Tensor,
        sigma_affine: float = 0.05,
        sigma_spline: float = 0.005,
        num_points: int = 5,
        device: torch.device | str | None = None,
    ) -> "RandomTransform":
        """Draw one transform per sample; it depends on the sample's own seed only.

        Args:
            seeds: One seed or generator per sample, B in all; an integer tensor (B,) does as well.
            sigma_affine: Standard deviation of the elements of A (around the identity) and b.
            sigma_spline: Standard deviation of the elements of w.
            num_points: Control points per row and per column; 0: no spline.
            device: Where the transform lives; None: the CPU.

        Returns:
            The transforms.

        Raises:
            ValueError: There is no seed, or a number is negative.
        """
        if len(seeds) == 0:
            raise ValueError("`seeds` is empty, must hold one per sample")
        if sigma_affine < 0 or sigma_spline < 0 or num_points < 0:
            raise ValueError(
                f"`sigma_affine` ({sigma_affine}), `sigma_spline` ({sigma_spline}) and `num_points` ({num_points}) "
                "must not be negative"
            )
        affine, weights = [], []
        for seed in seeds:
            generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(int(seed))
            noise = torch.randn(6 + 2 * num_points**2, generator=generator, device=generator.device)
            noise = noise.to(device or "cpu")
            affine.append(sigma_affine * noise[:6].view(2, 3))
            weights.append(sigma_spline * noise[6:].view(-1, 2))
        return cls(
            torch.eye(2, 3, device=device) + torch.stack(affine),
            torch.stack(weights),
            coordinate_grid(num_points, num_points, device).reshape(-1, 2),
        )

    def warp_points(self, points: torch.Tensor) -> torch.Tensor:
        """Map points.

        Args:
            points: Points (B, K, 2), or (1, K, 2) for the same ones in every sample.

        Returns:
            Float32 points (B, K, 2).

        Raises:
            ValueError: The shape does not fit.
        """
        points = self._checked(points)
        _, squared = self._offsets(points)
        bumps = squared * (squared + SMALLEST_DISTANCE_SQUARED).log() / 2  # r² log r
        with torch.autocast(points.device.type, enabled=False):
            bent = bumps @ self.spline_weights  # (B, K, 2)
        return transform_points(self.affine[:, None, :, :2], points) + self.affine[:, None, :, 2] + bent

    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """Compute the derivative of the map, in closed form.

        Args:
            points: Points (B, K, 2), or (1, K, 2) for the same ones in every sample.

        Returns:
            Float32 matrices (B, K, 2, 2): row i, column j is the derivative of coordinate i by coordinate j.

        Raises:
            ValueError: The shape does not fit.
        """
        points = self._checked(points)
        offset, squared = self._offsets(points)
        kept = squared + SMALLEST_DISTANCE_SQUARED
        slopes = offset * (kept.log() + squared / kept)[..., None]  # (B, K, P, 2)
        with torch.autocast(points.device.type, enabled=False):
            bent = self.spline_weights.mT[:, None] @ slopes  # (B, 1, 2, P) @ (B, K, P, 2)
        return self.affine[:, None, :, :2] + bent

    def warp_image(self, image: torch.Tensor) -> torch.Tensor:
        """Make the image that shows at z what the given one shows at T(z); beyond its border it is mirrored.

        Unlike elsewhere (see `geometry.flow`), -1 and 1 are the centres of the outermost pixels here, as they are for
        regions: the released code mixes both, which makes even the identity enlarge the image a little.

        Args:
            image: Images (B, C, H, W).

        Returns:
            Images (B, C, H, W) in the dtype of `image`.

        Raises:
            ValueError: The shape does not fit.
        """
        if image.ndim != 4 or len(image) != len(self.affine):
            raise ValueError(f"`image` is {tuple(image.shape)}, must be ({len(self.affine)}, C, H, W)")
        height, width = image.shape[-2:]
        grid = coordinate_grid(height, width, image.device).reshape(1, -1, 2)
        positions = self.warp_points(grid).unflatten(1, (height, width))
        warped = functional.grid_sample(image.float(), positions, padding_mode="reflection", align_corners=True)
        return warped.to(image.dtype)

    def _offsets(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # from the control points (B, K, P, 2), and their squared lengths
        offset = points[:, :, None] - self.control_points
        return offset, offset.square().sum(dim=-1)

    def _checked(self, points: torch.Tensor) -> torch.Tensor:
        if points.ndim != 3 or points.shape[2] != 2 or points.shape[0] not in (1, len(self.affine)):
            raise ValueError(f"`points` is {tuple(points.shape)}, must be ({len(self.affine)} or 1, K, 2)")
        return points.float()
