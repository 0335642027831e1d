"""What is behind the figure."""

import numpy as np

from training.synthetic.identity import Background, Light
from training.synthetic.mesh_shapes import smooth_step


def paint_backdrop(background: Background, light: Light, num_samples: int) -> np.ndarray:
    """Paint the background.

    Args:
        background: Which.
        light: The lamp, on whose side it is brighter.
        num_samples: Side of the picture.

    Returns:
        Float32 array (num_samples, num_samples, 3), linear light.
    """
    rng = np.random.default_rng(background.seed)
    centres = (np.arange(num_samples) + 0.5) / num_samples
    across, down = np.meshgrid(centres, centres)
    near, far = np.array(background.near_rgb), np.array(background.far_rgb)
    share = _shading(background.style, light, across, down)[..., None]
    image = near * (1 - share) + far * share
    details = {"lights": _lights, "panels": _panels, "shelves": _shelves, "window": _window}
    if background.style in details:
        image = details[background.style](image, across, down, rng)
    return np.clip(image, 0, 1).astype(np.float32)


def _shading(style: str, light: Light, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    if style == "glow":
        return np.clip(1.25 * np.hypot(across - 0.5 - 0.3 * light.direction[0], down - 0.35), 0, 1)
    if style in ("lights", "shelves"):
        return np.clip(0.5 - 0.6 * (across - 0.5) * np.sign(light.direction[0] + 1e-3) + 0.15 * (down - 0.5), 0, 1)
    return np.clip(0.9 * down + 0.1 * across, 0, 1)


def _lights(image: np.ndarray, across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lamps far out of focus."""
    for _ in range(10):
        centre_x, centre_y, radius = rng.uniform(0, 1), rng.uniform(0, 0.8), rng.uniform(0.03, 0.11)
        disc = smooth_step(radius, radius - 0.015, np.hypot(across - centre_x, down - centre_y))
        image = image + 0.1 * disc[..., None] * rng.uniform(0.5, 1.3, 3)
    return image


def _panels(image: np.ndarray, across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Upright panels of a wall."""
    edge = rng.uniform(-0.1, 0.1)
    while edge < 1:
        width = rng.uniform(0.1, 0.28)
        inside = smooth_step(edge, edge + 0.01, across) * smooth_step(edge + width, edge + width - 0.01, across)
        image = image * (1 + rng.uniform(-0.1, 0.1) * inside[..., None])
        edge += width
    return image


def _shelves(image: np.ndarray, across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Books out of focus."""
    shelf = rng.uniform(-0.15, 0.0)
    while shelf < 1:
        height, edge = rng.uniform(0.16, 0.24), rng.uniform(-0.05, 0.0)
        while edge < 1:
            width, book = rng.uniform(0.02, 0.06), height * rng.uniform(0.6, 0.9)
            inside = smooth_step(edge, edge + 0.012, across) * smooth_step(edge + width, edge + width - 0.012, across)
            top, bottom = shelf + height - book, shelf + height - 0.02
            inside = inside * smooth_step(top, top + 0.012, down) * smooth_step(bottom, bottom - 0.012, down)
            image = image * (1 - 0.6 * inside[..., None]) + 0.6 * inside[..., None] * image * rng.uniform(0.3, 1.6, 3)
            edge += width * rng.uniform(1.0, 1.2)
        board = smooth_step(0.018, 0.006, np.abs(down - shelf - height))
        image = image * (1 - 0.35 * board[..., None])
        shelf += height
    return image


def _window(image: np.ndarray, across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bright window on one side, with bars."""
    left, width, bottom = rng.choice((rng.uniform(-0.1, 0.1), rng.uniform(0.65, 0.8))), 0.35, rng.uniform(0.55, 0.8)
    inside = smooth_step(left, left + 0.02, across) * smooth_step(left + width, left + width - 0.02, across)
    inside = inside * smooth_step(bottom, bottom - 0.02, down)
    bars = smooth_step(0.012, 0.004, np.abs(across - left - width / 2))
    bars = np.maximum(bars, smooth_step(0.012, 0.004, np.abs(down - bottom / 2)))
    pane = (inside * (1 - 0.6 * bars))[..., None]
    sky = np.array([0.75, 0.85, 0.95]) * rng.uniform(0.7, 1.0)
    return image * (1 - 0.75 * pane) + 0.75 * pane * sky
