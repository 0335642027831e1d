"""From one portrait and one recording to a talking video: the stages of DAWN in order (paper section 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import replace_example_docstring
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, SequenceFeatureExtractor

from .audio_features import extract_features, num_video_frames
from .clip_inputs import (
    ClipInput,
    collect_clips,
    count_frames,
    face_masks,
    fit_samples,
    image_tensor,
    initial_states,
    prepare_clips,
    read_recording,
    stack_features,
    stack_tracks,
)
from .conditions import Conditions, null_conditions, relative_conditions
from .denoising import StepCache, WindowContexts, begin_clip, predict, step_arguments, step_callback
from .frame_output import deliver_frames
from .frame_windows import FrameWindows
from .memory_budget import WINDOW_OVERLAP, available_bytes, choose_windows
from .memory_estimate import MOST_LATENT_COPIES, output_bytes, stage_bytes, weight_bytes
from .motion_latents import motion_from_latents
from .pipeline_output import DAWNPipelineOutput
from .portrait import prepare_portrait
from .records import FPS, FaceState, Portrait
from .render_request import RenderRequest
from .sampler_presets import choose_sampling
from .saved_pipeline import SavedWithCode
from .scheduler_choice import allow_long_clips, check_scheduler, set_timesteps
from .scheduling_dawn_ddim import DAWNDDIMScheduler
from .stage_timer import timed

# pieces whose motion is taken out of the latents at once: it is small beside what drawing a piece takes
PIECES_PER_GROUP = 25
# LFG draws with weights that its norms are folded into, which hooks of single layers do not see; PBNet is small
KEPT_ON_DEVICE = ("lfg", "pbnet")
EXAMPLE_DOC_STRING = """
    Examples:
        ```py
        >>> import torch
        >>> from diffusers_dawn import DAWNPipeline
        >>> from diffusers_dawn.video_writer import write_video

        >>> pipe = DAWNPipeline.from_pretrained("path/to/checkpoint")
        >>> out = pipe("portrait.png", "speech.wav", output_type="np", generator=torch.Generator().manual_seed(0))
        >>> write_video("talking.mp4", (out.frames[0] * 255).round().astype("uint8"), out.waveform(0))
        ```
