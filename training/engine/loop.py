"""The training loop that all stages share: batches, precision, averaging, checkpoints, logs and validation."""

import logging
import math
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DynamoBackend, InitProcessGroupKwargs, ProjectConfiguration, set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from diffusers_dawn.machine.float32_products import fast_products
from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.machine.stopping import stopped_by_signals
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.data.dataset_info import write_text_atomically
from training.engine.checkpoints import (
    Checkpoints,
    Progress,
    WeightAverages,
    checkpoint_to_resume,
    complete_or_removed,
)
from training.engine.commands import USER_ERRORS
from training.engine.config import TrainingConfig, config_to_yaml, parse_config
from training.engine.model_card import make_repository, upload_result, write_model_card
from training.engine.processes import PATIENCE
from training.engine.resumed_settings import changes_on_resuming
from training.engine.stage import Stage
from training.engine.stop_signals import SIGNAL_EXIT_CODE, StopSignals, TrainingInterrupted, leave_signals_to_parent
from training.engine.tracking import Meter, log_video
from training.engine.training_plan import BatchPlan, TrainingPlan
from training.evaluation.validation import Validation

logger = logging.getLogger("training")


def run_script(
    build_stage: Callable[[Any], Stage],
    config_class: type[TrainingConfig],
    description: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a training script: read settings, train; bad input ends with one sentence.

    Args:
        build_stage: Makes the stage from its settings.
        config_class: The stage's settings.
        description: First line of the help.
        arguments: Command line; None: that of the process.

    Returns:
        The exit code: 0 done, 2 bad input, 130 interrupted, 143 terminated.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logger.setLevel(logging.INFO)
    try:
        config, dry_run = parse_config(config_class, description, arguments)
        if dry_run:
            print(config_to_yaml(config), end="")
            return 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with stopped_by_signals():
            check_folder(config.output_dir, "output_dir")
            train(build_stage(config), config)
    except TrainingInterrupted as error:
        return error.exit_code
    except KeyboardInterrupt as interruption:
        # before the first step or after the last one
        logger.warning("interrupted; continue with the same command and `--resume_from_checkpoint latest`")
        return SIGNAL_EXIT_CODE + getattr(interruption, "signal_number", signal.SIGINT)
    except USER_ERRORS as error:
        if config.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(stage: Stage, config: TrainingConfig) -> Progress:
    """Train a stage to its end.

    Args:
        stage: What to train.
        config: The settings.

    Returns:
        Where the training stands at the end.

    Raises:
        ValueError: A setting does not fit, the output folder holds another training, or the one to be resumed had
            other settings (see `resumed_settings`).
        OSError: Something cannot be written.
        TrainingInterrupted: A signal asked to stop; there is a checkpoint of the last step.
    """
    output = Path(config.output_dir)
    resumed = checkpoint_to_resume(output, config.resume_from_checkpoint)
    changes = "" if resumed is None else changes_on_resuming(config, resumed)
    if config.push_to_hub:
        # what cannot be uploaded at the end is refused at the beginning
        make_repository(config.hub_model_id or output.name)
    accelerator = _make_accelerator(config)
    if not accelerator.is_main_process:
        logger.setLevel(logging.ERROR)
    set_seed(config.seed, device_specific=True)
    for network in (*stage.frozen, *stage.networks.values()):
        network.to(accelerator.device)
    averages = None
    if config.use_ema:
        averages = WeightAverages({name: stage.networks[name] for name in stage.averaged}, config.ema_decay)
        averages.to(accelerator.device)
    updates = _prepare_updates(accelerator, stage, config)
    checkpoints = Checkpoints(output, accelerator, stage.networks, averages, config.checkpoints_total_limit)
    samples = stage.samples()
    plan = TrainingPlan(config, len(samples), accelerator.num_processes)
    progress = Progress(samples_per_step=plan.samples_per_step)
    if resumed is not None:
        progress = checkpoints.load(resumed, plan.samples_per_step)
        logger.info("continuing from %s%s", resumed, changes and f" with other settings: {changes}")
    if accelerator.is_main_process:
        # not before: a training that is refused leaves the settings of the one before it
        output.mkdir(parents=True, exist_ok=True)
        write_text_atomically(output / "config.yaml", config_to_yaml(config))
    run = _Run(accelerator, stage, config, plan, updates, averages, checkpoints, progress)
    if config.report_to != "none":
        settings = {key: str(value) for key, value in asdict(config).items()}
        accelerator.init_trackers(config.tracker_project_name, config=settings)
    # compilers ask for the setting that it changes
    compiled = accelerator.state.dynamo_plugin.backend != DynamoBackend.NO
    eager_on_cpu = accelerator.device.type == "cpu" and not compiled
    with fast_products() if eager_on_cpu else nullcontext():
        stopped = run.all_steps(samples)
        if not stopped:
            run.finish(output)
    accelerator.end_training()
    if stopped:
        raise TrainingInterrupted(stopped)
    return progress


@dataclass(frozen=True)
class _Update:
    """One objective with the optimizer that minimises it."""

    name: str
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]


