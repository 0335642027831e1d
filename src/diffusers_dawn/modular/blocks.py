"""DAWN as blocks: face and speech encoders, motion, before the denoising, denoising, frames (paper section 3).

Each block calls the stage of `DAWNPipeline` that does its work. Any of them can be replaced by another block with the
same outputs, such as one that takes head poses from elsewhere instead of PBNet.
"""

import copy
import sys
from dataclasses import replace
from functools import partial
from types import ModuleType

import torch
from diffusers import ClassifierFreeGuidance, DDIMScheduler, ModularPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    LoopSequentialPipelineBlocks,
    ModularPipelineBlocks,
    OutputParam,
    PipelineState,
    SequentialPipelineBlocks,
)
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from ..memory.budget import choose_windows
from ..pipeline.clip_motion import direct_clips, move_clips
from ..pipeline.clip_tensors import fit_samples
from ..pipeline.clips import batch_of, collect_clips, count_frames, generators_of, read_recording
from ..pipeline.output import deliver_frames
from ..pipeline.planning import make_request
from ..pipeline.request import MachineSettings
from ..records import FPS
from ..sampling.denoising import step_arguments
from ..sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from .block_inputs import makes, takes
from .block_stages import BlockStages

# The index of a repository with blocks names DAWN's own scheduler by a module's and a class's name. diffusers looks
# for them among the imported modules, where the repository's blocks have a name that nobody can foresee
BLOCKS_MODULE = "dawn_blocks"
PUBLISHED_SCHEDULER = DAWNDDIMScheduler
sys.modules[BLOCKS_MODULE] = ModuleType(BLOCKS_MODULE)
setattr(sys.modules[BLOCKS_MODULE], PUBLISHED_SCHEDULER.__name__, PUBLISHED_SCHEDULER)


class _DAWNBlock(ModularPipelineBlocks):
    """A block whose components are named; networks are found by `AutoModel`, in the code that they carry."""

    model_name = "dawn"
    _components: tuple[ComponentSpec, ...] = ()
    _inputs: tuple[InputParam, ...] = ()
    _outputs: tuple[OutputParam, ...] = ()

    @property
    def description(self) -> str:
        """What the block does."""
        return type(self).__doc__.partition("\n")[0]

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """What it needs."""
        return [replace(component) for component in self._components]

    @property
    def inputs(self) -> list[InputParam]:
        """What it takes."""
        return [replace(value) for value in self._inputs]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """What it makes."""
        return [replace(value) for value in self._outputs]


def _one_per(things: list, values: list, name: str, thing: str) -> list:
    """Give each thing its value; a single one serves all."""
    if len(values) not in {1, len(things)}:
        raise ValueError(f"`{name}` has {len(values)} entries, must have one, or one per {thing}: {len(things)}")
    return values * len(things) if len(values) == 1 else values


class FaceBlock(_DAWNBlock):
    """Find the face in each picture, and cut out the square that DAWN expects (paper section 3.1)."""

    _inputs = (*takes("face", needs=("image",)),)
    _outputs = (*makes("portraits"),)

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        pictures = batch_of(block.image, 4)
        faces = _one_per(pictures, batch_of(block.face, None), "face", "picture")
        stages = BlockStages(components)
        block.portraits = [stages.prepare_portrait(*pair) for pair in zip(pictures, faces, strict=True)]
        self.set_block_state(state, block)
        return components, state


