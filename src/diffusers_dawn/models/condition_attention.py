"""Cross-attention of the denoiser to audio, pose and blink, in closed form (paper section 3.3)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .video_layers import NORM_EPS, ChannelNorm, add_in_chunks, at_least_float32, matrix_of, without_autocast

# Weights that begin at zero grow by no more than the learning rate in a step: the factor lets them count sooner
PROPORTION = 4.0


class ConditionContext(NamedTuple):
    """Conditions of a clip as one block's cross-attention needs them, the same for every step (N = B * F frames).

    One pair of tokens, condition and null, makes each head's softmax a sigmoid, so a condition's output before its
    norm is a mix of 1 + heads vectors. Column 0 of each group below stands for the constant vector.

    Attributes:
        query_weight: Query projections of all conditions (conditions * heads * head_dim, C).
        head_sum: Adds the channels of a head (conditions * heads * head_dim, groups); constant columns are zero.
        group_sum: Adds the columns of a condition (groups, groups).
        score_map: From normalised pixels to unnormalised score differences (N, C, groups).
        basis: Centred vectors, times the output norm's gain (N, groups, C_out).
        gram: Their inner products before the gain, over C_out (N, groups, groups); float32 or wider, like head_sum
            and group_sum, because small variances are differences of large products.
        proportional: Vectors that grow with the conditions, added without a norm (N, groups, C_out); no groups where
            no condition has two signs.
    """

    query_weight: torch.Tensor
    head_sum: torch.Tensor
    group_sum: torch.Tensor
    score_map: torch.Tensor
    basis: torch.Tensor
    gram: torch.Tensor
    proportional: torch.Tensor


class ConditionCrossAttention(nn.Module):
    """Cosine cross-attention from a frame's pixels to one condition token and one learned null token.

    Args:
        condition_dim: Width of the condition.
        channels_in: Channels of the pixels that ask.
        channels_out: Channels of the answer.
        num_heads: Heads.
        head_dim: Channels per head.
        both_signs: Whether the condition has a sign and a size: it is embedded together with its negative, because
            SiLU, which comes first, is flat below -3 and so sees differences to one side only; and it also answers in
            proportion to its size, which the norm behind the published answer takes away.
    """

    def __init__(
        self,
        condition_dim: int,
        channels_in: int,
        channels_out: int,
        num_heads: int,
        head_dim: int,
        both_signs: bool = False,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.condition_dim, self.both_signs = condition_dim, both_signs
        self.num_heads, self.head_dim = num_heads, head_dim
        self.embed = nn.Linear(condition_dim * (1 + both_signs), 2 * channels_out)
        if both_signs:
            # SiLU of a number minus SiLU of its negative is the number itself: both sides begin alike
            with torch.no_grad():
                self.embed.weight[:, condition_dim:] = -self.embed.weight[:, :condition_dim]
            # zero: training begins with the published answer
            self.proportional = nn.Linear(condition_dim, (1 + num_heads) * channels_out, bias=False)
            nn.init.zeros_(self.proportional.weight)
        self.norm_in = ChannelNorm(channels_in)
        self.to_query = nn.Linear(channels_in, inner, bias=False)
        self.to_key_value = nn.Linear(2 * channels_out, 2 * inner, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_dim))
        self.key_scale = nn.Parameter(torch.ones(head_dim))
        self.null_key_value = nn.Parameter(torch.randn(2, head_dim))
        self.to_out = nn.ModuleList([nn.Linear(inner, channels_out, bias=False)])  # see `VideoAttention`
        self.norm_out = ChannelNorm(channels_out)

    def forward(self, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Turn a condition (N, D) into what `ConditionContext` has of it: query weight, score map, basis and Gram."""
        tokens = self.to_key_value(self.embedded(condition))
        queries, _ = matrix_of(self.to_query, condition)
        answers, _ = matrix_of(self.to_out[0], condition)
        queries = queries * self.norm_in(None)[:, None]
        with without_autocast(tokens.device):
            precise = at_least_float32(tokens.dtype)
            projected = self._project(*(part.to(precise) for part in (*tokens.chunk(2, dim=-1), queries, answers)))
        score_map, basis, gram = projected
        return queries.t(), score_map.to(condition.dtype), basis.to(condition.dtype), gram

    def in_proportion(self, condition: torch.Tensor) -> torch.Tensor:
        """Map a condition (N, D) to what it adds without a norm (N, 1 + heads, C_out), zero without a sign."""
        if not self.both_signs:
            # a product, as the number of frames would be that of the trace in a graph
            return condition[:, :1, None] * condition.new_zeros(1 + self.num_heads, self.norm_out.weight.shape[0])
        return self.proportional(PROPORTION * condition).unflatten(-1, (1 + self.num_heads, -1))

    def embedded(self, condition: torch.Tensor) -> torch.Tensor:
        """Embed a condition (..., D) as a token (..., C)."""
        if self.both_signs:
            condition = torch.cat((condition, -condition), dim=-1)
        return self.embed(functional.silu(condition))

    def _project(
        self, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor, answers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads = (self.num_heads, -1)
        keys, values = keys.unflatten(-1, heads), values.unflatten(-1, heads)
        null_key, null_value = self.null_key_value.to(keys.dtype).unbind(0)
        # softmax over (condition, null) is the sigmoid of the difference of their scores; cosine scores times 8
        key_difference = functional.normalize(keys, dim=-1) - functional.normalize(null_key, dim=-1)
        key_difference = key_difference * (8 * self.query_scale * self.key_scale)
        score_map = torch.einsum("chd,nhd->nch", queries.unflatten(-1, heads), key_difference)
        answers = answers.unflatten(0, heads)
        # out = to_out(null + sigmoid * (value - null)): linear in the sigmoids. The constant's score is 0, its
        # sigmoid 1/2, hence the 2.
        constant = 2 * torch.einsum("hdo,d->o", answers, null_value)
        slopes = torch.einsum("hdo,nhd->nho", answers, values - null_value)
        basis = torch.cat((constant.expand(len(slopes), 1, -1), slopes), dim=1)
        basis = basis - basis.mean(-1, keepdim=True)
        gram = basis @ basis.transpose(1, 2) / basis.shape[-1]
        return functional.pad(score_map, (1, 0)), basis * self.norm_out(None), gram


class ConditionMixer(nn.Module):
    """Sum of the cross-attentions to audio, pose and blink (paper section 3.3), in closed form.

    Args:
        condition_dims: Width of each condition by name.
        channels_in: Channels of the pixels that ask.
        channels_out: Channels of the answer.
        num_heads: Heads.
        head_dim: Channels per head.
        signed_conditions: Names of those that are embedded together with their negatives.
    """

    def __init__(
        self,
        condition_dims: dict[str, int],
        channels_in: int,
        channels_out: int,
        num_heads: int,
        head_dim: int,
        signed_conditions: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleDict({
            name: ConditionCrossAttention(
                dim, channels_in, channels_out, num_heads, head_dim, name in signed_conditions
            )
            for name, dim in condition_dims.items()
        })

    def project(self, conditions: dict[str, torch.Tensor]) -> ConditionContext:
        """Project conditions (B, F, D) by name, once per clip."""
        score_maps, bases, grams, query_weights = [], [], [], []
        flat = {name: conditions[name].flatten(0, 1) for name in self.attentions}
        for name, attention in self.attentions.items():
            query_weight, score_map, basis, gram = attention(flat[name])
            query_weights.append(query_weight)
            score_maps.append(score_map)
            bases.append(basis)
            grams.append(gram)
        group, num_heads = grams[0].shape[-1], attention.num_heads
        num_groups = group * len(grams)
        gram = grams[0].new_zeros(grams[0].shape[0], num_groups, num_groups)
        for index, part in enumerate(grams):
            gram[:, index * group : (index + 1) * group, index * group : (index + 1) * group] = part
        proportional = bases[0].new_zeros(len(gram), 0, bases[0].shape[-1])
        if self.has_signs:
            parts = [attention.in_proportion(flat[name]) for name, attention in self.attentions.items()]
            proportional = torch.cat(parts, dim=1)
        ones = gram.new_ones(attention.head_dim, 1)
        head_sum = functional.pad(torch.block_diag(*[ones] * num_heads), (1, 0))
        return ConditionContext(
            query_weight=torch.cat(query_weights),
            head_sum=torch.block_diag(*[head_sum] * len(grams)),
            group_sum=torch.block_diag(*[gram.new_ones(group, group)] * len(grams)),
            score_map=torch.cat(score_maps, dim=-1),
            basis=torch.cat(bases, dim=1),
            gram=gram,
            proportional=proportional,
        )

    @property
    def has_signs(self) -> bool:
        """Whether any of the conditions has two signs."""
        return any(attention.both_signs for attention in self.attentions.values())

    def forward(self, hidden: torch.Tensor, x: torch.Tensor, context: ConditionContext) -> torch.Tensor:
        """Add the answers for pixels x (B, F, H, W, C) to hidden (B, F, H, W, C_out)."""
        pixels = x.flatten(0, 1).flatten(1, 2)  # (N, P, C)
        precise = context.gram.dtype

        def answer(_: torch.Tensor, frames: slice) -> torch.Tensor:
            normalised = functional.layer_norm(pixels[frames], pixels.shape[-1:], None, None, NORM_EPS)
            query = functional.linear(normalised, context.query_weight)
            scores = torch.bmm(normalised, context.score_map[frames])
            with without_autocast(x.device):
                squares = query.to(precise).square() @ context.head_sum
                # the constant's score, 0, is divided by 1: in half precision its gradient could not be any larger
                query_norm = squares.masked_fill(squares == 0, 1).clamp(min=1e-24).sqrt()
                share = (scores / query_norm).sigmoid()
                # the output norm's variance is a quadratic form of the shares
                variance = (torch.bmm(share, context.gram[frames]) * share) @ context.group_sum
                normed = share * (variance.clamp(min=0) + NORM_EPS).rsqrt()
            answers = torch.bmm(normed.to(x.dtype), context.basis[frames])
            if context.proportional.shape[1]:
                answers = answers + torch.bmm(share.to(x.dtype), context.proportional[frames])
            return answers

        flat = hidden.flatten(0, 1).flatten(1, 2)
        return add_in_chunks(flat, answer, dim=0, tokens_per_index=flat.shape[1]).view(hidden.shape)
