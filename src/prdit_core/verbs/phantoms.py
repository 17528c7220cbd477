"""Make a prepared data set of phantoms.

The verb is an iterator of events. It can be stopped at any time and goes on when run again, and
writes the same bytes whatever the number of workers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prdit_core.data.builder import check_fraction, check_workers, claim_folder, in_order
from prdit_core.data.membership import PHANTOMS, add_cases
from prdit_core.data.outcomes import CasePrepared, outcome, written
from prdit_core.data.phantoms import CT, region_of
from prdit_core.data.preparing import phantom_fingerprint, phantom_preset, prepare_phantom
from prdit_core.data.sources import named
from prdit_core.data.transforms import check_size
from prdit_core.errors import UsageError
from prdit_core.machine import package_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.data.outcomes import DataSetWritten, PreparationEvent

MAX_PHANTOMS = 100_000
ONE_PHANTOM = "one phantom only, so none is left to validate with"


def phantom_steps(
    count: int,
    *,
    size: int,
    seed: int,
    out: str | Path,
    region: str = "chest",
    modality: str = CT,
    slab_mm: float | None = None,
    validation_fraction: float = 0.1,
    workers: int = 1,
) -> Iterator[PreparationEvent]:
    """Make `count` phantoms of a region with labels as a prepared data set of its preset.

    The modality is ct, or t1 or t2 for MR of the head. Phantom i depends on region, seed and i
    alone, and its scan on the modality too. The same call goes on where it was stopped; a
    higher count adds to it, a lower one leaves it as it is.

    Parameters
    ----------
    slab_mm : extent along z that is kept of each; None: all of the cube

    Yields
    ------
    CasePrepared for each phantom, DataSetWritten at the end.

    Raises
    ------
    UsageError
        If a number is out of range, `out` is empty, or region or modality is not known.
    OutputError
        If `out` cannot be written or holds something else.
    """
    folder, preset = named(out), phantom_preset(region, modality)
    preset = preset.model_copy(update={"slab_mm": slab_mm})
    check_size(size)
    preset.geometry(size)
    check_fraction(validation_fraction)
    check_workers(workers)
    if not 1 <= count <= MAX_PHANTOMS or seed < 0:
        raise UsageError(f"{count} phantoms of seed {seed}: 1 to {MAX_PHANTOMS}, seed 0 or more")
    settings = {
        "kind": PHANTOMS,
        "made_with": f"napari-prdit {package_version()}",
        "preset": preset.model_dump(mode="json"),
        "size": size,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "generator": phantom_fingerprint(region, modality),
    }
    if region != "chest":  # of which older data sets say nothing
        settings["region"] = region
    if modality != CT:
        settings["modality"] = modality
    claim_folder(folder, settings)
    prepare = partial(prepare_phantom, folder, region, modality, preset, size, seed)
    cases = []
    for index, result in enumerate(in_order(prepare, range(count), workers)):
        cases.append(result.case)
        yield CasePrepared(index, count, result.case.id, result.case, result.reused)
    members = add_cases(folder, cases, settings, region_of(region).labels)
    alone = [ONE_PHANTOM] if len(members.cases) == 1 else []
    yield written(folder, members, alone)


def phantoms(
    count: int,
    *,
    size: int,
    seed: int,
    out: str | Path,
    region: str = "chest",
    modality: str = CT,
    slab_mm: float | None = None,
    validation_fraction: float = 0.1,
    workers: int = 1,
) -> DataSetWritten:
    """As `phantom_steps`, without looking at the steps."""
    return outcome(
        phantom_steps(
            count,
            size=size,
            seed=seed,
            out=out,
            region=region,
            modality=modality,
            slab_mm=slab_mm,
            validation_fraction=validation_fraction,
            workers=workers,
        )
    )
