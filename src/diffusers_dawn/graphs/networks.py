"""Each network as a module from tensors to tensors that can be traced for any number of frames, of one clip."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional

from ..geometry.motion_latents import motion_from_latents
from ..geometry.still_background import keep_background
from ..models.a2v_fdm import A2VFlowDiffusionModel
from ..models.attention import BLOCK_SIZE
from ..models.blocks_3d import ResidualBlock
from ..models.blocks_track import FrameAttention, TrackDecoder
from ..models.condition_attention import ConditionContext, ConditionMixer
from ..models.image_coding import EncodedImage
from ..models.lfg import LatentFlowGenerator
from ..models.pbnet import PoseBlinkNet
from ..models.shared_latents import spread_pieces
from ..models.video_attention import TemporalAttention
from ..models.video_layers import NORM_EPS, matrix_of
from ..records import BLINK_DIM, POSE_DIM
from .band_graph import GatheringTemporalProcessor, attend_by_gathering, attend_to_all, rotate_by_sums


class SpeechGraph(nn.Module):
    """The audio encoder: normalised samples (1, num_samples) to hidden states (1, T, D)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Encode one piece of a recording."""
        return self.encoder(samples).last_hidden_state


class PortraitGraph(nn.Module):
    """LFG's encoder: a portrait (1, 3, H, W) to its features at every resolution, the deepest last."""

    def __init__(self, lfg: LatentFlowGenerator) -> None:
        super().__init__()
        self.lfg = lfg

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode a portrait."""
        return self.lfg.encoder(image)


class FramesGraph(nn.Module):
    """LFG's decoder: motion (1, 3, F, h, w), the portrait and its features to frames (1, F, 3, H, W).

    Where LFG keeps backgrounds still, the last input says how much of every cell belongs to a person (1, 1, h, w).
    """

    def __init__(self, lfg: LatentFlowGenerator, flow_scale: float | None) -> None:
        super().__init__()
        self.lfg, self.flow_scale = lfg, flow_scale

    def forward(self, motion: torch.Tensor, image: torch.Tensor, *features: torch.Tensor) -> torch.Tensor:
        """Draw frames in [0, 1]."""
        flow, occlusion = motion_from_latents(motion, self.flow_scale)
        if self.lfg.config.still_background:
            *features, person = features
            flow, occlusion = keep_background(flow, occlusion, person)
        decoder = self.lfg.decoder
        return decoder(EncodedImage(image, features), flow, occlusion, decoder.blocks()).clamp(0, 1)


class TrackGraph(nn.Module):
    """A decoder of PBNet whose window depends on the number of frames inside of the graph."""

    def __init__(self, decoder: TrackDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: torch.Tensor, audio: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Decode as `TrackDecoder.forward` does: (1, F, Z), (1, F, D) and (1, S) to differences (1, F, S)."""
        decoder, num_frames = self.decoder, latent.shape[1]
        first = decoder.embed_first(first)[:, None].expand(-1, num_frames, -1)
        memory = decoder.to_memory(torch.cat((first, latent, decoder.embed_audio(audio)), dim=-1))
        reach, window = self._window(num_frames)
        largest = num_frames - 1 if reach is None else reach + BLOCK_SIZE - 1
        self_band, cross_band = ((bias(largest), reach, window) for bias in (decoder.self_bias, decoder.cross_bias))
        hidden = decoder.start_projection(torch.zeros_like(memory))
        normalised = decoder.start_norm(hidden)
        rotary = decoder.start_rotary(num_frames)
        hidden = hidden + _attend(decoder.start_attention, normalised, normalised, self_band, rotary)
        rotary = decoder.rotary(num_frames)
        for layer in decoder.layers:
            hidden = layer.norm_self(hidden + _attend(layer.self_attention, hidden, hidden, self_band, rotary))
            hidden = layer.norm_cross(hidden + _attend(layer.cross_attention, hidden, memory, cross_band, rotary))
            hidden = layer.norm_feed_forward(hidden + layer.feed_forward(hidden))
        return decoder.to_difference(hidden)

    def _window(self, num_frames: torch.Tensor) -> tuple[int | None, torch.Tensor | int | None]:
        """Say the largest window of any clip, None without one, and that of this clip, as `TrackDecoder` chooses."""
        window, clip_frames = self.decoder.window, self.decoder.clip_frames
        if clip_frames is None:
            return window, window
        short = clip_frames - 1 if window is None else min(window, clip_frames - 1)
        long = clip_frames // 2 if window is None else min(window, clip_frames // 2)
        chosen = torch.where(torch.as_tensor(num_frames) <= clip_frames, torch.tensor(short), torch.tensor(long))
        return max(short, long), chosen


