"""From one portrait and one recording to a talking video: the stages of DAWN in order (paper section 3)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import replace_example_docstring
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..machine.stage_timer import timed
from ..memory.estimate import output_bytes
from ..motion.script import MotionScript
from ..motion.track import MotionTrack
from ..records import FPS, FaceState
from ..sampling.denoising import check_callback, step_arguments, step_callback
from ..sampling.guidance import guidance_of
from ..sampling.scheduler_choice import check_scheduler
from ..sampling.scheduler_training import tell_training, training_config
from ..sharing.saved_pipeline import SavedWithCode
from .adapters import TakesAdapters
from .clip_motion import direct_clips, move_clips
from .clip_tensors import fit_samples, stack_features
from .clips import ClipInput, batches_of, collect_clips, count_frames, generators_of, prepare_clips
from .memory import FitsMemory
from .output import DAWNPipelineOutput, deliver_frames
from .planning import make_plan, make_request
from .request import MachineSettings, RenderPlan
from .stages import StagesOfDAWN
from .streaming import StreamsSpeech

EXAMPLE_DOC_STRING = """
    Examples:
        ```py
        >>> import torch
        >>> from diffusers_dawn import DAWNPipeline, write_video

        >>> pipe = DAWNPipeline.from_pretrained("path/to/checkpoint")
        >>> out = pipe("portrait.png", "speech.wav", output_type="np", generator=torch.Generator().manual_seed(0))
        >>> write_video("talking.mp4", (out.frames[0] * 255).round().astype("uint8"), out.waveform(0))
        ```
