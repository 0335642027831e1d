"""Render jobs one after another with one model, whatever process or cluster hands them out."""

import argparse
import copy
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, demo_checkpoint
from ..machine.output_places import check_folder
from .animate import render
from .checkpoint import check_makes_motion, choose_device, load_pipeline, makes_motion
from .inputs import read_inputs
from .job_lines import WRITTEN, Job, key_of, options_of, read_line, stamp_of, tidy_fields
from .job_log import DONE, FAILED, STARTED, JobLog, JobState, JobStates
from .messages import describe_error, quiet_libraries
from .options import check_model_options

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

# what a row says where nothing is known
EMPTY_ROW = {"frames": 0, "seconds": 0.0, "reason": "", "warnings": ""}


class JobRenderer:
    """Render jobs into a folder, as `dawn batch` does; a job is a mapping from options of `dawn animate` to values.

    The model is loaded with the first job. A job whose video is there already is not rendered again, and one that
    cannot be rendered is reported and leaves nothing. On a CPU one thread works, because another number would
    change the last bits: several processes use several cores.

    Args:
        output: Folder for the videos; it is made if it is not there.
        checkpoint: Folder or Hub id of a saved pipeline; None: the one that ships.
        lora: Adapter of the denoiser.
        device: cpu, cuda, cuda:1, ...; None: a GPU if there is one.
        dtype: float32, bfloat16 or float16.
        memory_share: How many processes share the memory.

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(
        self,
        output: str | os.PathLike,
        checkpoint: str | None = None,
        lora: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        memory_share: int = 1,
    ) -> None:
        checkpoint = demo_checkpoint() if checkpoint is None else str(checkpoint)
        self._model = argparse.Namespace(checkpoint=checkpoint, lora=lora, device=device, dtype=dtype)
        check_model_options(self._model)
        check_folder(output, "output")
        self.folder = Path(output)
        self.log = JobLog(self.folder)
        self._stamp = [__version__, checkpoint, stamp_of(checkpoint), lora, stamp_of(lora or ""), dtype]
        self._memory_share = memory_share
        self._states: JobStates | None = None
        self._pipe: DAWNPipeline | None = None

    def __call__(self, job: Mapping[str, Any] | str) -> dict[str, Any]:
        """Render a job, unless it was rendered before.

        Args:
            job: Values by the names of `dawn animate`'s options, or a line of a jobs file that says them; `output` is
                a name below the folder.

        Returns:
            What became of it: `output`, `status` ("done" or "failed"), `frames`, `seconds`, `reason`, `warnings`.

        Raises:
            OSError: The log cannot be written.
            ValueError: The checkpoint cannot be loaded.
        """
        job = read_line(job.encode("utf-8", "surrogatepass")) if isinstance(job, str) else tidy_fields(job)
        end = self.end_of(job) or self.render(job)
        facts = {name: end.get(name) or default for name, default in EMPTY_ROW.items()}
        return facts | {"output": job.output, "status": end["state"]}

    def key_of(self, job: Job) -> str:
        """Name a job by what its video depends on."""
        return key_of(job, self._stamp)

    def end_of(self, job: Job) -> dict[str, Any] | None:
        """Find how a job was done before; None: it was not, or what it wrote is gone."""
        if job.problem is not None:  # nothing was written, and what it names may be no place
            return None
        end = self._state(job).last
        written = [self.folder / job.fields[name] for name in WRITTEN if name in job.fields]
        return end if end is not None and end["state"] == DONE and all(map(os.path.exists, written)) else None

    def num_breaks(self, job: Job) -> int:
        """Count how often a job began in a process that was killed."""
        return self._state(job).num_breaks

    def render(self, job: Job) -> dict[str, Any]:
        """Render a job, and log what became of it.

        Args:
            job: The job, which may have a problem.

        Returns:
            The log's entry.

        Raises:
            OSError: The log cannot be written.
            ValueError: The checkpoint cannot be loaded.
        """
        key, start_s = self.key_of(job), time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        if job.problem is not None:
            return self._note(key, FAILED, reason=job.problem)
        self._load()
        self._note(key, STARTED, writes=[os.fspath(Path(job.fields[name])) for name in WRITTEN if name in job.fields])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("always", module=r"diffusers_dawn(\..*)?")
            try:
                facts = {"frames": self._render(job)}
                state = DONE
            except Exception as error:
                state, facts = FAILED, {"reason": describe_error(error)}
                self._free_memory()
        facts["warnings"] = "; ".join(dict.fromkeys(str(warning.message) for warning in caught))
        return self._note(key, state, seconds=round(time.perf_counter() - start_s, 2), **facts)

    def _note(self, key: str, state: str, **facts: Any) -> dict[str, Any]:
        """Log what became of a job, and remember it."""
        entry = self.log.add(key, state, **facts)
        if self._states is not None:
            self._states.note(entry)
        return entry

    def _render(self, job: Job) -> int:
        options = options_of(job, self.folder, self._model)
        for name in WRITTEN:
            if name in job.fields:
                self._make_folder_of(Path(job.fields[name]), name)
        inputs = read_inputs(options)
        check_makes_motion(options, self._makes_motion)
        # a job may replace the sampler
        self._pipe.scheduler = copy.deepcopy(self._scheduler)
        render(options, inputs, self._pipe, {}, lambda line: None, self._memory_share)
        return inputs.num_frames

    def _make_folder_of(self, place: Path, name: str) -> None:
        """Make the folders above a place; refuse a link that leads out of the batch's folder."""
        folder = (self.folder / place).parent
        if not folder.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"`{name}` is {place}, which a link leads out of the batch's folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"`{name}` is {place}, whose folder cannot be made: {error.strerror}") from error

    def _load(self) -> None:
        import torch

        if self._pipe is not None:
            return
        quiet_libraries()
        device = choose_device(self._model.device)
        if device.type == "cpu":
            torch.set_num_threads(1)
        self._makes_motion = makes_motion(self._model.checkpoint)
        pipe = load_pipeline(self._model).to(device)
        pipe.set_progress_bar_config(disable=True)
        self._scheduler, self._pipe = pipe.scheduler, pipe

    def _state(self, job: Job) -> JobState:
        if self._states is None:
            self._states = self.log.states()
        return self._states.of(self.key_of(job))

    def _free_memory(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what did not fit for one job shall not stay taken for the next
