"""Show the sizes, identities and state of an image. Nothing is written, and no second file is opened.

A log that was left dirty is replayed in memory. With --chain the parents are looked for, opened and shown as
well, the image itself first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vhdx.cli.options import UsageError, add_image, add_json, add_opening, add_parents, opening
from vhdx.cli.output import (
    UNRELIABLE,
    complain,
    escape,
    finding_json,
    print_fields,
    print_findings,
    print_json,
    quote,
    size_text,
    warn_unreliable,
)
from vhdx.cli.sources import warn_unlocked
from vhdx.ops.info import info as image_info

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from vhdx.cli.options import Parser
    from vhdx.errors import ChainError
    from vhdx.ops.info import HeaderInfo, ImageInfo


def add_options(parser: Parser) -> None:
    """Take the image, and whether its parents are shown too."""
    add_image(parser)
    add_json(parser)
    parser.add_argument("--chain", action="store_true", help="show the parents too")
    add_parents(parser)
    add_opening(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is known; exit code 1 if a parent that was asked for is missing."""
    if not options.chain:
        if options.parent or options.parent_root is not None:
            raise UsageError("--parent and --parent-root need --chain: without it only IMAGE is opened")
        infos, missing = [_single(options)], None
    else:
        infos, missing = _chain(options)
    reliable = not options.force_share
    if not reliable:
        warn_unreliable(options.image)
    if options.json:
        listed = [_info_json(info, reliable=reliable) for info in infos]
        print_json(listed if options.chain else listed[0])
    else:
        for index, info in enumerate(infos):
            if index:
                print()
            _print_info(info, reliable=reliable)
    if missing is not None:
        complain(str(missing))
    return 0 if missing is None else 1


def _single(options: argparse.Namespace) -> ImageInfo:
    from vhdx.disks.image import Image

    with Image.open_with(options.image, opening(options)) as image:
        warn_unlocked(image.file_store)
        return image_info(image)


def _chain(options: argparse.Namespace) -> tuple[list[ImageInfo], ChainError | None]:
    from vhdx.disks.chain import open_chain

    missing: list[ChainError] = []
    with open_chain(options.image, replace(opening(options), on_missing_parent=missing.append)) as disk:
        for image in disk.images:
            warn_unlocked(image.file_store)
        return [image_info(image) for image in disk.images], missing[0] if missing else None


def _info_json(info: ImageInfo, *, reliable: bool) -> dict[str, Any]:
    """`qemu-img info`'s keys, and the rest under `format-specific`."""
    header = info.current_header
    return {
        "virtual-size": info.virtual_size,
        "filename": info.name,
        "cluster-size": info.block_size,
        "format": "vhdx",
        "actual-size": info.actual_size,
        "dirty-flag": info.replay is not None,
        "format-specific": {
            "type": "vhdx",
            "data": {
                "kind": info.kind,
                "file-size": info.file_size,
                "block-size": info.block_size,
                "logical-sector-size": info.logical_sector_size,
                "physical-sector-size": info.physical_sector_size,
                "disk-id": str(info.disk_id),
                "creator": info.creator,
                "file-write-guid": str(header.file_write_guid),
                "data-write-guid": str(header.data_write_guid),
                "headers": [_header_json(slot) for slot in info.headers],
                "log": _log_json(info),
                "blocks": {"total": info.block_count, **info.blocks},
                "parent-locator": _locator_json(info),
                "change-tracking": list(info.change_tracking),
                "findings": [finding_json(finding) for finding in info.findings],
                "reliable": reliable,
            },
        },
    }


def _header_json(slot: HeaderInfo) -> dict[str, Any]:
    return {
        "file-offset": slot.file_offset,
        "valid": slot.header is not None,
        "current": slot.is_current,
        "sequence-number": None if slot.header is None else slot.header.sequence_number,
    }


def _log_json(info: ImageInfo) -> dict[str, Any]:
    log: dict[str, Any] = {
        "file-offset": info.log_file_offset,
        "length": info.log_length,
        "dirty": info.replay is not None,
        "log-guid": str(info.current_header.log_guid),
    }
    if info.replay is not None:
        log["replay"] = info.replay.as_json()
    return log


def _locator_json(info: ImageInfo) -> dict[str, Any] | None:
    locator = info.locator
    if locator is None:
        return None
    return {
        "parent-linkage": str(locator.linkage),
        "parent-linkage2": None if locator.linkage2 is None else str(locator.linkage2),
        "paths": dict(locator.paths),
        "unknown": dict(locator.unknown),
    }


def _print_info(info: ImageInfo, *, reliable: bool) -> None:
    print_fields(_rows(info))
    print_findings(info.findings)
    if not reliable:
        print(f"not reliable: {UNRELIABLE}")


def _rows(info: ImageInfo) -> Iterator[tuple[str, str]]:
    header = info.current_header
    yield "image", escape(info.name)
    yield "format", f"vhdx, {info.kind}"
    yield "virtual size", size_text(info.virtual_size)
    yield "file size", size_text(info.file_size)
    if info.actual_size is not None:
        yield "space taken", size_text(info.actual_size)
    yield "block size", size_text(info.block_size)
    yield "sector sizes", f"{info.logical_sector_size} logical, {info.physical_sector_size} physical"
    yield "disk id", str(info.disk_id)
    yield "creator", quote(info.creator)
    yield "file write guid", str(header.file_write_guid)
    yield "data write guid", str(header.data_write_guid)
    for number, slot in enumerate(info.headers, 1):
        yield f"header {number}", _header_text(slot)
    yield "log", _log_text(info)
    counts = ", ".join(f"{count} {name}" for name, count in info.blocks.items())
    yield "blocks", f"{info.block_count}: {counts}"
    if info.locator is not None:
        yield "parent linkage", str(info.locator.linkage)
        if info.locator.linkage2 is not None:
            yield "parent linkage 2", str(info.locator.linkage2)
        for key, value in (*info.locator.paths.items(), *info.locator.unknown.items()):
            yield f"parent {escape(key)}", quote(value)


def _header_text(slot: HeaderInfo) -> str:
    if slot.header is None:
        return "not valid"
    return f"{'current' if slot.is_current else 'valid'}, sequence number {slot.header.sequence_number}"


def _log_text(info: ImageInfo) -> str:
    if info.replay is None:
        return "clean"
    replay = info.replay
    text = f"dirty: replay of {replay.entry_count} entries changes {replay.sector_count} sectors of 4 KiB"
    if replay.zeroed_bytes:
        text += f", zeroes {replay.zeroed_bytes} bytes"
    if replay.file_size != info.file_size:
        text += f", makes the file {replay.file_size} bytes long"
    return text
