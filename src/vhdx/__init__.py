"""VHDX virtual disks: open, read, check, map, compare, convert and create them.

import vhdx

with vhdx.open("disk.vhdx") as disk:
    print(disk.size, disk.pread(512, 0))
"""

from vhdx.blockdev.device import ZERO, Ability, BlockDevice, Limits, Range
from vhdx.blockdev.extent import Extent
from vhdx.chain import Disk
from vhdx.chain import open_disk as open
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
from vhdx.image import Image
from vhdx.ops.probe import probe
from vhdx.parents import ParentRequest, ParentRoot
from vhdx.report import Finding
from vhdx.rules import RuleCode, Severity

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
    "open",
    "probe",
]
