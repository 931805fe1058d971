"""VHDX virtual disks: open, read, write, check, convert, compare, create and mount them.

import vhdx

with vhdx.open("disk.vhdx") as disk:
    print(disk.size, disk.pread(512, 0))

What is public stands here and in `vhdx.testing`. The modules that the names come from are private: they may move.
"""

from typing import TYPE_CHECKING, Any

from vhdx._version import __version__ as __version__

if TYPE_CHECKING:
    from vhdx.blockdev.device import ZERO as ZERO
    from vhdx.blockdev.device import Ability as Ability
    from vhdx.blockdev.device import BlockDevice as BlockDevice
    from vhdx.blockdev.device import Limits as Limits
    from vhdx.blockdev.device import Range as Range
    from vhdx.blockdev.device import WritableDevice as WritableDevice
    from vhdx.blockdev.extent import Extent as Extent
    from vhdx.disks.chain import Disk as Disk
    from vhdx.disks.chain import open_disk
    from vhdx.disks.image import Image as Image
    from vhdx.disks.options import ParentRequest as ParentRequest
    from vhdx.disks.options import ParentRoot as ParentRoot
    from vhdx.disks.raw import RawDevice as RawDevice
    from vhdx.errors import ChainCycleError as ChainCycleError
    from vhdx.errors import ChainError as ChainError
    from vhdx.errors import CorruptImageError as CorruptImageError
    from vhdx.errors import FormatError as FormatError
    from vhdx.errors import ImageClosedError as ImageClosedError
    from vhdx.errors import ImageLockedError as ImageLockedError
    from vhdx.errors import ImagePoisonedError as ImagePoisonedError
    from vhdx.errors import ImageStateError as ImageStateError
    from vhdx.errors import LogReplayRequiredError as LogReplayRequiredError
    from vhdx.errors import MountError as MountError
    from vhdx.errors import NotVhdxError as NotVhdxError
    from vhdx.errors import ParentForbiddenError as ParentForbiddenError
    from vhdx.errors import ParentMismatchError as ParentMismatchError
    from vhdx.errors import ParentNotFoundError as ParentNotFoundError
    from vhdx.errors import ReadOnlyImageError as ReadOnlyImageError
    from vhdx.errors import RequestError as RequestError
    from vhdx.errors import UnsupportedFeatureError as UnsupportedFeatureError
    from vhdx.errors import VhdxError as VhdxError
    from vhdx.findings import Finding as Finding
    from vhdx.fuse.files import disk_files as disk_files
    from vhdx.fuse.mount import Mount as Mount
    from vhdx.guest.partition import Partition as Partition
    from vhdx.guest.partitions import PartitionTable as PartitionTable
    from vhdx.guest.partitions import read_partitions as read_partitions
    from vhdx.ops.check import CheckRun as CheckRun
    from vhdx.ops.check import CheckSummary as CheckSummary
    from vhdx.ops.check import check as check
    from vhdx.ops.compare import Difference as Difference
    from vhdx.ops.compare import compare as compare
    from vhdx.ops.convert import convert as convert
    from vhdx.ops.create import create as create
    from vhdx.ops.dump import Structure as Structure
    from vhdx.ops.dump import dump as dump
    from vhdx.ops.info import ImageInfo as ImageInfo
    from vhdx.ops.info import info as info
    from vhdx.ops.map import map as map
    from vhdx.ops.measure import Measurement as Measurement
    from vhdx.ops.measure import measure as measure
    from vhdx.ops.probe import probe as probe
    from vhdx.ops.progress import Progress as Progress
    from vhdx.ops.snapshot import open_snapshot as open_snapshot
    from vhdx.rules import RuleCode as RuleCode
    from vhdx.rules import Severity as Severity
    from vhdx.storage.base import ByteStore as ByteStore
    from vhdx.storage.base import StoreExtent as StoreExtent
    from vhdx.storage.base import StoreKind as StoreKind
    from vhdx.storage.memory import MemoryStore as MemoryStore

    open = open_disk

# Where each public name comes from. It is imported when it is first used: a command that needs one module must
# not wait for all of them. The imports for type checkers,
# which cannot read this table, say the same once more above.
_HOMES = {
    name.rpartition(" as ")[2]: (module, name.partition(" as ")[0])
    for module, names in {
        "vhdx.blockdev.device": ("ZERO", "Ability", "BlockDevice", "Limits", "Range", "WritableDevice"),
        "vhdx.blockdev.extent": ("Extent",),
        "vhdx.disks.chain": ("Disk", "open_disk as open"),
        "vhdx.disks.image": ("Image",),
        "vhdx.disks.options": ("ParentRequest", "ParentRoot"),
        "vhdx.disks.raw": ("RawDevice",),
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
            "MountError",
            "NotVhdxError",
            "ParentForbiddenError",
            "ParentMismatchError",
            "ParentNotFoundError",
            "ReadOnlyImageError",
            "RequestError",
            "UnsupportedFeatureError",
            "VhdxError",
        ),
        "vhdx.findings": ("Finding",),
        "vhdx.fuse.files": ("disk_files",),
        "vhdx.fuse.mount": ("Mount",),
        "vhdx.guest.partition": ("Partition",),
        "vhdx.guest.partitions": ("PartitionTable", "read_partitions"),
        "vhdx.ops.check": ("CheckRun", "CheckSummary", "check"),
        "vhdx.ops.compare": ("Difference", "compare"),
        "vhdx.ops.convert": ("convert",),
        "vhdx.ops.create": ("create",),
        "vhdx.ops.dump": ("Structure", "dump"),
        "vhdx.ops.info": ("ImageInfo", "info"),
        "vhdx.ops.map": ("map",),
        "vhdx.ops.measure": ("Measurement", "measure"),
        "vhdx.ops.probe": ("probe",),
        "vhdx.ops.progress": ("Progress",),
        "vhdx.ops.snapshot": ("open_snapshot",),
        "vhdx.rules": ("RuleCode", "Severity"),
        "vhdx.storage.base": ("ByteStore", "StoreExtent", "StoreKind"),
        "vhdx.storage.memory": ("MemoryStore",),
    }.items()
    for name in names
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vhdx' has no attribute {name!r}")
    from importlib import import_module

    module, name_at_home = _HOMES[name]
    value = getattr(import_module(module), name_at_home)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["__version__", *__all__]
