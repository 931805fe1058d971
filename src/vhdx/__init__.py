"""VHDX virtual disks: open, read, write, check, convert, compare, create and serve them.

import vhdx

with vhdx.open("disk.vhdx") as disk:
    print(disk.size, disk.pread(512, 0))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vhdx.blockdev.device import ZERO, Ability, BlockDevice, Limits, Range
    from vhdx.blockdev.extent import Extent
    from vhdx.disks.chain import Disk
    from vhdx.disks.chain import open_disk as open
    from vhdx.disks.image import Image
    from vhdx.disks.parents import ParentRequest, ParentRoot
    from vhdx.errors import (
        ChainCycleError,
        ChainError,
        CorruptImageError,
        FormatError,
        ImageClosedError,
        ImageLockedError,
        ImagePoisonedError,
        ImageStateError,
        LogReplayRequiredError,
        NotVhdxError,
        ParentForbiddenError,
        ParentMismatchError,
        ParentNotFoundError,
        ReadOnlyImageError,
        RequestError,
        UnsupportedFeatureError,
        VhdxError,
    )
    from vhdx.findings import Finding
    from vhdx.ops.create import create
    from vhdx.ops.probe import probe
    from vhdx.rules import RuleCode, Severity

# Each name is imported when it is first used: a command that needs one room must not wait for all of them.
_HOMES = {
    name: room
    for room, names in {
        "vhdx.blockdev.device": (
            "ZERO",
            "Ability",
            "BlockDevice",
            "Limits",
            "Range",
        ),
        "vhdx.blockdev.extent": ("Extent",),
        "vhdx.disks.chain": (
            "Disk",
            "open",
        ),
        "vhdx.errors": (
            "ChainCycleError",
            "ChainError",
            "CorruptImageError",
            "FormatError",
            "ImageClosedError",
            "ImageLockedError",
            "ImagePoisonedError",
            "ImageStateError",
            "LogReplayRequiredError",
            "NotVhdxError",
            "ParentForbiddenError",
            "ParentMismatchError",
            "ParentNotFoundError",
            "ReadOnlyImageError",
            "RequestError",
            "UnsupportedFeatureError",
            "VhdxError",
        ),
        "vhdx.disks.image": ("Image",),
        "vhdx.ops.create": ("create",),
        "vhdx.ops.probe": ("probe",),
        "vhdx.disks.parents": (
            "ParentRequest",
            "ParentRoot",
        ),
        "vhdx.findings": ("Finding",),
        "vhdx.rules": (
            "RuleCode",
            "Severity",
        ),
    }.items()
    for name in names
}
_NAMES_AT_HOME = {"open": "open_disk"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vhdx' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), _NAMES_AT_HOME.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ZERO",
    "Ability",
    "BlockDevice",
    "ChainCycleError",
    "ChainError",
    "CorruptImageError",
    "Disk",
    "Extent",
    "Finding",
    "FormatError",
    "Image",
    "ImageClosedError",
    "ImageLockedError",
    "ImagePoisonedError",
    "ImageStateError",
    "Limits",
    "LogReplayRequiredError",
    "NotVhdxError",
    "ParentForbiddenError",
    "ParentMismatchError",
    "ParentNotFoundError",
    "ParentRequest",
    "ParentRoot",
    "Range",
    "ReadOnlyImageError",
    "RequestError",
    "RuleCode",
    "Severity",
    "UnsupportedFeatureError",
    "VhdxError",
    "create",
    "open",
    "probe",
]