def _make_accelerator(config: TrainingConfig) -> Accelerator:
    # accelerate keeps one state per process, which would hold the settings of an earlier training
    AcceleratorState._reset_state()
    GradientState._reset_state()
    if config.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    return Accelerator(
        # otherwise accelerate joins the processes only where each has a GPU, and each would train alone
        cpu=not torch.accelerator.is_available(),
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=None if config.report_to == "none" else config.report_to,
        project_config=ProjectConfiguration(project_dir=config.output_dir, logging_dir=f"{config.output_dir}/logs"),
        # others wait while one validates, or stores the motion of the larger shards
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def _prepare_updates(accelerator: Accelerator, stage: Stage, config: TrainingConfig) -> list[_Update]:
    updates = []
    for name, objective in stage.objectives.items():
        parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            weight_decay=config.adam_weight_decay,
        )
        updates.append(_Update(name, *accelerator.prepare(objective, optimizer), parameters))
    return updates


class _Run:
    """A running training."""

    def __init__(
        self,
        accelerator: Accelerator,
        stage: Stage,
        config: TrainingConfig,
        plan: TrainingPlan,
        updates: list[_Update],
        averages: WeightAverages | None,
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> None:
        self.accelerator, self.stage, self.config, self.plan = accelerator, stage, config, plan
        self.updates, self.averages, self.checkpoints, self.progress = updates, averages, checkpoints, progress
        self.meter = Meter(accelerator)
        self.validated_step = -1

    def all_steps(self, samples: Dataset) -> int:
        """Make all remaining steps; return the number of the step at which a signal stopped them, else 0."""
        config, progress, num_steps = self.config, self.progress, self.plan.num_steps
        batches, stopped = self._batches(samples), 0
        bar = tqdm(
            total=num_steps,
            initial=progress.step,
            desc=self.stage.title,
            disable=not self.accelerator.is_local_main_process,
        )
        with StopSignals(self.accelerator) as signals, bar:
            while progress.step < num_steps and not stopped:
                self._train_mode()
                self._step(batches)
                progress.step += 1
                bar.update()
                stopped = signals.agreed()
                if progress.step % config.log_steps == 0 or progress.step == num_steps:
                    bar.set_postfix(self._log())
                if progress.step % config.checkpointing_steps == 0 or progress.step == num_steps or stopped:
                    self.checkpoints.save(progress)
                is_due = config.validation_steps is not None and progress.step % config.validation_steps == 0
                if is_due and not stopped:
                    self._validate()
        if stopped:
            logger.warning(
                "interrupted after step %d of %d; "
                "continue with the same command and `--resume_from_checkpoint latest`",
                progress.step,
                num_steps,
            )
        return stopped

    def finish(self, output: Path) -> None:
        """Save the result, validate once more, write the card, and upload if that is wanted."""
        if self.accelerator.is_main_process:
            partial = output / ".result.partial"
            shutil.rmtree(partial, ignore_errors=True)
            with complete_or_removed(partial), self._averaged():
                self.stage.save_result(partial)
            shutil.rmtree(output / self.stage.result, ignore_errors=True)
            partial.rename(output / self.stage.result)
        metrics = self._validate() if self.validated_step != self.progress.step else self.last_metrics
        if self.accelerator.is_main_process:
            write_model_card(output, self.stage, self.config, self.progress, metrics)
            if self.config.push_to_hub:
                upload_result(output, self.stage.result, self.config.hub_model_id or output.name)
        self.accelerator.wait_for_everyone()

    def _batches(self, samples: Dataset) -> Iterator[dict[str, torch.Tensor]]:
        accumulation = self.config.gradient_accumulation_steps
        plan = BatchPlan(
            len(samples),
            self.config.train_batch_size,
            self.plan.num_steps * accumulation,
            self.config.seed,
            self.progress.step * accumulation,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            getattr(samples, "draw_num_frames", None),
            accumulation,
            getattr(samples, "choose", None),
        )
        loader = DataLoader(
            samples,
            batch_sampler=plan,
            num_workers=self.config.dataloader_num_workers,
            worker_init_fn=leave_signals_to_parent,
            pin_memory=self.accelerator.device.type == "cuda",
            # the loader draws a number when it begins, which a resumed run would draw at another place
            generator=torch.Generator(),
        )
        return iter(loader)

    def _train_mode(self) -> None:
        for update in self.updates:
            update.objective.train()
        for network in self.stage.frozen:
            network.eval()

    def _step(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        """Make one optimisation step over all accumulated batches: update each network in turn.

        An update whose gradients are not finite is left out, and changes nothing of its network; the others are made.
        """
        epoch = self.plan.epoch(self.progress.step)
        with self.meter.loading():
            parts = [next(batches) for _ in range(self.config.gradient_accumulation_steps)]
        device = self.accelerator.device
        parts = [{name: value.to(device, non_blocking=True) for name, value in part.items()} for part in parts]
        left_out = []
        for update in self.updates:
            # a forward pass moves running statistics, also when its gradients turn out not to be finite
            buffers = [
                (buffer, buffer.clone()) for network in self.stage.networks.values() for buffer in network.buffers()
            ]
            for part in parts:
                last = part is parts[-1]
                with nullcontext() if last else self.accelerator.no_sync(update.objective):
                    terms = update.objective(part, epoch)
                    self.accelerator.backward(terms["loss"])
                self.meter.add(update.name, terms)
            if not self._apply(update):
                left_out.append(update.name)
                for buffer, before in buffers:
                    buffer.copy_(before)
            elif self.averages is not None:
                self.averages.step(update.name)
        if left_out:
            self.progress.skipped_steps += 1
            logger.warning(
                "step %d: update of %s skipped, its gradients are not finite", self.progress.step, ", ".join(left_out)
            )

    def _apply(self, update: _Update) -> bool:
        """Update the weights unless the gradients are not finite; return whether they were finite."""
        largest = self.config.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(update.parameters, math.inf if largest is None else largest)
        finite = bool(torch.isfinite(norm))
        for group in update.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate(self.progress.step)
        # with loss scaling the scaler itself skips the step, and has to see it to lower its scale
        if finite or self.accelerator.scaler is not None:
            update.optimizer.step()
        update.optimizer.zero_grad()
        self.meter.last_norm = float(norm)
        return finite and not update.optimizer.step_was_skipped

    def _log(self) -> dict[str, str]:
        values = self.meter.collect()
        values["learning_rate"] = self.plan.learning_rate(self.progress.step - 1)
        values["skipped_steps"] = self.progress.skipped_steps
        self.accelerator.log(values, step=self.progress.step)
        main_loss = values[f"{self.updates[-1].name}/loss"]
        return {"loss": f"{main_loss:.4g}", "loading": f"{values['loading_share']:.0%}"}

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.averages is None else self.averages.applied()

    def _validate(self) -> dict[str, float]:
        """Run the stage's validation, log and keep its result; random states stay unchanged."""
        self.validated_step, self.last_metrics = self.progress.step, {}
        if self.config.num_validation_clips and self.accelerator.is_main_process:
            for network in self.stage.networks.values():
                network.eval()
            with self._averaged(), torch.random.fork_rng(), torch.no_grad():
                found = self.stage.validate()
            self.last_metrics = found.metrics
            self._keep(found)
        self.accelerator.wait_for_everyone()
        return self.last_metrics

    def _keep(self, found: Validation) -> None:
        step = self.progress.step
        named = {f"validation/{name}": value for name, value in found.metrics.items()}
        logger.info("validation at step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in found.metrics.items()))
        self.accelerator.log(named, step=step)
        for name, clip in found.clips.items():
            video = Path(self.config.output_dir, "validation", f"step-{step}-{name}.mp4")
            video.parent.mkdir(exist_ok=True)
            write_video(video, clip.frames, Waveform(clip.samples, SAMPLE_RATE_HZ))
            log_video(self.accelerator, f"validation/{name}", clip.frames, video, step)
