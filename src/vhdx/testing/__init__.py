"""A kit for tests of programs that handle VHDX images: build any image, sound or not, and a plain reader.

`ImageBuilder` describes an image that can be wounded in one line before it becomes bytes; `ReferenceDisk`
reads sound chains slowly and independently of the library. `Mutant` makes sound images wrong, reproducibly,
and `examine` tells whether the library keeps what it promises for any file. `vhdx.testing.strategies` (which
needs hypothesis) makes random images, chains and requests.
"""

from vhdx.testing.builder import ImageBuilder
from vhdx.testing.counting_store import CountingStore
from vhdx.testing.invariants import InvariantError, Outcome, examine
from vhdx.testing.log_entries import (
    LOG_GUID,
    STALE_LOG_GUID,
    LogEntry,
    data_change,
    log_run,
    zero_change,
)
from vhdx.testing.mutation_bases import BaseImage, base_image
from vhdx.testing.mutator import Mutant
from vhdx.testing.reference import ReferenceDisk, ReferenceImage
from vhdx.testing.structures import (
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
    "BaseImage",
    "CountingStore",
    "HeaderFields",
    "ImageBuilder",
    "InvariantError",
    "LocatorFields",
    "LocatorPair",
    "LogEntry",
    "MetadataFields",
    "MetadataItem",
    "Mutant",
    "Outcome",
    "ReferenceDisk",
    "ReferenceImage",
    "RegionFields",
    "RegionTableFields",
    "base_image",
    "data_change",
    "examine",
    "log_run",
    "zero_change",
]
