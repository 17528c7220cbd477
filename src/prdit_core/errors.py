"""What can go wrong, one class per exit code of the command line.

Every message is one line: what happened, in which file, why, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError


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


# What is wrong with a value, by pydantic's name of the fault; the names in braces are pydantic's.
_FAULTS = {
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "missing": "must be given",
    "extra_forbidden": "is not known",
}


def first_fault(error: ValidationError, names: Mapping[str, str] | None = None) -> str:
    """First complaint of a validation, in one line and plain words.

    Parameters
    ----------
    names : how fields are called where they are filled in; None calls them as the class does

    Examples
    --------
    >>> first_fault(error, {"lr": "learning rate"})  # doctest: +SKIP
    "learning rate: must be a number, not 'fast'"
    """
    fault: Any = error.errors()[0]
    where = " ".join(str((names or {}).get(part, part)) for part in fault["loc"]) or "settings"
    words = _FAULTS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    if fault["type"] in _FAULTS:
        limits = fault.get("ctx", {})
        words = words.format(**{name: _plain_number(limit) for name, limit in limits.items()})
    whole = fault["type"] == "missing" or not fault["loc"]  # then the input is all that was given
    return f"{where}: {words}" if whole else f"{where}: {words}, not {fault['input']!r}"


def _plain_number(limit: Any) -> Any:
    """1 for 1.0; other limits as they are."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
