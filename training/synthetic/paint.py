"""Numba's building blocks of procedural colour: ramps, bumps, noise and mixtures."""

import math

import numpy as np
from numba import njit


@njit(cache=True, forceinline=True)
def ramp(start, end, value):
    """Rise smoothly from 0 at `start` to 1 at `end`, which may be smaller."""
    share = min(max((value - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)


@njit(cache=True, forceinline=True)
def bump(value):
    """Fall from 1 at 0 like exp(-value²)."""
    return math.exp(-value * value)


@njit(cache=True, forceinline=True)
def mix(first, second, share):
    """Mix two colours; share 0 is the first."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )


@njit(cache=True, forceinline=True)
def scale(rgb, factor):
    """Brighten or darken a colour."""
    return rgb[0] * factor, rgb[1] * factor, rgb[2] * factor


@njit(cache=True)
def cell_noise(column, row):
    """Give every cell of the plane its own number in [0, 1)."""
    mixed = np.uint32(column) * np.uint32(0x9E3779B1) + np.uint32(row) * np.uint32(0x85EBCA77)
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
    mixed = np.uint32((mixed ^ (mixed >> np.uint32(12))) * np.uint32(0x297A2D39))
    return (mixed ^ (mixed >> np.uint32(15))) / 4294967296.0


@njit(cache=True)
def value_noise(x, y):
    """Interpolate random numbers smoothly between the points of the integer grid, in [0, 1]."""
    left, top = math.floor(x), math.floor(y)
    across, down = x - left, y - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    column, row = int(left), int(top)
    upper = cell_noise(column, row) * (1 - across) + cell_noise(column + 1, row) * across
    lower = cell_noise(column, row + 1) * (1 - across) + cell_noise(column + 1, row + 1) * across
    return upper * (1 - down) + lower * down
