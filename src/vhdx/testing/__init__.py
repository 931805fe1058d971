"""A kit for tests of programs that handle VHDX images: build any image, sound or not, and a plain reader.

`ImageBuilder` describes an image that can be wounded in one line before it becomes bytes; `ReferenceDisk`
reads sound chains slowly and independently of the library. `Mutant` makes sound images wrong,
reproducibly. `vhdx.testing.image.strategies` (which
needs hypothesis) makes random images, chains and requests.
"""

from vhdx.testing.hostile.mutation_bases import BaseImage, base_image
from vhdx.testing.hostile.mutator import Mutant
from vhdx.testing.image.builder import ImageBuilder
from vhdx.testing.image.log_entries import (
    LOG_GUID,
    STALE_LOG_GUID,
    LogEntry,
    data_change,
    log_run,
    zero_change,
)
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
from vhdx.testing.stores import CountingStore

__all__ = [
    "LOG_GUID",
    "STALE_LOG_GUID",
    "BaseImage",
    "CountingStore",
    "HeaderFields",
    "ImageBuilder",
    "LocatorFields",
    "LocatorPair",
    "LogEntry",
    "MetadataFields",
    "MetadataItem",
    "Mutant",
    "ReferenceDisk",
    "ReferenceImage",
    "RegionFields",
    "RegionTableFields",
    "base_image",
    "data_change",
    "log_run",
    "zero_change",
]
