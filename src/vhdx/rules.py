"""Every rule of the format that an image can break: its name, what open does about it, how bad it is.

One table serves open, check and dump, so that they cannot disagree about a name or a severity. Whoever finds a
rule broken reports it through `report.Report`, which asks the rule what follows. The sources are sections of
[MS-VHDX] v8.0; "hardening" marks a limit of our own that no sound image meets.
"""

from enum import Enum
from typing import Any, NamedTuple


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


class Rule(NamedTuple):
    """What a rule demands and what its breach means: one row of the table below."""

    code: str
    """The rule's name in `--json` and in messages."""
    on_open: OnOpen
    severity: Severity
    problem: str
    """What is wrong with an image that breaks the rule, in plain words."""
    sentence: str
    """What the format demands."""
    consequence: str
    """What the breach means for the data, and what to do."""


_THIS_COPY = "this copy is not used"
OTHER_COPY = "the other copy is good and is used; nothing is lost"
"""What it means that one of two copies is damaged, once it is known that the other one is not."""
_CUT_OFF = "the file was cut off; copy it again from its source"
_DAMAGED = (
    "the image cannot be opened; restore it from a backup, or look at what is left with `vhdx dump IMAGE`"
)
_HOSTILE = "no sound image is like this; treat the file as damaged or hostile"
_ENTRY_IGNORED = "the log entry is not valid; a sequence of entries ends before it"
_HARMLESS = "the data is not affected"
_NEWER = "use a program that knows this feature"
_BLOCK = "the data of this block cannot be trusted; restore it from a backup"


