"""What `prdit-core reconstruct` says of its volumes: a folder for them all, and lines to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.cli.outputs import Outputs
    from prdit_core.verbs.assess import Assessment
    from prdit_core.verbs.ways import Way

PICTURE = "picture.png"
PARTS = ("mean", "spread", "determined", "imagined")
FILES = {"report.json", PICTURE, *(f"{n}{end}" for n in PARTS for end in (".nii.gz", ".json"))}


def report_of(work: Way, outputs: Outputs, seen: Assessment, truth: Path | None) -> dict[str, Any]:
    """All of the summary that is no volume, with what it was made from."""
    from prdit_core.files import sha256_of

    truth_sha256 = None if truth is None or not truth.is_file() else sha256_of(truth)
    seed = {"seed": outputs.seed, "indices": list(outputs.indices)}
    return {
        **work.settings,
        **(seed if work.settings["method"] == "prior" else {}),
        "measurement": seen.volume.metadata["measurement"],
        "truth_sha256": truth_sha256,
        **seen.numbers,
    }


def write_summary(folder: Path, seen: Assessment, report: dict[str, Any]) -> None:
    """Mean, parts and spread as volumes and as a picture, and the report."""
    from prdit_core.data.io import write_volume
    from prdit_core.data.records import write_record
    from prdit_core.files import write_json
    from prdit_core.pictures import save_picture

    mean = {"mean": seen.volume} if seen.count > 1 else {}
    for name, volume in {**mean, **seen.parts}.items():
        write_record(volume, write_volume(volume, folder / f"{name}.nii.gz"))
    save_picture(seen.panels(), folder / PICTURE, str(report["notice"]))
    write_json(folder / "report.json", report)


def lines_of(seen: Assessment) -> list[str]:
    """The numbers for people."""
    from prdit_core.verbs.assess import suffixed

    numbers, units = seen.numbers["volume"], seen.volume.units
    name = "reconstruction" if seen.count == 1 else f"mean of {seen.count}"
    lines = [f"{name}: misfit {100 * numbers['misfit']:.2g} % of the data"]
    lines += [
        f"{part}: {size:.0f} {units} (root mean square)"
        for part, size in seen.numbers[suffixed("size", units)].items()
    ]
    if "grey" not in numbers:
        return lines
    grey = numbers["grey"]
    low, high = grey["window_hu"]
    psnr = "infinite" if grey["psnr"] is None else f"{grey['psnr']:.2f} dB"
    ssim = "" if grey["ssim"] is None else f", SSIM {grey['ssim']:.3f}"
    tissues = numbers.get("tissues", {}).items()
    by_tissue = [f"{n} {e['mae_hu']:.0f}" for n, e in tissues if e["mae_hu"] is not None]
    mae = f"mean absolute error {numbers[suffixed('mae', units)]:.0f} {units}, not clipped"
    return [
        *lines,
        f"{name}: PSNR {psnr}{ssim} (grey 0..1, both clipped to {low:g}..{high:g} {units})",
        f"{name}: {'; '.join([mae, ', '.join(by_tissue)] if by_tissue else [mae])}",
    ]
