"""Train one stage of a family on prepared data, in a run folder that survives all that happens."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prdit_core.checkpoints.catalog import find, newest
from prdit_core.checkpoints.store import read_header
from prdit_core.data.classed import folders_of
from prdit_core.data.sources import refuse_overlap
from prdit_core.errors import InputRejected, MemoryLimit, NumericalError
from prdit_core.machine import check_memory, memory_of, use_threads
from prdit_core.models.families import family_of
from prdit_core.provenance import SYNTHETIC
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.metrics import read_lines
from prdit_core.training.batches import Batches
from prdit_core.training.checkpointing import begun, go_on, restore, save
from prdit_core.training.claim import Begin, begin_history, changes_so_far, claimed
from prdit_core.training.engine import by_first, launch
from prdit_core.training.events import Event, Previewed, Saved, Started, Stopped, Validated
from prdit_core.training.learnt import Learnt
from prdit_core.training.loop import Trainer, run_loop
from prdit_core.training.recorder import Recorder
from prdit_core.training.settings import Settings, resolve
from prdit_core.training.stages import stage_of
from prdit_core.training.validation import validate
from prdit_core.training.volumes import held_out, leading, shapes_of, trained_on
from prdit_core.verbs.preview import preview, preview_codec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from prdit_core.config import TrainingConfig
    from prdit_core.training.volumes import AnyData


def never() -> bool:
    """Nobody asks to stop."""
    return False


def train_steps(
    config: TrainingConfig, begin: Begin = "new", stop_requested: Callable[[], bool] = never
) -> Generator[Event]:
    """Train and yield every event; closing the iterator saves a checkpoint first.

    Under torchrun or srun every process calls this; process 0 writes the folder.

    Parameters
    ----------
    config : settings of the run; None entries take the paper's value
    begin : "new" needs an unused run folder; "resume" goes on from its newest whole checkpoint, or
        from the start if nothing was saved yet; "change" resumes with other settings
    stop_requested : looked at once an iteration, like the file STOP in the run folder

    Raises
    ------
    UsageError, InputRejected, CheckpointError, OutputError, MemoryLimit, NumericalError, RunBusy
        One line each; what was saved stays.
    """
    data = stage_of(config.stage).recipe().opened(config)
    refuse_overlap(folders_of(data), config.run)
    start = None if config.start is None else find(config.start)
    settings = resolve(config, data, None if start is None else read_header(start))
    resolved = settings.config
    _check_memory(settings, data)
    use_threads(resolved.threads)
    task = settings.recipe.task(resolved, settings.plan, begun(start, settings))
    if settings.plan.begun is not None and start is not None:
        go_on(task.players, start)
    data.verify()
    fabric = launch(resolved.device, resolved.precision, resolved.strategy, settings.recipe.shards)
    with claimed(settings, begin, fabric) as changed:
        trainer = Trainer(
            task,
            fabric,
            rate=settings.rate,
            clip=settings.clip,
            decay=resolved.ema_decay,
            micro_batch=settings.micro_batch,
        )
        learnt = Learnt(settings, data, trainer)
        run = _Run(settings, data, trainer, RunFolder(resolved.run), learnt)
        yield from run.recorded(begin, changed, stop_requested)


def train(config: TrainingConfig, begin: Begin = "new") -> Path:
    """Train to the end and return the newest checkpoint folder; see `train_steps`."""
    deque(train_steps(config, begin), maxlen=0)
    return newest(config.run)


@dataclass
class _Run:
    """Everything a run needs, made ready before the first iteration."""

    settings: Settings
    data: AnyData
    trainer: Trainer
    folder: RunFolder
    learnt: Learnt

    def recorded(
        self, begin: Begin, changed: list[str], stop_requested: Callable[[], bool]
    ) -> Iterator[Event]:
        """Events, each written into the folder by process 0 before it is passed on."""
        if not self.trainer.fabric.is_global_zero:
            yield from self.events(begin, changed, stop_requested)
            return
        recorder = Recorder(self.folder, self.settings.config.stage, self.settings.iterations)
        try:
            with closing(self.events(begin, changed, stop_requested)) as events:
                for event in events:
                    recorder.take(event)
                    yield event
        except (GeneratorExit, KeyboardInterrupt):
            recorder.end("stopped")
            raise
        except Exception as error:
            recorder.end("failed", str(error))
            raise
        recorder.end("stopped" if isinstance(event, Stopped) else "finished")

    def events(
        self, begin: Begin, changed: list[str], stop_requested: Callable[[], bool]
    ) -> Generator[Event]:
        """The story of a run."""
        config, total = self.settings.config, self.settings.iterations
        start, notes = self.begin(begin, changed)
        yield Started(start, total, notes)
        if self._owes_validation(start):
            yield self.validate(start)
        done = saved_at = start
        batches = self._batches().between(start, total, config.workers)
        wished = lambda: stop_requested() or self._stop_file()  # noqa: E731
        steps = run_loop(self.trainer, batches, start=start, total=total, stop_requested=wished)
        try:
            for step in steps:
                done, last = step.index, step.index == total
                yield step
                validated: Validated | None = None
                due = self._due(done)
                if due and self.data.validation:
                    validated = self.validate(done)
                    yield validated
                if last or done % config.preview_every == 0:
                    yield Previewed(done, self.preview(done))
                if due or step.asked_to_stop:
                    path, saved_at = self.save(done, validated), done
                    yield Saved(done, path)
                if step.asked_to_stop and not last:
                    yield Stopped(done)
        except (GeneratorExit, InputRejected, MemoryLimit, NumericalError) as error:
            # These come between iterations, where all is whole; after others it may not be. Of
            # several processes all must save, but only a NaN is sure to reach all of them.
            alone = self.trainer.fabric.world_size == 1
            if done > saved_at and (alone or isinstance(error, NumericalError)):
                self.save(done, None)
            raise

    def _due(self, iteration: int) -> bool:
        """Whether a validation and a checkpoint follow this iteration."""
        return iteration == self.settings.iterations or (
            iteration % self.settings.config.save_every == 0
        )

    def _owes_validation(self, iteration: int) -> bool:
        """Whether the run ended between an iteration and the validation that was due."""

        def recorded() -> bool:
            lines = read_lines(self.folder.metrics)
            newest = [line for line in lines if line["iteration"] == iteration]
            return any(line["kind"] == "validation" for line in newest)

        due = iteration > 0 and self._due(iteration) and bool(self.data.validation)
        return due and not by_first(self.trainer.fabric, recorded)

    def begin(self, begin: Begin, changed: list[str]) -> tuple[int, tuple[str, ...]]:
        """Take up the newest checkpoint; say from where the run goes on and what is different."""
        start, resumed = (0, ()) if begin == "new" else restore(self.folder, self.trainer)
        dropped = by_first(
            self.trainer.fabric,
            lambda: begin_history(self.folder, self.settings, begin, start, changed),
        )
        notes = [*self.settings.notes, *resumed]
        notes += [f"{text}, so not bit-identical to one go" for text in changed]
        if dropped:
            notes.append(f"{dropped} iterations were lost and are done again")
        return start, tuple(notes)

    def validate(self, iteration: int) -> Validated:
        """Losses of the averaged weights on held-out patients."""
        judge = self.trainer.task.judge(self.learnt.averaged())
        judged = held_out(self.data, self.settings.intensity)
        seed, levels = self.settings.config.seed, self.trainer.task.levels
        return by_first(
            self.trainer.fabric,
            lambda: validate(judge, judged, iteration, seed=seed, levels=levels),
        )

    def preview(self, iteration: int) -> Path:
        """Picture of a held-out volume seen through the averaged weights, and a generated one."""
        module = self.learnt.fitted(iteration).module
        source = held_out if self.data.validation else trained_on
        example = source(self.data, self.settings.intensity)
        caption = "held-out volume" if self.data.validation else "training volume"
        if self.learnt.decoder is not None:
            caption += ", decoded from its latents"
        name = f"stage {self.settings.config.stage}, iteration {iteration}"
        path = self.folder.previews / f"iteration-{iteration:08d}.png"
        family = family_of(self.settings.plan.network)

        def write() -> Path:
            if family.codec is not None:
                codec, device = family.codec(module), self.trainer.fabric.device
                first = leading(self.data)
                return preview_codec(
                    codec, example.read(0), first, caption, device=device, name=name, path=path
                )
            prior, seed = self.learnt.prior(module, name), self.settings.config.seed
            if prior.classes:
                named = prior.classes[example.labels[0]]
                prior = prior.of_class(named).at_shape(example.shapes[0])
            labels = example.condition(0)
            labels = labels if labels is not None and labels.any() else None
            prior = prior if labels is None else prior.under(labels)
            return preview(prior, example.read(0), caption, labels, seed=seed, path=path)

        return by_first(self.trainer.fabric, write)

    def save(self, iteration: int, validated: Validated | None) -> Path:
        """Write a checkpoint that says how it came about."""
        averaged, fitted = self.learnt.written(iteration)
        record: dict[str, Any] = {
            "training": self.settings.provenance(),
            "changes": by_first(self.trainer.fabric, lambda: changes_so_far(self.folder)),
            "preset": leading(self.data).manifest.preset.model_dump(mode="json"),
            "notice": SYNTHETIC,
            "iteration": iteration,
            "validation_loss": None if validated is None else validated.losses["total"],
            **fitted,
        }
        base, header = self.settings.plan.base, self.learnt.header(record)
        decoder = None if self.learnt.decoder is None else self.learnt.decoder.weights
        return save(self.folder, self.trainer, header, averaged, decoder, base)

    def _batches(self) -> Batches:
        fabric, config = self.trainer.fabric, self.settings.config
        source = trained_on(self.data, self.settings.intensity)
        return Batches(
            source, config.seed, config.batch_size, fabric.global_rank, fabric.world_size
        )

    def _stop_file(self) -> bool:
        return self.trainer.fabric.is_global_zero and self.folder.stop.exists()


def _check_memory(settings: Settings, data: AnyData) -> None:
    """Refuse what cannot fit, and say what would."""
    config, network = settings.config, settings.plan.network
    recipe, (*_, shape) = settings.recipe, shapes_of(data)
    there = memory_of(config.device)
    fitting = (
        other
        for other in recipe.lighter(config)
        if there is not None and recipe.memory(other, network, shape) <= there
    )
    check_memory(
        recipe.memory(config, network, shape),
        config.device,
        f"training with {settings.micro_batch} volumes at once",
        _advice(config, next(fitting, None)),
    )


def _advice(config: TrainingConfig, lighter: TrainingConfig | None) -> str:
    """Options that would fit, in words."""
    if lighter is None:
        return "use a smaller --model or size"
    changed = {n: value for n, value in dict(lighter).items() if value != getattr(config, n)}
    options = (f"--{name.replace('_', '-')} {value}" for name, value in changed.items())
    return f"{' '.join(options)} would fit"
