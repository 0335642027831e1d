"""The stages of DAWN, each usable by itself (paper section 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from ..face.crop import prepare_portrait
from ..face.detector import ForkedProcess, MediaPipeFaceDetector
from ..face.opacity import made_transparent
from ..face.person import PersonSegmenter, with_person
from ..geometry.frame_windows import FrameWindows
from ..geometry.motion_latents import motion_from_latents
from ..geometry.still_background import keep_background
from ..media.sources import open_binary, rewound
from ..motion.direction import check_sampling, motion_of_call
from ..motion.track import MotionTrack
from ..ranges import is_whole_number
from ..records import FaceState, Portrait, SquareCrop
from ..sampling.conditions import Conditions, relative_conditions
from ..sampling.denoising import ClipContexts, StepCache, begin_clip, predict
from ..sampling.guidance import guidance_of
from ..sampling.noise_path import NoisePath
from ..speech.features import extract_features, num_video_frames
from .clip_motion import direct_clips, motion_noise, move_clips
from .clip_tensors import face_masks, image_tensor, initial_states, opacity_tensor, person_tensor, with_moved_opacity
from .clips import ClipInput, generators_of, read_recording
from .finite_numbers import check_finite, check_given
from .portrait_detail import PortraitDetail

# pieces whose motion is taken out of the latents at once: it is small beside what drawing a piece takes
PIECES_PER_GROUP = 25


class StagesOfDAWN:
    """The stages of `DAWNPipeline`, in order; goes before `DiffusionPipeline` among its bases."""

    def detect_faces(self, picture: np.ndarray) -> list[FaceState]:
        """Find the faces of a picture (H, W, 3), the largest first, by `face_detector`."""
        self.face_detector = self.face_detector or MediaPipeFaceDetector()
        return self.face_detector(picture)

    def segment_person(self, picture: np.ndarray) -> np.ndarray:
        """Say how much of every pixel of a picture (H, W, 3), from 0 to 1, is of a person, by `person_segmenter`."""
        self.person_segmenter = self.person_segmenter or PersonSegmenter()
        return self.person_segmenter(picture)

    @property
    def keeps_background(self) -> bool:
        """Whether what shows no person keeps still."""
        return self.lfg.config.still_background

    def find_person(self, portrait: Portrait) -> Portrait:
        """Tell a portrait's person from the background, by `person_segmenter`, if mediapipe can be used."""
        with suppress(ImportError, ForkedProcess):
            return with_person(portrait, self.segment_person)
        return portrait

    def prepare_portrait(
        self,
        image: Any,
        face: FaceState | None = None,
        face_index: int | None = None,
        crop: bool | SquareCrop | None = None,
        transparent: bool = False,
    ) -> Portrait:
        """Find the face in a picture and cut out the square that DAWN expects.

        Where `keeps_background`, the person is found, too, which needs mediapipe; without it, all may move.

        Args:
            image: Path, bytes, PIL image, array (H, W, 3) or tensor (3, H, W) in [0, 1]; or a finished `Portrait`.
            face: State of the face in this picture, when it is known; also as a dict of its fields.
            face_index: Which face, counted from the largest, 0; None: the largest.
            crop: True crops, False takes the whole picture, which must be square. None crops unless the picture is
                square and shows the face as large and central as in training; with a given face it does not crop.
                Or the square itself, in pixels of the upright picture.
            transparent: Cut the person out: frames get a fourth channel, opacity. It is the picture's own, or, if
                that has none, the person's mask by `person_segmenter`, which needs mediapipe unless another is set.

        Returns:
            The portrait.

        Raises:
            ValueError: The picture cannot be read, shows no face, or is not square where it must be; or the given
                square does not hold the face.
        """
        if transparent and hasattr(image, "read"):  # its opacity is read after its face
            with open_binary(image, "image") as stream:
                image = rewound(stream)
        portrait = prepare_portrait(image, face, face_index, crop, self.detect_faces)
        if self.keeps_background and not isinstance(image, Portrait):
            portrait = self.find_person(portrait)
        if not transparent or portrait.opacity is not None:
            return portrait
        return made_transparent(portrait, image, self.segment_person)

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
        if num_frames is not None and not (is_whole_number(num_frames) and 1 <= num_frames <= available):
            raise ValueError(
                f"`num_frames` is {num_frames!r}, must be a whole number in [1, {available}], what `audio` lasts"
            )
        features = extract_features(waveform, self.audio_encoder, self.feature_extractor, available, num_frames)
        check_finite(features, "speech features", {"audio_encoder": self.audio_encoder}, "`audio`")
        return features

    @torch.no_grad()
    def predict_motion(
        self,
        audio_embeds: torch.Tensor,
        initial_pose: torch.Tensor,
        initial_blink: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        temperature: float | Sequence[float] = 1.0,
        take: int | Sequence[int] = 1,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Make head pose and blinks from speech by PBNet (paper section 3.4).

        Args:
            audio_embeds: Speech features (B, F, D).
            initial_pose: Pose of the portraits (B, 6).
            initial_blink: Eye openness of the portraits (B, 2).
            generator: Source of noise, or one per clip.
            temperature: Factor of the noise, in [0, 3], or one per clip; 0 gives the same motion for every seed.
            take: Which of the candidates of a generator counts, from 1 to 64, or one per clip; see `propose_motion`.

        Returns:
            Pose (B, F, 6) and eye openness (B, F, 2); None for the one that this PBNet does not make.

        Raises:
            ValueError: The pipeline has no PBNet, or a number is out of range.
        """
        if self.pbnet is None:
            raise ValueError("`pose` and `blink` must be given: this pipeline has no `pbnet`")
        given = {"audio_embeds": audio_embeds, "initial_pose": initial_pose, "initial_blink": initial_blink}
        for name, tensor in given.items():
            check_given(tensor, name)
        device = self._execution_device
        inputs = (tensor.to(device) for tensor in given.values())
        num_clips, num_frames = audio_embeds.shape[:2]

        def draw(num_drawn: int, sources: torch.Generator | list[torch.Generator] | None) -> torch.Tensor:
            return self.pbnet.draw_noise(num_drawn, num_frames, sources, device)

        noise = motion_noise(draw, num_clips, generators_of(generator, num_clips), temperature, take)
        tracks = self.pbnet.generate(*inputs, noise=noise)
        for track in tracks:
            if track is not None:
                check_finite(track, "PBNet's motion", {"pbnet": self.pbnet}, "`audio_embeds` or the portrait's state")
        return tracks

    @torch.no_grad()
    def propose_motion(
        self,
        image: Any,
        audio: Any,
        sampling_rate: int | None = None,
        face: FaceState | None = None,
        num_frames: int | None = None,
        num_candidates: int = 4,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        motion: Any = None,
    ) -> list[MotionTrack]:
        """Make several motions for one portrait and recording, to choose from; a call takes one as `motion`.

        Args:
            image: Whatever `prepare_portrait` takes.
            audio: The recording, as for `encode_audio`.
            sampling_rate: Rate of an array or tensor [Hz].
            face: State of the portrait's face, when it is known.
            num_frames: Frames F; None: all of the recording.
            num_candidates: How many, from 1 to 64.
            temperature: Factor of PBNet's noise, in [0, 3]: larger ones differ more.
            generator: Source of noise. Number k of the result is what a call with "take k" makes from it.
            motion: What is said about each of them: a text, a script or a track, as in a call.

        Returns:
            The tracks.

        Raises:
            ValueError: A number is out of range, this pipeline's PBNet does not make pose and blinks, or `motion` does
                not suit the clip.
        """
        check_sampling([temperature], [num_candidates], "num_candidates")
        generator = generators_of(generator, 1)
        portrait, said = self.prepare_portrait(image, face), None if motion is None else motion_of_call(motion)
        features = self.encode_audio(audio, sampling_rate, num_frames)[None]
        (clip,) = direct_clips([ClipInput(portrait, motion=said)], [features.shape[1]])
        if temperature != 1:
            clip = replace(clip, direction=replace(clip.direction, temperature=temperature))
        tracks = [move_clips([clip], features, self.predict_motion, generator) for _ in range(num_candidates)]
        return [MotionTrack(pose[0], blink[0], portrait.face.pose, portrait.face.blink) for pose, blink in tracks]

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
    ) -> ClipContexts:
        """Compute the denoiser's conditions (paper section 3.3).

        Args:
            portraits: The portraits B.
            audio_embeds: Speech features (B, F, D).
            pose: Pose per frame (B, F, 6).
            blink: Eye openness per frame (B, F, 2).
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].
            windows: Frames that are denoised at once; None: all of them in one window.

        Returns:
            The denoiser's contexts, by window, with those of the null condition where `guidance_scale` needs them.
        """
        device, dtype = self._execution_device, self.unet.dtype
        height, width = height or self.default_size, width or self.default_size
        initial_pose, initial_blink = initial_states(portraits, device)
        audio_embeds, pose, blink = (tensor.to(device) for tensor in (audio_embeds, pose, blink))
        conditions = relative_conditions(audio_embeds, pose, blink, initial_pose, initial_blink)
        reference = self.lfg.encode_image(image_tensor(portraits, height, width).to(device)).features.to(dtype)
        location = self.unet.encode_face_location(face_masks(portraits, height, width).to(device, dtype))
        conditions = Conditions(*(condition.to(dtype) for condition in conditions))
        if windows is None:
            windows = FrameWindows([slice(0, audio_embeds.shape[1])], overlap=0)
        guidance = guidance_of(self.guidance_scale)
        return ClipContexts(self.unet, reference, location, conditions, windows, guidance)

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        device: torch.device,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        scheduler: Any = None,
    ) -> torch.Tensor:
        """Draw the initial noise (B, 3, F, h, w) in float32, or check the given one.

        Args:
            batch_size: Clips B.
            num_frames: Frames F.
            height: Height of the video [px], a multiple of the motion's stride.
            width: Width of the video [px].
            device: Where the noise lives.
            generator: Source of noise, or one per clip.
            latents: Standard normal noise to use instead.
            scheduler: What samples, with the times of its steps set; None: the pipeline's.

        Returns:
            The noise, at the scheduler's initial level.

        Raises:
            ValueError: A size, a shape or the number of generators does not fit.
        """
        stride = self.lfg.config.motion_stride
        if height % stride or width % stride:
            raise ValueError(f"`height` and `width` are {height} and {width}, must be multiples of {stride}")
        shape = (batch_size, self.unet.config.in_channels, num_frames, height // stride, width // stride)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        else:
            check_given(latents, "latents", shape)
        level = getattr(self.scheduler if scheduler is None else scheduler, "init_noise_sigma", 1.0)
        return latents.to(device=device, dtype=torch.float32) * level

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        contexts: ClipContexts,
        step_kwargs: dict,
        on_step_end: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        cache_interval: int = 1,
        scheduler: Any = None,
    ) -> torch.Tensor:
        """Run the denoising steps. In each, windows are denoised one by one and blended, then all frames step at once.

        Args:
            latents: Noise (B, 3, F, h, w).
            timesteps: Times of the scheduler, or its last ones.
            contexts: Result of `prepare_conditions`.
            step_kwargs: Further arguments of the scheduler's step.
            on_step_end: Called with step, time and latents; returns the latents to go on with.
            cache_interval: Run the full denoiser every N steps, see `denoising.StepCache`.
            scheduler: What samples, with the times of its steps set, which leave their traces in it; None: the
                pipeline's.

        Returns:
            The motion (B, 3, F, h, w) in float32.

        Raises:
            ValueError: The denoiser's cache does not suit the clip, see `denoising.begin_clip`, or the times are not
                the scheduler's.
        """
        scheduler, num_windows = self.scheduler if scheduler is None else scheduler, len(contexts.windows.slices)
        begin_clip(self.unet, contexts)
        cache, path = StepCache(cache_interval), NoisePath(scheduler, timesteps)
        self._progress["num_timesteps"] = len(timesteps)
        # no decorator: it would hold on to the initial noise, which of a long clip is large
        try:
            with torch.no_grad(), self.progress_bar(total=len(timesteps) * num_windows) as progress_bar:
                for index, timestep in enumerate(timesteps):
                    if self.interrupt:
                        continue
                    self._progress["timestep"] = timestep
                    cache.begin_step(index)
                    model_input, time = path.to_denoiser(index, timestep, latents)
                    prediction = predict(
                        self.unet, model_input, time, contexts, self.guidance_scale, progress_bar.update, cache
                    )
                    del model_input
                    prediction = path.to_scheduler(index, latents, prediction)
                    latents = scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
                    del prediction
                    if on_step_end is not None:
                        latents = on_step_end(index, timestep, latents)
        finally:
            self._progress["timestep"] = None
        inputs = "`latents`, `audio_embeds`, `pose`, `blink`, the portrait's state or `guidance_scale`"
        check_finite(latents, "the motion", {"unet": self.unet, "lfg": self.lfg}, inputs)
        return latents

    @torch.no_grad()
    def decode_motion(
        self,
        latents: torch.Tensor,
        portraits: list[Portrait],
        chunk_size: int = 8,
        detail_size: tuple[int, int] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Draw frames from motion, a few at a time, so that memory does not grow with length (paper section 3.2).

        Args:
            latents: Denoised latents (B, 3, F, h, w), see `geometry.motion_latents`.
            portraits: The portraits B.
            chunk_size: Frames per piece.
            detail_size: Height and width [px] of larger frames, which have the detail of the portraits' own pixels,
                see `PortraitDetail`; at most what the portraits have. They come one by one. None: the network's.

        Yields:
            Frames (B, up to chunk_size, 3, H, W) in [0, 1], float32; with a fourth channel, opacity, if a portrait has
            it, which moves as the picture does.

        Raises:
            ValueError: `detail_size` is not allowed.
        """
        latents, stride = latents.to(self._execution_device), self.lfg.config.motion_stride
        frame_size = tuple(stride * size for size in latents.shape[-2:])
        warped = self.lfg.config.image_sampling, self.lfg.config.image_border
        detail = None if detail_size is None else PortraitDetail(portraits, frame_size, detail_size, *warped)
        encoded = self.lfg.encode_image(image_tensor(portraits, *frame_size).to(latents.device))
        opacity = opacity_tensor(portraits, *(detail_size or frame_size))
        person = person_tensor(portraits, *latents.shape[-2:])
        is_first = True
        for group in latents.split(PIECES_PER_GROUP * max(1, chunk_size), dim=2):
            motion = motion_from_latents(group, self.unet.config.flow_scale)
            motion = motion if person is None else keep_background(*motion, person.to(latents.device))
            pieces = self.lfg.decode_chunks(encoded, *motion, chunk_size=chunk_size)
            parts = (part.split(chunk_size, dim=1) for part in motion)
            for frames, flow, occlusion in zip(pieces, *parts, strict=True):
                # a GPU would wait for each answer, so there the first piece stands for all
                if frames.device.type == "cpu" or is_first:
                    check_finite(frames, "a frame", {"lfg": self.lfg}, "the motion or `image`")
                is_first = False
                frames = frames.float().clamp(0, 1)
                if detail is None:
                    yield with_moved_opacity(frames, flow, opacity, portraits)
                    continue
                enlarged = detail.enlarge(frames, flow, occlusion)
                for frame, frame_flow in zip(enlarged, flow.split(1, dim=1), strict=True):
                    yield with_moved_opacity(frame, frame_flow, opacity, portraits)
