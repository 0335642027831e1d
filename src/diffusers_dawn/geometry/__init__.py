"""Grids, warps and masks; windows of frames; motion as latents."""
