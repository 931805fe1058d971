"""Every rule of the format that an image can break: its name, what open does about it, how bad it is.

One table serves open, check and repair, so they cannot disagree about a name or a severity. A breach is
reported through `report.Report`, which looks the code up here. The sources are sections of [MS-VHDX] v8.0;
"hardening" marks a limit of our own that no sound image meets.
"""

from enum import Enum
from typing import NamedTuple


class Severity(Enum):
    """How bad a finding is, worst first; `vhdx check` derives its exit code from the worst one."""

    ERROR = "error"
    """Data is wrong, missing or at risk; a damaged redundant copy counts."""
    LEAK = "leak"
    """File space is marked as owned and nothing can ever use it."""
    WARNING = "warning"
    """Unusual, and some other program may refuse it; the data is right."""
    NOTICE = "notice"
    """Worth knowing."""


class OnOpen(Enum):
    """What opening (or reading) an image does when the rule is broken."""

    REFUSE = "refuse"
    """Always an error."""
    STRICT = "strict"
    """Tolerated and listed in the findings; an error with `strict=True`."""
    TOLERATE = "tolerate"
    """Tolerated and listed in the findings."""
    UNSUPPORTED = "unsupported"
    """Always an error: the image may be sound, but it needs a feature that is not known."""
    NOT_VHDX = "not-vhdx"
    """Always an error: the file is something else."""


