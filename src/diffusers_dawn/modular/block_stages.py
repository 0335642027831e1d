"""The pipeline's stages on whatever components a modular pipeline has."""

from typing import Any

import torch
from diffusers import BaseGuidance, ModularPipeline

from ..pipeline.request import MachineSettings
from ..pipeline.stages import StagesOfDAWN
from ..sampling.guidance import ALL

_COMPONENTS = ("unet", "lfg", "audio_encoder", "feature_extractor", "scheduler", "pbnet")


class BlockStages(StagesOfDAWN):
    """The stages of `DAWNPipeline` for one block.

    Args:
        components: The modular pipeline; of it, a stage only needs the components that it uses.
        machine: How the machine is used.
    """

    interrupt = False
    face_detector = None
    person_segmenter = None

    def __init__(self, components: ModularPipeline, machine: MachineSettings | None = None) -> None:
        self.components = {name: getattr(components, name, None) for name in _COMPONENTS}
        self.guidance_scale = GuidedBy(components.guider) if hasattr(components, "guider") else 1.0
        self.progress_bar: Any = None  # of the block that denoises
        self._execution_device = components._execution_device
        self._machine = machine or MachineSettings()
        self._progress: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Find a component.

        Raises:
            ValueError: It is not loaded.
        """
        if name not in _COMPONENTS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if self.components[name] is None and name != "pbnet":
            raise ValueError(
                f"`{name}` is not loaded: call `load_components(trust_remote_code=True)`, or"
                f" `update_components({name}=...)`"
            )
        return self.components[name]

    @property
    def keeps_background(self) -> bool:
        """Whether what shows no person keeps still; a block that finds faces runs without LFG, too."""
        lfg = self.components["lfg"]
        return lfg is not None and lfg.config.still_background

    @property
    def default_size(self) -> int:
        """Height and width of the video that the model was trained with [px]."""
        return self.unet.config.sample_size * self.lfg.config.motion_stride


class GuidedBy:
    """A guider of diffusers in the place of `guidance.Guidance`.

    Args:
        guider: Any that combines the predictions with all conditions and with none.

    Raises:
        ValueError: It wants other predictions, or changes the denoiser for one of them.
    """

    def __init__(self, guider: BaseGuidance) -> None:
        changes_denoiser = type(guider).prepare_models is not BaseGuidance.prepare_models
        if guider._input_predictions != ["pred_cond", "pred_uncond"] or changes_denoiser:
            raise ValueError(
                f"`guider` is a {type(guider).__name__}, must be one that combines the predictions with all conditions"
                " and with none, such as ClassifierFreeGuidance or AdaptiveProjectedGuidance"
            )
        self._guider = guider

    @property
    def left_out(self) -> tuple[frozenset[str], ...]:
        """Which conditions each further call of the denoiser does without."""
        # what it does in any step: this one knows no steps yet
        return (ALL,) if self._guider.new().num_conditions > 1 else ()

    def begin_step(self, index: int, timesteps: torch.Tensor) -> None:
        """Tell the guider which step comes.

        Args:
            index: Number of the step; after the last, nothing happens.
            timesteps: Times of all steps.
        """
        if index < len(timesteps):
            self._guider.set_state(step=index, num_inference_steps=len(timesteps), timestep=timesteps[index])

    def combine(
        self, prediction: torch.Tensor, others: list[torch.Tensor], left_out: tuple[frozenset[str], ...]
    ) -> torch.Tensor:
        """Put predictions together, as `guidance.Guidance.combine` does.

        Args:
            prediction: That of all conditions.
            others: Empty, or that of none of them.
            left_out: Which each of them does without.

        Returns:
            The guided prediction.
        """
        # a guider may leave out some of the steps
        is_guided = bool(others) and self._guider.num_conditions > 1
        return self._guider.forward(prediction, others[0] if is_guided else None).pred
