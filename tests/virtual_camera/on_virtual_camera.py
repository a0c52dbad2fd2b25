"""Runs the appliance's command line, or a script, with the real picamera2 on libcamera's virtual camera.

    on_virtual_camera.py run --source camera ...
    on_virtual_camera.py SCRIPT.py

Inside a root; see `test_picamera_real`. What differs from a Raspberry Pi: there is no pykms; the virtual
camera has no raw stream; buffers come from libcamera's own allocator. While `$CAMERA_SIGNALS/stalled` exists,
picamera2 gets to see no pictures, and loses their buffers; while `unplugged` exists, there is no camera.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from unittest import mock

sys.modules["pykms"] = mock.MagicMock()

import libcamera  # noqa: E402
import picamera2  # noqa: E402
from picamera2.allocators import LibcameraAllocator  # noqa: E402

SIGNALS = Path(os.environ["CAMERA_SIGNALS"])


class LateAllocator(LibcameraAllocator):
    """Learns its camera at the first allocation: `Picamera2` opens it after it takes the allocator."""

    def __init__(self, owner: VirtualPicamera2) -> None:
        self._owner = owner

    def allocate(self, libcamera_config, use_case):
        super().__init__(self._owner.camera)
        super().allocate(libcamera_config, use_case)


class VirtualPicamera2(picamera2.Picamera2):
    def __init__(self, camera_num: int = 0) -> None:
        self._kept_back = []
        super().__init__(camera_num, allocator=LateAllocator(self))

    @staticmethod
    def global_camera_info():
        unplugged = (SIGNALS / "unplugged").exists()
        return [] if unplugged else super(VirtualPicamera2, VirtualPicamera2).global_camera_info()

    def _get_raw_modes(self):
        formats = self.camera.generate_configuration([libcamera.StreamRole.Viewfinder]).at(0).formats
        return [
            {"format": str(pixels), "size": (size.width, size.height)}
            for pixels in formats.pixel_formats
            for size in formats.sizes(pixels)
        ]

    def process_requests(self, display):
        if (SIGNALS / "stalled").exists() or (SIGNALS / "unplugged").exists():
            with self._requestslock:
                self._kept_back += self._requests
                self._requests = []
        super().process_requests(display)


picamera2.Picamera2 = VirtualPicamera2

if __name__ == "__main__":
    if sys.argv[1].endswith(".py"):
        runpy.run_path(sys.argv[1], run_name="__main__")
    else:
        from appliance.__main__ import main

        sys.exit(main())
