"""Checkpoints of a training: everything that the next step depends on, in folders that only appear when complete."""

import functools
import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import load
from diffusers import ModelMixin
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from diffusers.training_utils import EMAModel
from diffusers.utils import logging
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.engine.networks import has_adapter

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        step: Optimisation steps done, those skipped included.
        skipped_steps: Steps in which at least one network was not updated, because its gradients were not finite.
        samples_per_step: Samples that all processes together take for one step; places in the data depend on it.
    """

    step: int = 0
    skipped_steps: int = 0
    samples_per_step: int = 0


class WeightAverages:
    """Moving averages of networks, by name.

    Args:
        networks: The networks by name.
        decay: Largest decay.
    """

    def __init__(self, networks: Mapping[str, ModelMixin], decay: float) -> None:
        self.networks = dict(networks)
        self.averages = {name: EMAModel(network.parameters(), decay=decay) for name, network in networks.items()}

    def to(self, device: torch.device) -> None:
        """Move the averages to a device."""
        for average in self.averages.values():
            average.to(device)

    def step(self, name: str) -> None:
        """Take a network's present weights into its average, if it has one.

        Args:
            name: The network.
        """
        if name in self.averages:
            self.averages[name].step(self.networks[name].parameters())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averaged weights inside a `with` block; buffers stay as they are."""
        for name, average in self.averages.items():
            average.store(self.networks[name].parameters())
            average.copy_to(self.networks[name].parameters())
        try:
            yield
        finally:
            for name, average in self.averages.items():
                average.restore(self.networks[name].parameters())


