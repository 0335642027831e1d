"""What one sees on the page: its controls, and the places of its results."""

import os
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ..cli.options import LABEL
from ..motion.keyframe_rows import COLUMNS
from ..motion.track import MOST_SCALE
from ..sampling.presets import DEFAULT_PRESET, PRESETS
from .actions import EMPTY_ROW
from .jobs import Studio
from .looks import EXAMPLE_PICTURES, MADE, SAID
from .page_words import LABELS

EXAMPLE_MOTION = "such as: nod twice at 1 s, then look left"


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
    enhance: gr.Checkbox
    square_right: gr.Slider
    square_down: gr.Slider
    square_size: gr.Slider


class Results(NamedTuple):
    """What a job shows, in the order of what the page's functions return."""

    video: gr.Video
    fields: gr.JSON
    command: gr.Code
    report: gr.Textbox
    motion: gr.File


class Portrait(NamedTuple):
    """The portrait and what was found in it."""

    image: gr.Image
    found: gr.Image
    text: gr.Markdown
    face_index: gr.Number
    square_right: gr.Slider
    square_down: gr.Slider
    square_size: gr.Slider


class Motion(NamedTuple):
    """What the head does: its drawing under the recording, a text, and the text's keyframes as a table."""

    plot: gr.HTML
    head_motion: gr.Slider
    text: gr.Textbox
    table: gr.Dataframe


class Buttons(NamedTuple):
    """What begins and ends a job, and a line about the end."""

    preview: gr.Button
    render: gr.Button
    cancel: gr.Button
    said: gr.Markdown


def make_portrait(examples: list[str]) -> Portrait:
    """Make the part for the portrait.

    Args:
        examples: Pictures to begin with.

    Returns:
        Its controls.
    """
    sources = ["upload", "webcam", "clipboard"]
    image = gr.Image(label=LABELS["image"], type="filepath", image_mode=None, sources=sources, height=280)
    _take_file_as_it_is(image)
    _offer_pictures(examples, image, "Drawn portraits")
    found = gr.Image(
        label="Face that was found",
        alt_text="The portrait, with the animated square drawn around the face",
        interactive=False,
        visible=False,
        height=280,
        buttons=[],
    )
    text = gr.Markdown(elem_classes=SAID)
    face_index = gr.Number(0, label=f"{LABELS['face_index']}; 0 is the largest", precision=0, minimum=0, visible=False)
    with gr.Accordion(LABELS["square"], open=False):
        right = gr.Slider(-30, 30, 0, step=1, label=LABELS["right"], info="% of its side; below 0: left")
        down = gr.Slider(-30, 30, 0, step=1, label=LABELS["down"], info="% of its side; below 0: up")
        size = gr.Slider(60, 160, 100, step=1, label=LABELS["width"], info="% of the square that was found")
    return Portrait(image, found, text, face_index, right, down, size)


def make_speech(examples: list[str]) -> tuple[gr.Audio, gr.Markdown]:
    """Make the part for the recording.

    Args:
        examples: Recordings to begin with.

    Returns:
        The recording, and what will become of it in words.
    """
    # without gradio's buttons, one of which shares the recording with everybody
    audio = gr.Audio(label=LABELS["audio"], type="filepath", sources=["upload", "microphone"], buttons=[])
    _take_file_as_it_is(audio)
    _offer(examples, audio, "Recordings")
    return audio, gr.Markdown(elem_classes=SAID)


def make_motion() -> Motion:
    """Make the part for what the head does."""
    plot = gr.HTML(label="Waveform and motion")
    text = gr.Textbox("", label=LABELS["motion"], placeholder=EXAMPLE_MOTION, lines=2)
    with gr.Accordion(LABELS["keyframes"], open=False):
        table = gr.Dataframe(
            [EMPTY_ROW],
            headers=list(COLUMNS),
            datatype="number",
            type="array",
            column_count=len(COLUMNS),
            column_widths=[f"{100 // len(COLUMNS)}%"] * len(COLUMNS),
            interactive=True,
            buttons=[],
            label=LABELS["keyframes"],
            show_label=False,
        )
        gr.Markdown(
            "What the head shall do at a time in seconds. Angles are in degrees: yaw above 0 turns the nose to the"
            " picture's left, pitch above 0 down, roll above 0 counter-clockwise. Eyes: 0 is shut, 1 as at rest."
            " A time alone leads back to the head's own motion. The text above says the same."
        )
    head = gr.Slider(0, MOST_SCALE, 1, step=0.05, label=LABELS["head_motion"], info="0: a still head, which blinks")
    return Motion(plot, head, text, table)