class SpeechBlock(_DAWNBlock):
    """Turn each recording into speech features at the video's frame rate (paper section 3.1)."""

    _components = (
        ComponentSpec("audio_encoder", HubertModel, "Encoder of speech: HuBERT, wav2vec2 or WavLM."),
        ComponentSpec("feature_extractor", Wav2Vec2FeatureExtractor, "Its feature extractor."),
    )
    _inputs = (*takes("audio", "sampling_rate", "num_frames", "audio_embeds"),)
    _outputs = (*makes("audio_embeds", "waveforms"),)

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        block.waveforms = None
        if (block.audio is None) == (block.audio_embeds is None):
            raise ValueError("give either `audio` or `audio_embeds`")
        if block.audio is None:
            # for how features are given, and cut; the picture is not looked at
            clips = collect_clips("", None, audio_embeds=block.audio_embeds)
            features = [clip.audio_embeds[: count_frames(clip, block.num_frames)] for clip in clips]
        else:
            recordings = batch_of(block.audio, 3)
            rates = _one_per(recordings, batch_of(block.sampling_rate, 1), "sampling_rate", "recording")
            block.waveforms = [read_recording(*pair) for pair in zip(recordings, rates, strict=True)]
            stages = BlockStages(components)
            features = [stages.encode_audio(waveform, None, block.num_frames) for waveform in block.waveforms]
        lengths = {len(feature) for feature in features}
        if len(lengths) > 1:
            name = "audio_embeds" if block.audio is None else "audio"
            raise ValueError(
                f"`{name}` lasts {min(lengths)} to {max(lengths)} frames, must be of one length: give `num_frames`"
            )
        block.audio_embeds = torch.stack(features)
        self.set_block_state(state, block)
        return components, state


class MotionBlock(_DAWNBlock):
    """Make head pose and blinks from speech by PBNet, or as `motion` says (paper section 3.4)."""

    _components = (ComponentSpec("pbnet", description="`PoseBlinkNet`; none where pose and blinks are given."),)
    _inputs = (
        *takes(
            "generator",
            "pose",
            "blink",
            "motion",
            needs=("portraits", "audio_embeds"),
        ),
    )
    _outputs = (*makes("pose", "blink"),)

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        stages = BlockStages(components)
        clips = collect_clips(
            block.portraits,
            None,
            pose=block.pose,
            blink=block.blink,
            audio_embeds=block.audio_embeds,
            motion=block.motion,
        )
        clips = direct_clips(clips, [count_frames(clip) for clip in clips])
        features = torch.stack([clip.audio_embeds for clip in clips]).to(stages._execution_device)
        generator = generators_of(block.generator, len(clips))
        block.pose, block.blink = move_clips(clips, features, stages.predict_motion, generator)
        self.set_block_state(state, block)
        return components, state


class BeforeDenoiseBlock(_DAWNBlock):
    """Choose sampler, steps and windows, draw the noise, and compute the denoiser's conditions (paper section 3.3)."""

    _components = (
        ComponentSpec("unet", description="`A2VFlowDiffusionModel`, the denoiser of motion."),
        ComponentSpec("lfg", description="`LatentFlowGenerator`, which encodes the portrait and draws the frames."),
        ComponentSpec("scheduler", DDIMScheduler, "Any scheduler that `DAWNPipeline` takes."),
        ComponentSpec(
            "guider",
            ClassifierFreeGuidance,
            "How the predictions with all conditions and with none are combined.",
            FrozenDict({"guidance_scale": 1.0}),
            default_creation_method="from_config",
        ),
    )
    _inputs = (
        *takes(
            "height",
            "width",
            "preset",
            "num_inference_steps",
            "timesteps",
            "sigmas",
            "eta",
            "generator",
            "latents",
            "window_frames",
            "window_overlap",
            needs=("portraits", "audio_embeds", "pose", "blink"),
        ),
    )
    _outputs = (*makes("portraits", "contexts", "sampler", "timesteps", "latents", "step_arguments"),)

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        stages = BlockStages(components, MachineSettings(block.window_frames, block.window_overlap))
        request = make_request(
            stages,
            block.height,
            block.width,
            block.num_inference_steps,
            block.timesteps,
            block.sigmas,
            stages.guidance_scale,
            block.eta,
            preset=block.preset,
        )
        clips = collect_clips(
            block.portraits, None, pose=block.pose, blink=block.blink, audio_embeds=block.audio_embeds
        )
        num_frames = count_frames(clips[0])
        generator = generators_of(block.generator, len(clips))
        windows = choose_windows(num_frames, block.window_frames, block.window_overlap, lambda *_: 0, None)
        if len(windows.slices) > 1 and not isinstance(components.guider, ClassifierFreeGuidance):
            raise ValueError(
                f"`guider` is a {type(components.guider).__name__}, must be a ClassifierFreeGuidance for several"
                " windows: others remember predictions, and see one window at a time"
            )
        block.portraits = [clip.image for clip in clips]
        tracks = [torch.stack([getattr(clip, name) for clip in clips]) for name in ("audio_embeds", "pose", "blink")]
        size = request.height, request.width
        block.contexts = stages.prepare_conditions(block.portraits, *tracks, *size, windows)
        block.sampler = request.scheduler
        block.latents = stages.prepare_latents(
            len(clips), num_frames, *size, stages._execution_device, generator, block.latents, block.sampler
        )
        block.timesteps = block.sampler.timesteps
        block.step_arguments = step_arguments(block.sampler, generator, request.eta)
        self.set_block_state(state, block)
        return components, state


