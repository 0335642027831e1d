"""PBNet: head pose and blinking of every frame from speech, by a transformer VAE (paper section 3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import lt

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from ..machine.float32_products import with_fast_products
from ..records import BLINK_DIM, POSE_DIM
from .blocks_track import TrackSizes, TrackVAE
from .own_code import CarriesCode
from .shared_latents import mean_of_pieces, spread_pieces
from .size_limits import POSES, check_numbers, check_sizes, check_windows_in_time
from .track_inputs import check_shape, mask_of_lengths, size_of_audio

# which networks a value of `networks` stands for, and how many numbers per frame each of them moves
NETWORK_STATES = {
    "separate": {"pose": POSE_DIM, "blink": BLINK_DIM},
    "joint": {"joint": POSE_DIM + BLINK_DIM},
    "pose": {"pose": POSE_DIM},
    "blink": {"blink": BLINK_DIM},
}


@dataclass
class PoseBlinkOutput(BaseOutput):
    """Result of one pass through encoder and decoder.

    Attributes:
        prediction: Tensor (B, F, S): difference of every frame's state to the first; 0 beyond the length.
        mu: Tensor (B, F, Z): mean of the latent of every frame.
        logvar: Tensor (B, F, Z): log-variance of the latent of every frame.
    """

    prediction: torch.Tensor
    # the hooks of accelerate, which make outputs anew, ask for defaults
    mu: torch.Tensor | None = None
    logvar: torch.Tensor | None = None


class PoseBlinkNet(CarriesCode, ModelMixin, ConfigMixin):
    """Head pose and blinking from speech, relative to the first frame (paper section 3.4).

    It holds two networks of one architecture (pose and blink), one network for both, or only one of the two. A state
    is what they move, per frame: the normalised pose (6), the blink (2), or the first followed by the second. In
    training mode every frame sees the whole clip; in evaluation mode only frames within a window, so that a clip of
    any length is one pass, whose memory grows by some kilobytes per frame.

    Args:
        networks: "separate" (a pose and a blink network), "joint" (one for both), "pose" or "blink" (only that one).
        audio_dim: Width D of the audio features.
        latent_dim: Width of the latent of one network, per frame.
        latent_stride: Frames that share a latent; between the middles of such pieces it changes linearly. 1 as
            published: a latent per frame, which may come in as tremor, or not at all.
        state_width: Width of an embedded state.
        audio_width: Width of the embedded audio features.
        decoder_width: Width of the decoder.
        feed_forward_dim: Inner width of the feed-forward parts.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of every attention.
        head_dim: Channels of a head of the decoder.
        rotary_dim: How many of them are rotated; even.
        num_buckets: Rows of the relative position tables; even, at least 4.
        max_distance: Distance from which all keys share a bucket [frames], more than a quarter of the rows.
        dropout: Dropout of the encoder in training.
        pose_window: Farthest key seen in evaluation mode by the pose or joint network [frames]; None: every key is.
        blink_window: The same for the blink network.
        pose_min: Smallest value of each pose number, in `records.POSE_NAMES` order; normalised to 0.
        pose_max: Largest value of each pose number; normalised to 1.
        clip_frames: Longest clip in training [frames]. In a longer one, a frame sees half as many to either side: no
            more than in training, because the mean over more of them moves less. None: the window alone counts, as
            published.
        blink_sizes: Sizes of the blink network that differ from those above, by argument name.
        with_encoder: Whether the encoders exist; inference needs only the decoders.

    Raises:
        ValueError: `networks` is none of the four; `blink_sizes` names something else than a size; `clip_frames` or
            `latent_stride` is not positive.
    """

    # half precision would turn distant frames by a visibly wrong angle
    _keep_in_fp32_modules = ["rotary", "start_rotary"]
    # torch's own transformer layers read their weights outside of those layers' forward
    _skip_layerwise_casting_patterns = ["norm", "transformer"]
    # for the same reason, and because such offloading sees `forward` but not `generate`
    _supports_group_offloading = False
    _repeated_blocks = None  # small: it is compiled whole
    _no_split_modules = ["TrackEncoder", "TrackDecoder"]
    _keys_to_ignore_on_load_unexpected = [r"tracks\.\w+\.encoder\."]

    @register_to_config
    def __init__(
        self,
        networks: str = "separate",
        audio_dim: int = 1024,
        latent_dim: int = 256,
        latent_stride: int = 1,
        state_width: int = 64,
        audio_width: int = 256,
        decoder_width: int = 64,
        feed_forward_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        head_dim: int = 32,
        rotary_dim: int = 4,
        num_buckets: int = 128,
        max_distance: int = 128,
        dropout: float = 0.1,
        pose_window: int | None = 200,
        blink_window: int | None = 200,
        pose_min: tuple[float, ...] = (-90.0, -90.0, -90.0, 0.0, 0.0, 0.0),
        pose_max: tuple[float, ...] = (90.0, 90.0, 90.0, 1.0, 720.0, 1080.0),
        clip_frames: int | None = 200,
        blink_sizes: dict[str, int] | None = None,
        with_encoder: bool = True,
    ) -> None:
        super().__init__()
        if networks not in NETWORK_STATES:
            raise ValueError(f"`networks` is {networks!r}, must be one of {', '.join(map(repr, NETWORK_STATES))}")
        sizes = {
            "audio_dim": audio_dim,
            "latent_dim": latent_dim,
            "state_width": state_width,
            "audio_width": audio_width,
            "decoder_width": decoder_width,
            "feed_forward_dim": feed_forward_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "rotary_dim": rotary_dim,
            "num_buckets": num_buckets,
            "max_distance": max_distance,
        }
        blink_sizes = dict(blink_sizes or {})
        check_sizes({**sizes, "latent_stride": latent_stride})
        check_sizes(sizes | {name: value for name, value in blink_sizes.items() if name in sizes})
        check_windows_in_time({"pose_window": pose_window, "blink_window": blink_window})
        check_sizes({} if clip_frames is None else {"clip_frames": clip_frames})
        check_numbers({"dropout": dropout}, 0, 1)
        check_numbers({"pose_min": pose_min, "pose_max": pose_max}, *POSES)
        if len(pose_min) != len(pose_max) or not all(map(lt, pose_min, pose_max)):
            raise ValueError(f"`pose_max` is {pose_max}, must be as long as `pose_min`, and above it: {pose_min}")
        strange = sorted(blink_sizes.keys() - (sizes.keys() - {"audio_dim"}))
        if strange:
            raise ValueError(f"`blink_sizes` has {', '.join(strange)}, may only have {', '.join(sizes)} but audio_dim")
        self.audio_dim, self.latent_stride = audio_dim, latent_stride
        self.pose_min, self.pose_max = tuple(pose_min), tuple(pose_max)
        self.state_dims: dict[str, int] = dict(NETWORK_STATES[networks])
        self.latent_dims: dict[str, int] = {}
        self.tracks = nn.ModuleDict()
        for name, state_dim in self.state_dims.items():
            own_sizes = TrackSizes(state_dim, **(sizes | blink_sizes if name == "blink" else sizes))
            window = blink_window if name == "blink" else pose_window
            self.tracks[name] = TrackVAE(own_sizes, dropout, window, clip_frames, with_encoder)
            self.latent_dims[name] = own_sizes.latent_dim

    def forward(
        self,
        audio_features: torch.Tensor,
        sequence: torch.Tensor,
        noise: torch.Tensor,
        lengths: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> PoseBlinkOutput | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode a sequence, sample its latent with the given noise, decode it (the pass of VAE training).

        Args:
            audio_features: Tensor (B, F, D).
            sequence: Tensor (B, F, S): normalised states; the first frame is what everything is relative to.
            noise: Tensor (B, F, Z): standard normal; Z is the latent width of all networks together. Of frames that
                share a latent the middle one's counts.
            lengths: Integer tensor (B,), each in 1..F: how many frames of each clip count; None: all.
            return_dict: Whether the result is a record.

        Returns:
            prediction (B, F, S), mu (B, F, Z) and logvar (B, F, Z).

        Raises:
            ValueError: A tensor has another shape, or the model has no encoder.
        """
        mu, logvar = self.encode(audio_features, sequence, lengths)
        check_shape("noise", noise, tuple(mu.shape))
        latent = mu + torch.exp(0.5 * logvar) * noise
        prediction = self.decode(latent, audio_features, sequence[:, 0], lengths)
        if not return_dict:
            return prediction, mu, logvar
        return PoseBlinkOutput(prediction=prediction, mu=mu, logvar=logvar)

    @apply_forward_hook
    def encode(
        self, audio_features: torch.Tensor, sequence: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode sequences of states to the distribution of their latents.

        Args:
            audio_features: Tensor (B, F, D).
            sequence: Tensor (B, F, S): normalised states.
            lengths: Integer tensor (B,), each in 1..F; None: all frames count.

        Returns:
            mu and logvar, each (B, F, Z); frames that share a latent have their mean of both, and those beyond a
            clip's end, where they share it with no frame of the clip, 0.

        Raises:
            ValueError: A tensor has another shape, or the model has no encoder.
        """
        if any(track.encoder is None for track in self.tracks.values()):
            raise ValueError("this PoseBlinkNet has no encoder: load it with `with_encoder=True`")
        num_batch, num_frames = size_of_audio(audio_features, self.audio_dim)
        check_shape("sequence", sequence, (num_batch, num_frames, sum(self.state_dims.values())))
        frame_mask = mask_of_lengths(lengths, num_batch, num_frames, audio_features.device)
        parts = sequence.split(list(self.state_dims.values()), dim=-1)
        encoded = [
            track.encoder(part, audio_features, frame_mask)
            for track, part in zip(self.tracks.values(), parts, strict=True)
        ]
        # `device_map` may have put the networks on several devices
        mu, logvar = (
            torch.cat([part.to(audio_features.device) for part in parts], dim=-1)
            for parts in zip(*encoded, strict=True)
        )
        return tuple(mean_of_pieces(part, self.latent_stride, frame_mask) for part in (mu, logvar))

    @apply_forward_hook
    def decode(
        self,
        latent: torch.Tensor,
        audio_features: torch.Tensor,
        initial_state: torch.Tensor,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Decode given latents.

        Args:
            latent: Tensor (B, F, Z); of frames that share one the middle one's counts.
            audio_features: Tensor (B, F, D).
            initial_state: Tensor (B, S): the normalised state that the result is relative to.
            lengths: Integer tensor (B,), each in 1..F; None: all frames count. As published, frames beyond are still
                seen by those before them: for a result that padding does not touch, decode clip by clip.

        Returns:
            Tensor (B, F, S): difference of every frame's state to the initial one; 0 beyond the length.

        Raises:
            ValueError: A tensor has another shape.
        """
        num_batch, num_frames = size_of_audio(audio_features, self.audio_dim)
        check_shape("latent", latent, (num_batch, num_frames, sum(self.latent_dims.values())))
        check_shape("initial_state", initial_state, (num_batch, sum(self.state_dims.values())))
        frame_mask = mask_of_lengths(lengths, num_batch, num_frames, audio_features.device)
        latents = spread_pieces(latent, self.latent_stride).split(list(self.latent_dims.values()), dim=-1)
        firsts = initial_state.split(list(self.state_dims.values()), dim=-1)
        return torch.cat(
            [
                track.decoder(part, audio_features, first, frame_mask).to(audio_features.device)
                for track, part, first in zip(self.tracks.values(), latents, firsts, strict=True)
            ],
            dim=-1,
        )

    @apply_forward_hook
    @torch.no_grad()
    @with_fast_products
    def generate(
        self,
        audio_features: torch.Tensor,
        initial_pose: torch.Tensor | None = None,
        initial_blink: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Generate pose and blink tracks for speech (inference of paper section 3.4).

        Args:
            audio_features: Tensor (B, F, D), 25 frames per second.
            initial_pose: Tensor (B, 6) in raw units, as `records.POSE_NAMES`; needed unless only blinks are made.
            initial_blink: Tensor (B, 2): openness of left and right eye; needed unless only poses are made.
            lengths: Integer tensor (B,), each in 1..F; None: all frames count. Later frames keep the
                initial state, but are seen by the others (see `decode`).
            generator: Source of the latents, or one per clip of the batch.
            noise: Tensor (B, F, Z): the latents themselves, as for `decode`; the generator is then not used.

        Returns:
            pose (B, F, 6) in raw units and blink (B, F, 2), float32; None for the one that no network makes.

        Raises:
            ValueError: A tensor is missing or has another shape, or the number of generators is not B.
        """
        num_batch, num_frames = size_of_audio(audio_features, self.audio_dim)
        initial_state = self._initial_state(num_batch, initial_pose, initial_blink).to(audio_features.device)
        audio_features = audio_features.to(self.dtype)
        if noise is None:
            noise = self.draw_noise(num_batch, num_frames, generator, audio_features.device)
        check_shape("noise", noise, (num_batch, num_frames, sum(self.latent_dims.values())))
        difference = self.decode(
            noise.to(audio_features), audio_features, initial_state.to(self.dtype), lengths
        ).float()
        # float32 from here: half precision has no room for a small motion on top of a large raw value
        state = initial_state[:, None] + difference
        pose = self.denormalise_pose(state[..., :POSE_DIM]) if self.makes_pose else None
        blink = state[..., -BLINK_DIM:] if self.makes_blink else None
        return pose, blink

    def draw_noise(
        self,
        num_batch: int,
        num_frames: int,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        device: torch.device | None = None,
    ) -> torch.Tensor:
        """Draw the latents of one motion, as `generate` does.

        Args:
            num_batch: Clips B.
            num_frames: Frames F.
            generator: Source of noise, or one per clip.
            device: Where the result lives; None: where the model does.

        Returns:
            Standard normal tensor (B, F, Z), float32.

        Raises:
            ValueError: The number of generators is not B.
        """
        device = self.device if device is None else device
        if generator is not None and not isinstance(generator, torch.Generator):
            generator = list(generator)
            if len(generator) != num_batch:
                raise ValueError(f"`generator` has {len(generator)} generators, must be one, or {num_batch}")
        # network by network, each with the clip as the first axis: a clip's latent does not depend on its batch
        return torch.cat(
            [
                randn_tensor((num_batch, num_frames, latent_dim), generator, device, torch.float32)
                for latent_dim in self.latent_dims.values()
            ],
            dim=-1,
        )

    def normalise_pose(self, pose: torch.Tensor) -> torch.Tensor:
        """Map poses (..., 6) from raw units to those of a state."""
        smallest, largest = pose.new_tensor(self.pose_min), pose.new_tensor(self.pose_max)
        return (pose - smallest) / (largest - smallest)

    def denormalise_pose(self, pose: torch.Tensor) -> torch.Tensor:
        """Map poses (..., 6) from the units of a state to raw ones."""
        smallest, largest = pose.new_tensor(self.pose_min), pose.new_tensor(self.pose_max)
        return pose * (largest - smallest) + smallest

    @property
    def makes_pose(self) -> bool:
        """Whether a network for poses is part of this model."""
        return set(self.state_dims) != {"blink"}

    @property
    def makes_blink(self) -> bool:
        """Whether a network for blinks is part of this model."""
        return set(self.state_dims) != {"pose"}

    def _initial_state(
        self, num_batch: int, initial_pose: torch.Tensor | None, initial_blink: torch.Tensor | None
    ) -> torch.Tensor:
        # (B, S) in float32, pose normalised
        parts = []
        for name, given, width, needed in (
            ("initial_pose", initial_pose, POSE_DIM, self.makes_pose),
            ("initial_blink", initial_blink, BLINK_DIM, self.makes_blink),
        ):
            if not needed:
                continue
            if given is None:
                raise ValueError(f"`{name}` is None, must be a tensor ({num_batch}, {width})")
            check_shape(name, given, (num_batch, width))
            given = given.float()
            parts.append(self.normalise_pose(given) if name == "initial_pose" else given)
        return torch.cat(parts, dim=-1)
