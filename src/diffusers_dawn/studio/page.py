"""The page itself, made with gradio; it works without a network."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ..cli.messages import say
from .actions import (
    canceller,
    emptier,
    face_finder,
    forecaster,
    leaver,
    list_keyframes,
    made_shower,
    motion_shower,
    recording_reader,
    renderer,
    write_keyframes,
)
from .controls import (
    Controls,
    Motion,
    Portrait,
    make_buttons,
    make_motion,
    make_portrait,
    make_results,
    make_settings,
    make_speech,
    name_what_is_refused,
)
from .jobs import KEPT_S, Studio
from .looks import SAY_WHAT_IS_SEEN, STYLE, readable_theme

MOST_WAITING = 20
SWEEP_EVERY_S = 60
MOST_UPLOAD = "100mb"  # where the length is limited
ONE_JOB = {"concurrency_limit": 1, "concurrency_id": "jobs"}
# events of the page itself, which no program needs
OWN = {"api_visibility": "private", "show_progress": "hidden"}
LATEST = OWN | {"trigger_mode": "always_last"}


def make_page(
    studio: Studio, examples: str | os.PathLike | None = None, on_gpu: Callable[[Callable], Callable] | None = None
) -> gr.Blocks:
    """Make the page; a process has one.

    Args:
        studio: What it renders with.
        examples: Folder with portrait_*.png and speech_*.wav to begin with; None: no examples.
        on_gpu: Wraps the functions that render, as `spaces.GPU` does; they take the portrait, the recording, and more.
            It may call them in a fork of this process, and in the same one again.

    Returns:
        The page; `launch_page` serves it.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # uploads, too, lie in the folder that the studio removes
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder)
    portraits, recordings = _examples_of(examples)
    gr.set_static_paths([*portraits, *recordings])
    page = gr.Blocks(title="DAWN studio", analytics_enabled=False, delete_cache=(SWEEP_EVERY_S, KEPT_S))
    with page:
        gr.Markdown("# DAWN studio\nA portrait and some speech become a talking video.")
        with gr.Row():
            with gr.Column(min_width=300):
                portrait = make_portrait(portraits)
            with gr.Column(min_width=300):
                audio, forecast = make_speech(recordings)
                motion = make_motion()
            with gr.Column(min_width=300):
                seed, preset, size, speech, label, enhance = make_settings(studio)
                buttons = make_buttons()
                results, line = make_results()
        controls = Controls(
            portrait.image, audio, seed, preset, motion.head_motion, motion.text, size, speech, label,
            portrait.face_index, enhance, *portrait[-3:],
        )  # fmt: skip
        for control in controls:
            if isinstance(control, gr.Number | gr.Slider | gr.Radio):
                name_what_is_refused(control)
        drawn = {"fn": motion_shower(studio), "inputs": list(controls), "outputs": motion.plot} | LATEST
        _show_what_was_found(studio, controls, portrait, forecast, drawn)
        _show_motion(motion, drawn)
        # before the jobs: gradio begins what else a click does when those have ended
        for button in (buttons.preview, buttons.render):
            button.click(None, None, buttons.said, js="() => ''", **OWN)
        rendering = [
            button.click(
                function,
                list(controls),
                list(results),
                api_name=name,
                scroll_to_output=True,
                show_progress_on=results.video,
                **ONE_JOB,
            )
            for button, name, function in (
                (buttons.preview, "preview", renderer(studio, True, on_gpu)),
                (buttons.render, "animate", renderer(studio, False, on_gpu)),
            )
        ]
        for made in rendering:
            shown = [motion.plot, line]
            made.success(made_shower(studio), [audio, results.motion, results.fields], shown, **OWN)
        cancelled = buttons.cancel.click(
            canceller(studio), None, buttons.said, cancels=rendering, api_name="cancel", queue=False
        )
        # gradio says "Error" in the place of a video that was cancelled, until something else is said there
        cancelled.then(gr.skip, None, results.video, **OWN)
        page.unload(leaver(studio))
        page.load(None, js=SAY_WHAT_IS_SEEN)
    return page


def _show_what_was_found(
    studio: Studio, controls: Controls, portrait: Portrait, forecast: gr.Markdown, drawn: dict[str, Any]
) -> None:
    # when a file was removed because it cannot be read; the page shows none then
    picture_removed_s, recording_removed_s = gr.State(0.0), gr.State(0.0)
    picture_removed_s.change(lambda: None, None, portrait.image, **OWN)
    recording_removed_s.change(lambda: None, None, controls.audio, **OWN)
    everything, shown = list(controls), [*portrait[1:], picture_removed_s]
    portrait.image.change(face_finder(studio, is_new=True), everything, shown, **OWN).then(**drawn)
    portrait.face_index.input(face_finder(studio), everything, shown, **LATEST).then(**drawn)
    for control in controls[-3:]:
        control.input(face_finder(studio), everything, shown, **LATEST)
    read = controls.audio.change(recording_reader(studio), everything, [forecast, recording_removed_s], **LATEST)
    read.then(**drawn)
    for control in (controls.preset, controls.size, controls.speech_guidance):
        control.change(forecaster(studio), everything, forecast, **LATEST)
    # what was said about a file that was refused stays, until somebody takes it away
    for component, text in ((portrait.image, portrait.text), (controls.audio, forecast)):
        component.clear(emptier, None, text, **OWN)


def _show_motion(motion: Motion, drawn: dict[str, Any]) -> None:
    """Draw the motion when something is said about it, and keep the text and its table alike."""
    for done in (motion.text.blur, motion.text.submit):
        done(list_keyframes, motion.text, motion.table, **OWN).then(**drawn)
    motion.table.input(write_keyframes, [motion.text, motion.table], motion.text, **LATEST).then(**drawn)


def launch_page(
    page: gr.Blocks,
    studio: Studio,
    host: str | None = None,
    port: int | None = None,
    mcp: bool = False,
    **further: Any,
) -> tuple:
    """Serve the page.

    Args:
        page: Result of `make_page`.
        studio: The page's studio.
        host: Address to listen at; None: this machine only, or what GRADIO_SERVER_NAME says.
        port: Port; None: the first free one from 7860, or what GRADIO_SERVER_PORT says.
        mcp: Whether to serve its functions to agents, too; needs `gradio[mcp]`.
        **further: As for `gradio.Blocks.launch`, such as `prevent_thread_lock=True`.

    Returns:
        As `gradio.Blocks.launch`: the app, its address here, and None.
    """
    blocks = not further.pop("prevent_thread_lock", False)
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
    served = page.launch(
        server_name=host,
        server_port=port,
        mcp_server=mcp,
        share=False,
        ssr_mode=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        show_error=True,  # of what gradio itself refuses, too
        footer_links=["api"],
        theme=readable_theme(),
        css=STYLE,
        allowed_paths=[],
        max_file_size=None if studio.max_seconds is None else MOST_UPLOAD,
        prevent_thread_lock=True,
        **{"quiet": True} | further,
    )
    if blocks:
        say(f"open {served[1]} in a browser; Ctrl+C ends the studio")
        page.block_thread()
    return served


def _examples_of(folder: str | os.PathLike | None) -> tuple[list[str], list[str]]:
    if folder is None:
        return [], []
    return tuple(
        sorted(str(path) for path in Path(folder).resolve().glob(kind)) for kind in ("portrait_*.png", "speech_*.wav")
    )
