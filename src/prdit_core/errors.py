"""What can go wrong, one class per exit code of the command line.

Every message is one line: what happened, in which file, why, and what to do about it.
"""

from __future__ import annotations


class PrditError(Exception):
    """Base of all errors that a user can cause and mend; `exit_code` is the command's."""

    exit_code = 1


class UsageError(PrditError):
    """Unknown option value, contradictory or out-of-range configuration."""

    exit_code = 2


class InputRejected(PrditError):
    """A scan or data set that cannot be trusted: damaged, not CT, or of unknown geometry."""

    exit_code = 3


class PartialFailure(PrditError):
    """Some cases were done, others were rejected; the report names them."""

    exit_code = 4


class CheckpointError(PrditError):
    """A checkpoint that is damaged, incompatible or not to be trusted."""

    exit_code = 5


class OutputError(PrditError):
    """The target cannot be written: read-only, full, or already holding something else."""

    exit_code = 6


class MemoryLimit(PrditError):
    """The work does not fit into memory."""

    exit_code = 7


class NumericalError(PrditError):
    """NaN or infinity where a finite number was needed."""

    exit_code = 8


class RunBusy(PrditError):
    """Another process works in the run folder."""

    exit_code = 9
