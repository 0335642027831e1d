"""What the page does, without the page: jobs one at a time, within limits, in folders of their own."""

import argparse
import copy
import re
import secrets
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Event, Lock
from typing import Any, NamedTuple

from .. import demo_checkpoint
from ..cli.animate import render
from ..cli.beginning import beginning_of
from ..cli.checkpoint import check_makes_motion, choose_device, load_pipeline, makes_motion
from ..cli.finishing import choose_detail_side
from ..cli.inputs import Inputs, read_inputs
from ..cli.job_lines import options_of
from ..cli.messages import describe_error, quiet_libraries, told_warnings
from ..cli.options import check_model_options, naming_options
from ..face.detector import MediaPipeFaceDetector
from ..face.person import PersonSegmenter
from ..media.pictures import read_image
from ..media.recordings import read_waveform
from ..records import Portrait, Waveform
from ..speech.features import num_video_frames
from .found_face import FoundFace, chosen_portrait, show_face
from .page_words import in_words_of_page
from .remembered_pictures import KnownPictures, RememberedPictures
from .settings import TRACK_NAME, VIDEO_NAME, Settings, command_line, shown_fields
from .shown_motion import show_directed, show_made

# how long files of a session are kept, for its player and its downloads [s]
KEPT_S = 3600
CANCELLED = "cancelled, nothing was kept"


class Cancelled(Exception):
    """A job was cancelled."""


class Made(NamedTuple):
    """A job's result.

    Attributes:
        video: The file, in a folder of its own.
        fields: What was set, as a line of a jobs file.
        command: The `dawn animate` that makes the same video; of a preview, what would make the whole.
        report: What was found out on the way, a line each.
        motion: File with the track of head and eyes, beside the video.
    """

    video: Path
    fields: dict[str, Any]
    command: str
    report: str
    motion: Path


