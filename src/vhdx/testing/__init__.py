"""A kit for tests of programs that handle disk images. docs/testing.md shows each part at work.

* `vhdx.testing.image`: build any VHDX image, sound or wounded; read it without the library.
* `vhdx.testing.hostile`: thousands of images made wrong, each again by its seed.
* `vhdx.testing.device_suite`: what every block device promises, as tests to inherit (they need pytest).
* `vhdx.testing.crash`: what a power cut may leave of a file, for any program that writes to one.
* `vhdx.testing.stores`: stores that count, watch, or fail when they are told to.

The crash kit and the device suite know nothing of VHDX. What tests of images need most can be had from here.
"""

from vhdx.testing.hostile import BaseImage, Mutant, base_image
from vhdx.testing.image import (
    LOG_GUID,
    STALE_LOG_GUID,
    HeaderFields,
    ImageBuilder,
    LocatorFields,
    LocatorPair,
    LogEntryFields,
    MetadataFields,
    MetadataItem,
    ReferenceDisk,
    ReferenceImage,
    RegionFields,
    RegionTableFields,
    data_change,
    log_run,
    zero_change,
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
    "LogEntryFields",
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