def make_settings(studio: Studio) -> tuple[gr.Number, gr.Radio, gr.Number, gr.Slider, gr.Textbox, gr.Checkbox]:
    """Make the part for all other settings.

    Args:
        studio: What renders.

    Returns:
        Seed, preset, size, guidance of speech, label, and whether to enhance.
    """
    with gr.Accordion("Settings", open=False):
        preset = gr.Radio(
            list(PRESETS), value=DEFAULT_PRESET, label=LABELS["preset"], info="quality of the motion, or speed"
        )
        seed = gr.Number(0, label=LABELS["seed"], info="same seed, same video", precision=0)
        size = gr.Number(
            studio.pipe.default_size, label=LABELS["size"], info="width and height in pixels", precision=0
        )
        enhance = gr.Checkbox(False, label=LABELS["enhance"], info="2 to 4 times larger, by the portrait's own pixels")
        guidance = studio.pipe.config.speech_guidance
        speech = gr.Slider(
            0,
            max(5, 2 * guidance),
            guidance,
            step=0.1,
            label=LABELS["speech_guidance"],
            info="more opens the mouth wider",
        )
        # whoever sees a video that strangers made shall know what it is
        label = gr.Textbox(
            LABEL if os.environ.get("SPACE_ID") else "", label=LABELS["label"], placeholder=f"such as: {LABEL}"
        )
    return seed, preset, size, speech, label, enhance


def make_buttons() -> Buttons:
    """Make the buttons."""
    with gr.Row():
        preview = gr.Button("Preview", min_width=80)
        render = gr.Button("Render", variant="primary", min_width=80)
        cancel = gr.Button("Cancel", variant="stop", min_width=80)
    return Buttons(preview, render, cancel, gr.Markdown(elem_classes=SAID))


def make_results() -> tuple[Results, gr.Code]:
    """Make the places of the results.

    Returns:
        What the functions return, and the settings as a line.
    """
    video = gr.Video(label="Video", interactive=False, buttons=["download"], height=320)
    with gr.Accordion("Command, settings, motion", open=False):
        report = gr.Textbox(label="What was done", lines=3, interactive=False)
        # no language: its colours can hardly be read on white
        text = {"language": None, "interactive": False, "wrap_lines": True, "lines": 1}
        text |= {"show_line_numbers": False, "elem_classes": MADE}
        command = gr.Code(label="The same by command", **text)
        line = gr.Code(label="Settings, as a line for dawn batch", **text)
        fields = gr.JSON(visible=False)  # for programs
        motion = gr.File(
            label="Motion of head and eyes, for --motion", interactive=False, height=80, elem_classes=MADE
        )
    return Results(video, fields, command, report, motion), line


def name_what_is_refused(control: Any) -> None:
    """Let what a control refuses be said with its name: programs send what the page's own controls cannot.

    Args:
        control: A number, slider or choice.
    """
    check = control.preprocess

    def preprocess(payload: Any) -> Any:
        try:
            return check(payload)
        except gr.Error as error:
            raise gr.Error(f"`{control.label}`: {error.message}", print_exception=False) from error
        except TypeError as error:
            raise gr.Error(f"`{control.label}` is {payload!r}, must be a number", print_exception=False) from error

    control.preprocess = preprocess


def _take_file_as_it_is(component: gr.Image | gr.Audio) -> None:
    """Let a component hand on the file that was uploaded: it is read, or refused, as by `dawn animate`.

    No event may update the component's properties (which is what `gr.skip()` does, too): a new one would replace it.
    """
    component.preprocess = lambda payload: None if payload is None else payload.path


def _offer(files: list[str], component: gr.Image | gr.Audio, label: str) -> None:
    """Show examples; a click puts one into the component."""
    if files:
        rows = gr.Dataset(components=[component], samples=[[file] for file in files], label=label, type="index")
        rows.click(lambda index: files[index], rows, component, api_visibility="private", show_progress="hidden")


def _offer_pictures(files: list[str], component: gr.Image, label: str) -> None:
    """Show example pictures, each a button with a name; a click puts it into the component."""
    if files:
        gr.Markdown(label)
    with gr.Row(elem_classes=EXAMPLE_PICTURES):
        for number, file in enumerate(files, 1):
            # not gr.Dataset, whose pictures have no names
            button = gr.Button(f"portrait {number}", icon=file)
            button.click(partial(str, file), None, component, api_visibility="private", show_progress="hidden")