class RuleCode(Enum):
    """Names of the rules. The value is what `--json` prints."""

    # File (FORMAT 1.1)
    FILE_SIGNATURE = "file-signature"
    FILE_TRUNCATED = "file-truncated"
    FILE_SIZE_ALIGNMENT = "file-size-alignment"
    # Headers
    HEADER_SIGNATURE = "header-signature"
    HEADER_CHECKSUM = "header-checksum"
    HEADER_NONE_VALID = "header-none-valid"
    HEADER_EQUAL_SEQUENCE = "header-equal-sequence"
    HEADER_VERSION = "header-version"
    HEADER_SEQUENCE_EXHAUSTED = "header-sequence-exhausted"
    HEADER_GUID_ZERO = "header-guid-zero"
    LOG_VERSION = "log-version"
    LOG_ALIGNMENT = "log-alignment"
    LOG_LOCATION = "log-location"
    LOG_LENGTH_ZERO = "log-length-zero"
    LOG_LENGTH_LIMIT = "log-length-limit"
    LOG_TRUNCATED = "log-truncated"
    LOG_BEYOND_END = "log-beyond-end"
    # Region tables
    REGION_TABLE_SIGNATURE = "region-table-signature"
    REGION_TABLE_CHECKSUM = "region-table-checksum"
    REGION_TABLE_NONE_VALID = "region-table-none-valid"
    REGION_TABLES_DIFFER = "region-tables-differ"
    REGION_COUNT = "region-count"
    REGION_REQUIRED_BITS = "region-required-bits"
    REGION_UNKNOWN_REQUIRED = "region-unknown-required"
    REGION_MISSING = "region-missing"
    REGION_DUPLICATE = "region-duplicate"
    REGION_ALIGNMENT = "region-alignment"
    REGION_LOCATION = "region-location"
    REGION_LENGTH_ZERO = "region-length-zero"
    REGION_OVERFLOW = "region-overflow"
    REGION_OVERLAP = "region-overlap"
    REGION_TRUNCATED = "region-truncated"
    # Log entries: a breach makes the entry invalid, which only ends a sequence
    LOG_ENTRY_SIGNATURE = "log-entry-signature"
    LOG_ENTRY_LENGTH = "log-entry-length"
    LOG_ENTRY_TAIL = "log-entry-tail"
    LOG_ENTRY_SEQUENCE = "log-entry-sequence"
    LOG_ENTRY_GUID = "log-entry-guid"
    LOG_ENTRY_DESCRIPTOR_COUNT = "log-entry-descriptor-count"
    LOG_ENTRY_CHECKSUM = "log-entry-checksum"
    LOG_DESCRIPTOR_SIGNATURE = "log-descriptor-signature"
    LOG_DESCRIPTOR_SEQUENCE = "log-descriptor-sequence"
    LOG_DESCRIPTOR_ALIGNMENT = "log-descriptor-alignment"
    LOG_DESCRIPTOR_TARGET = "log-descriptor-target"
    LOG_DATA_SECTOR = "log-data-sector"
    # Log as a whole
    LOG_DIRTY = "log-dirty"
    LOG_NO_SEQUENCE = "log-no-sequence"
    LOG_FILE_TRUNCATED = "log-file-truncated"
    LOG_OFFSET_ALIGNMENT = "log-offset-alignment"
    LOG_GROWTH_LIMIT = "log-growth-limit"
    LOG_SCAN_BUDGET = "log-scan-budget"
    # Metadata
    METADATA_SIGNATURE = "metadata-signature"
    METADATA_COUNT = "metadata-count"
    METADATA_USER_COUNT = "metadata-user-count"
    METADATA_RESERVED = "metadata-reserved"
    METADATA_ITEM_ID = "metadata-item-id"
    METADATA_ITEM_OFFSET = "metadata-item-offset"
    METADATA_ITEM_RANGE = "metadata-item-range"
    METADATA_ITEM_LENGTH = "metadata-item-length"
    METADATA_ITEM_OVERLAP = "metadata-item-overlap"
    METADATA_KNOWN_ITEM_OVERLAP = "metadata-known-item-overlap"
    METADATA_EMPTY_ITEM_OFFSET = "metadata-empty-item-offset"
    METADATA_DUPLICATE = "metadata-duplicate"
    METADATA_UNKNOWN_REQUIRED = "metadata-unknown-required"
    METADATA_INCOMPLETE = "metadata-incomplete"
    METADATA_MISSING = "metadata-missing"
    METADATA_KNOWN_ITEM_LENGTH = "metadata-known-item-length"
    METADATA_KNOWN_ITEM_FLAGS = "metadata-known-item-flags"
    FILE_PARAMETERS_RESERVED = "file-parameters-reserved"
    BLOCK_SIZE = "block-size"
    VIRTUAL_SIZE_ZERO = "virtual-size-zero"
    VIRTUAL_SIZE_ALIGNMENT = "virtual-size-alignment"
    VIRTUAL_SIZE_LIMIT = "virtual-size-limit"
    LOGICAL_SECTOR_SIZE = "logical-sector-size"
    PHYSICAL_SECTOR_SIZE = "physical-sector-size"
    # BAT and blocks
    BAT_TOO_SMALL = "bat-too-small"
    BAT_STATE_RESERVED = "bat-state-reserved"
    BAT_STATE_OLD_UNMAPPED = "bat-state-old-unmapped"
    BAT_PARTIAL_WITHOUT_PARENT = "bat-partial-without-parent"
    BAT_RESERVED_BITS = "bat-reserved-bits"
    BAT_UNUSED_OFFSET = "bat-unused-offset"
    BAT_TRAILING_ENTRIES = "bat-trailing-entries"
    BLOCK_LOCATION = "block-location"
    BLOCK_BEYOND_DISK = "block-beyond-disk"
    FIXED_NOT_ALLOCATED = "fixed-not-allocated"
    BLOCK_OFFSET_LIMIT = "block-offset-limit"
    BLOCK_OVERLAPS_STRUCTURE = "block-overlaps-structure"
    BLOCK_OVERLAP = "block-overlap"
    BLOCK_PAST_END = "block-past-end"
    BLOCK_TRUNCATED = "block-truncated"
    BITMAP_SLOT_STATE = "bitmap-slot-state"
    BITMAP_SLOT_WITHOUT_PARENT = "bitmap-slot-without-parent"
    BITMAP_MISSING = "bitmap-missing"
    BITMAP_STALE = "bitmap-stale"
    # Parent locator
    LOCATOR_MISSING = "locator-missing"
    LOCATOR_UNEXPECTED = "locator-unexpected"
    LOCATOR_TRUNCATED = "locator-truncated"
    LOCATOR_TYPE = "locator-type"
    LOCATOR_COUNT = "locator-count"
    LOCATOR_STRING_RANGE = "locator-string-range"
    LOCATOR_STRING_ENCODING = "locator-string-encoding"
    LOCATOR_UNKNOWN_STRING = "locator-unknown-string"
    LOCATOR_PATH_ENCODING = "locator-path-encoding"
    LOCATOR_DUPLICATE_KEY = "locator-duplicate-key"
    LOCATOR_LINKAGE_MISSING = "locator-linkage-missing"
    LOCATOR_LINKAGE_INVALID = "locator-linkage-invalid"
    LOCATOR_NO_PATH = "locator-no-path"
    # Beside the file
    CHANGE_TRACKING = "change-tracking"


