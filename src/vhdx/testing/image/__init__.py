"""Images for tests: build any, sound or wounded, and read sound ones without the library.

`ImageBuilder` describes an image whose every field can be given another value before it becomes bytes.
`ReferenceDisk` and `QuickDisk` read chains; they were written from the format's description and share no code with
the library. `vhdx.testing.image.strategies`, which needs hypothesis, makes random sound images.
"""

from vhdx.testing.image.builder import ImageBuilder
from vhdx.testing.image.description import sound_locator
from vhdx.testing.image.log_entries import (
    LOG_GUID,
    STALE_LOG_GUID,
    LogEntryFields,
    data_change,
    log_run,
    zero_change,
)
from vhdx.testing.image.quick_reference import QuickDisk, QuickImage
from vhdx.testing.image.reference import ReferenceDisk, ReferenceImage
from vhdx.testing.image.structures import (
    HeaderFields,
    LocatorFields,
    LocatorPair,
    MetadataFields,
    MetadataItem,
    RegionFields,
    RegionTableFields,
)

__all__ = [
    "LOG_GUID",
    "STALE_LOG_GUID",
    "HeaderFields",
    "ImageBuilder",
    "LocatorFields",
    "LocatorPair",
    "LogEntryFields",
    "MetadataFields",
    "MetadataItem",
    "QuickDisk",
    "QuickImage",
    "ReferenceDisk",
    "ReferenceImage",
    "RegionFields",
    "RegionTableFields",
    "data_change",
    "log_run",
    "sound_locator",
    "zero_change",
]
