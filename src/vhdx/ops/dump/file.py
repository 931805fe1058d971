"""A whole file, structure by structure, in the order in which a reader needs them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from vhdx.engine.header_pair import HeaderPair, read_header_pair, slot_name
from vhdx.engine.opening import read_identifier
from vhdx.format import header, region_table
from vhdx.format.checksum import stored_checksum
from vhdx.format.constants import FILE_SIGNATURE, HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.format.file_identifier import IDENTIFIER_SIZE, FileIdentifier
from vhdx.format.guids import BAT_REGION, METADATA_REGION
from vhdx.format.header import HEADER_SIZE, Header
from vhdx.format.region_table import REGION_TABLE_SIZE, Region, RegionTable, check_regions
from vhdx.ops.dump.bat import dump_bat
from vhdx.ops.dump.log import LogDump
from vhdx.ops.dump.metadata import dump_metadata
from vhdx.ops.dump.structure import Structure, collect, guard
from vhdx.report import Report
from vhdx.storage.base import ByteStore, pread, pread_zero_extended
from vhdx.storage.source import Source, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.findings import Finding

_AFTER_REPLAY: Final = " after replay"
_UNKNOWN_PLACE: Final = "no region table tells where it is"


def dump(source: Source, *, lock: bool = True) -> Iterator[Structure]:
    """Yield every structure of a file, each as it is decoded. `lock` is that of `Image.open`.

    Raises: NotVhdxError if the file has no trace of a VHDX; ImageLockedError, OSError.
    """
    with reading(source, lock=lock) as store:
        yield from _FileDump(store).structures()


class _FileDump:
    """The state of one dump: what later structures need to know of earlier ones."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._file_size = store.size()
        self._header: Header | None = None
        self._regions: tuple[Region, ...] = ()

    def structures(self) -> Iterator[Structure]:
        """Everything. Raises: NotVhdxError, OSError for the first few bytes."""
        if not self._has_any_signature():
            read_identifier(self._store, self._file_size, Report(self._store.name).breach)
        yield from guard("file identifier", 0, self._identifier)
        yield from guard("headers", HEADER_FILE_OFFSETS[0], self._headers)
        yield from self._guarded_tables(self._store)
        if self._header is None:
            yield Structure("log", 0, 0, {}, error="no header tells where it is")
            yield from self._contents(self._store, self._file_size)
            return
        log = LogDump(self._store, self._header, self._file_size, self._regions)
        yield from guard("log", self._header.log_offset, log.structures)
        yield from self._contents(self._store, self._file_size)
        if log.replay is not None:
            yield from self._guarded_tables(log.replay.store, _AFTER_REPLAY)
            yield from self._contents(log.replay.store, log.replay.file_size, _AFTER_REPLAY)

    def _has_any_signature(self) -> bool:
        places = [
            (0, FILE_SIGNATURE),
            *((offset, header.SIGNATURE) for offset in HEADER_FILE_OFFSETS),
            *((offset, region_table.SIGNATURE) for offset in REGION_TABLE_FILE_OFFSETS),
        ]
        return any(pread(self._store, len(text), offset) == text for offset, text in places)

    def _identifier(self) -> Iterator[Structure]:
        raw = pread_zero_extended(self._store, IDENTIFIER_SIZE, 0)
        _, findings = collect(lambda report: read_identifier(self._store, self._file_size, report.breach))
        fields = {
            "signature": raw[: len(FILE_SIGNATURE)].decode("latin-1"),
            "creator": FileIdentifier.decode(raw).creator,
            "file-size": self._file_size,
        }
        yield Structure("file identifier", 0, len(raw), fields, findings=findings)

    def _headers(self) -> Iterator[Structure]:
        pair, findings = collect(lambda report: read_header_pair(self._store, self._file_size, report))
        raws = [pread_zero_extended(self._store, HEADER_SIZE, offset) for offset in HEADER_FILE_OFFSETS]
        self._header = _likely_header(pair, raws)
        for index, offset in enumerate(HEADER_FILE_OFFSETS):
            found = Header.decode_unchecked(raws[index])
            fields = {
                "valid": _is_valid_header(raws[index]),
                "current": pair is not None and pair.current_index == index,
                "signature": raws[index][:4].decode("latin-1"),
                "checksum": stored_checksum(raws[index]),
                "sequence-number": found.sequence_number,
                "file-write-guid": str(found.file_write_guid),
                "data-write-guid": str(found.data_write_guid),
                "log-guid": str(found.log_guid),
                "log-version": found.log_version,
                "version": found.version,
                "log-length": found.log_length,
                "log-offset": found.log_offset,
            }
            own = tuple(finding for finding in findings if finding.file_offset == offset)
            yield Structure(slot_name(index), offset, HEADER_SIZE, fields, findings=own)

    def _guarded_tables(self, store: ByteStore, suffix: str = "") -> Iterator[Structure]:
        name, place = f"region tables{suffix}", REGION_TABLE_FILE_OFFSETS[0]
        yield from guard(name, place, partial(self._tables, store, suffix))

    def _tables(self, store: ByteStore, suffix: str) -> Iterator[Structure]:
        """Both copies; the regions of the one that counts, or might count, are noted."""
        raws = [pread_zero_extended(store, REGION_TABLE_SIZE, offset) for offset in REGION_TABLE_FILE_OFFSETS]
        listed = [_listed_regions(raw) for raw in raws]
        judged = [
            collect(partial(_decode_table, raw, index, offset))
            for index, (raw, offset) in enumerate(zip(raws, REGION_TABLE_FILE_OFFSETS, strict=True))
        ]
        candidates = [index for index in (0, 1) if judged[index][0] is not None]
        candidates += [index for index in (0, 1) if listed[index]]
        used = candidates[0] if candidates else None
        self._regions = () if used is None else listed[used]
        for index, offset in enumerate(REGION_TABLE_FILE_OFFSETS):
            table, findings = judged[index]
            if index == used:
                findings += self._region_findings(offset, store.size())
            fields: dict[str, Any] = {
                "valid": table is not None,
                "used": index == used,
                "signature": raws[index][:4].decode("latin-1"),
                "checksum": stored_checksum(raws[index]),
                "entry-count": int.from_bytes(raws[index][8:12], "little"),
            }
            entries = tuple(map(_described_region, listed[index]))
            name = f"region table {index + 1}{suffix}"
            yield Structure(name, offset, REGION_TABLE_SIZE, fields, entries, findings)

    def _region_findings(self, table_offset: int, file_size: int) -> tuple[Finding, ...]:
        log = (0, 0) if self._header is None else (self._header.log_offset, self._header.log_length)
        table = RegionTable(self._regions)
        return collect(lambda report: check_regions(table, table_offset, log, file_size, report.breach))[1]

    def _contents(self, store: ByteStore, file_size: int, suffix: str = "") -> Iterator[Structure]:
        """Metadata and BAT, as far as the region table tells where they are."""
        places = {region.guid: region for region in reversed(self._regions)}
        items: dict[UUID, bytes] = {}
        region = places.get(METADATA_REGION)
        if region is None:
            yield Structure(f"metadata table{suffix}", 0, 0, {}, error=_UNKNOWN_PLACE)
        else:
            yield from dump_metadata(store, region, suffix, items)
        region = places.get(BAT_REGION)
        if region is None:
            yield Structure(f"BAT{suffix}", 0, 0, {}, error=_UNKNOWN_PLACE)
        else:
            make = partial(dump_bat, store, region, items, file_size, suffix)
            yield from guard(f"BAT{suffix}", region.file_offset, make)


