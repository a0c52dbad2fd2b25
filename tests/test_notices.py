"""What is wrong is said once in the log, and as long as it lasts on the screen."""

import logging

import pytest

from appliance.notices import Notices


def test_a_trouble_is_current_until_it_is_cleared(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    notices = Notices()
    notices.report("camera", "unplugged")
    notices.report("camera", "unplugged")
    notices.report("disk", "full")
    assert notices.current() == ("camera: unplugged", "disk: full")
    notices.clear("camera")
    notices.clear("camera")
    assert notices.current() == ("disk: full",)
    assert [record.message for record in caplog.records] == [
        "camera: unplugged",
        "disk: full",
        "camera: all well again",
    ]