class DenoiseBlock(_DAWNBlock):
    """Denoise the motion of all frames at once (paper section 3.3)."""

    _components = tuple(part for part in BeforeDenoiseBlock._components if part.name != "scheduler")
    _inputs = (*takes(needs=("latents", "timesteps", "contexts", "sampler", "step_arguments")),)
    _outputs = (*makes("latents"),)

    progress_bar = LoopSequentialPipelineBlocks.progress_bar
    set_progress_bar_config = LoopSequentialPipelineBlocks.set_progress_bar_config

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        stages = BlockStages(components)
        stages.progress_bar = self.progress_bar
        guided = stages.guidance_scale

        def begin_next(index: int, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            guided.begin_step(index + 1, block.timesteps)
            return latents

        guided.begin_step(0, block.timesteps)
        block.latents = stages.denoise(
            block.latents,
            block.timesteps,
            block.contexts,
            block.step_arguments,
            begin_next,
            scheduler=copy.deepcopy(block.sampler),  # steps leave their traces in it
        )
        self.set_block_state(state, block)
        return components, state


class DecodeBlock(_DAWNBlock):
    """Draw the frames by warping the portrait, and cut the sound to their length (paper section 3.2)."""

    _components = BeforeDenoiseBlock._components[:2]
    _inputs = (*takes("waveforms", "decode_chunk_size", "output_type", needs=("latents", "portraits")),)
    _outputs = (*makes("videos", "sound", "sound_rate", "fps"),)

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        """Run the block."""
        block = self.get_block_state(state)
        machine = MachineSettings(decode_chunk_size=block.decode_chunk_size)
        draw = partial(BlockStages(components).decode_motion, chunk_size=machine.decode_chunk_size)
        block.videos = deliver_frames(block.latents, block.portraits, draw, block.output_type)
        block.sound = block.sound_rate = None
        if block.waveforms is not None:
            num_frames, repeats = block.latents.shape[2], len(block.portraits) // len(block.waveforms)
            waveforms = block.waveforms * repeats
            block.sound = [fit_samples(waveform, num_frames) for waveform in waveforms]
            block.sound_rate = [waveform.sample_rate_hz for waveform in waveforms]
        block.fps = FPS
        self.set_block_state(state, block)
        return components, state


class DAWNBlocks(SequentialPipelineBlocks):
    """Animate portraits with speech, all frames of a clip at once (DAWN, arXiv 2410.13726)."""

    model_name = "dawn"
    block_classes = [FaceBlock, SpeechBlock, MotionBlock, BeforeDenoiseBlock, DenoiseBlock, DecodeBlock]
    block_names = ["face", "speech", "motion", "before_denoise", "denoise", "decode"]

    @property
    def description(self) -> str:
        """What the blocks do together."""
        return type(self).__doc__
