"""What was made last, or is being made: its volumes, its recorded steps, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_prdit.generation import estimate_at
from prdit_core.provenance import ESTIMATE, SYNTHETIC

if TYPE_CHECKING:
    from napari_prdit.generation import PreparedWalk
    from napari_prdit.replay import Recording
    from napari_prdit.request import Request
    from prdit_core.volume import Volume


@dataclass
class LastRun:
    """A series of volumes, often of one, the last of which is recorded step by step.

    Attributes
    ----------
    volumes : those that are done, by their place in the series, from 0
    """

    prepared: PreparedWalk
    recording: Recording
    volumes: dict[int, Volume] = field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Whether it is a series."""
        return self.prepared.request.count > 1

    @property
    def last(self) -> Volume | None:
        """The volume whose steps are recorded, once it is done."""
        return self.volumes[max(self.volumes)] if self.volumes else None

    @property
    def recorded(self) -> str:
        """Which volume of a series is recorded; empty if there is one only."""
        return f"volume {max(self.volumes) + 1}" if self.many and self.volumes else ""

    def at(self, index: int) -> Volume:
        """What a recorded step expected; the last one is the volume itself, bit for bit."""
        assert self.last is not None  # there are steps to go back to
        if index == self.recording.indices[-1]:
            return self.last
        return estimate_at(self.recording.at(index), self.last, self.prepared.seen)

    def branched(self, step: int, seed: int) -> Request:
        """Another ending of the recorded volume, from the kept step nearest to `step`."""
        kept = self.recording.nearest(step)
        return self.prepared.request.branched(max(self.volumes), kept, seed)

    def ending(self, took: str) -> str:
        """How it ended, in words."""
        assert self.last is not None  # it ended
        metadata = self.last.metadata
        if ESTIMATE in metadata:
            at = f"step {metadata[ESTIMATE]} of {metadata['steps']}"
            return f"Stopped after {at}, {took}; what is shown is the estimate there"
        if self.many:
            return (
                f"Done in {took}: {len(self.volumes)} volumes, {SYNTHETIC}. Click one below; "
                "their mean and spread are hidden layers"
            )
        return "; ".join([f"Done in {took}: {SYNTHETIC}", *metadata.get("notes", ())])
