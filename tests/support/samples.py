"""Names and checksums of the real images that are kept beside the project."""

from pathlib import Path

SAMPLES_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "samples"

SAMPLES = {
    "btrfs.vhdx": "e1ec34ba6fea6a047e5b97f6b9355798f4bf22e5d9fb120013d912a41babf2a4",
    "iotest-dirtylog-10G-4M.vhdx": "511daba998dba208ffc57a7814194d5dd3afb7c314731b904ff1682e3fb4951a",
    "iotest-dynamic-1G.vhdx": "a4fb24fa51fb4852d5a6bdc2b390a91b0a4e19b47696edc5a00c816067257402",
    "swap.vhdx": "e5427cf8e9a9dfc28f2c1f24e2a7294e62b3e48bcff25b458f51871092540582",
    "test-disk2vhd.vhdx": "5b6721d4f26ef13d259c380a7327b794d1c6dd79e386737d77e8d88f43259812",
    "vhdx-log-replay.vhdx": "d0805b6f7cdd3908239442900d73053a013079f839656d69bae00a44948983d6",
}
"""sha256 of each image, unpacked."""
