"""How the bytes of a coverage-guided fuzzer become an image: patches of a small sound one, resealed.

byte 0       which base image
then, over and over:
  2 bytes    which structure
  2 bytes    where in it, in steps of 4 bytes
  1 byte     how many bytes
  the bytes
"""

import random
from collections.abc import Sequence
from functools import cache

from proof.fuzz.invariants import examine
from vhdx.storage.base import ByteStore
from vhdx.testing.hostile import base_image, copy_store
from vhdx.testing.hostile.anatomy import Anatomy, anatomy_of
from vhdx.testing.hostile.canvas import Canvas

MAX_PATCHES = 64
SMALL_READS = 3 * 65536
"""Instrumented code is slow: disks are read in places only."""


@cache
def _anatomy(name: str) -> Anatomy:
    return anatomy_of(base_image(name).stores[0])


def embed(data: bytes, bases: Sequence[str], structures: str = "") -> tuple[ByteStore, ...]:
    """Make the image that `data` stands for; only structures whose name begins with `structures` change."""
    base = base_image(bases[data[0] % len(bases)])
    anatomy = _anatomy(base.name)
    places = [place for place in anatomy.places if place.name.startswith(structures)]
    canvas = Canvas(copy_store(base.stores[0]), anatomy, random.Random(0))
    position = 1
    for _ in range(MAX_PATCHES):
        head = data[position : position + 5]
        if len(head) < 5:
            break
        start, length = places[int.from_bytes(head[:2], "little") % len(places)].pieces[0]
        offset = int.from_bytes(head[2:4], "little") * 4 % length
        canvas.write(start + offset, data[position + 5 : position + 5 + head[4]])
        position += 5 + head[4]
    canvas.reseal()
    canvas.store.writable = False
    return (canvas.store, *base.stores[1:])


def examine_bytes(data: bytes, bases: Sequence[str], structures: str = "") -> None:
    """Examine the image that `data` stands for. Raises: InvariantError."""
    if data:
        examine(embed(data, bases, structures), whole_disk=SMALL_READS)