class Studio:
    """Render what a page asks for, one job at a time, through the functions of `dawn animate`.

    Uploads and videos lie in one temporary folder that only this user can read; it is gone when the studio is closed.

    Args:
        checkpoint: Folder or Hub id of a saved pipeline; None: the one that ships.
        lora: Adapter of the denoiser.
        device: cpu, cuda, cuda:1, ...; None: a GPU if there is one.
        dtype: float32, bfloat16 or float16.
        max_seconds: Longest recording [s]; None: any.
        max_size: Largest width and height of a video [px]; None: any.

    Raises:
        ValueError: An argument is not allowed, or the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        lora: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        max_seconds: float | None = None,
        max_size: int | None = None,
    ) -> None:
        for name, limit in (("--max-seconds", max_seconds), ("--max-size", max_size)):
            if limit is not None and not limit > 0:
                raise ValueError(f"`{name}` is {limit}, must be positive")
        checkpoint = demo_checkpoint() if checkpoint is None else str(checkpoint)
        self.model = argparse.Namespace(checkpoint=checkpoint, lora=lora, device=device, dtype=dtype)
        check_model_options(self.model)
        quiet_libraries()
        self.max_seconds, self.max_size = max_seconds, max_size
        self._makes_motion = makes_motion(checkpoint)
        self.pipe = load_pipeline(self.model).to(choose_device(device))
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.face_detector = RememberedPictures(MediaPipeFaceDetector)
        self.pipe.person_segmenter = RememberedPictures(PersonSegmenter)
        self._one_at_a_time, self._listing = Lock(), Condition()
        self._stops: dict[str, set[Event]] = defaultdict(set)
        self._running: set[Path] = set()
        self._place = tempfile.TemporaryDirectory(prefix="dawn-studio-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name).resolve()

    def close(self) -> None:
        """Remove all files."""
        self._place.cleanup()

    def animate(
        self,
        image: str | None,
        audio: str | None,
        settings: Settings,
        session: str = "",
        follow: Callable[[str, int, int], None] = lambda stage, done, total: None,
        preview: bool = False,
    ) -> Made:
        """Render a video; jobs wait for each other.

        Args:
            image: File of the portrait.
            audio: File of the recording.
            settings: What is set.
            session: Who may cancel it.
            follow: Called with a stage, and how much of it is done and is to be done; see `cli.animate.render`.
            preview: Whether to render the first two seconds only, with the preset "fast" and the whole video's motion.

        Returns:
            The video and what belongs to it.

        Raises:
            ValueError: The job cannot be rendered, or is beyond the limits; nothing is left of it then, nor of uploads
                that cannot be read.
            OSError: Writing fails.
            Cancelled: It was cancelled.
        """
        self.sweep()
        report: list[str] = []
        with self._stoppable(session) as stop, self._folder_of_job() as folder:

            def tell(line: str) -> None:
                stop()
                report.append(line)

            def after(stage: str, done: int, total: int) -> None:
                stop()
                follow(stage, done, total)

            with self._unreadable_removed(image, audio), self._warnings_said(report):
                square = chosen_portrait(read_image(image), self.pipe, settings)[1] if image else None
            job = settings.job(image, audio, square)
            options = options_of(job, folder, self.model)
            options.motion, options.save_motion = settings.script(), str(folder / TRACK_NAME)
            with self._unreadable_removed(image, audio), self._warnings_said(report):
                inputs = self._read(options)
            stop()
            with self._one_at_a_time:
                if preview:
                    options, inputs = beginning_of(options, inputs, self.pipe)
                render(options, inputs, self.pipe, {}, tell, follow=after)
        report = list(dict.fromkeys(line for line in report if str(folder) not in line))
        fields = shown_fields(job)
        command = command_line(fields, self.model)
        return Made(folder / VIDEO_NAME, fields, command, "\n".join(report), folder / TRACK_NAME)

    def cancel(self, session: str, wait: bool = False) -> bool:
        """End the jobs of a session: after the step or frame that they are at, they stop and leave no file.

        Args:
            session: Who began them.
            wait: Whether to return only when they have ended.

        Returns:
            Whether there were any.
        """
        with self._listing:
            stops = set(self._stops.get(session, ()))
            for stop in stops:
                stop.set()
            if wait:
                self._listing.wait_for(lambda: stops.isdisjoint(self._stops.get(session, ())))
        return bool(stops)

    def find_face(self, image: str, settings: Settings) -> FoundFace:
        """Find the face that would be animated, and show the square around it.

        Args:
            image: File of the portrait.
            settings: What is set.

        Returns:
            The picture, and what was found in words.

        Raises:
            ValueError: The picture cannot be read, and is removed then if it was uploaded; or it shows no such face,
                or the square does not hold it.
        """
        said: list[str] = []
        with self._unreadable_removed(image), self._warnings_said(said):
            face = show_face(image, self.pipe, settings)
        return face._replace(text="\n\n".join([face.text, *dict.fromkeys(said)]))

    def known_for_fork(self, image: str | None, settings: Settings) -> tuple[KnownPictures, ...]:
        """Look for faces and the person here, for a fork of this process, where mediapipe cannot look any more.

        Args:
            image: File of the portrait; None: there is none.
            settings: What is set.

        Returns:
            What the fork has to `learn`, before `animate`: faces and people.

        Raises:
            ValueError: As for `find_face`.
        """
        if image is not None:
            with self._unreadable_removed(image):
                chosen_portrait(read_image(image), self.pipe, settings)
        return self.pipe.face_detector.known(), self.pipe.person_segmenter.known()

    def learn(self, known: tuple[KnownPictures, ...]) -> None:
        """Remember what another process found.

        Args:
            known: Result of its `known_for_fork`.
        """
        for detector, found in zip((self.pipe.face_detector, self.pipe.person_segmenter), known, strict=True):
            detector.learn(found)

    def show_motion(self, image: str | None, audio: str | None, settings: Settings, track: str | None = None) -> str:
        """Draw what is said about the motion, or what a video's was, under the recording's waveform.

        Args:
            image: File of the portrait; None: nothing is known of it yet.
            audio: File of the recording; None: there is nothing to draw yet.
            settings: What is set.
            track: File of a video's motion; None: there is no video of this yet.

        Returns:
            HTML.

        Raises:
            ValueError: A file cannot be read, or what is said is not understood or does not fit into the recording.
        """
        if audio is None:
            return ""
        return show_directed(image, audio, settings, self.pipe) if track is None else show_made(audio, track)

    def forecast(self, audio: str | None, settings: Settings) -> str:
        """Say how long a video will be and what memory it needs, before anybody renders it.

        Args:
            audio: File of the recording; None: nothing is known yet.
            settings: What is set.

        Returns:
            A sentence, and warnings of the recording.

        Raises:
            ValueError: The recording cannot be read, and is removed then if it was uploaded; or the video is beyond
                the limits or does not fit in the memory.
        """
        if audio is None:
            return ""
        said: list[str] = []
        with self._unreadable_removed(None, audio), self._warnings_said(said):
            waveform = read_waveform(audio, choice_names=None)
        num_frames = num_video_frames(len(waveform.samples), waveform.sample_rate_hz)
        self._check_limits(waveform, settings.size)
        # a copy, because a job may be running that has made settings of its own
        pipe = copy.copy(self.pipe)
        pipe.enable_windows()
        pipe.enable_step_cache(1)
        pipe.set_memory_budget(None)
        guidance = None if settings.speech_guidance is None else {"speech": settings.speech_guidance}
        asked = {"height": settings.size, "width": settings.size, "guidance_scale": guidance}
        with naming_options():
            plan = pipe.plan(num_frames, **asked, output_type="stream", preset=settings.preset)
        num_windows = len(plan.windows.slices)
        parts = "in one piece" if num_windows == 1 else f"in {num_windows} windows, because the memory is short"
        sentence = (
            f"{waveform.duration_s:.2f} s of speech, {num_frames} frames of {plan.request.width} px; "
            f"about {plan.num_bytes / 2**30:.1f} GiB of memory, {parts}"
        )
        return "\n\n".join([sentence, *said])

    def describe(self, error: Exception) -> str:
        """Put an error into one sentence in the page's words, without the places of files on this machine."""
        return self._said(describe_error(error))

    def _said(self, message: str) -> str:
        return in_words_of_page(re.sub(rf"{re.escape(str(self.folder))}/[^/\s]+/", "", message))

    @contextmanager
    def _warnings_said(self, said: list[str]) -> Iterator[None]:
        """Add warnings to what is said on the page."""
        with told_warnings(lambda warning: said.append(f"⚠️ {self._said(warning)}")):
            yield

    def sweep(self, kept_s: float = KEPT_S) -> None:
        """Remove files of sessions that are older, but not those of running jobs.

        Args:
            kept_s: How old files may be [s].
        """
        oldest_s = time.time() - kept_s
        for place in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another thread was faster
                if place not in self._running and place.stat().st_mtime < oldest_s:
                    shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _stoppable(self, session: str) -> Iterator[Callable[[], None]]:
        """List a job, so that it can be cancelled; give the function that raises once it is."""
        stop = Event()

        def raise_if_cancelled() -> None:
            if stop.is_set():
                raise Cancelled(CANCELLED)

        with self._listing:
            self._stops[session].add(stop)
        try:
            yield raise_if_cancelled
        finally:
            with self._listing:
                self._stops[session].discard(stop)
                if not self._stops[session]:
                    del self._stops[session]
                self._listing.notify_all()

    @contextmanager
    def _folder_of_job(self) -> Iterator[Path]:
        """Make a folder whose name nobody can guess; it stays only if the job is done."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        self._running.add(folder)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._running.discard(folder)

    @contextmanager
    def _unreadable_removed(self, image: str | None, audio: str | None = None) -> Iterator[None]:
        """If something is refused, remove those of its uploads that cannot be read: nobody can use them."""
        try:
            yield
        except ValueError:
            for path, read in ((image, read_image), (audio, read_waveform)):
                if path and Path(path).resolve().is_relative_to(self.folder):
                    try:
                        read(path)
                    except ValueError:
                        Path(path).unlink(missing_ok=True)
                    except OSError:
                        pass  # it is gone already
            raise

    def _read(self, options: argparse.Namespace) -> Inputs:
        inputs = read_inputs(options, choice_names=None)
        check_makes_motion(options, self._makes_motion)
        self._check_limits(inputs.waveform, options.size)
        if options.enhance is not None and self.max_size is not None:
            size = options.size or self.pipe.default_size
            side = choose_detail_side(options, self._portrait(options, inputs), size)
            if side > self.max_size:
                raise ValueError(f"`--enhance` draws {side} px here, must be {self.max_size} at most")
        return inputs

    def _portrait(self, options: argparse.Namespace, inputs: Inputs) -> Portrait:
        return self.pipe.prepare_portrait(inputs.picture, face_index=options.face_index, crop=options.crop)

    def _check_limits(self, waveform: Waveform, size: int | None) -> None:
        if self.max_seconds is not None and waveform.duration_s > self.max_seconds:
            lasts = f"`audio` lasts {waveform.duration_s:.2f} s"
            raise ValueError(f"{lasts}, must last {self.max_seconds:g} s at most here")
        size = self.pipe.default_size if size is None else size
        if self.max_size is not None and size > self.max_size:
            raise ValueError(f"`--size` is {size}, must be {self.max_size} at most here")
