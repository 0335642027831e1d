"""What happens when somebody uses a control of the page."""

import html
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from ..cli.beginning import BEGINNING_S
from ..motion.keyframe_rows import COLUMNS, keyframe_rows, with_keyframe_rows
from .jobs import CANCELLED, Cancelled, Made, Studio
from .page_words import in_words_of_page
from .progress import Progress
from .remembered_pictures import KnownPictures
from .settings import Settings

REFUSALS = (ValueError, OSError, ImportError, MemoryError)
EMPTY_ROW = [None] * len(COLUMNS)


def renderer(studio: Studio, preview: bool = False, on_gpu: Callable[[Callable], Callable] | None = None) -> Callable:
    """Make the function of a button that renders.

    Args:
        studio: What it renders with.
        preview: Whether it renders the beginning only.
        on_gpu: As for `make_page`.

    Returns:
        The function; it takes `Controls`, and returns `Results`.
    """

    def draw(
        image: str | None,
        audio: str | None,
        settings: Settings,
        session: str,
        known: tuple[KnownPictures, ...],
        show: gr.Progress,
    ) -> Made:
        progress = Progress()

        def follow(stage: str, done: int, total: int) -> None:
            show((done, total), desc=progress.describe(stage, done, total))

        studio.learn(known)
        with _said(studio):
            return studio.animate(image, audio, settings, session, follow, preview)

    drawn = draw if on_gpu is None else on_gpu(draw)

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
        enhance: bool,
        square_right: float | None,
        square_down: float | None,
        square_size: float | None,
        request: gr.Request,
        show: gr.Progress = gr.Progress(),  # noqa: B008 gradio looks for it here
    ) -> tuple[str, dict[str, Any], str, str, str]:
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
            enhance: Whether to draw it larger, with the detail of the portrait's own pixels.
            square_right: Moves the animated square to the right, in percent of its side.
            square_down: Moves it down, in percent of its side.
            square_size: Its side, in percent of the found square's.
            request: Given by gradio.
            show: Given by gradio.

        Returns:
            The video, the settings, the equal command, what was found out on the way, and the track of the motion.
        """
        square = square_right, square_down, square_size
        settings = Settings(
            seed, preset, head_motion, motion, size, speech_guidance, label, face_index, enhance, *square
        )
        show(0, desc="reading portrait and speech")
        with _said(studio):
            known = ({}, {}) if on_gpu is None else studio.known_for_fork(image, settings)
        made = drawn(image, audio, settings, request.session_hash or "", known, show)
        ready = f"the preview of the first {BEGINNING_S:g} s is" if preview else "the video is"
        gr.Info(f"{ready} ready", duration=5)
        return str(made.video), made.fields, made.command, made.report, str(made.motion)

    return animate


def canceller(studio: Studio) -> Callable:
    """Make the function that cancels what a session is rendering."""

    def cancel(request: gr.Request) -> str:
        """Cancel what this session is rendering.

        Returns:
            That it was cancelled, once it has ended; empty: nothing was found.
        """
        return CANCELLED if studio.cancel(request.session_hash or "", wait=True) else ""

    return cancel


def leaver(studio: Studio) -> Callable:
    """Make the function that ends what a session is rendering when its page is closed."""

    def leave(request: gr.Request) -> None:
        studio.cancel(request.session_hash or "")

    return leave


def forecaster(studio: Studio) -> Callable:
    """Make the function that says how long the video will be, what memory it needs, or why it cannot be rendered."""

    def forecast(*values: Any) -> str:
        if values[1] is None:
            return gr.skip()
        return _or_reason(studio, lambda: studio.forecast(values[1], Settings(*values[2:])))

    return forecast


def recording_reader(studio: Studio) -> Callable:
    """Make the function that says the same of another recording, and since when it is removed if it cannot be read."""
    forecast = forecaster(studio)

    def read_recording(*values: Any) -> tuple[str, Any]:
        return forecast(*values), _removed_s(values[1])

    return read_recording


def emptier() -> str:
    """Say nothing any more about a file that was taken away."""
    return ""


def motion_shower(studio: Studio) -> Callable:
    """Make the function that draws under the recording what is said about the motion."""

    def show_motion(*values: Any) -> str:
        shown = _or_reason(studio, lambda: studio.show_motion(values[0], values[1], Settings(*values[2:])))
        return shown if shown.startswith("<") else f"<p>{html.escape(shown)}</p>"

    return show_motion


def made_shower(studio: Studio) -> Callable:
    """Make the function that draws the motion of a video that was made, and writes its settings as a line."""

    def show_made(audio: str | None, track: str | None, fields: dict[str, Any] | None) -> tuple[Any, str]:
        line = "" if fields is None else json.dumps(fields, ensure_ascii=False)
        try:
            return gr.skip() if track is None else studio.show_motion(None, audio, Settings(), track), line
        except REFUSALS:  # somebody took another recording meanwhile
            return gr.skip(), line

    return show_made


def list_keyframes(text: str) -> Any:
    """Show the keyframes of the text in the table; a text that is not understood leaves it as it is."""
    try:
        return [*keyframe_rows(text), EMPTY_ROW]
    except ValueError:
        return gr.skip()


def write_keyframes(text: str, rows: list[list[Any]]) -> Any:
    """Write the table into the text."""
    try:
        return with_keyframe_rows(text, rows)
    except ValueError as error:
        gr.Warning(in_words_of_page(str(error)))
        return gr.skip()


def face_finder(studio: Studio, is_new: bool = False) -> Callable:
    """Make the function that shows the face of a picture, and the square around it.

    Args:
        studio: What it looks with.
        is_new: Whether the picture is another one, so that the first face and its own square count.

    Returns:
        The function; it returns the picture of what was found, a sentence, the face's number, the three sliders of the
        square, and since when the portrait is removed if it cannot be read.
    """

    def find_face(*values: Any) -> tuple[Any, ...]:
        image, settings = values[0], Settings(*values[2:])
        if is_new:
            settings = Settings()
        kept = (0, 0, 100) if is_new else (gr.skip(), gr.skip(), gr.skip())
        number = settings.face_index or 0
        if image is None:
            return gr.Image(None, visible=False), gr.skip(), gr.Number(0, visible=False), *kept, gr.skip()
        try:
            face = studio.find_face(image, settings)
        # a picture that cannot be used is said, not raised, because nobody asked yet
        except REFUSALS as error:
            # what was seen before helps to set the square right
            seen = gr.Image(None, visible=False) if is_new else gr.skip()
            return seen, f"⚠️ {studio.describe(error)}", number, *kept, _removed_s(image)
        number = gr.Number(number, maximum=face.num_faces - 1, visible=face.num_faces > 1)
        return gr.Image(face.picture, visible=True), face.text, number, *kept, gr.skip()

    return find_face


def _removed_s(path: str | None) -> Any:
    """Say that a file is removed from now on, because it cannot be read; otherwise, leave what was said before."""
    return gr.skip() if path is None or Path(path).exists() else time.monotonic()


def _or_reason(studio: Studio, say: Callable[[], str]) -> str:
    """Say something, or why it cannot be said; nobody asked yet, so nothing is raised."""
    try:
        return say()
    except REFUSALS as error:
        return f"⚠️ {studio.describe(error)}"


@contextmanager
def _said(studio: Studio) -> Iterator[None]:
    """Say on the page what was wrong with what was given; the process goes on."""
    try:
        yield
    except REFUSALS as error:
        raise gr.Error(studio.describe(error), print_exception=False) from error
    except Cancelled as error:  # the page says it beside its buttons, to whom it was cancelled for
        raise gr.Error(CANCELLED, visible=False, print_exception=False) from error
