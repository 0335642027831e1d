"""The page itself, made with gradio; it works without a network."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ..cli.options import LABEL
from ..motion.track import MOST_SCALE
from ..sampling.presets import DEFAULT_PRESET, PRESETS
from .jobs import KEPT_S, PREVIEW_S, Cancelled, Made, Studio
from .progress import Progress
from .settings import Settings

MOST_WAITING = 20
SWEEP_EVERY_S = 60
MOST_UPLOAD = "100mb"  # where the length is limited
ONE_JOB = {"concurrency_limit": 1, "concurrency_id": "jobs"}
EXAMPLE_MOTION = "nod twice at 1 s, then look left"
SYSTEM_FONT, SYSTEM_MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


class Controls(NamedTuple):
    """What is set on the page, in the order of the arguments of its functions."""

    image: gr.Image
    audio: gr.Audio
    seed: gr.Number
    preset: gr.Radio
    head_motion: gr.Slider
    motion: gr.Textbox
    size: gr.Number
    speech_guidance: gr.Slider
    label: gr.Textbox
    face_index: gr.Number


class Results(NamedTuple):
    """What a job shows, in the order of what the page's functions return."""

    video: gr.Video
    fields: gr.JSON
    command: gr.Code
    report: gr.Textbox


def make_page(
    studio: Studio, examples: str | os.PathLike | None = None, on_gpu: Callable[[Callable], Callable] | None = None
) -> gr.Blocks:
    """Make the page; a process has one.

    Args:
        studio: What it renders with.
        examples: Folder with portrait_*.png and speech_*.wav to begin with; None: no examples.
        on_gpu: Wraps the functions that render, as `spaces.GPU` does; they take the portrait, the recording, and then
            the settings.

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
                image, found, found_text, face_index = _make_portrait(portraits)
            with gr.Column(min_width=300):
                audio, forecast = _make_speech(recordings)
                settings = _make_settings(studio)
            with gr.Column(min_width=300):
                preview, render, cancel, results = _make_results()
        controls = Controls(image, audio, *settings, face_index)
        shows_face = {"inputs": [image, face_index], "outputs": [found, found_text, face_index]}
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        image.change(lambda image: _found_face(studio, image, 0), image, shows_face["outputs"], **hidden)
        face_index.input(lambda image, index: _found_face(studio, image, index), **shows_face, **hidden)
        for control in (audio, controls.preset, controls.size, controls.speech_guidance):
            control.change(_forecaster(studio), list(controls), forecast, **hidden)
        wrap = (lambda function: function) if on_gpu is None else on_gpu
        rendering = [
            button.click(
                wrap(function), list(controls), list(results), api_name=name, scroll_to_output=True, **ONE_JOB
            )
            for button, name, function in (
                (preview, "preview", _renderer(studio, preview=True)),
                (render, "animate", _renderer(studio)),
            )
        ]
        cancel.click(_canceller(studio), cancels=rendering, api_name="cancel", queue=False)
        page.unload(_leaver(studio))
    return page


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
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
    return page.launch(
        server_name=host,
        server_port=port,
        mcp_server=mcp,
        share=False,
        ssr_mode=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=["api"],
        theme=gr.themes.Base(font=SYSTEM_FONT, font_mono=SYSTEM_MONO),
        allowed_paths=[],
        max_file_size=None if studio.max_seconds is None else MOST_UPLOAD,
        **further,
    )


def _make_portrait(examples: list[str]) -> tuple[gr.Image, gr.Image, gr.Markdown, gr.Number]:
    sources = ["upload", "webcam", "clipboard"]
    image = gr.Image(label="Portrait", type="filepath", image_mode=None, sources=sources, height=280)
    _take_file_as_it_is(image)
    _offer(examples, image, "Drawn portraits")
    found = gr.Image(
        label="Face that was found",
        alt_text="The portrait, with the animated square drawn around the face",
        interactive=False,
        visible=False,
        height=280,
        buttons=[],
    )
    text = gr.Markdown()
    face_index = gr.Number(0, label="Number of the face; 0 is the largest", precision=0, minimum=0, visible=False)
    return image, found, text, face_index


def _make_speech(examples: list[str]) -> tuple[gr.Audio, gr.Markdown]:
    audio = gr.Audio(label="Speech", type="filepath", sources=["upload", "microphone"])
    _take_file_as_it_is(audio)
    _offer(examples, audio, "Recordings")
    return audio, gr.Markdown()


def _make_settings(studio: Studio) -> list[gr.components.Component]:
    """Make the controls between recording and face, as `Controls` has them."""
    with gr.Accordion("Settings", open=True):
        seed = gr.Number(0, label="Seed", info="same seed, same video", precision=0)
        preset = gr.Radio(list(PRESETS), value=DEFAULT_PRESET, label="Preset", info="quality of the motion, or speed")
        head = gr.Slider(0, MOST_SCALE, 1, step=0.05, label="Head motion", info="0: a still head, which blinks")
        motion = gr.Textbox("", label="What the head does", placeholder=EXAMPLE_MOTION, lines=2)
        size = gr.Number(studio.pipe.default_size, label="Size", info="width and height in pixels", precision=0)
        guidance = studio.pipe.config.speech_guidance
        speech = gr.Slider(0, 5, guidance, step=0.1, label="Guidance of speech", info="more opens the mouth wider")
        # whoever sees a video that strangers made shall know what it is
        label = gr.Textbox(
            LABEL if os.environ.get("SPACE_ID") else "", label="Label in the picture", placeholder=LABEL
        )
    return [seed, preset, head, motion, size, speech, label]


def _make_results() -> tuple[gr.Button, gr.Button, gr.Button, Results]:
    with gr.Row():
        preview = gr.Button(f"Preview {PREVIEW_S:g} s")
        render = gr.Button("Render", variant="primary")
        cancel = gr.Button("Cancel", variant="stop")
    video = gr.Video(label="Video", interactive=False, buttons=["download"], height=320)
    report = gr.Textbox(label="What was done", lines=3, interactive=False)
    command = gr.Code(label="The same by command", language="shell", interactive=False, wrap_lines=True)
    fields = gr.JSON(label="Settings, as a line for dawn batch")
    return preview, render, cancel, Results(video, fields, command, report)


def _renderer(studio: Studio, preview: bool = False) -> Callable:
    """Make the function of a button that renders."""

    def animate(
        image: str | None,
        audio: str | None,
        seed: int | None,
        preset: str | None,
        head_motion: float | None,
        motion: str,
        size: int | None,
        speech_guidance: float | None,
        label: str,
        face_index: int | None,
        request: gr.Request,
        show: gr.Progress = gr.Progress(),  # noqa: B008 gradio looks for it here
    ) -> tuple[str, dict[str, Any], str, str]:
        """Animate a portrait with speech.

        Args:
            image: Portrait, any picture with a face.
            audio: Speech, any file with sound.
            seed: Same seed, same video.
            preset: Sampler and steps: quality, balanced or fast.
            head_motion: Factor of the head's motion, from 0 (still) to 2.
            motion: What the head does, such as "nod twice at 1 s, then look left"; empty: what the speech suggests.
            size: Width and height of the video in pixels.
            speech_guidance: Weight of the speech; more opens the mouth wider.
            label: Text in a corner of the frames; empty: none.
            face_index: Number of the face in the picture, from 0, the largest.
            request: Given by gradio.
            show: Given by gradio.

        Returns:
            The video, the settings, the equal command, and what was found out on the way.
        """
        settings = Settings(seed, preset, head_motion, motion, size, speech_guidance, label, face_index)
        progress = Progress()

        def follow(stage: str, done: int, total: int) -> None:
            show((done, total), desc=progress.describe(stage, done, total))

        show(0, desc="reading portrait and speech")
        with _said(studio):
            made: Made = studio.animate(image, audio, settings, request.session_hash or "", follow, preview)
        return str(made.video), made.fields, made.command, made.report

    return animate


def _canceller(studio: Studio) -> Callable:
    def cancel(request: gr.Request) -> None:
        """Cancel what this session is rendering."""
        if studio.cancel(request.session_hash or ""):
            gr.Info("cancelled, nothing was kept")

    return cancel


def _leaver(studio: Studio) -> Callable:
    def leave(request: gr.Request) -> None:
        studio.cancel(request.session_hash or "")

    return leave


def _forecaster(studio: Studio) -> Callable:
    def forecast(*values: Any) -> str:
        audio, settings = values[1], Settings(*values[2:])
        try:
            return studio.forecast(audio, settings)
        except (ValueError, OSError, MemoryError) as error:
            return f"⚠️ {studio.describe(error)}"

    return forecast


def _found_face(studio: Studio, image: str | None, face_index: int | None) -> tuple[Any, str, Any]:
    """Show the face of a picture; a picture that cannot be used is said, not raised, because nobody asked yet."""
    if image is None:
        return gr.Image(None, visible=False), "", gr.Number(0, visible=False)
    try:
        face = studio.find_face(image, face_index)
    except (ValueError, OSError, MemoryError) as error:
        return gr.Image(None, visible=False), f"⚠️ {studio.describe(error)}", gr.Number(face_index)
    number = gr.Number(face_index, maximum=face.num_faces - 1, visible=face.num_faces > 1)
    return gr.Image(face.picture, visible=True), face.text, number


@contextmanager
def _said(studio: Studio) -> Iterator[None]:
    """Say on the page what was wrong with what was given; the process goes on."""
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError, Cancelled) as error:
        raise gr.Error(studio.describe(error), print_exception=False) from error


def _take_file_as_it_is(component: gr.Image | gr.Audio) -> None:
    """Let a component hand on the file that was uploaded: it is read, or refused, as by `dawn animate`."""
    component.preprocess = lambda payload: None if payload is None else payload.path


def _offer(files: list[str], component: gr.Image | gr.Audio, label: str) -> None:
    """Show examples; a click puts one into the component."""
    if files:
        # not gr.Examples, whose clicks replace the component by a new one, which does not take files as they are
        rows = gr.Dataset(components=[component], samples=[[file] for file in files], label=label, type="index")
        rows.click(lambda index: files[index], rows, component, api_visibility="private", show_progress="hidden")


def _examples_of(folder: str | os.PathLike | None) -> tuple[list[str], list[str]]:
    if folder is None:
        return [], []
    return tuple(
        sorted(str(path) for path in Path(folder).resolve().glob(kind)) for kind in ("portrait_*.png", "speech_*.wav")
    )