"""


class DAWNPipeline(SavedWithCode, TakesAdapters, FitsMemory, StreamsSpeech, StagesOfDAWN, DiffusionPipeline):
    """Animate portraits with speech, all frames of a clip at once (DAWN, arXiv 2410.13726).

    Args:
        unet: `A2VFlowDiffusionModel`, the denoiser of motion.
        lfg: `LatentFlowGenerator`, which encodes the portrait and draws the frames.
        audio_encoder: A HuBERT, wav2vec2 or WavLM model of transformers.
        feature_extractor: Its feature extractor.
        scheduler: Any scheduler of noise, v or clean samples on a variance-preserving schedule, or of flow matching.
            Its config says what the denoiser predicts; one for flow matching that takes its place is told so.
        pbnet: `PoseBlinkNet`; None when pose and blink are always given.
        speech_guidance: Weight of speech in calls that name no `guidance_scale`; saved with the pipeline. 1 as
            published; more opens mouths of small networks wider, for one more denoising call per step.
    """

    # Each sends the one before back to the CPU. PBNet, the smallest by far, runs second but may stay away, with given
    # tracks; behind it, the audio encoder would stay on the device
    model_cpu_offload_seq = "pbnet->audio_encoder->unet->lfg"
    _optional_components = ["pbnet"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        unet: ModelMixin,
        lfg: ModelMixin,
        audio_encoder: PreTrainedModel,
        feature_extractor: SequenceFeatureExtractor,
        scheduler: SchedulerMixin,
        pbnet: ModelMixin | None,
        speech_guidance: float = 1.0,
    ) -> None:
        super().__init__()
        check_scheduler(scheduler)
        guidance_of(speech_guidance, "speech_guidance")
        tell_training(scheduler, training_config(scheduler))
        audio_dim = audio_encoder.config.hidden_size
        for name, part in (("unet", unet), ("pbnet", pbnet)):
            if part is not None and part.config.audio_dim != audio_dim:
                raise ValueError(
                    f"`audio_encoder` makes features of width {audio_dim}, `{name}` expects {part.config.audio_dim}"
                )
        self.register_modules(
            unet=unet,
            lfg=lfg,
            audio_encoder=audio_encoder,
            feature_extractor=feature_extractor,
            scheduler=scheduler,
            pbnet=pbnet,
        )
        self.register_to_config(speech_guidance=float(speech_guidance))
        # any `face.detector.FaceDetector`; mediapipe's is made when one is first needed
        self.face_detector: Callable[[np.ndarray], list[FaceState]] | None = None
        # says how much of every pixel (H, W) of a picture belongs to a person; mediapipe's unless another is set
        self.person_segmenter: Callable[[np.ndarray], np.ndarray] | None = None
        self.stage_seconds: dict[str, float] = {}
        self._machine = MachineSettings()
        # of one call, which runs on a copy, see `_for_one_call`
        self._guidance_scale, self._called_on = 1.0, None
        # counted: a call that begins must not lift what was meant for those under way
        self._interrupts, self._interrupts_before = 0, 0
        # of the call that went last through a step; copies share it
        self._progress: dict[str, Any] = {"timestep": None, "num_timesteps": 0}

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, or replace a component; a scheduler is told of the training by the one before."""
        if name == "scheduler" and "scheduler" in vars(self):
            tell_training(value, training_config(self.scheduler))
        super().__setattr__(name, value)

    @property
    def default_size(self) -> int:
        """Height and width of the video that the model was trained with [px]."""
        return self.unet.config.sample_size * self.lfg.config.motion_stride

    @property
    def guidance_scale(self) -> float | Mapping[str, float]:
        """Weight of the conditions of the current call, or of each."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the current call also runs without conditions, or without some."""
        return bool(guidance_of(self._guidance_scale).left_out)

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the current call, or the last one."""
        return self._progress["num_timesteps"]

    @property
    def current_timestep(self) -> torch.Tensor | None:
        """Time of the current step; None between calls."""
        return self._progress["timestep"]

    @property
    def interrupt(self) -> bool:
        """Whether the remaining steps are left out, of all clips.

        A callback may set `_interrupt` of the pipeline that it gets, which ends its call; set on the pipeline that was
        called, it ends all calls under way.
        """
        counts = [self._interrupts] if self._called_on is None else [self._interrupts, self._called_on._interrupts]
        return max(counts) > self._interrupts_before

    @property
    def _interrupt(self) -> bool:
        return self._interrupts > self._interrupts_before

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        self._interrupts = self._interrupts_before + bool(value)

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        image: Any = None,
        audio: Any = None,
        sampling_rate: int | list[int] | None = None,
        face: FaceState | list[FaceState] | None = None,
        pose: Any = None,
        blink: Any = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        eta: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        preset: str | None = None,
        motion: MotionTrack | MotionScript | str | list | None = None,
        **moved: Any,
    ) -> DAWNPipelineOutput | tuple:
        r"""Animate one portrait, or a batch of them, with speech.

        Several threads may call one pipeline: each call has its own scheduler and state. How the machine is used is
        set beforehand: `enable_windows`, `enable_step_cache`, `set_memory_budget`, `set_decode_chunk_size`.

        Args:
            image: Portrait, or a list: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W) in [0, 1], or the
                result of `prepare_portrait`, which takes another face than the largest, or another crop.
            audio: Recording, or a list: path, bytes, array, tensor, or (array, rate). All of it is rendered.
            sampling_rate: Rate of audio arrays and tensors [Hz].
            face: State of the face, also as a dict of its fields, or a list; no detector is needed then, and the
                portrait must be square.
            pose: Pose per frame (F, 6), as `records.POSE_NAMES`, or a batch; instead of PBNet's.
            blink: Eye openness per frame (F, 2), or a batch; instead of PBNet's.
            num_frames: Frames at 25 fps, at most as many as the recording lasts; None: all of it.
            height: Height of the video [px]; None: the size that the model was trained with.
            width: Width of the video [px].
            num_inference_steps: Denoising steps of the pipeline's scheduler; None: see `preset`.
            timesteps: Own times of the steps, for schedulers that take them.
            sigmas: Own noise levels of the steps, for schedulers that take them.
            guidance_scale: Weight of the conditions against the null condition; 1 as published, one call per step,
                another two. Or weights of "speech", "pose" and "blink" by name: one call, and one for each that is
                not 1. None: the pipeline's `speech_guidance`.
            eta: Share of fresh noise, in [0, 1], for schedulers that take it; None: the preset's, or 1 for DAWN's own
                scheduler and 0 for others.
            num_videos_per_prompt: Clips per portrait and recording.
            generator: Source of noise, or one per clip.
            latents: Initial noise (B, 3, F, h, w).
            audio_embeds: Speech features (F, D) or a batch, instead of `audio`.
            output_type: "pil", "np", "pt", "latent", or "stream": frames that are drawn while they are read, so that
                memory hardly grows with length (see `DAWNPipelineOutput`).
            return_dict: Whether to return a `DAWNPipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step as callback(pipe, step, time, tensors).
            callback_on_step_end_tensor_inputs: Tensors that it gets; only "latents".
            preset: Sampler and steps by name, instead of the pipeline's scheduler: "quality", "balanced" or "fast",
                as suits what the denoiser predicts (see `presets.presets_of`). None: "balanced" where no steps
                are given and the pipeline has the scheduler of DAWN's checkpoints; your own is always used.
            motion: What the head and the eyes do: a `MotionTrack`, which goes in PBNet's place, or a text such as "nod
                twice at 1.5 s, then look left" or "head motion 0.5", which edits PBNet's motion; a list is a batch.
                `read_motion` makes them of files and videos, and of texts that name files or words. See
                `docs/motion.md`.
            **moved: Refused, and said what takes its place, see `MOVED`.

        Returns:
            `DAWNPipelineOutput`, or its fields as a tuple.

        Raises:
            ValueError: An argument is missing or not allowed, or the clips do not fit in the memory; the message names
                it, and what would fit.

        Examples:
        """  # noqa: D414 diffusers fills the section in
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 1. what is asked for, with sampler and steps; what cannot be done is refused before any work
        sampling = (num_inference_steps, timesteps, sigmas, guidance_scale, eta)
        request = make_request(self, height, width, *sampling, output_type, preset, **moved)
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)

        # 2. one portrait and one recording per clip, as long as the recording unless told otherwise
        given = (image, audio, sampling_rate, face, pose, blink, audio_embeds, num_videos_per_prompt, motion)
        clips = collect_clips(*given)
        clips = prepare_clips(clips, lambda clip: self.prepare_portrait(clip.image, clip.face))
        frame_counts = [count_frames(clip, num_frames) for clip in clips]
        clips = direct_clips(clips, frame_counts)
        generators = generators_of(generator, len(clips))

        # 3. batches of equally long clips, and how each fits in the memory
        batches = batches_of(frame_counts, latents)
        plans, held_bytes = [], 0
        for batch in batches:
            plans.append(make_plan(self, request, frame_counts[batch[0]], len(batch), held_bytes))
            held_bytes += output_bytes(request.clip_size(frame_counts[batch[0]], batch_size=len(batch)))

        # 4. the stages, batch by batch
        with self.alone_with_networks():
            call = self._for_one_call()
            on_step_end = step_callback(call, callback_on_step_end, callback_on_step_end_tensor_inputs)
            try:
                rendered = [
                    call._render(clips, batch, frame_counts[batch[0]], plan, generators, latents, on_step_end)
                    for batch, plan in zip(batches, plans, strict=True)
                ]
            finally:
                self.maybe_free_model_hooks()

        # 5. what was made, and the sound that belongs to it
        waveforms = [clip.audio for clip in clips]
        has_audio = waveforms[0] is not None
        output = DAWNPipelineOutput(
            frames=rendered[0][0] if len(batches) == 1 else [frames[0] for frames, _, _ in rendered],
            pose=[track for _, pose, _ in rendered for track in pose],
            blink=[track for _, _, blink in rendered for track in blink],
            audio=[fit_samples(*pair) for pair in zip(waveforms, frame_counts, strict=True)] if has_audio else None,
            sampling_rate=[waveform.sample_rate_hz for waveform in waveforms] if has_audio else None,
            fps=FPS,
            portraits=[clip.image for clip in clips],
        )
        return output if return_dict else tuple(getattr(output, field.name) for field in fields(output))

    def _for_one_call(self) -> "DAWNPipeline":
        """Copy the pipeline for one call, as its callbacks see it; networks are shared.

        Callbacks of diffusers look at the `scheduler` of a pipeline, and set its `_guidance_scale` and `_interrupt`.
        Threads that share a pipeline must not meet there.
        """
        self._interrupts_before, self.stage_seconds = self._interrupts, {}
        call = copy.copy(self)
        call._called_on = self
        return call

    def _render(
        self,
        all_clips: list[ClipInput],
        batch: list[int],
        num_frames: int,
        plan: RenderPlan,
        generators: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        on_step_end: Callable | None,
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Render some of the clips, which are equally long, on a copy of the pipeline: the stages in order."""
        request, device = plan.request, self._execution_device
        size = (request.height, request.width)
        clips = [all_clips[index] for index in batch]
        portraits = [clip.image for clip in clips]
        generator = [generators[index] for index in batch] if isinstance(generators, list) else generators
        scheduler = copy.deepcopy(request.scheduler)  # steps leave their traces in it
        self.scheduler = scheduler  # which callbacks may look at
        self._guidance_scale = request.guidance_scale  # which they may change

        with timed(self.stage_seconds, "speech features"):  # (B, F, D)
            encode = partial(self.encode_audio, num_frames=num_frames)
            features = stack_features(clips, num_frames, self.unet.config.audio_dim, encode).to(device)

        with timed(self.stage_seconds, "pose and blink"):  # (B, F, 6), (B, F, 2)
            pose, blink = move_clips(clips, features, self.predict_motion, generator)

        with timed(self.stage_seconds, "conditions"):  # by window
            contexts = self.prepare_conditions(portraits, features, pose, blink, *size, plan.windows)

        with timed(self.stage_seconds, "denoising"):  # (B, 3, F, h, w)
            motion = self.denoise(
                self.prepare_latents(len(clips), num_frames, *size, device, generator, latents, scheduler),
                scheduler.timesteps,
                contexts,
                step_arguments(scheduler, generator, request.eta),
                on_step_end,
                request.machine.cache_interval,
                scheduler,
            )
        del contexts, features

        with timed(self.stage_seconds, "frames"):  # (B, F, 3, H, W)
            draw = partial(self.decode_motion, chunk_size=request.machine.decode_chunk_size)
            frames = deliver_frames(motion, portraits, draw, request.output_type)
        return frames, pose.float().cpu(), blink.float().cpu()
