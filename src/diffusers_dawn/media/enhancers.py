"""A function of the user's own that makes frames better before they are written, such as a model for faces."""

import importlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from .backgrounds import colours_without_white, lay_over

# from uint8 frames (N, S, S, 3), RGB, to as many that are square, too, and all of one size
Enhancer = Callable[[np.ndarray], np.ndarray]


def read_enhancer(given: str, name: str = "enhance") -> Enhancer:
    """Find a function that can be imported.

    Args:
        given: Its module and its name, as "package.module:function".
        name: Argument name for error messages.

    Returns:
        The function.

    Raises:
        ValueError: The words are of another form, or nothing of that name can be imported and called.
    """
    module_name, _, function_name = given.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise ValueError(f"`{name}` is {given!r}, must be detail, or your own function as package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"`{name}` is {given!r}, which cannot be imported ({error}); the environment variable PYTHONPATH says"
            " where else Python looks"
        ) from error
    except (Exception, SystemExit) as error:  # the user's module may do anything, also end like a program
        raise ValueError(f"`{name}` is {given!r}, whose import fails: {_in_words(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"`{name}` is {given!r}, but {module_name} has no function {function_name}")
    return function


def enhance_each(pieces: Iterable[np.ndarray], enhancer: Enhancer, name: str = "enhance") -> Iterator[np.ndarray]:
    """Enhance frames a few at a time, as they come.

    Args:
        pieces: uint8 arrays (N, S, S, 3), RGB, or (N, S, S, 4) with opacity. The enhancer sees these over white; the
            white is taken out afterwards, and the opacity is resized to its frames (bicubic).
        enhancer: The function; it is called once for every piece, in order.
        name: Argument name for error messages.

    Yields:
        uint8 arrays (N, S', S', 3) or (N, S', S', 4).

    Raises:
        ValueError: The function fails, or returned anything but as many uint8 frames, square and of one size.
    """
    side = None
    for piece in pieces:
        has_opacity = piece.shape[-1] == 4
        shown = lay_over(piece, np.full((*piece.shape[1:3], 3), 255, np.uint8)) if has_opacity else piece
        try:
            frames = enhancer(shown)
        except Exception as error:
            raise ValueError(f"`{name}` fails: {_in_words(error)}") from error
        side = _check_enhanced(frames, len(piece), side, name)
        yield _with_opacity(frames, piece[..., 3]) if has_opacity else frames


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _check_enhanced(frames: object, num_frames: int, side: int | None, name: str) -> int:
    """Refuse what cannot be frames of a video; return their side."""
    is_array = isinstance(frames, np.ndarray)
    if is_array and frames.ndim == 4 and frames.dtype == np.uint8:
        wanted = frames.shape[1] if side is None else side
        if wanted > 0 and frames.shape == (num_frames, wanted, wanted, 3):
            return wanted
    found = f"{frames.dtype} {frames.shape}" if is_array else f"a {type(frames).__name__}"
    wanted = "S" if side is None else side
    raise ValueError(f"`{name}` returned {found}, must return a uint8 array ({num_frames}, {wanted}, {wanted}, 3)")


def _with_opacity(frames: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Give frames (N, S', S', 3) over white the opacity (N, S, S) of smaller ones, and take the white out."""
    size = frames.shape[2], frames.shape[1]
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in opacity]
    planes = np.stack(planes)[..., None]
    colours = colours_without_white(frames.astype(np.float32) / 255, planes.astype(np.float32) / 255)
    return np.concatenate([np.rint(255 * colours).astype(np.uint8), planes], axis=-1)
