"""Coverage-guided fuzzing of the NBD handshake:

    python -m proof.fuzz.atheris_nbd_handshake [libFuzzer options] [corpus].

Byte 0 of an input says whether TLS is required and whether exports open. Then come the options, over and over:

  1 byte     which option
  2 bytes    how long its payload says it is
  1 byte     how long it is
  the payload

Needs atheris (pip install atheris), which is no dependency of the project.
"""

import sys

import atheris

with atheris.instrument_imports(include=["vhdx.nbd"]):
    from vhdx.nbd.protocol import events, handshake

from vhdx.nbd.protocol.constants import CONTEXTS, OPTION_HEADER, OPTION_MAGIC, OptionReply, TransmissionFlag

FLAGS = b"\0\0\0\3"
OFFER = events.ExportOffer(1 << 40, TransmissionFlag.HAS_FLAGS, 1, 4096, 1 << 25, "a disk", CONTEXTS)
STEP = 37


def stream_of(data: bytes) -> bytes:
    """Return what the client sends."""
    stream = FLAGS
    while len(data) >= 4:
        end = 4 + data[3]
        stream += (
            OPTION_HEADER.pack(OPTION_MAGIC, data[0] % 16, int.from_bytes(data[1:3], "big")) + data[4:end]
        )
        data = data[end:]
    return stream


def test_one_input(data: bytes) -> None:
    """Be a server to one client."""
    if not data:
        return
    tls, opens = bool(data[0] & 1), bool(data[0] & 2)
    machine = handshake.Handshake({"d": "a disk"}, tls=tls, default_export="d")
    stream = stream_of(data[1:])
    for start in range(0, len(stream), STEP):
        machine.receive(stream[start : start + STEP])
        for event in iter(machine.next_event, None):
            match event:
                case events.StartTls():
                    machine.tls_started()
                    tls = False
                case events.OpenExport():
                    assert not tls, "an export was opened without TLS"
                    if opens:
                        machine.opened(OFFER)
                    else:
                        machine.refused(OptionReply.ERR_POLICY, "no")
                case events.Transmit() | events.Close():
                    return
        assert len(machine.unread) <= handshake.MAX_EARLY_BYTES


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
