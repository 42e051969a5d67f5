"""What two looks at a file tell."""

import pytest

from portcompat import FILE_ACCESS, FILE_ATTRIB, FILE_MODIFIED, FILE_TRUNC
from portcompat.abc import FileStatus
from portcompat.backends._paths import changes, is_same

BEFORE = FileStatus(dev=1, ino=2, mode=0o100644, nlink=1, size=5, atime=10, mtime=20, ctime=30)
DIRECTORY = BEFORE._replace(mode=0o040755)


@pytest.mark.parametrize(
    ("before", "now", "bits"),
    [
        (BEFORE, BEFORE, 0),
        (BEFORE, BEFORE._replace(nlink=2, mode=0o100600), 0),
        (BEFORE, BEFORE._replace(atime=9), FILE_ACCESS),
        (BEFORE, BEFORE._replace(mtime=19), FILE_MODIFIED | FILE_ATTRIB),
        (BEFORE, BEFORE._replace(ctime=29), FILE_ATTRIB),
        # within one tick of the clock that the stamps are of
        (BEFORE, BEFORE._replace(size=6), FILE_MODIFIED | FILE_ATTRIB),
        (BEFORE, BEFORE._replace(size=4), FILE_MODIFIED | FILE_ATTRIB | FILE_TRUNC),
        (DIRECTORY, DIRECTORY._replace(size=4), FILE_MODIFIED | FILE_ATTRIB),
    ],
)
def test_what_differs_is_what_happened(before: FileStatus, now: FileStatus, bits: int) -> None:
    assert changes(before, now) == bits


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (BEFORE._replace(size=0, mtime=0, ctime=0, nlink=0), True),
        (BEFORE._replace(ino=3), False),
        (BEFORE._replace(dev=3), False),
    ],
)
def test_a_file_is_known_by_device_and_number(now: FileStatus, same: bool) -> None:
    assert is_same(BEFORE, now) is same