def _attend(
    attention: FrameAttention,
    hidden: torch.Tensor,
    memory: torch.Tensor,
    band: tuple[torch.Tensor, int | None, torch.Tensor | int | None],
    rotary: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    query, key, value = (
        tensor.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for tensor in (attention.to_query(hidden), attention.to_key(memory), attention.to_value(memory))
    )
    query, key = rotate_by_sums(query, *rotary), rotate_by_sums(key, *rotary)
    offset_bias, reach, window = band
    scale = attention.head_dim**-0.5
    if reach is None:
        attended = attend_to_all(query, key, value, offset_bias, scale)
    else:
        attended = attend_by_gathering(query, key, value, offset_bias, reach, window, scale)
    return attention.to_out(attended.transpose(1, 2).flatten(2))


class HeadAndEyesGraph(nn.Module):
    """PBNet: features (1, F, D), the portrait's state and noise (1, F, Z) to pose (1, F, 6) and openness (1, F, 2)."""

    def __init__(self, pbnet: PoseBlinkNet) -> None:
        super().__init__()
        self.pbnet = pbnet
        self.tracks = nn.ModuleDict({name: TrackGraph(track.decoder) for name, track in pbnet.tracks.items()})

    def forward(
        self,
        audio_features: torch.Tensor,
        initial_pose: torch.Tensor,
        initial_blink: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Generate as `PoseBlinkNet.generate` does."""
        pbnet = self.pbnet
        initial = torch.cat((pbnet.normalise_pose(initial_pose), initial_blink), dim=-1)
        latents = spread_pieces(noise, pbnet.latent_stride).split(list(pbnet.latent_dims.values()), dim=-1)
        firsts = initial.split(list(pbnet.state_dims.values()), dim=-1)
        differences = [
            track(latent, audio_features, first)
            for track, latent, first in zip(self.tracks.values(), latents, firsts, strict=True)
        ]
        state = initial[:, None] + torch.cat(differences, dim=-1)
        return pbnet.denormalise_pose(state[..., :POSE_DIM]), state[..., -BLINK_DIM:]


class MixerGraph(ConditionMixer):
    """A `ConditionMixer` whose matrices are known beforehand, so that the graph holds no more than a clip needs."""

    def __init__(self, mixer: ConditionMixer) -> None:
        nn.Module.__init__(self)
        self.attentions = mixer.attentions
        attention = next(iter(mixer.attentions.values()))
        conditions = {
            name: attention.null_key_value.new_zeros(1, 1, one.condition_dim) for name, one in mixer.attentions.items()
        }
        with torch.no_grad():
            context = mixer.project(conditions)
        for name in ("query_weight", "head_sum", "group_sum"):
            self.register_buffer(name, getattr(context, name))
        for name, one in mixer.attentions.items():
            with torch.no_grad():
                like = one.null_key_value
                queries, answers = matrix_of(one.to_query, like)[0], matrix_of(one.to_out[0], like)[0]
                queries = queries * one.norm_in.weight[:, None]
                heads = (one.num_heads, one.head_dim)
                by_head = queries.unflatten(-1, heads).permute(1, 2, 0)  # (heads, head_dim, C)
                answers = answers.unflatten(0, heads)  # (heads, head_dim, C_out)
                null_key, null_value = one.null_key_value.unbind(0)
                constant = 2 * torch.einsum("hdo,d->o", answers, null_value)
                self.register_buffer(f"{name}_queries", by_head)
                self.register_buffer(f"{name}_answers", answers)
                self.register_buffer(f"{name}_null_key", functional.normalize(null_key, dim=-1))
                self.register_buffer(f"{name}_null_value", null_value.clone())
                self.register_buffer(f"{name}_constant", constant)
                self.register_buffer(f"{name}_scale", 8 * one.query_scale * one.key_scale)

    def project(self, conditions: dict[str, torch.Tensor]) -> ConditionContext:
        """Project conditions (1, F, D) by name, as `ConditionMixer` does."""
        parts = [self._project(name, conditions[name][0]) for name in self.attentions]
        score_maps, bases, grams = zip(*parts, strict=True)
        group = self.query_weight.shape[0] // self.head_dim // len(grams) + 1
        rows = [
            functional.pad(gram, (index * group, (len(grams) - 1 - index) * group)) for index, gram in enumerate(grams)
        ]
        return ConditionContext(
            query_weight=self.query_weight,
            head_sum=self.head_sum,
            group_sum=self.group_sum,
            score_map=torch.cat(score_maps, dim=-1),
            basis=torch.cat(bases, dim=1),
            gram=torch.cat(rows, dim=1),
            proportional=self._proportional(conditions) if self.has_signs else bases[0][:, :0],
        )

    def forward(self, hidden: torch.Tensor, x: torch.Tensor, context: ConditionContext) -> torch.Tensor:
        """Add the answers for pixels x (1, F, H, W, C) to hidden (1, F, H, W, C_out), as `ConditionMixer` does."""
        pixels = x[0].flatten(1, 2)
        normalised = functional.layer_norm(pixels, (self.query_weight.shape[1],), None, None, NORM_EPS)
        squares = functional.linear(normalised, context.query_weight).square() @ context.head_sum
        scores = normalised @ context.score_map
        # the constant's score, 0, may be divided by anything
        share = (scores / squares.clamp(min=1e-24).sqrt()).sigmoid()
        variance = ((share @ context.gram) * share) @ context.group_sum
        answers = (share * (variance.clamp(min=0) + NORM_EPS).rsqrt()) @ context.basis
        if self.has_signs:
            answers = answers + share @ context.proportional
        return hidden + answers.view(hidden.shape)

    @property
    def head_dim(self) -> int:
        """Channels per head."""
        return next(iter(self.attentions.values())).head_dim

    def _proportional(self, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([one.in_proportion(conditions[name][0]) for name, one in self.attentions.items()], dim=1)

    def _project(self, name: str, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # (F, D) to score map (F, C, 1 + heads), basis (F, 1 + heads, C_out) and its Gram matrix
        attention, known = self.attentions[name], lambda part: getattr(self, f"{name}_{part}")
        keys, values = attention.to_key_value(attention.embedded(condition)).chunk(2, dim=-1)
        heads = (attention.num_heads, attention.head_dim)
        keys, values = keys.unflatten(-1, heads), values.unflatten(-1, heads)
        difference = (functional.normalize(keys, dim=-1) - known("null_key")) * known("scale")
        scores = (difference[:, :, None] @ known("queries"))[:, :, 0].transpose(1, 2)
        slopes = ((values - known("null_value"))[:, :, None] @ known("answers"))[:, :, 0]
        # a sum, as the number of frames, which `expand` takes, would be that of the trace
        basis = torch.cat((known("constant") + 0 * slopes[:, :1], slopes), dim=1)
        basis = basis - basis.mean(-1, keepdim=True)
        gram = basis @ basis.transpose(1, 2) / attention.to_out[0].out_features
        return functional.pad(scores, (1, 0)), basis * attention.norm_out.weight, gram


class DenoisingGraph(nn.Module):
    """One call of the denoiser: noisy motion (1, 3, F, h, w), its time (1,) and all conditions to a prediction."""

    def __init__(self, unet: A2VFlowDiffusionModel) -> None:
        super().__init__()
        self.unet = deepcopy(unet)
        for module in list(self.unet.modules()):
            if isinstance(module, TemporalAttention):
                module.set_processor(GatheringTemporalProcessor())
            if isinstance(module, ResidualBlock) and module.conditions is not None:
                module.conditions = MixerGraph(module.conditions)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        reference_features: torch.Tensor,
        face_mask: torch.Tensor,
        audio_features: torch.Tensor,
        pose: torch.Tensor,
        blink: torch.Tensor,
    ) -> torch.Tensor:
        """Predict, as the scheduler is told (1, 3, F, h, w)."""
        inputs = (reference_features, face_mask, audio_features, pose, blink)
        return self.unet(sample, timestep, *inputs, return_dict=False)[0]
