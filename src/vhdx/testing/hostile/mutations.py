"""The mutations: each makes one thing wrong in a canvas, and says what."""

from collections.abc import Callable
from typing import Final

from vhdx._units import GIB, KIB, MIB, TIB
from vhdx.testing.hostile.anatomy import Field
from vhdx.testing.hostile.canvas import Canvas
from vhdx.testing.hostile.floods import (
    crowd_metadata,
    enlarge_disk,
    fill_bat,
    flood_log,
    lengthen_log,
    move_region,
    rewrite_locator,
)
from vhdx.testing.hostile.values import some_offset, wrong_value


def _some_field(canvas: Canvas) -> Field:
    kinds = sorted(canvas.anatomy.fields)
    kind = canvas.chance.choice(kinds)
    if kind == "file identifier":  # Hardly anything depends on it: half a chance is enough.
        kind = canvas.chance.choice(kinds)
    return canvas.chance.choice(canvas.anatomy.fields[kind])


def set_field(canvas: Canvas) -> None:
    """Give one field another value; where the structure has two copies, often in both."""
    field = _some_field(canvas)
    value = wrong_value(canvas, field)
    canvas.write(field.file_offset, value)
    both = field.structure.startswith(("header", "region table")) and canvas.chance.random() < 0.6
    if both:
        canvas.write(field.file_offset ^ _twin_bits(field), value)
    copies = " in both copies" if both else ""
    canvas.note(f"{field.structure}: {field.name} = {value.hex()}{copies}")


def _twin_bits(field: Field) -> int:
    """What tells a field's file offset from that of its twin: 64 KiB apart, at 1 and 2, or at 3 and 4."""
    return 0x30000 if field.structure.startswith("header") else 0x70000


def swap_fields(canvas: Canvas) -> None:
    """Exchange two fields of one size."""
    first = _some_field(canvas)
    second = canvas.chance.choice(
        [field for group in canvas.anatomy.fields.values() for field in group if field.size == first.size]
    )
    values = canvas.read(first.file_offset, first.size), canvas.read(second.file_offset, first.size)
    canvas.write(first.file_offset, values[1])
    canvas.write(second.file_offset, values[0])
    canvas.note(f"{first.structure}: {first.name} <-> {second.structure}: {second.name}")


def copy_field(canvas: Canvas) -> None:
    """Give a field its neighbour's value."""
    first = _some_field(canvas)
    group = canvas.anatomy.fields[
        next(kind for kind, fields in canvas.anatomy.fields.items() if first in fields)
    ]
    second = canvas.chance.choice([field for field in group if field.size == first.size])
    canvas.write(first.file_offset, canvas.read(second.file_offset, first.size))
    canvas.note(f"{first.structure}: {first.name} = that of {second.structure}: {second.name}")


def flip_bytes(canvas: Canvas) -> None:
    """Change some bytes of a structure without looking."""
    place = canvas.chance.choice(canvas.anatomy.places)
    offset, length = canvas.chance.choice(place.pieces)
    at = offset + canvas.chance.randrange(min(length, canvas.chance.choice((64, 4096, length))))
    data = canvas.chance.randbytes(canvas.chance.choice((1, 2, 4, 16, 64)))
    canvas.write(at, data)
    canvas.note(f"{place.name}: bytes at {at:#x} = {data.hex()}")


def truncate(canvas: Canvas) -> None:
    """Cut the file off somewhere."""
    size = min(some_offset(canvas), canvas.store.size())
    canvas.store.truncate(size)
    canvas.note(f"file cut to {size:#x}")


def extend(canvas: Canvas) -> None:
    """Make the file longer, by a hole."""
    size = canvas.chance.choice((64 * MIB, GIB, 5 * GIB, TIB, 300 * TIB, (1 << 63) - 1))
    size = max(canvas.store.size(), size + canvas.chance.choice((0, 0, 1, -512)))
    canvas.store.truncate(min(size, (1 << 63) - 1))
    canvas.note(f"file extended to {canvas.store.size():#x}")


def copy_structure(canvas: Canvas) -> None:
    """Write a structure once more, over another one or elsewhere; perhaps the old one is wiped."""
    place = canvas.chance.choice(canvas.anatomy.places)
    offset, length = place.pieces[0]
    length = min(length, 64 * KIB)
    data = canvas.read(offset, length)
    target = some_offset(canvas)
    if canvas.chance.random() < 0.3:
        canvas.write(offset, bytes(length))
    canvas.write(target, data)
    canvas.note(f"{place.name} written to {target:#x}")


def wipe_structure(canvas: Canvas) -> None:
    """Zero a structure's first bytes."""
    place = canvas.chance.choice(canvas.anatomy.places)
    length = min(place.pieces[0][1], canvas.chance.choice((8, 512, 4096, 64 * KIB)))
    canvas.write(place.pieces[0][0], bytes(length))
    canvas.note(f"{place.name}: first {length} bytes wiped")


MUTATIONS: Final[tuple[tuple[Callable[[Canvas], None], float], ...]] = (
    (set_field, 20),
    (swap_fields, 2),
    (copy_field, 2),
    (flip_bytes, 2),
    (truncate, 1.5),
    (extend, 1),
    (copy_structure, 2),
    (wipe_structure, 1),
    (fill_bat, 1),
    (enlarge_disk, 1),
    (move_region, 1),
    (rewrite_locator, 1.5),
    (crowd_metadata, 0.5),
    (flood_log, 0.7),
    (lengthen_log, 0.5),
)