def _is_valid_header(raw: bytes) -> bool:
    return Header.decode(raw, "", 0, Report().breach) is not None


def _decode_table(raw: bytes, index: int, file_offset: int, report: Report) -> RegionTable | None:
    return RegionTable.decode(raw, f"region table {index + 1}", file_offset, report.breach)


def _likely_header(pair: HeaderPair | None, raws: list[bytes]) -> Header | None:
    """The current header; in a damaged file the one that most likely tells where the log is."""
    if pair is not None:
        return pair.current
    signed = [raw for raw in raws if raw.startswith(header.SIGNATURE)]
    signed.sort(
        key=lambda raw: (_is_valid_header(raw), Header.decode_unchecked(raw).sequence_number), reverse=True
    )
    return Header.decode_unchecked(signed[0]) if signed else None


def _listed_regions(raw: bytes) -> tuple[Region, ...]:
    """The entries of a region table whatever its checksum says; none if it does not even begin like one."""
    if not raw.startswith(region_table.SIGNATURE):
        return ()
    return RegionTable.decode_unchecked(raw).regions


def _described_region(region: Region) -> dict[str, Any]:
    return {
        "name": region.name,
        "guid": str(region.guid),
        "file-offset": region.file_offset,
        "length": region.length,
        "required": region.required,
    }
