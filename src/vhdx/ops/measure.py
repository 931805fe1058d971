"""How much space the result of a conversion needs."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from vhdx.disks.formats import FormatName, check_can_be_made
from vhdx.errors import RequestError
from vhdx.format.layout import ImageLayout
from vhdx.ops.copying.parameters import image_parameters
from vhdx.ops.copying.source import DiskSource, use_disk
from vhdx.ops.copying.source_walk import count_data, data_units
from vhdx.ops.progress import Progress, no_progress


@dataclass(frozen=True, slots=True)
class Measurement:
    """Sizes in bytes, under the names that `qemu-img measure` gives them."""

    required: int
    """Enough for the data there is now; less will do if some of it turns out to be zeroes."""
    fully_allocated: int
    """Enough whatever is written to the disk later."""

    def as_json(self) -> dict[str, int]:
        """With the keys of `qemu-img measure --output=json`."""
        return {"required": self.required, "fully-allocated": self.fully_allocated}


def measure(
    source: DiskSource | int,
    *,
    format: FormatName = "raw",
    kind: Literal["dynamic", "fixed"] = "dynamic",
    block_size: int | None = None,
    logical_sector_size: int | None = None,
    progress: Progress = no_progress,
) -> Measurement:
    """Tell the size of the file that `convert` would make; looks at metadata only.

    `source` is a disk, a path, or the virtual size in bytes of an empty disk; the other arguments are those of
    `convert`. For raw, and for a fixed VHDX, the required size is that of the data and structures on the
    host, as the rest of the file is holes; for a dynamic VHDX it is the length of the file.

    Raises: RequestError, ParentNotFoundError, FormatError, OSError.
    """
    check_can_be_made(format)
    with ExitStack() as stack:
        device = None
        if isinstance(source, int):
            size = source
        else:
            device = stack.enter_context(use_disk(source))
            size = device.size
        data = count_data(device, progress) if device else 0
        if format == "raw":
            if size < 0:
                raise RequestError(f"a disk of {size} bytes is not possible")
            return Measurement(data, size)
        parameters = image_parameters(
            size,
            device.limits if device else None,
            kind=kind,
            block_size=block_size,
            logical_sector_size=logical_sector_size,
            physical_sector_size=None,
        )
        layout = ImageLayout(parameters.geometry)
        full = layout.file_size(layout.geometry.block_count)
        if kind == "fixed":
            return Measurement(layout.payload_offset + data, full)
        blocks = sum(1 for _ in data_units(device, parameters.block_size)) if device else 0
        return Measurement(layout.file_size(blocks), full)