"""


class DAWNPipeline(SavedWithCode, DiffusionPipeline):
    """Animate portraits with speech, all frames of a clip at once (DAWN, arXiv 2410.13726).

    Args:
        unet: `A2VFlowDiffusionModel`, the denoiser of motion.
        lfg: `LatentFlowGenerator`, which encodes the portrait and draws the frames.
        audio_encoder: A HuBERT, wav2vec2 or WavLM model of transformers.
        feature_extractor: Its feature extractor.
        scheduler: Any scheduler that samples noise, v or clean samples on a variance-preserving schedule.
        pbnet: `PoseBlinkNet`; None when pose and blink are always given.
    """

    model_cpu_offload_seq = "audio_encoder->pbnet->unet->lfg"
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
    ) -> None:
        super().__init__()
        check_scheduler(scheduler)
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
        # any `face_analysis.FaceDetector`; mediapipe's is made when one is first needed
        self.face_detector: Callable[[np.ndarray], list[FaceState]] | None = None
        self.stage_seconds: dict[str, float] = {}
        self._interrupt, self._guidance_scale, self._current_timestep, self._num_timesteps = False, 1.0, None, 0

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep weights on the CPU but for those in use, see `DiffusionPipeline.enable_sequential_cpu_offload`.

        LFG and PBNet stay on the device.

        Args:
            *args: As in diffusers.
            **kwargs: As in diffusers.
        """
        self._exclude_from_cpu_offload = list(KEPT_ON_DEVICE)
        try:
            super().enable_sequential_cpu_offload(*args, **kwargs)
        finally:
            del self._exclude_from_cpu_offload

    def enable_group_offload(self, *args: Any, exclude_modules: str | list[str] | None = None, **kwargs: Any) -> None:
        """Offload groups of layers, see `DiffusionPipeline.enable_group_offload`; LFG and PBNet stay on the device.

        Args:
            *args: As in diffusers.
            exclude_modules: Further components that stay on the device.
            **kwargs: As in diffusers.
        """
        further = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or [])
        super().enable_group_offload(*args, exclude_modules=[*KEPT_ON_DEVICE, *further], **kwargs)

    @property
    def default_size(self) -> int:
        """Height and width of the video that the model was trained with [px]."""
        return self.unet.config.sample_size * self.lfg.config.motion_stride

    @property
    def guidance_scale(self) -> float:
        """Weight of the conditions of the current call."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the current call also runs the null condition."""
        return self._guidance_scale != 1.0

    @property
    def num_timesteps(self) -> int:
        """Denoising calls of the current call."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        """Time of the current step."""
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        """Whether the remaining steps are left out; a callback may set `_interrupt`."""
        return self._interrupt

    def detect_faces(self, picture: np.ndarray) -> list[FaceState]:
        """Find the faces of a picture (H, W, 3), the largest first, by `face_detector`."""
        if self.face_detector is None:
            from .face_analysis import MediaPipeFaceDetector

            self.face_detector = MediaPipeFaceDetector()
        return self.face_detector(picture)

    def prepare_portrait(
        self,
        image: Any,
        face: FaceState | None = None,
        face_index: int | None = None,
        crop: bool | None = None,
    ) -> Portrait:
        """Find the face of a picture and cut the square that DAWN expects around it.

        Args:
            image: Path, bytes, PIL image, array (H, W, 3) or tensor (3, H, W) in [0, 1]; or a finished `Portrait`.
            face: State of the face in this picture, when it is known; also as a dict of its fields.
            face_index: Which face, counted from the largest, 0; None: the largest.
            crop: True crops, False takes the whole picture, which must be square. None crops unless the picture is
                square and shows the face as large and central as in training; with a given face it does not crop.

        Returns:
            The portrait.

        Raises:
            ValueError: The picture cannot be read, shows no face, or is not square where it must be.
        """
        return prepare_portrait(image, face, face_index, crop, self.detect_faces)

    @torch.no_grad()
    def encode_audio(
        self, audio: Any, sampling_rate: int | None = None, num_frames: int | None = None
    ) -> torch.Tensor:
        """Compute the speech features of every video frame (paper section 3.1).

        Args:
            audio: The recording: path, bytes, array, tensor, (array, rate) or `Waveform`.
            sampling_rate: Rate of an array or tensor [Hz].
            num_frames: Frames F, at most as many as the recording lasts; None: all of it.

        Returns:
            Features (F, D) in float32.

        Raises:
            ValueError: The recording lasts fewer frames.
        """
        waveform = read_recording(audio, sampling_rate)
        available = num_video_frames(len(waveform.samples), waveform.sample_rate_hz)
        if num_frames is not None and not 1 <= num_frames <= available:
            raise ValueError(f"`num_frames` is {num_frames}, must be in [1, {available}], what `audio` lasts")
        features = extract_features(waveform, self.audio_encoder, self.feature_extractor, available)
        return features[:num_frames]

    @torch.no_grad()
    def predict_motion(
        self,
        audio_embeds: torch.Tensor,
        initial_pose: torch.Tensor,
        initial_blink: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Make head pose and blinks from speech by PBNet (paper section 3.4).

        Args:
            audio_embeds: Speech features (B, F, D).
            initial_pose: Pose of the portraits (B, 6).
            initial_blink: Eye openness of the portraits (B, 2).
            generator: Source of noise, or one per clip.

        Returns:
            Pose (B, F, 6) and eye openness (B, F, 2); None for the one that this PBNet does not make.

        Raises:
            ValueError: The pipeline has no PBNet.
        """
        if self.pbnet is None:
            raise ValueError("`pose` and `blink` must be given: this pipeline has no `pbnet`")
        inputs = (tensor.to(self._execution_device) for tensor in (audio_embeds, initial_pose, initial_blink))
        return self.pbnet.generate(*inputs, generator=generator)

    @torch.no_grad()
    def prepare_conditions(
        self,
        portraits: list[Portrait],
        audio_embeds: torch.Tensor,
        pose: torch.Tensor,
        blink: torch.Tensor,
        height: int | None = None,
        width: int | None = None,
        windows: FrameWindows | None = None,
    ) -> list[Any] | WindowContexts:
        """Compute what the denoiser is told of clips (paper section 3.3).

        Args:
            portraits: The portraits B.
            audio_embeds: Speech features (B, F, D).
            pose: Pose per frame (B, F, 6).
            blink: Eye openness per frame (B, F, 2).
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].
            windows: Windows for clips that do not fit in one pass, see `plan_windows`.

        Returns:
            The denoiser's context, once for all steps, and that of the null condition when `guidance_scale` is not 1;
            with windows, what makes them for one window at a time.
        """
        device, dtype = self._execution_device, self.unet.dtype
        height, width = height or self.default_size, width or self.default_size
        initial_pose, initial_blink = initial_states(portraits, device)
        audio_embeds, pose, blink = (tensor.to(device) for tensor in (audio_embeds, pose, blink))
        conditions = relative_conditions(audio_embeds, pose, blink, initial_pose, initial_blink)
        reference = self.lfg.encode_image(image_tensor(portraits, height, width).to(device)).features.to(dtype)
        location = self.unet.encode_face_location(face_masks(portraits, height, width).to(device, dtype))
        conditions = Conditions(*(condition.to(dtype) for condition in conditions))
        guided = self.do_classifier_free_guidance
        if windows is not None and len(windows.slices) > 1:
            return WindowContexts(self.unet, reference, location, conditions, windows, with_null=guided)
        wanted = [conditions, null_conditions(conditions)] if guided else [conditions]
        return [self.unet.prepare_context(reference, location, *part) for part in wanted]

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        device: torch.device,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw the initial noise (B, 3, F, h, w) in float32, or check the given one.

        Args:
            batch_size: Clips B.
            num_frames: Frames F.
            height: Height of the motion h.
            width: Width of the motion w.
            device: Where the noise lives.
            generator: Source of noise, or one per clip.
            latents: Standard normal noise to use instead.

        Returns:
            The noise, at the scheduler's initial level.

        Raises:
            ValueError: A shape or the number of generators does not fit.
        """
        shape = (batch_size, self.unet.config.in_channels, num_frames, height, width)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"`latents` is {tuple(latents.shape)}, must be {shape}")
        return latents.to(device=device, dtype=torch.float32) * self.scheduler.init_noise_sigma

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        contexts: Sequence[Any] | WindowContexts,
        step_kwargs: dict,
        on_step_end: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        cache_interval: int = 1,
    ) -> torch.Tensor:
        """Run the denoising steps. In each, windows are denoised one by one and blended, then all frames step at once.

        Args:
            latents: Noise (B, 3, F, h, w).
            timesteps: Times of the scheduler.
            contexts: Result of `prepare_conditions`.
            step_kwargs: Further arguments of the scheduler's step.
            on_step_end: Called with step, time and latents; returns the latents to go on with.
            cache_interval: Every so many calls all levels of the denoiser run, see `denoising.StepCache`.

        Returns:
            The motion (B, 3, F, h, w) in float32.

        Raises:
            ValueError: The denoiser's cache does not suit the clip, see `denoising.begin_clip`.
        """
        num_windows = len(contexts.windows.slices) if isinstance(contexts, WindowContexts) else 1
        begin_clip(self.unet, contexts)
        cache = StepCache(cache_interval)
        # no decorator: it would hold on to the initial noise, which of a long clip is large
        with torch.no_grad(), self.progress_bar(total=len(timesteps) * num_windows) as progress_bar:
            for index, timestep in enumerate(timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = timestep
                cache.begin_step(index)
                model_input = self.scheduler.scale_model_input(latents, timestep)
                prediction = predict(
                    self.unet, model_input, timestep, contexts, self.guidance_scale, progress_bar.update, cache
                )
                del model_input
                latents = self.scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
                del prediction
                if on_step_end is not None:
                    latents = on_step_end(index, timestep, latents)
        self._current_timestep = None
        return latents

    def estimate_memory(
        self,
        num_frames: int,
        height: int | None = None,
        width: int | None = None,
        batch_size: int = 1,
        guidance_scale: float = 1.0,
        output_type: str = "pil",
        window_frames: int | None = None,
        cache_interval: int = 1,
    ) -> int:
        """Estimate the peak memory of rendering, see `memory_estimate`.

        Args:
            num_frames: Frames F of each clip.
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].
            batch_size: Clips B.
            guidance_scale: Weight of the conditions.
            output_type: Form of the frames.
            window_frames: Frames denoised at once; None: all.
            cache_interval: Above 1, the denoiser's deep features are kept.

        Returns:
            Bytes beside the process itself, weights included; fitted on a CPU.
        """
        request = RenderRequest(
            height or self.default_size,
            width or self.default_size,
            guidance_scale=guidance_scale,
            output_type=output_type,
            cache_interval=cache_interval,
        )
        return self._needed_bytes(request, num_frames, window_frames, batch_size)

    def plan_windows(
        self, num_frames: int, request: RenderRequest, batch_size: int = 1, held_bytes: int = 0
    ) -> FrameWindows:
        """Choose how many frames are denoised at once: all where they fit in the memory, else windows.

        Args:
            num_frames: Frames F of each clip.
            request: How they are rendered.
            batch_size: Clips B.
            held_bytes: What the caller keeps in this memory meanwhile.

        Returns:
            The windows; a single one stands for one pass.

        Raises:
            ValueError: The clips do not fit; the message says what would.
        """
        budget = request.memory_budget
        if budget is None:
            budget = available_bytes(self._execution_device, self._networks())
        return choose_windows(
            num_frames,
            request.window_frames,
            request.window_overlap,
            lambda frames, window: held_bytes + self._needed_bytes(request, frames, window, batch_size),
            budget,
        )

    @torch.no_grad()
    def decode_motion(
        self, latents: torch.Tensor, portraits: list[Portrait], chunk_size: int = 8
    ) -> Iterator[torch.Tensor]:
        """Draw frames from motion, a few at a time, so that memory does not grow with length (paper section 3.2).

        Args:
            latents: Denoised latents (B, 3, F, h, w), see `motion_latents`.
            portraits: The portraits B.
            chunk_size: Frames per piece.

        Yields:
            Frames (B, up to chunk_size, 3, H, W) in [0, 1], float32.
        """
        latents = latents.to(self._execution_device)
        height, width = (self.lfg.config.motion_stride * size for size in latents.shape[-2:])
        encoded = self.lfg.encode_image(image_tensor(portraits, height, width).to(latents.device))
        for group in latents.split(PIECES_PER_GROUP * max(1, chunk_size), dim=2):
            motion = motion_from_latents(group, self.unet.config.flow_scale)
            for frames in self.lfg.decode_chunks(encoded, *motion, chunk_size=chunk_size):
                yield frames.float().clamp(0, 1)

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
        guidance_scale: float = 1.0,
        eta: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        face_index: int | None = None,
        crop: bool | None = None,
        decode_chunk_size: int = 8,
        window_frames: int | None = None,
        window_overlap: int = WINDOW_OVERLAP,
        memory_budget: int | None = None,
        preset: str | None = None,
        cache_interval: int = 1,
    ) -> DAWNPipelineOutput | tuple:
        r"""Animate one portrait, or a batch of them, with speech.

        Args:
            image: Portrait, or a list: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W) in [0, 1], or the
                result of `prepare_portrait`.
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
            guidance_scale: Weight of the conditions against the null condition; 1 as published, one call per step.
            eta: Share of fresh noise, in [0, 1], for schedulers that take it; None: the preset's, or 1 as published.
            num_videos_per_prompt: Clips per portrait and recording.
            generator: Source of noise, or one per clip.
            latents: Initial noise (B, 3, F, h, w).
            audio_embeds: Speech features (F, D) or a batch, instead of `audio`.
            output_type: "pil", "np", "pt", "latent", or "stream": frames that are drawn while they are read, so that
                memory hardly grows with length (see `DAWNPipelineOutput`).
            return_dict: Whether to return a `DAWNPipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step as callback(pipe, step, time, tensors).
            callback_on_step_end_tensor_inputs: Tensors that it gets; only "latents".
            face_index: Which face of the picture, counted from the largest, 0; None: the largest.
            crop: Whether to crop around the face; None: when the picture needs it (see `prepare_portrait`).
            decode_chunk_size: Frames drawn at once.
            window_frames: Frames denoised at once. Beyond, overlapping windows are denoised together at every step and
                blended, which changes the video a little. None: all where they fit in the memory, else 200 or 100.
            window_overlap: Frames that neighbouring windows share at least.
            memory_budget: Memory that may be taken, weights included [bytes]; None: what is free.
            preset: Sampler and steps by name, instead of the pipeline's scheduler: "quality" as published, "balanced"
                or "fast" (see `sampler_presets.PRESETS`). None: "balanced" where no steps are given and the pipeline
                has the scheduler of DAWN's checkpoints; a scheduler of your own is always used.
            cache_interval: Every so many denoising calls all levels of the denoiser run, in between only those of the
                highest resolution, on what the others made last; 1: all in every call.

        Returns:
            `DAWNPipelineOutput`, or its fields as a tuple.

        Raises:
            ValueError: An argument is missing or not allowed, or the clips do not fit in the memory; the message names
                it, and what would fit.

        Examples:
        """  # noqa: D414 diffusers fills the section in
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        sampling = choose_sampling(self.scheduler, preset, num_inference_steps, timesteps, sigmas, eta)
        request = RenderRequest(
            height=self.default_size if height is None else height,
            width=self.default_size if width is None else width,
            num_inference_steps=sampling.num_inference_steps,
            timesteps=sampling.timesteps,
            sigmas=sampling.sigmas,
            guidance_scale=guidance_scale,
            eta=sampling.eta,
            output_type=output_type,
            decode_chunk_size=decode_chunk_size,
            window_frames=window_frames,
            window_overlap=window_overlap,
            memory_budget=memory_budget,
            cache_interval=cache_interval,
        )
        with self._sampling_by(sampling.scheduler):
            self._check_request(request, callback_on_step_end_tensor_inputs)
            self._guidance_scale, self._interrupt, self._current_timestep = guidance_scale, False, None
            self.stage_seconds = {}
            allow_long_clips(self.scheduler)
            set_timesteps(self.scheduler, self._execution_device, *request.schedule)

            # 1. one portrait and one recording per clip, as long as the recording unless told otherwise
            clips = collect_clips(image, audio, sampling_rate, face, pose, blink, audio_embeds, num_videos_per_prompt)
            clips = prepare_clips(clips, lambda clip: self.prepare_portrait(clip.image, clip.face, face_index, crop))
            frame_counts = [count_frames(clip, num_frames) for clip in clips]
            generator = list(generator) if isinstance(generator, tuple) else generator
            if isinstance(generator, list) and len(generator) != len(clips):
                raise ValueError(f"`generator` has {len(generator)} entries, must have one per clip: {len(clips)}")

            # 2. clips of one length are one batch; others go one by one, because norms run over all frames of a clip
            equal = len(set(frame_counts)) == 1
            if not equal and latents is not None:
                raise ValueError("`latents` can be given only when all clips have the same number of frames")
            batches = [list(range(len(clips)))] if equal else [[index] for index in range(len(clips))]
            plans, held_bytes = [], 0
            for batch in batches:
                num_batch_frames = frame_counts[batch[0]]
                plans.append(self.plan_windows(num_batch_frames, request, len(batch), held_bytes))
                held_bytes += output_bytes(request.clip_size(num_batch_frames, batch_size=len(batch)))
            on_step_end = step_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
            rendered = [
                self._render(
                    [clips[index] for index in batch],
                    frame_counts[batch[0]],
                    request,
                    windows,
                    [generator[index] for index in batch] if isinstance(generator, list) else generator,
                    latents,
                    on_step_end,
                )
                for batch, windows in zip(batches, plans, strict=True)
            ]
            self.maybe_free_model_hooks()

        # 3. what was made, and the sound that belongs to it
        waveforms = [clip.audio for clip in clips]
        has_audio = waveforms[0] is not None
        output = DAWNPipelineOutput(
            frames=rendered[0][0] if equal else [frames[0] for frames, _, _ in rendered],
            pose=[track for _, pose, _ in rendered for track in pose],
            blink=[track for _, _, blink in rendered for track in blink],
            audio=[fit_samples(*pair) for pair in zip(waveforms, frame_counts, strict=True)] if has_audio else None,
            sampling_rate=[waveform.sample_rate_hz for waveform in waveforms] if has_audio else None,
            fps=FPS,
            portraits=[clip.image for clip in clips],
        )
        return output if return_dict else tuple(getattr(output, field.name) for field in fields(output))

    def check_inputs(
        self,
        height: int,
        width: int,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        eta: float | None = None,
        output_type: str = "pil",
        callback_on_step_end_tensor_inputs: Sequence[str] = (),
        preset: str | None = None,
    ) -> None:
        """Refuse what cannot be rendered, before any work; see `__call__` for the arguments.

        Args:
            height: Height of the video [px].
            width: Width of the video [px].
            num_inference_steps: Denoising steps.
            guidance_scale: Weight of the conditions.
            eta: Share of fresh noise.
            output_type: Form of the frames.
            callback_on_step_end_tensor_inputs: Tensors for the callback.
            preset: Sampler and steps by name.

        Raises:
            ValueError: An argument is not allowed.
        """
        sampling = choose_sampling(self.scheduler, preset, num_inference_steps, eta=eta)
        request = RenderRequest(
            height,
            width,
            sampling.num_inference_steps,
            guidance_scale=guidance_scale,
            eta=sampling.eta,
            output_type=output_type,
        )
        with self._sampling_by(sampling.scheduler):
            self._check_request(request, callback_on_step_end_tensor_inputs)

    @contextmanager
    def _sampling_by(self, scheduler: Any) -> Iterator[None]:
        own, self.scheduler = self.scheduler, scheduler
        try:
            yield
        finally:
            self.scheduler = own

    def _check_request(self, request: RenderRequest, callback_tensors: Sequence[str]) -> None:
        multiple = self.unet.size_multiple * self.lfg.config.motion_stride
        request.check(multiple, self.scheduler.config.num_train_timesteps - 1)
        if request.cache_interval > 1 and len(self.unet.config.block_out_channels) == 1:
            raise ValueError(
                f"`cache_interval` is {request.cache_interval}, must be 1: this denoiser has no deep levels"
            )
        unknown = [name for name in callback_tensors if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has {unknown}, allowed are {self._callback_tensor_inputs}"
            )
        check_scheduler(self.scheduler)

    def _render(
        self,
        clips: list[ClipInput],
        num_frames: int,
        request: RenderRequest,
        windows: FrameWindows,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        on_step_end: Callable | None,
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Render prepared clips of one length: the stages in order."""
        device, stride = self._execution_device, self.lfg.config.motion_stride
        size = (request.height, request.width)
        portraits = [clip.image for clip in clips]
        self._interrupt = False

        with timed(self.stage_seconds, "speech features"):  # (B, F, D)
            encode = partial(self.encode_audio, num_frames=num_frames)
            features = stack_features(clips, num_frames, self.unet.config.audio_dim, encode).to(device)

        with timed(self.stage_seconds, "pose and blink"):  # (B, F, 6), (B, F, 2)
            generate = partial(self.predict_motion, features, *initial_states(portraits, device), generator)
            pose, blink = stack_tracks(clips, generate, device)

        with timed(self.stage_seconds, "conditions"):
            contexts = self.prepare_conditions(portraits, features, pose, blink, *size, windows)

        with timed(self.stage_seconds, "denoising"):  # (B, 3, F, h, w)
            timesteps = set_timesteps(self.scheduler, device, *request.schedule)
            self._num_timesteps = len(timesteps)
            latent_size = (side // stride for side in size)
            motion = self.denoise(
                self.prepare_latents(len(clips), num_frames, *latent_size, device, generator, latents),
                timesteps,
                contexts,
                step_arguments(self.scheduler, generator, request.eta),
                on_step_end,
                request.cache_interval,
            )
        del contexts, features, generate

        with timed(self.stage_seconds, "frames"):  # (B, F, 3, H, W)
            draw = partial(self.decode_motion, chunk_size=request.decode_chunk_size)
            frames = deliver_frames(motion, portraits, draw, request.output_type)
        return frames, pose.float().cpu(), blink.float().cpu()

    def _networks(self) -> list[torch.nn.Module]:
        return [part for part in self.components.values() if isinstance(part, torch.nn.Module)]

    def _needed_bytes(
        self, request: RenderRequest, num_frames: int, window_frames: int | None, batch_size: int
    ) -> int:
        size = request.clip_size(num_frames, window_frames, batch_size)
        if not isinstance(self.scheduler, DAWNDDIMScheduler):
            size = size._replace(latent_copies=MOST_LATENT_COPIES)
        stages = stage_bytes(self.unet, self.lfg, self.audio_encoder, size, self._execution_device)
        return weight_bytes(self._networks()) + max(stages.values())
