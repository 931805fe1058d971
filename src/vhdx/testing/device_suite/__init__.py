"""The device suite: what every block device promises, as tests to inherit. They need pytest.

    class TestMyDisk(DirectDeviceSuite):
        def open_device(self, folder: Path) -> tuple[DirectDevice, bytes]:
            return MyDisk(...), content

`open_device` makes a new device each time it is called, and tells what it holds: a few MiB, of at least four
units of allocation, with data, zeroes, and holes where the device knows them.

`DeviceSuite` tests the contract of `BlockDevice`, for devices that are open for reading or for writing.
`WritableDeviceSuite` adds that of `WritableDevice`, `DirectDeviceSuite` that of `DirectDevice`; `PlaceSuite` has
the part of the latter that holds for a device open for reading, too. Where a promise depends on `limits`, the tests
expect what `limits` says, so that limits which claim too much, or too little, fail.
"""

from vhdx.testing.device_suite.direct import DirectDeviceSuite, PlaceSuite
from vhdx.testing.device_suite.reading import DeviceSuite
from vhdx.testing.device_suite.writing import WritableDeviceSuite

__all__ = ["DeviceSuite", "DirectDeviceSuite", "PlaceSuite", "WritableDeviceSuite"]