class Rule(NamedTuple):
    """What a rule demands and what its breach means."""

    on_open: OnOpen
    severity: Severity
    sentence: str
    """The rule, as a sentence."""
    consequence: str
    """What the breach means for the data, and what to do."""


_E, _W, _N, _L = Severity.ERROR, Severity.WARNING, Severity.NOTICE, Severity.LEAK
_REFUSE, _STRICT, _TOLERATE = OnOpen.REFUSE, OnOpen.STRICT, OnOpen.TOLERATE
_UNSUPPORTED, _NOT_VHDX = OnOpen.UNSUPPORTED, OnOpen.NOT_VHDX

_COPY = "the other copy is good and is used; nothing is lost"
_DAMAGED = "the image is damaged; restore it from a backup or repair a copy"
_HOSTILE = "no sound image is like this; treat the file as damaged or hostile"
_ENTRY = "the log entry is not valid; a sequence of entries ends before it"
_HARMLESS = "the data is not affected"
_NEWER = "use a program that knows this feature"
_BLOCK = "the data of this block cannot be trusted; restore it from a backup"

RULES: dict[RuleCode, Rule] = {
    RuleCode.FILE_SIGNATURE: Rule(_NOT_VHDX, _E, "the file begins with 'vhdxfile'", "the file is not a VHDX"),
    RuleCode.FILE_TRUNCATED: Rule(
        _REFUSE, _E, "a VHDX is at least 1 MiB long", "the file was cut off; copy it again from its source"
    ),
    RuleCode.FILE_SIZE_ALIGNMENT: Rule(
        _TOLERATE,
        _N,
        "the file's size is a multiple of 1 MiB",
        "some program left bytes at the end; they are ignored",
    ),
    RuleCode.HEADER_SIGNATURE: Rule(_TOLERATE, _E, "a header begins with 'head'", _COPY),
    RuleCode.HEADER_CHECKSUM: Rule(_TOLERATE, _E, "a header's CRC-32C matches its 4096 bytes", _COPY),
    RuleCode.HEADER_NONE_VALID: Rule(_REFUSE, _E, "at least one of the two headers is valid", _DAMAGED),
    RuleCode.HEADER_EQUAL_SEQUENCE: Rule(
        _REFUSE,
        _E,
        "two different headers have different sequence numbers",
        "which header is current cannot be told",
    ),
    RuleCode.HEADER_VERSION: Rule(_UNSUPPORTED, _E, "the format version is 1", _NEWER),
    RuleCode.HEADER_SEQUENCE_EXHAUSTED: Rule(
        _TOLERATE,
        _W,
        "a header's sequence number can be raised",
        "the image can be read but not written; convert it",
    ),
    RuleCode.HEADER_GUID_ZERO: Rule(
        _TOLERATE, _W, "FileWriteGuid and DataWriteGuid are not zero", "the image cannot serve as a parent"
    ),
    RuleCode.LOG_VERSION: Rule(_UNSUPPORTED, _E, "the version of a log in use is 0", _NEWER),
    RuleCode.LOG_ALIGNMENT: Rule(_REFUSE, _E, "log offset and length are multiples of 1 MiB", _DAMAGED),
    RuleCode.LOG_LOCATION: Rule(_REFUSE, _E, "the log lies after the first 1 MiB of the file", _DAMAGED),
    RuleCode.LOG_LENGTH_ZERO: Rule(_REFUSE, _E, "a log in use has a length", _DAMAGED),
    RuleCode.LOG_LENGTH_LIMIT: Rule(_REFUSE, _E, "the log is at most 1 GiB (hardening)", _HOSTILE),
    RuleCode.LOG_TRUNCATED: Rule(
        _REFUSE,
        _E,
        "a log in use lies within the file",
        "the file was cut off; copy it again from its source",
    ),
    RuleCode.LOG_BEYOND_END: Rule(
        _STRICT,
        _W,
        "the log lies within the file",
        "the image can be read, but not written until it has a log",
    ),
    RuleCode.REGION_TABLE_SIGNATURE: Rule(_TOLERATE, _E, "a region table begins with 'regi'", _COPY),
    RuleCode.REGION_TABLE_CHECKSUM: Rule(_TOLERATE, _E, "a region table's CRC-32C matches its 64 KiB", _COPY),
    RuleCode.REGION_TABLE_NONE_VALID: Rule(
        _REFUSE, _E, "at least one of the two region tables is valid", _DAMAGED
    ),
    RuleCode.REGION_TABLES_DIFFER: Rule(
        _TOLERATE,
        _E,
        "the two region tables are identical",
        "the first one is used; a writer makes them equal",
    ),
    RuleCode.REGION_COUNT: Rule(_REFUSE, _E, "a region table has at most 2047 entries", _HOSTILE),
    RuleCode.REGION_REQUIRED_BITS: Rule(
        _STRICT, _W, "only bit 0 of a region's Required field is used", _HARMLESS
    ),
    RuleCode.REGION_UNKNOWN_REQUIRED: Rule(_UNSUPPORTED, _E, "every required region is known", _NEWER),
    RuleCode.REGION_MISSING: Rule(_REFUSE, _E, "BAT and metadata regions are listed", _DAMAGED),
    RuleCode.REGION_DUPLICATE: Rule(_REFUSE, _E, "a region is listed once", _DAMAGED),
    RuleCode.REGION_ALIGNMENT: Rule(_REFUSE, _E, "region offset and length are multiples of 1 MiB", _DAMAGED),
    RuleCode.REGION_LOCATION: Rule(_REFUSE, _E, "a region lies after the first 1 MiB of the file", _DAMAGED),
    RuleCode.REGION_LENGTH_ZERO: Rule(_REFUSE, _E, "BAT and metadata regions have a length", _DAMAGED),
    RuleCode.REGION_OVERFLOW: Rule(_REFUSE, _E, "a region ends below 2^63", _HOSTILE),
    RuleCode.REGION_OVERLAP: Rule(_REFUSE, _E, "regions overlap neither each other nor the log", _DAMAGED),
    RuleCode.REGION_TRUNCATED: Rule(
        _REFUSE,
        _E,
        "BAT and metadata regions lie within the file",
        "the file was cut off; copy it again from its source",
    ),
    RuleCode.LOG_ENTRY_SIGNATURE: Rule(_TOLERATE, _N, "a log entry begins with 'loge'", _ENTRY),
    RuleCode.LOG_ENTRY_LENGTH: Rule(
        _TOLERATE, _N, "an entry's length is a multiple of 4096, fits the log and its contents", _ENTRY
    ),
    RuleCode.LOG_ENTRY_TAIL: Rule(
        _TOLERATE, _N, "an entry's tail is a multiple of 4096 within the log", _ENTRY
    ),
    RuleCode.LOG_ENTRY_SEQUENCE: Rule(_TOLERATE, _N, "an entry's sequence number is above 0", _ENTRY),
    RuleCode.LOG_ENTRY_GUID: Rule(_TOLERATE, _N, "an entry's LogGuid is the header's", _ENTRY),
    RuleCode.LOG_ENTRY_DESCRIPTOR_COUNT: Rule(_TOLERATE, _N, "an entry's descriptors fit into it", _ENTRY),
    RuleCode.LOG_ENTRY_CHECKSUM: Rule(_TOLERATE, _N, "an entry's CRC-32C matches its bytes", _ENTRY),
    RuleCode.LOG_DESCRIPTOR_SIGNATURE: Rule(
        _TOLERATE, _N, "a descriptor begins with 'desc' or 'zero'", _ENTRY
    ),
    RuleCode.LOG_DESCRIPTOR_SEQUENCE: Rule(
        _TOLERATE, _N, "a descriptor's sequence number is its entry's", _ENTRY
    ),
    RuleCode.LOG_DESCRIPTOR_ALIGNMENT: Rule(
        _TOLERATE, _N, "a descriptor's file offset and length are multiples of 4096", _ENTRY
    ),
    RuleCode.LOG_DESCRIPTOR_TARGET: Rule(
        _TOLERATE,
        _N,
        "a descriptor aims at neither identifier, headers nor log, below 2^63 (hardening)",
        _ENTRY,
    ),
    RuleCode.LOG_DATA_SECTOR: Rule(
        _TOLERATE, _N, "a data sector has its signature and its entry's sequence number", _ENTRY
    ),
    RuleCode.LOG_DIRTY: Rule(
        _TOLERATE,
        _N,
        "the log is empty",
        "the last writer did not close the image; its log is replayed when opened",
    ),
    RuleCode.LOG_NO_SEQUENCE: Rule(
        _REFUSE,
        _E,
        "a log in use holds a complete sequence of entries",
        "changes may be lost; to read the image as if the log were empty, open it with replay='ignore'",
    ),
    RuleCode.LOG_FILE_TRUNCATED: Rule(
        _REFUSE,
        _E,
        "the file is as long as its log says it was",
        "the file was cut off; copy it again from its source",
    ),
    RuleCode.LOG_OFFSET_ALIGNMENT: Rule(
        _TOLERATE, _W, "the file sizes in a log entry are multiples of 1 MiB", _HARMLESS
    ),
    RuleCode.LOG_GROWTH_LIMIT: Rule(
        _REFUSE, _E, "replay extends the file by a credible amount (hardening)", _HOSTILE
    ),
    RuleCode.LOG_SCAN_BUDGET: Rule(
        _REFUSE, _E, "finding and replaying the log takes bounded work (hardening)", _HOSTILE
    ),
    RuleCode.METADATA_SIGNATURE: Rule(_REFUSE, _E, "the metadata region begins with 'metadata'", _DAMAGED),
    RuleCode.METADATA_COUNT: Rule(_REFUSE, _E, "the metadata table has at most 2047 entries", _HOSTILE),
    RuleCode.METADATA_USER_COUNT: Rule(_REFUSE, _E, "at most 1024 metadata items are user items", _HOSTILE),
    RuleCode.METADATA_RESERVED: Rule(_STRICT, _W, "reserved metadata fields are zero", _HARMLESS),
    RuleCode.METADATA_ITEM_ID: Rule(_STRICT, _W, "a metadata item's id is not zero", _HARMLESS),
    RuleCode.METADATA_ITEM_OFFSET: Rule(_REFUSE, _E, "a metadata item lies after the 64 KiB table", _DAMAGED),
    RuleCode.METADATA_ITEM_RANGE: Rule(_REFUSE, _E, "a metadata item lies within the region", _DAMAGED),
    RuleCode.METADATA_ITEM_LENGTH: Rule(_REFUSE, _E, "a metadata item is at most 1 MiB", _HOSTILE),
    RuleCode.METADATA_ITEM_OVERLAP: Rule(
        _STRICT,
        _W,
        "metadata items do not overlap",
        "one of the two items may be damaged; neither concerns the disk",
    ),
    RuleCode.METADATA_KNOWN_ITEM_OVERLAP: Rule(
        _REFUSE, _E, "nothing overlaps a known metadata item", _DAMAGED
    ),
    RuleCode.METADATA_EMPTY_ITEM_OFFSET: Rule(_STRICT, _W, "an empty metadata item has offset 0", _HARMLESS),
    RuleCode.METADATA_DUPLICATE: Rule(_REFUSE, _E, "a metadata item is listed once", _DAMAGED),
    RuleCode.METADATA_UNKNOWN_REQUIRED: Rule(
        _UNSUPPORTED, _E, "every required metadata item is known", _NEWER
    ),
    RuleCode.METADATA_INCOMPLETE: Rule(
        _REFUSE, _E, "the image was created to the end", "its creation was interrupted; create it again"
    ),
    RuleCode.METADATA_MISSING: Rule(_REFUSE, _E, "every needed metadata item is listed", _DAMAGED),
    RuleCode.METADATA_KNOWN_ITEM_LENGTH: Rule(
        _REFUSE, _E, "a known metadata item has its prescribed length", _DAMAGED
    ),
    RuleCode.METADATA_KNOWN_ITEM_FLAGS: Rule(
        _TOLERATE, _W, "a known metadata item has its prescribed flags", _HARMLESS
    ),
    RuleCode.FILE_PARAMETERS_RESERVED: Rule(_STRICT, _W, "reserved file parameter bits are zero", _HARMLESS),
    RuleCode.BLOCK_SIZE: Rule(_REFUSE, _E, "the block size is a power of two, 1 to 256 MiB", _DAMAGED),
    RuleCode.VIRTUAL_SIZE_ZERO: Rule(_REFUSE, _E, "the virtual disk has a size", _DAMAGED),
    RuleCode.VIRTUAL_SIZE_ALIGNMENT: Rule(
        _REFUSE, _E, "the virtual size is a multiple of the logical sector size", _DAMAGED
    ),
    RuleCode.VIRTUAL_SIZE_LIMIT: Rule(_REFUSE, _E, "the virtual size is at most 64 TiB", _DAMAGED),
    RuleCode.LOGICAL_SECTOR_SIZE: Rule(_REFUSE, _E, "the logical sector size is 512 or 4096", _DAMAGED),
    RuleCode.PHYSICAL_SECTOR_SIZE: Rule(
        _STRICT,
        _W,
        "the physical sector size is 512 or 4096",
        "it is a hint to the guest; the data is not affected",
    ),
    RuleCode.BAT_TOO_SMALL: Rule(_REFUSE, _E, "the BAT region holds an entry for every block", _DAMAGED),
    RuleCode.BAT_STATE_RESERVED: Rule(_REFUSE, _E, "a BAT entry's state is not reserved", _BLOCK),
    RuleCode.BAT_STATE_OLD_UNMAPPED: Rule(
        _STRICT,
        _W,
        "a BAT entry's state is not 5, a draft's number for UNMAPPED",
        "the block reads as zeroes",
    ),
    RuleCode.BAT_PARTIAL_WITHOUT_PARENT: Rule(
        _STRICT,
        _E,
        "only a differencing image has partially present blocks",
        "the whole block is read from this file; sectors that were never written may hold old content",
    ),
    RuleCode.BAT_RESERVED_BITS: Rule(_STRICT, _W, "reserved bits of a BAT entry are zero", _HARMLESS),
    RuleCode.BAT_UNUSED_OFFSET: Rule(
        _TOLERATE, _N, "a BAT entry of a block without file space has offset 0", _HARMLESS
    ),
    RuleCode.BAT_TRAILING_ENTRIES: Rule(
        _TOLERATE, _N, "the BAT is zero after its last needed entry", _HARMLESS
    ),
    RuleCode.BLOCK_LOCATION: Rule(_REFUSE, _E, "a block lies after the first 1 MiB of the file", _BLOCK),
    RuleCode.BLOCK_BEYOND_DISK: Rule(
        _TOLERATE,
        _L,
        "only blocks of the disk own file space",
        "the file space is wasted; convert the image to free it",
    ),
    RuleCode.FIXED_NOT_ALLOCATED: Rule(
        _TOLERATE, _N, "every block of a fixed image owns file space", "the blocks read as zeroes"
    ),
    RuleCode.BLOCK_OFFSET_LIMIT: Rule(
        _REFUSE, _E, "a block lies below 256 TiB in the file (hardening)", _BLOCK
    ),
    RuleCode.BLOCK_OVERLAPS_STRUCTURE: Rule(
        _REFUSE, _E, "a block overlaps neither the log nor a region", _BLOCK
    ),
    RuleCode.BLOCK_OVERLAP: Rule(
        _REFUSE, _E, "no two blocks share file space", "at most one of the two blocks has its own data"
    ),
    RuleCode.BLOCK_PAST_END: Rule(
        _REFUSE, _E, "a block lies within the file", "the file was cut off and the block's data is gone"
    ),
    RuleCode.BLOCK_TRUNCATED: Rule(
        _REFUSE,
        _E,
        "a block lies within the file",
        "the file was cut off and part of the block's data is gone",
    ),
    RuleCode.BITMAP_SLOT_STATE: Rule(
        _STRICT,
        _E,
        "a sector bitmap entry's state is 0 or 6",
        "no block uses the bitmap now; a writer may be misled",
    ),
    RuleCode.BITMAP_SLOT_WITHOUT_PARENT: Rule(
        _STRICT, _L, "only a differencing image has sector bitmaps", "the bitmap's file space is wasted"
    ),
    RuleCode.BITMAP_MISSING: Rule(
        _REFUSE,
        _E,
        "a partially present block has a sector bitmap",
        "which sectors are in this file cannot be told",
    ),
    RuleCode.BITMAP_STALE: Rule(
        _TOLERATE, _N, "a sector bitmap's bits belong to partially present blocks", _HARMLESS
    ),
    RuleCode.LOCATOR_MISSING: Rule(_REFUSE, _E, "a differencing image has a parent locator", _DAMAGED),
    RuleCode.LOCATOR_UNEXPECTED: Rule(
        _TOLERATE, _N, "only a differencing image has a parent locator", "the locator is ignored"
    ),
    RuleCode.LOCATOR_TRUNCATED: Rule(
        _REFUSE, _E, "the parent locator holds its header and entries", _DAMAGED
    ),
    RuleCode.LOCATOR_TYPE: Rule(_UNSUPPORTED, _E, "the parent locator is of the VHDX type", _NEWER),
    RuleCode.LOCATOR_COUNT: Rule(
        _REFUSE, _E, "the parent locator has at most 256 entries (hardening)", _HOSTILE
    ),
    RuleCode.LOCATOR_STRING_RANGE: Rule(
        _REFUSE,
        _E,
        "a locator string has an even length and lies within the item, after the entries",
        _DAMAGED,
    ),
    RuleCode.LOCATOR_STRING_ENCODING: Rule(_REFUSE, _E, "a locator string is UTF-16 without NUL", _DAMAGED),
    RuleCode.LOCATOR_UNKNOWN_STRING: Rule(
        _TOLERATE, _W, "every entry of the parent locator can be read", "the entry is ignored"
    ),
    RuleCode.LOCATOR_PATH_ENCODING: Rule(
        _TOLERATE, _W, "a path in the parent locator is UTF-16 without NUL", "the path is not used"
    ),
    RuleCode.LOCATOR_DUPLICATE_KEY: Rule(
        _REFUSE, _E, "a locator key has one value", "which parent is meant cannot be told"
    ),
    RuleCode.LOCATOR_LINKAGE_MISSING: Rule(_REFUSE, _E, "the parent locator has parent_linkage", _DAMAGED),
    RuleCode.LOCATOR_LINKAGE_INVALID: Rule(_REFUSE, _E, "parent_linkage is a GUID", _DAMAGED),
    RuleCode.LOCATOR_NO_PATH: Rule(
        _TOLERATE, _E, "the parent locator has a path", "the parent must be named by hand (--parent)"
    ),
    RuleCode.CHANGE_TRACKING: Rule(
        _TOLERATE,
        _N,
        "no change-tracking file lies beside the image",
        "writing to the image would make the next incremental backup wrong",
    ),
}
