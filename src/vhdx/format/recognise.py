"""What a file is, from its first and last bytes: for choosing a format, and for a good error message. Pure."""

from typing import Final, NamedTuple

from vhdx.format.constants import FILE_SIGNATURE

PROBE_SIZE: Final = 512
"""Bytes that are wanted of a file's beginning, and of its end."""


class FileKind(NamedTuple):
    """What a file looks like."""

    name: str | None
    """Short name of its format; None if no format shows, so that it may be a raw disk."""
    description: str
    """With its article, for a sentence: "a qcow2 image"."""
    advice: str = ""
    """What to do with a file that this library does not open."""

    def __str__(self) -> str:
        return f"{self.description}; {self.advice}" if self.advice else self.description


_BY_QEMU: Final = "convert it with qemu-img"
_UNPACK: Final = "unpack it first"
_VHD: Final = FileKind("vhd", "a VHD (version 1) image")
_VHD_COOKIE: Final = b"conectix"
_SIGNATURES: Final = (
    (0, FILE_SIGNATURE, FileKind("vhdx", "a VHDX image")),
    (0, b"QFI\xfb", FileKind("qcow2", "a qcow2 image", _BY_QEMU)),
    (0, b"KDMV", FileKind("vmdk", "a VMDK image", _BY_QEMU)),
    (0, b"COWD", FileKind("vmdk", "a VMDK image", _BY_QEMU)),
    (0, b"# Disk DescriptorFile", FileKind("vmdk", "a VMDK descriptor", _BY_QEMU)),
    (64, b"\x7f\x10\xda\xbe", FileKind("vdi", "a VDI image", _BY_QEMU)),
    (0, _VHD_COOKIE, _VHD),
    (0, b"\x1f\x8b", FileKind("gzip", "gzip-compressed", _UNPACK)),
    (0, b"BZh", FileKind("bzip2", "bzip2-compressed", _UNPACK)),
    (0, b"\xfd7zXZ\0", FileKind("xz", "xz-compressed", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("zstd", "zstd-compressed", _UNPACK)),
    (0, b"PK\x03\x04", FileKind("zip", "a ZIP archive", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("7z", "a 7z archive", _UNPACK)),
    (0, b"EVF\x09\x0d\x0a\xff\0", FileKind("ewf", "an EWF (E01) forensic image")),
)


def recognise(start: bytes, end: bytes = b"") -> FileKind:
    """Tell what a file is from its first and its last PROBE_SIZE bytes, or all that it has.

    Less of its beginning is enough for a signature that stands there; `end` matters for a fixed VHD alone.
    """
    for offset, signature, kind in _SIGNATURES:
        if start.startswith(signature, offset):
            return kind
    # The footer of a VHD has 512 bytes, in some old ones 511.
    if end.startswith(_VHD_COOKIE) or end[1:].startswith(_VHD_COOKIE):
        return _VHD
    if not start:
        return FileKind(None, "an empty file")
    if start[510:512] == b"\x55\xaa":
        return FileKind(None, "a raw disk, it seems (boot signature at byte 510)")
    if not any(start):
        return FileKind(None, "a raw disk, perhaps (it begins with zeroes)")
    return FileKind(None, "no known disk image")
