"""What a file that is not a VHDX is instead, told well enough for an error message and for `-f`."""

from typing import Final, NamedTuple

from vhdx.storage.base import ByteStore, pread

VHDX_SIGNATURE: Final = b"vhdxfile"
PROBE_SIZE: Final = 512


class OtherFormat(NamedTuple):
    """What a file is that is no VHDX."""

    description: str
    advice: str = ""
    is_known: bool = True
    """Whether it is certainly of some format; what is not may be a raw disk."""

    def __str__(self) -> str:
        return f"{self.description}; {self.advice}" if self.advice else self.description


_VHD_COOKIE: Final = b"conectix"
_SIGNATURES: Final = (
    (0, b"QFI\xfb", "a qcow2 image; convert it with qemu-img"),
    (0, b"KDMV", "a VMDK image; convert it with qemu-img"),
    (0, b"COWD", "a VMDK image; convert it with qemu-img"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor; convert it with qemu-img"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image; convert it with qemu-img"),
    (0, _VHD_COOKIE, "a VHD (version 1) image"),
    (0, b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (0, b"BZh", "bzip2-compressed; unpack it first"),
    (0, b"\xfd7zXZ\0", "xz-compressed; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (0, b"EVF\x09\x0d\x0a\xff\0", "an EWF (E01) forensic image"),
)


def probe_bytes(content: bytes) -> int:
    """Score the first bytes of a file as a block driver's probe does: 100 for a VHDX, else 0."""
    return 100 if content[: len(VHDX_SIGNATURE)] == VHDX_SIGNATURE else 0


def describe(store: ByteStore) -> OtherFormat:
    """Say what a file that is not a VHDX looks like.

    Raises: OSError.
    """
    size = store.size()
    if size == 0:
        return OtherFormat("an empty file", is_known=False)
    start = pread(store, PROBE_SIZE, 0)
    for offset, signature, description in _SIGNATURES:
        if start.startswith(signature, offset):
            text, _, advice = description.partition("; ")
            return OtherFormat(text, advice)
    if _is_vhd(store, size):
        return OtherFormat("a VHD (version 1) image")
    if start[510:512] == b"\x55\xaa":
        return OtherFormat("a raw disk, it seems (boot signature at byte 510)", is_known=False)
    if not any(start):
        return OtherFormat("a raw disk, perhaps (it begins with zeroes)", is_known=False)
    return OtherFormat("no known disk image", is_known=False)


def _is_vhd(store: ByteStore, size: int) -> bool:
    """Whether the footer of a VHD ends the file: 512 bytes, 511 in some old ones."""
    end = pread(store, 512, max(size - 512, 0))
    return end.startswith(_VHD_COOKIE) or end[1:].startswith(_VHD_COOKIE)
