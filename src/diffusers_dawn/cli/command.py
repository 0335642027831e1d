"""The `dawn` command: animate portraits, convert published checkpoints, make a pipeline with random weights."""

import argparse
import sys
import traceback
from collections.abc import Sequence

from ..machine.allocator import keep_freed_memory
from ..machine.standard_streams import open_missing_streams
from ..machine.stopping import stopped_by_signals
from ..machine.threads import fit_threads
from .animate import animate
from .batch import batch
from .checkpoint import load_pipeline
from .compare import compare
from .inputs import check_given
from .messages import PatientStream, describe_error, plain_warnings, quiet_libraries, say
from .options import COMMANDS, LARGEST_SEED, check_model_options, command_parser


def program() -> int:
    """Run the command as the program `dawn`.

    Returns:
        Exit status, as of `main`.
    """
    open_missing_streams()
    keep_freed_memory()
    fit_threads()
    sys.stdout, sys.stderr = PatientStream(sys.stdout), PatientStream(sys.stderr)
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after `dawn`; None: those of the process.

    Returns:
        Exit status: 0 done, 1 refused, 2 wrong usage, 130 interrupted.
    """
    functions, options = (animate, batch, studio, compare, convert, init, community, onnx), None
    try:
        with stopped_by_signals(), plain_warnings():
            options = command_parser(dict(zip(COMMANDS, functions, strict=True))).parse_args(arguments)
            check_given(options)
            options.run(options)
    except KeyboardInterrupt as interruption:
        print(f"dawn: interrupted, {interruption if interruption.args else 'nothing was written'}", file=sys.stderr)
        return 130
    except Exception as error:
        if options is not None and options.debug:
            traceback.print_exc()
        else:
            print(f"dawn: {describe_error(error)}", file=sys.stderr)
        return 1
    return 0


def studio(options: argparse.Namespace) -> None:
    """Open the studio, a page in the browser; see `dawn studio --help`.

    Args:
        options: The parsed options.
    """
    # by its public name: the page is built on this room
    from .. import serve_studio

    quiet_libraries()
    serve_studio(options)


def convert(options: argparse.Namespace) -> None:
    """Turn published checkpoints into a saved pipeline; see `dawn convert --help`.

    Args:
        options: The parsed options.
    """
    from ..conversion.published import convert_published
    from ..sharing.checkpoint_folder import check_new_folder, save_new

    quiet_libraries()
    check_new_folder(options.output)
    pipe = convert_published(
        options.dawn,
        options.lfg,
        options.hubert,
        options.pbnet_pose,
        options.pbnet_blink,
        size_px=options.size,
        full=options.full,
        say=say,
    )
    save_new(pipe, options.output, options.layout)
    say(f"wrote {options.output}")


def init(options: argparse.Namespace) -> None:
    """Save a pipeline with random weights; see `dawn init --help`.

    Args:
        options: The parsed options.
    """
    from ..conversion.random_pipeline import random_pipeline
    from ..sharing.checkpoint_folder import check_new_folder, save_new

    if not 0 <= options.seed <= LARGEST_SEED:
        raise ValueError(f"`--seed` is {options.seed}, must be from 0 to {LARGEST_SEED}")
    quiet_libraries()
    check_new_folder(options.output)
    save_new(random_pipeline(options.size, options.seed), options.output, options.layout)
    say(f"wrote {options.output}: its weights are random, so videos show noise until it is trained")


def community(options: argparse.Namespace) -> None:
    """Write the single file for diffusers' examples/community; see `dawn export-community --help`.

    Args:
        options: The parsed options.
    """
    from ..sharing.hub_export import export_community

    path, readme = export_community(options.output)
    say(f"wrote {path}, and {readme} with the row and section for diffusers' README")


def onnx(options: argparse.Namespace) -> None:
    """Write the networks of a checkpoint as ONNX graphs; see `dawn export-onnx --help`.

    Args:
        options: The parsed options.
    """
    from ..graphs.export import export_onnx
    from ..sharing.checkpoint_folder import check_new_folder

    quiet_libraries()
    check_new_folder(options.output)
    check_model_options(options)
    export_onnx(load_pipeline(options), options.output, "--checkpoint")
    say(f"wrote {options.output}: five graphs and what else a program needs, see docs/onnx.md")
