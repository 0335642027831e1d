"""From one portrait and one recording to a talking video: the stages of DAWN in order (paper section 3)."""

import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import replace_example_docstring
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from transformers import PreTrainedModel, SequenceFeatureExtractor

from .audio_features import extract_features, num_video_frames
from .checkpoint_folder import check_complete, fetch_folder
from .clip_inputs import (
    ClipInput,
    collect_clips,
    count_frames,
    fit_samples,
    image_tensor,
    initial_states,
    prepare_clips,
    read_recording,
)
from .conditions import null_conditions, relative_conditions
from .flow_geometry import face_box_mask
from .memory_estimate import denoising_bytes, weight_bytes
from .motion_latents import motion_from_latents
from .pipeline_output import OUTPUT_TYPES, DAWNPipelineOutput
from .records import FPS, FaceState, Portrait
from .scheduler_choice import allow_long_clips, check_scheduler, set_timesteps

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


class DAWNPipeline(DiffusionPipeline):
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
        self.video_processor = VideoProcessor(do_resize=False, do_normalize=False)
        # any `face_analysis.FaceDetector`; mediapipe's is made when one is first needed
        self.face_detector: Callable[[np.ndarray], list[FaceState]] | None = None
        self.stage_seconds: dict[str, float] = {}
        self._interrupt, self._guidance_scale, self._current_timestep, self._num_timesteps = False, 1.0, None, 0

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load `model_index.json`, and import this package's modules that it names, which diffusers never does."""
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for value in config.values():
            if isinstance(value, list | tuple) and value and str(value[0]).startswith(f"{__package__}."):
                importlib.import_module(value[0])
        return loaded

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "DAWNPipeline":
        """Load a saved pipeline, see `DiffusionPipeline.from_pretrained`; weights that lack a tensor are an error.

        Args:
            pretrained_model_name_or_path: Folder, or id on the Hub.
            **kwargs: As in diffusers.

        Returns:
            The pipeline.

        Raises:
            ValueError: A component's weights lack tensors.
        """
        folder = fetch_folder(pretrained_model_name_or_path, kwargs)
        pipe = super().from_pretrained(folder, **kwargs)
        check_complete(folder, {name: part for name, part in pipe.components.items() if name not in kwargs})
        return pipe

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: the denoiser reads weights outside of their layers' forward, which this offload does not see.

        Args:
            *args: As in diffusers.
            **kwargs: As in diffusers.

        Raises:
            ValueError: Always.
        """
        raise ValueError("`enable_sequential_cpu_offload` does not suit DAWN; `enable_model_cpu_offload` does")

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
            face: State of the face in this picture, when it is known.
            face_index: Which face, counted from the largest, 0; None: the largest.
            crop: True crops, False takes the whole picture, which must be square. None crops unless the picture is
                square and shows the face as large and central as in training; with a given face it does not crop.

        Returns:
            The portrait.

        Raises:
            ValueError: The picture cannot be read, shows no face, or is not square where it must be.
        """
        if isinstance(image, Portrait):
            if (face, face_index, crop) != (None, None, None):
                raise ValueError("`face`, `face_index` and `crop` cannot be given with a `Portrait`: it has its own")
            return image
        from .face_crop import check_face, choose_face, crop_face_state, crop_square, is_framed, portrait_crop
        from .media import read_image

        picture = read_image(image)
        height, width = picture.shape[:2]
        if face is not None and face_index is not None:
            raise ValueError("give only one of `face` and `face_index`")
        needs_crop = crop is True
        if face is None:
            face = choose_face(self.detect_faces(picture), face_index)
            needs_crop = crop or (crop is None and not is_framed(face))
        check_face(face, (height, width))
        if needs_crop:
            square = portrait_crop(face)
            return Portrait(crop_square(picture, square), crop_face_state(face, square), square)
        if height != width:
            raise ValueError(
                f"`image` is {width}x{height}, must be square unless it is cropped; `crop=True` crops around the face"
            )
        return Portrait(picture, face)

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
    ) -> list[Any]:
        """Compute what the denoiser is told of clips, once for all steps (paper section 3.3).

        Args:
            portraits: The portraits B.
            audio_embeds: Speech features (B, F, D).
            pose: Pose per frame (B, F, 6).
            blink: Eye openness per frame (B, F, 2).
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].

        Returns:
            The denoiser's context, and that of the null condition when `guidance_scale` is not 1.
        """
        device, dtype = self._execution_device, self.unet.dtype
        height, width = height or self.default_size, width or self.default_size
        initial_pose, initial_blink = initial_states(portraits, device)
        audio_embeds, pose, blink = (tensor.to(device) for tensor in (audio_embeds, pose, blink))
        conditions = relative_conditions(audio_embeds, pose, blink, initial_pose, initial_blink)
        boxes = torch.tensor([portrait.face.box_px for portrait in portraits], device=device).float()
        sizes = torch.tensor([portrait.face.image_size for portrait in portraits], device=device).float()
        reference = self.lfg.encode_image(image_tensor(portraits, height, width).to(device)).features.to(dtype)
        location = self.unet.encode_face_location(face_box_mask(boxes, sizes, height, width).to(dtype))
        wanted = [conditions, null_conditions(conditions)] if self.do_classifier_free_guidance else [conditions]
        return [
            self.unet.prepare_context(reference, location, *(condition.to(dtype) for condition in part))
            for part in wanted
        ]

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

    @torch.no_grad()
    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        contexts: Sequence[Any],
        step_kwargs: dict,
        on_step_end: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run the denoising steps.

        Args:
            latents: Noise (B, 3, F, h, w).
            timesteps: Times of the scheduler.
            contexts: The denoiser's context of the clips, and that of the null condition when guidance is on.
            step_kwargs: Further arguments of the scheduler's step.
            on_step_end: Called with step, time and latents; returns the latents to go on with.

        Returns:
            The motion (B, 3, F, h, w) in float32.
        """
        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for index, timestep in enumerate(timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = timestep
                model_input = self.scheduler.scale_model_input(latents, timestep).to(self.unet.dtype)
                prediction, *null = (
                    self.unet(model_input, timestep, context=context, return_dict=False)[0].float()
                    for context in contexts
                )
                if null:
                    prediction = null[0] + self.guidance_scale * (prediction - null[0])
                latents = self.scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
                if on_step_end is not None:
                    latents = on_step_end(index, timestep, latents)
                progress_bar.update()
        self._current_timestep = None
        return latents

    def estimate_memory(self, num_frames: int, height: int | None = None, width: int | None = None) -> int:
        """Estimate the peak memory of rendering one clip, see `memory_estimate`.

        Args:
            num_frames: Frames F.
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].

        Returns:
            Bytes beside the process itself; fitted on a CPU, without guidance.
        """
        stride = self.lfg.config.motion_stride
        size = ((height or self.default_size) // stride, (width or self.default_size) // stride)
        modules = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
        return weight_bytes(modules) + denoising_bytes(self.unet, num_frames, *size)

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
        motion = motion_from_latents(latents, self.unet.config.flow_scale)
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
        num_inference_steps: int = 20,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float = 1.0,
        eta: float = 1.0,
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
    ) -> DAWNPipelineOutput | tuple:
        r"""Animate one portrait, or a batch of them, with speech.

        Args:
            image: Portrait, or a list: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W) in [0, 1], or the
                result of `prepare_portrait`.
            audio: Recording, or a list: path, bytes, array, tensor, or (array, rate). All of it is rendered.
            sampling_rate: Rate of audio arrays and tensors [Hz].
            face: State of the face, or a list; no detector is needed then, and the portrait must be square.
            pose: Pose per frame (F, 6), as `records.POSE_NAMES`, or a batch; instead of PBNet's.
            blink: Eye openness per frame (F, 2), or a batch; instead of PBNet's.
            num_frames: Frames at 25 fps, at most as many as the recording lasts; None: all of it.
            height: Height of the video [px]; None: the size that the model was trained with.
            width: Width of the video [px].
            num_inference_steps: Denoising steps.
            timesteps: Own times of the steps, for schedulers that take them.
            sigmas: Own noise levels of the steps, for schedulers that take them.
            guidance_scale: Weight of the conditions against the null condition; 1 as published, one call per step.
            eta: Share of fresh noise, in [0, 1], for schedulers that take it; 1 as published.
            num_videos_per_prompt: Clips per portrait and recording.
            generator: Source of noise, or one per clip.
            latents: Initial noise (B, 3, F, h, w).
            audio_embeds: Speech features (F, D) or a batch, instead of `audio`.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: Whether to return a `DAWNPipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step as callback(pipe, step, time, tensors).
            callback_on_step_end_tensor_inputs: Tensors that it gets; only "latents".
            face_index: Which face of the picture, counted from the largest, 0; None: the largest.
            crop: Whether to crop around the face; None: when the picture needs it (see `prepare_portrait`).
            decode_chunk_size: Frames drawn at once.

        Returns:
            `DAWNPipelineOutput`, or its fields as a tuple.

        Raises:
            ValueError: An argument is missing or not allowed; the message names it.

        Examples:
        """  # noqa: D414 diffusers fills the section in
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        height = self.default_size if height is None else height
        width = self.default_size if width is None else width
        self.check_inputs(
            height, width, num_inference_steps, guidance_scale, eta, output_type, callback_on_step_end_tensor_inputs
        )
        self._guidance_scale, self._interrupt, self._current_timestep = guidance_scale, False, None
        self.stage_seconds = {}
        allow_long_clips(self.scheduler)
        set_timesteps(self.scheduler, self._execution_device, num_inference_steps, timesteps, sigmas)

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
        rendered = []
        for batch in batches:
            rendered.append(
                self._render(
                    [clips[index] for index in batch],
                    (frame_counts[batch[0]], height, width),
                    (num_inference_steps, timesteps, sigmas),
                    [generator[index] for index in batch] if isinstance(generator, list) else generator,
                    eta,
                    latents,
                    self._step_callback(callback_on_step_end, callback_on_step_end_tensor_inputs),
                    output_type,
                    decode_chunk_size,
                )
            )
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
        num_inference_steps: int,
        guidance_scale: float = 1.0,
        eta: float = 1.0,
        output_type: str = "pil",
        callback_on_step_end_tensor_inputs: Sequence[str] = (),
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

        Raises:
            ValueError: An argument is not allowed.
        """
        multiple = self.unet.size_multiple * self.lfg.config.motion_stride
        if height != width or height <= 0 or height % multiple:
            raise ValueError(
                f"`height` and `width` are {height} and {width}, must be equal and a positive multiple of {multiple}"
            )
        most = self.scheduler.config.num_train_timesteps - 1
        if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= most:
            raise ValueError(
                f"`num_inference_steps` is {num_inference_steps!r}, must be a whole number in [1, {most}]"
            )
        if not np.isfinite(guidance_scale) or guidance_scale < 0:
            raise ValueError(f"`guidance_scale` is {guidance_scale}, must be a finite number from 0")
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` is {eta}, must be in [0, 1]")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` is {output_type!r}, must be one of {', '.join(OUTPUT_TYPES)}")
        unknown = [name for name in callback_on_step_end_tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has {unknown}, allowed are {self._callback_tensor_inputs}"
            )
        check_scheduler(self.scheduler)

    def _render(
        self,
        clips: list[ClipInput],
        size: tuple[int, int, int],
        schedule: tuple[int, list[int] | None, list[float] | None],
        generator: torch.Generator | list[torch.Generator] | None,
        eta: float,
        latents: torch.Tensor | None,
        on_step_end: Callable | None,
        output_type: str,
        decode_chunk_size: int,
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Render prepared clips of one length (frames, height, width): the stages in order."""
        device, stride = self._execution_device, self.lfg.config.motion_stride
        num_frames, height, width = size
        portraits = [clip.image for clip in clips]
        self._interrupt = False

        with self._stage("speech features"):  # (B, F, D)
            recordings = {id(clip.audio): clip for clip in clips if clip.audio_embeds is None}
            encoded = {key: self.encode_audio(clip.audio, num_frames=num_frames) for key, clip in recordings.items()}
            features = [self._given_features(clip, num_frames, encoded) for clip in clips]
            features = torch.stack([feature.to(device) for feature in features])

        initial_pose, initial_blink = initial_states(portraits, device)
        with self._stage("pose and blink"):  # (B, F, 6), (B, F, 2)
            pose, blink = self._tracks(clips, features, initial_pose, initial_blink, generator)

        with self._stage("conditions"):
            contexts = self.prepare_conditions(portraits, features, pose, blink, height, width)

        with self._stage("denoising"):  # (B, 3, F, h, w)
            timesteps = set_timesteps(self.scheduler, device, *schedule)
            self._num_timesteps = len(timesteps)
            latents = self.prepare_latents(
                len(clips), num_frames, height // stride, width // stride, device, generator, latents
            )
            latents = self.denoise(latents, timesteps, contexts, self._step_kwargs(generator, eta), on_step_end)

        frames = latents
        if output_type != "latent":
            with self._stage("frames"):  # (B, F, 3, H, W)
                pieces = self.decode_motion(latents, portraits, decode_chunk_size)
                video = torch.cat([piece if output_type == "pt" else piece.cpu() for piece in pieces], dim=1)
                frames = self.video_processor.postprocess_video(video.transpose(1, 2), output_type=output_type)
        return frames, pose.float().cpu(), blink.float().cpu()

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + time.perf_counter() - start

    def _given_features(self, clip: ClipInput, num_frames: int, encoded: dict[int, torch.Tensor]) -> torch.Tensor:
        if clip.audio_embeds is None:
            return encoded[id(clip.audio)]
        width = self.unet.config.audio_dim
        if clip.audio_embeds.shape[-1] != width:
            raise ValueError(f"`audio_embeds` is {tuple(clip.audio_embeds.shape)}, must be (F, {width})")
        return clip.audio_embeds[:num_frames]

    def _tracks(
        self,
        clips: list[ClipInput],
        features: torch.Tensor,
        initial_pose: torch.Tensor,
        initial_blink: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = {
            name: torch.stack([getattr(clip, name) for clip in clips]).to(features.device)
            for name in ("pose", "blink")
            if getattr(clips[0], name) is not None
        }
        if len(given) < 2:
            pose, blink = self.predict_motion(features, initial_pose, initial_blink, generator)
            given = {"pose": pose, "blink": blink} | given
        for name, track in given.items():
            if track is None:
                raise ValueError(f"`{name}` must be given: this pipeline's `pbnet` does not make it")
        return given["pose"], given["blink"]

    def _step_kwargs(self, generator: torch.Generator | list[torch.Generator] | None, eta: float) -> dict:
        accepted = inspect.signature(self.scheduler.step).parameters
        return {name: value for name, value in (("generator", generator), ("eta", eta)) if name in accepted}

    def _step_callback(self, callback: Callable | None, names: Sequence[str]) -> Callable | None:
        if callback is None:
            return None

        def on_step_end(index: int, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            changed = callback(self, index, timestep, dict.fromkeys(names, latents)) or {}
            return changed.get("latents", latents)

        return on_step_end
