"""TensorBoard, for those who have it (the extra `tensorboard`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prdit_core.errors import UsageError
from prdit_core.training.events import Started, TrainStep, Validated

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from torch.utils.tensorboard import SummaryWriter

    from prdit_core.training.events import Event, Levels, Loss


class Board:
    """A consumer of events that writes event files into `folder`.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UsageError("TensorBoard is not installed: pip install tensorboard") from error
        self.folder = folder
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def take(self, event: Event) -> None:
        """Add one event; a continued run hides what it does again."""
        from torch.utils.tensorboard import SummaryWriter

        if isinstance(event, Started):
            self._writer = SummaryWriter(self.folder, purge_step=event.index + 1)
        elif isinstance(event, TrainStep):
            self._add("train", event.losses, event.levels, event.index)
            self._scalar("train/grad_norm", event.grad_norm, event.index)
        elif isinstance(event, Validated):
            self._add("validation", event.losses, event.levels, event.index)

    def _add(self, where: str, losses: Loss, levels: Levels, index: int) -> None:
        for kind, value in losses.items():
            self._scalar(f"{where}/{kind}", value, index)
        for kind, spans in levels.items():
            for number, level in enumerate(spans):
                if level is not None:
                    self._scalar(f"{where}-by-noise/{kind}-{number}", level, index)

    def _scalar(self, tag: str, value: float, index: int) -> None:
        assert self._writer is not None  # a run tells that it started first
        self._writer.add_scalar(tag, value, index)