class RuleCode(Enum):
    """The rules. `value` is the name that `--json` prints; `RuleCode("file-truncated")` finds a rule by it."""

    _value_: str
    on_open: OnOpen
    severity: Severity
    problem: str
    sentence: str
    consequence: str

    def __new__(cls, *row: Any) -> "RuleCode":
        """Make a member of its row of the table."""
        rule = object.__new__(cls)
        rule._value_, rule.on_open, rule.severity, rule.problem, rule.sentence, rule.consequence = row
        return rule

    # A table is easier to read with two or three lines for each rule than as the formatter sets it.
    # fmt: off

    # File
    FILE_SIGNATURE = Rule("file-signature", OnOpen.NOT_VHDX, Severity.ERROR,
        "the file is not a VHDX",
        "a VHDX begins with 'vhdxfile'", "name an image, or say what it is with `-f`")
    FILE_TRUNCATED = Rule("file-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the file is too short to be a VHDX",
        "a VHDX is at least 1 MiB long", _CUT_OFF)
    FILE_SIZE_ALIGNMENT = Rule("file-size-alignment", OnOpen.TOLERATE, Severity.NOTICE,
        "the file does not end at a multiple of 1 MiB",
        "the file's size is a multiple of 1 MiB", _HARMLESS)

    # Headers
    HEADER_SIGNATURE = Rule("header-signature", OnOpen.TOLERATE, Severity.ERROR,
        "this is no header: its signature is missing",
        "a header begins with 'head'", _THIS_COPY)
    HEADER_CHECKSUM = Rule("header-checksum", OnOpen.TOLERATE, Severity.ERROR,
        "the header's checksum does not match its content",
        "a header's CRC-32C matches its 4096 bytes", _THIS_COPY)
    HEADER_NONE_VALID = Rule("header-none-valid", OnOpen.REFUSE, Severity.ERROR,
        "both headers are damaged",
        "at least one of the two headers is valid", _DAMAGED)
    HEADER_EQUAL_SEQUENCE = Rule("header-equal-sequence", OnOpen.REFUSE, Severity.ERROR,
        "the two headers differ but carry the same sequence number",
        "two different headers have different sequence numbers", "which header is current cannot be told")
    HEADER_VERSION = Rule("header-version", OnOpen.UNSUPPORTED, Severity.ERROR,
        "the header has a format version that is not known",
        "the format version is 1", _NEWER)
    HEADER_SEQUENCE_EXHAUSTED = Rule("header-sequence-exhausted", OnOpen.TOLERATE, Severity.WARNING,
        "the header's sequence number cannot be raised any more",
        "a header's sequence number can be raised",
        "the image can be read but not written to; `vhdx convert IMAGE NEW.vhdx` makes one that can")
    HEADER_GUID_ZERO = Rule("header-guid-zero", OnOpen.TOLERATE, Severity.WARNING,
        "a GUID that identifies the content is zero",
        "FileWriteGuid and DataWriteGuid are not zero", "the image cannot serve as a parent")
    LOG_VERSION = Rule("log-version", OnOpen.UNSUPPORTED, Severity.ERROR,
        "the log has a version that is not known",
        "the version of a log in use is 0", _NEWER)
    LOG_ALIGNMENT = Rule("log-alignment", OnOpen.REFUSE, Severity.ERROR,
        "the log does not lie at a multiple of 1 MiB",
        "log offset and length are multiples of 1 MiB", _DAMAGED)
    LOG_LOCATION = Rule("log-location", OnOpen.REFUSE, Severity.ERROR,
        "the log would lie inside the file's headers",
        "the log lies after the first 1 MiB of the file", _DAMAGED)
    LOG_LENGTH_ZERO = Rule("log-length-zero", OnOpen.REFUSE, Severity.ERROR,
        "the log is in use but has no length",
        "a log in use has a length", _DAMAGED)
    LOG_LENGTH_LIMIT = Rule("log-length-limit", OnOpen.REFUSE, Severity.ERROR,
        "the log is larger than any program makes it",
        "the log is at most 1 GiB (hardening)", _HOSTILE)
    LOG_TRUNCATED = Rule("log-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the log is in use but reaches past the end of the file",
        "a log in use lies within the file", _CUT_OFF)
    LOG_BEYOND_END = Rule("log-beyond-end", OnOpen.STRICT, Severity.WARNING,
        "the log reaches past the end of the file",
        "the log lies within the file", "the image can be read, but not written until it has a log")

    # Region tables
    REGION_TABLE_SIGNATURE = Rule("region-table-signature", OnOpen.TOLERATE, Severity.ERROR,
        "this is no region table: its signature is missing",
        "a region table begins with 'regi'", _THIS_COPY)
    REGION_TABLE_CHECKSUM = Rule("region-table-checksum", OnOpen.TOLERATE, Severity.ERROR,
        "the region table's checksum does not match its content",
        "a region table's CRC-32C matches its 64 KiB", _THIS_COPY)
    REGION_TABLE_NONE_VALID = Rule("region-table-none-valid", OnOpen.REFUSE, Severity.ERROR,
        "both region tables are damaged",
        "at least one of the two region tables is valid", _DAMAGED)
    REGION_TABLES_DIFFER = Rule("region-tables-differ", OnOpen.TOLERATE, Severity.ERROR,
        "the two region tables differ",
        "the two region tables are identical", "the first one is used; a writer makes them equal")
    REGION_COUNT = Rule("region-count", OnOpen.REFUSE, Severity.ERROR,
        "the region table claims more entries than it can hold",
        "a region table has at most 2047 entries", _HOSTILE)
    REGION_REQUIRED_BITS = Rule("region-required-bits", OnOpen.STRICT, Severity.WARNING,
        "reserved bits of a region's Required field are set",
        "only bit 0 of a region's Required field is used", _HARMLESS)
    REGION_UNKNOWN_REQUIRED = Rule("region-unknown-required", OnOpen.UNSUPPORTED, Severity.ERROR,
        "a region is needed that is not known",
        "every required region is known", _NEWER)
    REGION_MISSING = Rule("region-missing", OnOpen.REFUSE, Severity.ERROR,
        "the region is not listed",
        "BAT and metadata regions are listed", _DAMAGED)
    REGION_DUPLICATE = Rule("region-duplicate", OnOpen.REFUSE, Severity.ERROR,
        "the region is listed twice",
        "a region is listed once", _DAMAGED)
    REGION_ALIGNMENT = Rule("region-alignment", OnOpen.REFUSE, Severity.ERROR,
        "the region does not lie at a multiple of 1 MiB",
        "region offset and length are multiples of 1 MiB", _DAMAGED)
    REGION_LOCATION = Rule("region-location", OnOpen.REFUSE, Severity.ERROR,
        "the region would lie inside the file's headers",
        "a region lies after the first 1 MiB of the file", _DAMAGED)
    REGION_LENGTH_ZERO = Rule("region-length-zero", OnOpen.REFUSE, Severity.ERROR,
        "the region has no length",
        "BAT and metadata regions have a length", _DAMAGED)
    REGION_OVERFLOW = Rule("region-overflow", OnOpen.REFUSE, Severity.ERROR,
        "the region ends beyond every possible file",
        "a region ends below 2^63", _HOSTILE)
    REGION_OVERLAP = Rule("region-overlap", OnOpen.REFUSE, Severity.ERROR,
        "two structures of the file overlap",
        "regions overlap neither each other nor the log", _DAMAGED)
    REGION_TRUNCATED = Rule("region-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the region reaches past the end of the file",
        "BAT and metadata regions lie within the file", _CUT_OFF)

    # Log entries: a breach makes the entry invalid, which only ends a sequence
    LOG_ENTRY_SIGNATURE = Rule("log-entry-signature", OnOpen.TOLERATE, Severity.NOTICE,
        "this is no log entry: its signature is missing",
        "a log entry begins with 'loge'", _ENTRY_IGNORED)
    LOG_ENTRY_LENGTH = Rule("log-entry-length", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry has a length that cannot be",
        "an entry's length is a multiple of 4096, fits the log and its contents", _ENTRY_IGNORED)
    LOG_ENTRY_TAIL = Rule("log-entry-tail", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry's tail lies outside the log",
        "an entry's tail is a multiple of 4096 within the log", _ENTRY_IGNORED)
    LOG_ENTRY_SEQUENCE = Rule("log-entry-sequence", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry's sequence number is 0",
        "an entry's sequence number is above 0", _ENTRY_IGNORED)
    LOG_ENTRY_GUID = Rule("log-entry-guid", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry was written under another LogGuid",
        "an entry's LogGuid is the header's", _ENTRY_IGNORED)
    LOG_ENTRY_DESCRIPTOR_COUNT = Rule("log-entry-descriptor-count", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry claims more descriptors than it can hold",
        "an entry's descriptors fit into it", _ENTRY_IGNORED)
    LOG_ENTRY_CHECKSUM = Rule("log-entry-checksum", OnOpen.TOLERATE, Severity.NOTICE,
        "the log entry's checksum does not match its content",
        "an entry's CRC-32C matches its bytes", _ENTRY_IGNORED)
    LOG_DESCRIPTOR_SIGNATURE = Rule("log-descriptor-signature", OnOpen.TOLERATE, Severity.NOTICE,
        "this is no log descriptor: its signature is missing",
        "a descriptor begins with 'desc' or 'zero'", _ENTRY_IGNORED)
    LOG_DESCRIPTOR_SEQUENCE = Rule("log-descriptor-sequence", OnOpen.TOLERATE, Severity.NOTICE,
        "the descriptor carries another entry's sequence number",
        "a descriptor's sequence number is its entry's", _ENTRY_IGNORED)
    LOG_DESCRIPTOR_ALIGNMENT = Rule("log-descriptor-alignment", OnOpen.TOLERATE, Severity.NOTICE,
        "the descriptor's file offset or length is not a multiple of 4096",
        "a descriptor's file offset and length are multiples of 4096", _ENTRY_IGNORED)
    LOG_DESCRIPTOR_TARGET = Rule("log-descriptor-target", OnOpen.TOLERATE, Severity.NOTICE,
        "the descriptor aims where no log may write",
        "a descriptor aims at neither identifier, headers nor log, below 2^63 (hardening)", _ENTRY_IGNORED)
    LOG_DATA_SECTOR = Rule("log-data-sector", OnOpen.TOLERATE, Severity.NOTICE,
        "the data sector is not the log entry's",
        "a data sector has its signature and its entry's sequence number", _ENTRY_IGNORED)

    # Log as a whole
    LOG_DIRTY = Rule("log-dirty", OnOpen.TOLERATE, Severity.NOTICE,
        "the log holds changes that have not been put in place",
        "the log of a closed image is empty",
        "the last program did not close the image; the changes are replayed in memory, and reads see them")
    LOG_NO_SEQUENCE = Rule("log-no-sequence", OnOpen.REFUSE, Severity.ERROR,
        "the log is in use, but what it holds cannot be replayed",
        "a log in use holds a complete sequence of entries",
        "changes may be lost; in Python, vhdx.open(..., replay='ignore') reads the image as if the log were empty")
    LOG_FILE_TRUNCATED = Rule("log-file-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the file is shorter than it was when the log was written",
        "the file is as long as its log says it was", _CUT_OFF)
    LOG_OFFSET_ALIGNMENT = Rule("log-offset-alignment", OnOpen.TOLERATE, Severity.WARNING,
        "the log entry has file sizes that are not multiples of 1 MiB",
        "the file sizes in a log entry are multiples of 1 MiB", _HARMLESS)
    LOG_GROWTH_LIMIT = Rule("log-growth-limit", OnOpen.REFUSE, Severity.ERROR,
        "the log would make the file far longer than its content needs",
        "replay extends the file by a credible amount (hardening)", _HOSTILE)
    LOG_SCAN_BUDGET = Rule("log-scan-budget", OnOpen.REFUSE, Severity.ERROR,
        "the log needs more work than any program's log does",
        "finding and replaying the log takes bounded work (hardening)", _HOSTILE)

    # Metadata
    METADATA_SIGNATURE = Rule("metadata-signature", OnOpen.REFUSE, Severity.ERROR,
        "this is no metadata table: its signature is missing",
        "the metadata region begins with 'metadata'", _DAMAGED)
    METADATA_COUNT = Rule("metadata-count", OnOpen.REFUSE, Severity.ERROR,
        "the metadata table claims more entries than it can hold",
        "the metadata table has at most 2047 entries", _HOSTILE)
    METADATA_USER_COUNT = Rule("metadata-user-count", OnOpen.REFUSE, Severity.ERROR,
        "the metadata table has too many user items",
        "at most 1024 metadata items are user items", _HOSTILE)
    METADATA_RESERVED = Rule("metadata-reserved", OnOpen.STRICT, Severity.WARNING,
        "reserved fields are not zero",
        "reserved metadata fields are zero", _HARMLESS)
    METADATA_ITEM_ID = Rule("metadata-item-id", OnOpen.STRICT, Severity.WARNING,
        "the metadata item's id is zero",
        "a metadata item's id is not zero", _HARMLESS)
    METADATA_ITEM_OFFSET = Rule("metadata-item-offset", OnOpen.REFUSE, Severity.ERROR,
        "the metadata item would lie inside the metadata table",
        "a metadata item lies after the 64 KiB table", _DAMAGED)
    METADATA_ITEM_RANGE = Rule("metadata-item-range", OnOpen.REFUSE, Severity.ERROR,
        "the metadata item reaches past the end of the metadata region",
        "a metadata item lies within the region", _DAMAGED)
    METADATA_ITEM_LENGTH = Rule("metadata-item-length", OnOpen.REFUSE, Severity.ERROR,
        "the metadata item is larger than 1 MiB",
        "a metadata item is at most 1 MiB", _HOSTILE)
    METADATA_ITEM_OVERLAP = Rule("metadata-item-overlap", OnOpen.STRICT, Severity.WARNING,
        "two metadata items overlap",
        "metadata items do not overlap", "one of the two items may be damaged; neither concerns the disk")
    METADATA_KNOWN_ITEM_OVERLAP = Rule("metadata-known-item-overlap", OnOpen.REFUSE, Severity.ERROR,
        "another item overlaps one that describes the disk",
        "nothing overlaps a known metadata item", _DAMAGED)
    METADATA_EMPTY_ITEM_OFFSET = Rule("metadata-empty-item-offset", OnOpen.STRICT, Severity.WARNING,
        "the empty metadata item has an offset",
        "an empty metadata item has offset 0", _HARMLESS)
    METADATA_DUPLICATE = Rule("metadata-duplicate", OnOpen.REFUSE, Severity.ERROR,
        "the metadata item is listed twice",
        "a metadata item is listed once", _DAMAGED)
    METADATA_UNKNOWN_REQUIRED = Rule("metadata-unknown-required", OnOpen.UNSUPPORTED, Severity.ERROR,
        "a metadata item is needed that is not known",
        "every required metadata item is known", _NEWER)
    METADATA_INCOMPLETE = Rule("metadata-incomplete", OnOpen.REFUSE, Severity.ERROR,
        "the image was never finished: its creation was interrupted",
        "the image was created to the end", "it never held data; create it again")
    METADATA_MISSING = Rule("metadata-missing", OnOpen.REFUSE, Severity.ERROR,
        "a metadata item that describes the disk is missing",
        "every needed metadata item is listed", _DAMAGED)
    METADATA_KNOWN_ITEM_LENGTH = Rule("metadata-known-item-length", OnOpen.REFUSE, Severity.ERROR,
        "the metadata item does not have its prescribed length",
        "a known metadata item has its prescribed length", _DAMAGED)
    METADATA_KNOWN_ITEM_FLAGS = Rule("metadata-known-item-flags", OnOpen.TOLERATE, Severity.WARNING,
        "the metadata item does not have its prescribed flags",
        "a known metadata item has its prescribed flags", _HARMLESS)
    FILE_PARAMETERS_RESERVED = Rule("file-parameters-reserved", OnOpen.STRICT, Severity.WARNING,
        "reserved bits of the file parameters are set",
        "reserved file parameter bits are zero", _HARMLESS)
    BLOCK_SIZE = Rule("block-size", OnOpen.REFUSE, Severity.ERROR,
        "the block size cannot be",
        "the block size is a power of two, 1 to 256 MiB", _DAMAGED)
    VIRTUAL_SIZE_ZERO = Rule("virtual-size-zero", OnOpen.REFUSE, Severity.ERROR,
        "the virtual disk has no size",
        "the virtual disk has a size", _DAMAGED)
    VIRTUAL_SIZE_ALIGNMENT = Rule("virtual-size-alignment", OnOpen.REFUSE, Severity.ERROR,
        "the virtual size is not a whole number of sectors",
        "the virtual size is a multiple of the logical sector size", _DAMAGED)
    VIRTUAL_SIZE_LIMIT = Rule("virtual-size-limit", OnOpen.REFUSE, Severity.ERROR,
        "the virtual size is above 64 TiB",
        "the virtual size is at most 64 TiB", _DAMAGED)
    LOGICAL_SECTOR_SIZE = Rule("logical-sector-size", OnOpen.REFUSE, Severity.ERROR,
        "the logical sector size is neither 512 nor 4096",
        "the logical sector size is 512 or 4096", _DAMAGED)
    PHYSICAL_SECTOR_SIZE = Rule("physical-sector-size", OnOpen.STRICT, Severity.WARNING,
        "the physical sector size is neither 512 nor 4096",
        "the physical sector size is 512 or 4096", "it is a hint to the guest; the data is not affected")

    # BAT and blocks
    BAT_TOO_SMALL = Rule("bat-too-small", OnOpen.REFUSE, Severity.ERROR,
        "the block table (BAT) is too short for the disk",
        "the BAT region holds an entry for every block", _DAMAGED)
    BAT_STATE_RESERVED = Rule("bat-state-reserved", OnOpen.REFUSE, Severity.ERROR,
        "the block has a state that does not exist",
        "a BAT entry's state is not reserved", _BLOCK)
    BAT_STATE_OLD_UNMAPPED = Rule("bat-state-old-unmapped", OnOpen.STRICT, Severity.WARNING,
        "the block has state 5, which only drafts of the format had",
        "a BAT entry's state is not 5, a draft's number for UNMAPPED", "the block reads as zeroes")
    BAT_PARTIAL_WITHOUT_PARENT = Rule("bat-partial-without-parent", OnOpen.STRICT, Severity.ERROR,
        "the block is marked as partly in a parent, but the image has no parent",
        "only a differencing image has partially present blocks",
        "the whole block is read from this file; sectors that were never written may hold old content")
    BAT_RESERVED_BITS = Rule("bat-reserved-bits", OnOpen.STRICT, Severity.WARNING,
        "reserved bits of the BAT entry are set",
        "reserved bits of a BAT entry are zero", _HARMLESS)
    BAT_UNUSED_OFFSET = Rule("bat-unused-offset", OnOpen.TOLERATE, Severity.NOTICE,
        "the BAT entry names file space for a block that has none",
        "a BAT entry of a block without file space has offset 0", _HARMLESS)
    BAT_TRAILING_ENTRIES = Rule("bat-trailing-entries", OnOpen.TOLERATE, Severity.NOTICE,
        "the BAT holds something after its last needed entry",
        "the BAT is zero after its last needed entry", _HARMLESS)
    BLOCK_LOCATION = Rule("block-location", OnOpen.REFUSE, Severity.ERROR,
        "the block would lie inside the file's headers",
        "a block lies after the first 1 MiB of the file", _BLOCK)
    BLOCK_BEYOND_DISK = Rule("block-beyond-disk", OnOpen.TOLERATE, Severity.LEAK,
        "file space belongs to a block past the end of the disk",
        "only blocks of the disk own file space",
        "the file space is wasted; `vhdx convert IMAGE NEW.vhdx` leaves it out")
    FIXED_NOT_ALLOCATED = Rule("fixed-not-allocated", OnOpen.TOLERATE, Severity.NOTICE,
        "blocks of a fixed image have no file space",
        "every block of a fixed image owns file space", "the blocks read as zeroes")
    BLOCK_OFFSET_LIMIT = Rule("block-offset-limit", OnOpen.REFUSE, Severity.ERROR,
        "the block would lie beyond 256 TiB in the file",
        "a block lies below 256 TiB in the file (hardening)", _BLOCK)
    BLOCK_OVERLAPS_STRUCTURE = Rule("block-overlaps-structure", OnOpen.REFUSE, Severity.ERROR,
        "the block overlaps the file's own structures",
        "a block overlaps neither the log nor a region", _BLOCK)
    BLOCK_OVERLAP = Rule("block-overlap", OnOpen.REFUSE, Severity.ERROR,
        "two blocks share the same file space",
        "no two blocks share file space", "at most one of the two blocks has its own data")
    BLOCK_PAST_END = Rule("block-past-end", OnOpen.REFUSE, Severity.ERROR,
        "the block lies past the end of the file",
        "a block lies within the file", "the file was cut off and the block's data is gone")
    BLOCK_TRUNCATED = Rule("block-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the block reaches past the end of the file",
        "a block lies within the file", "the file was cut off and part of the block's data is gone")
    BITMAP_SLOT_STATE = Rule("bitmap-slot-state", OnOpen.STRICT, Severity.ERROR,
        "the sector bitmap entry has a state that does not exist",
        "a sector bitmap entry's state is 0 or 6", "no block uses the bitmap now; a writer may be misled")
    BITMAP_SLOT_WITHOUT_PARENT = Rule("bitmap-slot-without-parent", OnOpen.STRICT, Severity.LEAK,
        "a sector bitmap has file space, but the image has no parent",
        "only a differencing image has sector bitmaps", "the bitmap's file space is wasted")
    BITMAP_MISSING = Rule("bitmap-missing", OnOpen.REFUSE, Severity.ERROR,
        "the block is partly in a parent, but the bitmap that says which sectors is missing",
        "a partially present block has a sector bitmap", "which sectors are in this file cannot be told")
    BITMAP_STALE = Rule("bitmap-stale", OnOpen.TOLERATE, Severity.NOTICE,
        "the sector bitmap has bits set for blocks that do not use it",
        "a sector bitmap's bits belong to partially present blocks", _HARMLESS)

    # Parent locator
    LOCATOR_MISSING = Rule("locator-missing", OnOpen.REFUSE, Severity.ERROR,
        "the image needs a parent, but nothing in it says which",
        "a differencing image has a parent locator", _DAMAGED)
    LOCATOR_UNEXPECTED = Rule("locator-unexpected", OnOpen.TOLERATE, Severity.NOTICE,
        "the image names a parent but does not need one",
        "only a differencing image has a parent locator", "the locator is ignored")
    LOCATOR_TRUNCATED = Rule("locator-truncated", OnOpen.REFUSE, Severity.ERROR,
        "the parent locator is cut off",
        "the parent locator holds its header and entries", _DAMAGED)
    LOCATOR_TYPE = Rule("locator-type", OnOpen.UNSUPPORTED, Severity.ERROR,
        "the parent locator is of a type that is not known",
        "the parent locator is of the VHDX type", _NEWER)
    LOCATOR_COUNT = Rule("locator-count", OnOpen.REFUSE, Severity.ERROR,
        "the parent locator has more entries than any program writes",
        "the parent locator has at most 256 entries (hardening)", _HOSTILE)
    LOCATOR_STRING_RANGE = Rule("locator-string-range", OnOpen.REFUSE, Severity.ERROR,
        "a string of the parent locator lies outside it",
        "a locator string has an even length and lies within the item, after the entries", _DAMAGED)
    LOCATOR_STRING_ENCODING = Rule("locator-string-encoding", OnOpen.REFUSE, Severity.ERROR,
        "a string of the parent locator cannot be read",
        "a locator string is UTF-16 without NUL", _DAMAGED)
    LOCATOR_UNKNOWN_STRING = Rule("locator-unknown-string", OnOpen.TOLERATE, Severity.WARNING,
        "an entry of the parent locator cannot be read",
        "every entry of the parent locator can be read", "the entry is ignored")
    LOCATOR_PATH_ENCODING = Rule("locator-path-encoding", OnOpen.TOLERATE, Severity.WARNING,
        "a path in the parent locator cannot be read",
        "a path in the parent locator is UTF-16 without NUL", "the path is not used")
    LOCATOR_DUPLICATE_KEY = Rule("locator-duplicate-key", OnOpen.REFUSE, Severity.ERROR,
        "a key of the parent locator appears twice",
        "a locator key has one value", "which parent is meant cannot be told")
    LOCATOR_LINKAGE_MISSING = Rule("locator-linkage-missing", OnOpen.REFUSE, Severity.ERROR,
        "the parent locator does not say which content the parent must have",
        "the parent locator has parent_linkage", _DAMAGED)
    LOCATOR_LINKAGE_INVALID = Rule("locator-linkage-invalid", OnOpen.REFUSE, Severity.ERROR,
        "parent_linkage is not a GUID",
        "parent_linkage is a GUID", _DAMAGED)
    LOCATOR_NO_PATH = Rule("locator-no-path", OnOpen.TOLERATE, Severity.ERROR,
        "the parent locator names no path",
        "the parent locator has a path", "name the parent: `--parent PATH`")

    # Beside the file
    CHANGE_TRACKING = Rule("change-tracking", OnOpen.TOLERATE, Severity.NOTICE,
        "Hyper-V tracks the changes of this image",
        "no change-tracking file lies beside the image",
        "writing to the image would make the next incremental backup wrong")