class Checkpoints:
    """Folders `checkpoint-N` of one training.

    A checkpoint holds each network, or its adapter, as diffusers saves it (`NAME/`, and `NAME_ema/` with averaged
    weights), and what
    accelerate saves of optimizers, loss scaling and random states.

    Args:
        folder: The training's output folder.
        accelerator: The prepared accelerator.
        networks: The trained networks by name.
        averages: Their moving averages; None: there are none.
        limit: How many checkpoints are kept; None: all.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        networks: Mapping[str, ModelMixin],
        averages: WeightAverages | None,
        limit: int | None,
    ) -> None:
        self.folder, self.accelerator, self.networks = folder, accelerator, dict(networks)
        self.averages, self.limit = averages, limit
        accelerator.register_save_state_pre_hook(self._save_networks)
        accelerator.register_load_state_pre_hook(self._load_networks)

    def save(self, progress: Progress) -> Path:
        """Save a checkpoint, then remove the oldest beyond the limit.

        Args:
            progress: Where the training stands.

        Returns:
            The checkpoint's folder.

        Raises:
            OSError: It cannot be written; nothing of it stays.
        """
        final = self.folder / f"checkpoint-{progress.step}"
        partial = final.with_name(f".{final.name}.partial")
        main = self.accelerator.is_main_process
        if main:
            # those of processes that were killed
            for old in self.folder.glob(".checkpoint-*.partial"):
                shutil.rmtree(old, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        with complete_or_removed(partial):
            self.accelerator.save_state(str(partial))
            if main:
                values = asdict(progress) | self._average_steps()
                (partial / "progress.json").write_text(json.dumps(values, indent=2) + "\n")
        self.accelerator.wait_for_everyone()
        if main:
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            kept = list_checkpoints(self.folder)
            for old in kept[: len(kept) - self.limit] if self.limit is not None else []:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        return final

    def load(self, checkpoint: Path, samples_per_step: int) -> Progress:
        """Go back to a checkpoint.

        Args:
            checkpoint: Its folder.
            samples_per_step: What processes, batch size and accumulation make now.

        Returns:
            Where the training stood.

        Raises:
            ValueError: Steps had another number of samples, other networks were trained, or a file is damaged.
        """
        with _damage_named(checkpoint):
            values = json.loads((checkpoint / "progress.json").read_text())
            average_steps = values.pop("average_steps", {})
            progress = Progress(**values)
        if progress.samples_per_step != samples_per_step:
            raise ValueError(
                f"`resume_from_checkpoint` {checkpoint.name} was trained with {progress.samples_per_step} samples per "
                f"step, now there are {samples_per_step}: processes x `train_batch_size` x "
                "`gradient_accumulation_steps` must be as before"
            )
        averages = () if self.averages is None else self.averages.networks
        wanted = sorted([*self.networks, *(f"{name}_ema" for name in averages)])
        found = sorted(path.name for path in checkpoint.iterdir() if path.is_dir())
        if found != wanted:
            raise ValueError(
                f"`resume_from_checkpoint` {checkpoint.name} holds {', '.join(found)}, the settings train "
                f"{', '.join(wanted)}"
            )
        if self.accelerator.scaler is not None and not (checkpoint / "scaler.pt").is_file():
            raise ValueError(
                f"`mixed_precision` is fp16, but `resume_from_checkpoint` {checkpoint.name} was trained without loss "
                "scaling; take bf16 or no"
            )
        with _damage_named(checkpoint):
            self.accelerator.load_state(str(checkpoint))
            # accelerate passes over random states that it cannot read, and another training would go on
            own = checkpoint / f"random_states_{self.accelerator.process_index}.pkl"
            num_processes_then = len(list(checkpoint.glob("random_states_*.pkl")))
            # processes that there were not then begin with states of their own
            if own.exists() or self.accelerator.process_index <= num_processes_then - 1 or not num_processes_then:
                check_random_states(own)
        for name, steps in average_steps.items() if self.averages is not None else ():
            self.averages.averages[name].optimization_step = steps
        return progress

    def _average_steps(self) -> dict[str, dict[str, int]]:
        if self.averages is None:
            return {}
        return {"average_steps": {name: item.optimization_step for name, item in self.averages.averages.items()}}

    def _save_networks(self, models: list[torch.nn.Module], weights: list[dict], folder: str) -> None:
        weights.clear()  # what accelerate would save of the objectives around the networks
        if not self.accelerator.is_main_process:
            return
        for name, network in self.networks.items():
            write_trained(network, Path(folder, name))
        if self.averages is not None:
            with self.averages.applied():
                for name, network in self.averages.networks.items():
                    write_trained(network, Path(folder, f"{name}_ema"))

    def _load_networks(self, models: list[torch.nn.Module], folder: str) -> None:
        models.clear()
        for name, average in self.averages.averages.items() if self.averages is not None else ():
            read_trained(self.networks[name], Path(folder, f"{name}_ema"))
            for shadow, parameter in zip(average.shadow_params, self.networks[name].parameters(), strict=True):
                shadow.copy_(parameter.detach())
        for name, network in self.networks.items():
            read_trained(network, Path(folder, name))


@contextmanager
def complete_or_removed(partial: Path) -> Iterator[None]:
    """Remove a folder if the `with` block that fills it fails in any way.

    Args:
        partial: The folder.

    Raises:
        OSError: It cannot be written; so for what torch and safetensors raise, too.
    """
    try:
        yield
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError | RuntimeError | SafetensorError):
            reason = " ".join(str(error).split())
            raise OSError(f"`output_dir` {partial.parent} cannot take {partial.name}: {reason}") from error
        raise


@contextmanager
def _damage_named(checkpoint: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damaged or hostile pickles fail in any way
        if isinstance(error, ValueError) and str(error).startswith("`"):
            raise
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(f"`resume_from_checkpoint` {checkpoint.name} is damaged: {reason}") from error


def check_random_states(path: Path) -> None:
    """Refuse random states that do not fit this process.

    Args:
        path: File of a checkpoint that was loaded.

    Raises:
        ValueError: They were not taken, because the file is missing or damaged.
    """
    try:
        states = load(path)
        taken = (
            random.getstate() == states["random_state"]
            and torch.equal(torch.get_rng_state(), states["torch_manual_seed"])
            and np.array_equal(np.random.get_state()[1], states["numpy_random_seed"][1])
        )
    except Exception as error:  # a damaged pickle fails in any way
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ValueError(f"`resume_from_checkpoint`: {path} cannot be read: {reason}") from error
    if not taken:
        raise ValueError(f"`resume_from_checkpoint`: the random states of {path} are damaged")


def write_trained(network: ModelMixin, folder: Path) -> None:
    """Save what is trained of a network: its adapter (`networks.add_lora`) if it has one, else all of it.

    Args:
        network: The network.
        folder: Where.
    """
    if not has_adapter(network):
        network.save_pretrained(folder)
        return
    # diffusers warns of a cast that it does not make
    with _silenced_diffusers():
        network.save_lora_adapter(folder)


@contextmanager
def _silenced_diffusers() -> Iterator[None]:
    """Silence diffusers' warnings inside a `with` block."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def read_trained(network: ModelMixin, folder: Path) -> None:
    """Give a network the weights that `write_trained` saved.

    Args:
        network: The network, with an adapter if it had one.
        folder: Where.

    Raises:
        ValueError: Its layers have other sizes.
    """
    if has_adapter(network):
        from peft import set_peft_model_state_dict

        weights = load_file(folder / LORA_WEIGHT_NAME_SAFE)
        take = functools.partial(set_peft_model_state_dict, network)
    else:
        weights, take = type(network).from_pretrained(folder).state_dict(), network.load_state_dict
    try:
        take(weights)
    except RuntimeError as error:
        raise ValueError(
            f"`resume_from_checkpoint`: {folder.name} in {folder.parent.name} has other sizes than settings and data "
            "set make now"
        ) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a training.

    Args:
        folder: Its output folder.

    Returns:
        Their folders, the oldest first.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(_NAME.fullmatch(path.name)[1]))


def checkpoint_to_resume(folder: Path, wanted: str | None) -> Path | None:
    """Find the checkpoint that a training continues from.

    Args:
        folder: The training's output folder.
        wanted: "latest", a checkpoint's folder or its name within `folder`, or None.

    Returns:
        The checkpoint; None: begin anew, because none is wanted or there is none yet.

    Raises:
        ValueError: It does not exist; or none is wanted, but the folder holds some, which would be overwritten.
    """
    existing = list_checkpoints(folder)
    if wanted is None:
        if existing:
            raise ValueError(
                f"`output_dir` {folder} holds {existing[-1].name}: continue with `--resume_from_checkpoint latest`, "
                "or give another folder"
            )
        return None
    if wanted == "latest":
        return existing[-1] if existing else None
    for candidate in (Path(wanted), folder / wanted):
        if (candidate / "progress.json").is_file():
            return candidate
    raise ValueError(f"`resume_from_checkpoint` is {wanted!r}, must be `latest` or a checkpoint's folder")
