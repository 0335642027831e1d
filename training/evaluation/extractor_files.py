"""Load the networks of metrics from files, folders and the Hub; only what is named is downloaded."""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

from training.evaluation.dawn_sync import DawnSync
from training.evaluation.extractors import FIGURES_OF, Extractors, Network
from training.evaluation.provenance import NUM_DIGITS, weights_digest
from training.objectives.sync_network import SyncNetwork

# the one network whose program is this project's
OWN_NETWORK = "dawn_sync"


class ScriptedNetwork:
    """A network from a TorchScript file.

    The files in which Inception and I3D are usually passed on take bytes, scale and resize them themselves, and return
    features only when asked; they have an argument `return_features`, by which they are known.

    Args:
        module: The network.
        device: Where it runs.
    """

    def __init__(self, module: torch.jit.ScriptModule, device: torch.device) -> None:
        self._module, self._device = module.to(device).eval(), device
        arguments = {argument.name for argument in module.forward.schema.arguments}
        self._takes_bytes = "return_features" in arguments
        names = arguments & {"return_features", "rescale", "resize"} if self._takes_bytes else ()
        self._options = dict.fromkeys(sorted(names), True)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Run the network on its device."""
        inputs = [tensor.to(self._device) for tensor in inputs]
        if self._takes_bytes:
            inputs[0] = (inputs[0] * 255).round().byte()
        return self._module(*inputs, **self._options)


def load_extractors(given: Sequence[str], trust_remote_code: bool, device: torch.device) -> Extractors:
    """Load networks from files.

    Args:
        given: NAME=FILE.pt, a TorchScript file, or NAME=FILE.py:FUNCTION, a function that takes nothing and returns
            the network; NAME as in `Extractors`. A file of the Hub is OWNER/REPOSITORY:FILE. Of dawn_sync, the folder
            that `train_syncnet.py` saved, or a Hub id.
        trust_remote_code: Whether the files may run: both kinds are programs, the folder is none.
        device: Where TorchScript runs.

    Returns:
        The networks.

    Raises:
        ValueError: A name is unknown or comes twice, a file cannot be loaded, or may not run.
    """
    networks, sources = {}, {}
    for words in given:
        name, _, where = words.partition("=")
        if name not in FIGURES_OF or not where:
            raise ValueError(
                f"`extractors` has {words!r}, must be NAME=FILE.pt or NAME=FILE.py:FUNCTION, NAME one of "
                f"{', '.join(FIGURES_OF)}"
            )
        if name in networks:
            raise ValueError(f"`extractors` has {name} twice, must have it once")
        if name == OWN_NETWORK:
            networks[name] = DawnSync(_own_network(where).to(device).eval())
            sources[name] = f"{Path(where).name}, SHA-256 {weights_digest(networks[name].network)}"
            continue
        repository, file, function = _split_place(where)
        if not function and Path(file).suffix not in (".pt", ".pth", ".ts", ".torchscript"):
            raise ValueError(
                f"`extractors` has {words!r}, must be TorchScript (FILE.pt) or FILE.py:FUNCTION: weights alone, such "
                "as safetensors, do not say what network they belong to"
            )
        if not trust_remote_code:
            raise ValueError(f"`extractors` has {words!r}, which is a program: pass `trust_remote_code` to let it run")
        path = _from_hub(repository, file, words) if repository else Path(file)
        if not path.is_file():
            raise ValueError(f"`extractors` has {words!r}, but {path} is not a file")
        networks[name] = _from_function(path, function) if function else _from_script(path, device)
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()[:NUM_DIGITS]
        sources[name] = f"{path.name}{':' + function if function else ''}, SHA-256 {digest}"
    return Extractors(**networks, sources=sources)


def _split_place(where: str) -> tuple[str, str, str]:
    """Repository of the Hub, file, and function in it; of the first and the last, what is not there is empty."""
    repository, _, rest = where.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or repository.endswith(".py") or not rest:
        repository, rest = "", where
    file, _, function = rest.rpartition(":")
    return (repository, file, function) if file.endswith(".py") else (repository, rest, "")


def _from_hub(repository: str, file: str, words: str) -> Path:
    # no such repository, no such file, no network: errors of many kinds
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:
        raise ValueError(f"`extractors` has {words!r}, which cannot be had from the Hub: {error}") from error


def _own_network(where: str) -> SyncNetwork:
    try:
        return SyncNetwork.from_pretrained(where)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`extractors`: {where} holds no network of train_syncnet.py: {str(error).splitlines()[0]}"
        ) from error


def _from_script(path: Path, device: torch.device) -> ScriptedNetwork:
    try:
        return ScriptedNetwork(torch.jit.load(path, map_location="cpu"), device)
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"`extractors`: {path} cannot be loaded as TorchScript: {reason}") from error


def _from_function(path: Path, function: str) -> Network:
    name = f"extractors_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # the user's own program may fail in any way
    try:
        spec.loader.exec_module(module)
        network = getattr(module, function)()
    except Exception as error:
        raise ValueError(
            f"`extractors`: {path}:{function} cannot be loaded: {str(error) or type(error).__name__}"
        ) from error
    if not callable(network):
        raise ValueError(f"`extractors`: {path}:{function} returns {type(network).__name__}, must return a function")
    return network
