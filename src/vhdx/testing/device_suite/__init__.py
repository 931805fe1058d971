"""What every block device promises, as tests to inherit (they need pytest).

    class TestMyDisk(DirectDeviceSuite):
        def open_device(self, folder: Path) -> tuple[DirectDevice, bytes]:
            return MyDisk(...), content

`open_device` makes a new device each time it is called, and tells what it holds: a few MiB, of at least four
units of allocation, with data, zeroes, and holes where the device knows them.

`DeviceSuite` asks what `BlockDevice` promises, of devices that are open for reading or for writing;
`WritableDeviceSuite` and `DirectDeviceSuite` add what `WritableDevice` and `DirectDevice` do, and `PlaceSuite`
as much of it as a device that is open for reading can keep. Where a promise depends on what `limits` says, it
is asked for as they say: limits that claim too much, or too little, are found out.
"""

from vhdx.testing.device_suite.direct import DirectDeviceSuite, PlaceSuite
from vhdx.testing.device_suite.reading import DeviceSuite
from vhdx.testing.device_suite.writing import WritableDeviceSuite

__all__ = ["DeviceSuite", "DirectDeviceSuite", "PlaceSuite", "WritableDeviceSuite"]
