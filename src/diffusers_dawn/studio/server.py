"""`dawn studio`: the page, served until it is interrupted."""

import argparse
from pathlib import Path

from ..cli.messages import say
from .jobs import Studio

# of a clone; the installed package has none
EXAMPLES = Path(__file__).parents[3] / "examples"


def serve_studio(options: argparse.Namespace) -> None:
    """Serve the studio; see `dawn studio --help`.

    Args:
        options: The parsed options.

    Raises:
        ImportError: gradio is not installed.
        ValueError: An option cannot be followed.
    """
    try:
        from .page import launch_page, make_page
    except ImportError as error:
        raise ImportError(f"the studio needs gradio: pip install 'diffusers_dawn[studio]' ({error})") from error
    if options.port is not None and not 0 < options.port < 2**16:
        raise ValueError(f"`--port` is {options.port}, must be from 1 to {2**16 - 1}")
    say("loading the model")
    studio = Studio(
        options.checkpoint, options.lora, options.device, options.dtype, options.max_seconds, options.max_size
    )
    try:
        page = make_page(studio, EXAMPLES if EXAMPLES.is_dir() else None)
        launch_page(page, studio, options.host, options.port, options.mcp)
    finally:
        studio.close()
