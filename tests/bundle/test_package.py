"""Zips and folders from elsewhere: whatever could land outside, on another file, or without end is refused."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from medseg.bundle import package
from medseg.bundle.package import opened, path_fault
from medseg.data.faults import FileFault
from medseg.errors import MedsegError


def zipped(path: Path, *entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.create_system = mode << 16, 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(FileFault) as caught, opened(path):
        pass
    return str(caught.value)


def test_a_plain_zip_opens_and_goes_away(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "a.zip", ("b/configs/x.yaml", b"x"), ("b/LICENSE", b"y"))) as found:
        assert (found.name, found.files) == ("b", ("LICENSE", "configs/x.yaml"))
        assert (found.root / "configs" / "x.yaml").read_bytes() == b"x"
        root = found.root
    assert not root.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b/../../evil", "leads out"),
        ("../evil", "leads out"),
        ("b/..", "leads out"),
        ("/etc/evil", "is absolute"),
        ("~/evil", "is absolute"),
        ("C:/evil", "backslash or a colon"),
        ("b\\..\\evil", "backslash or a colon"),
        ("b/x:stream", "backslash or a colon"),
        ("b//x", "empty part"),
        ("b/./x", "empty part"),
        ("b/x.", "ends in a dot"),
        ("b/con.txt", "device's name"),
        ("b/LPT1", "device's name"),
        ("b/x\ny", "control characters"),
        ("b/" + "x" * 500, "too long"),
    ],
)
def test_paths_that_lead_elsewhere(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in (path_fault(name) or "")
    assert reason in refused(zipped(tmp_path / "a.zip", ("b/x1", b""), (name, b"evil")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_plain_paths_are_fine() -> None:
    for name in ("b/configs/train.yaml", "b/models/model.pt", "b/.hidden", "b/a b/ü.txt", "b/console.txt"):
        assert path_fault(name) is None


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    path = zipped(tmp_path / "a.zip", ("b/link", b"/etc/passwd"), mode=kind | 0o777)
    assert "is a link or a device" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [
        ("b/x", "b/x"),
        ("b/x", "b/X"),
        ("b/Configs/a", "b/configs/b"),
        ("b/x", "b/x/y"),
        ("b/x/y", "b/x"),
        ("b/u\u0308", "b/\u00fc"),
        ("b/stra\u00dfe", "b/STRASSE"),
    ],
)
def test_two_entries_that_are_one_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = zipped(tmp_path / "a.zip", *((name, b"") for name in names))
    assert "is there twice, or differs by case alone" in refused(path)


def test_folders_may_have_entries_of_their_own(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "a.zip", ("b/", b""), ("b/x/", b""), ("b/x/y", b"1"))) as found:
        assert found.files == ("x/y",)


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = zipped(tmp_path / "a.zip", ("b/x", bytes(8 * 2**20)))
    assert zeros.stat().st_size < 2**14
    assert "unpacks to more than 100 times its size" in refused(zeros)
    monkeypatch.setattr(package, "MOST_BYTES", 999)
    assert "unpacks to" in refused(
        zipped(tmp_path / "b.zip", ("b/x", os.urandom(600)), ("b/y", os.urandom(600)))
    )
    monkeypatch.setattr(package, "MOST_FILES", 3)
    assert "holds 4 files, more than 3" in refused(
        zipped(tmp_path / "c.zip", *((f"b/{n}", b"") for n in range(4)))
    )


def test_a_size_that_is_a_lie(tmp_path: Path) -> None:
    """The table of contents promises 4 bytes, the entry unpacks to many: no more than promised is ever written."""
    path = zipped(tmp_path / "a.zip", ("b/x", bytes(1000)))
    data = path.read_bytes()
    path.write_bytes(data.replace((1000).to_bytes(4, "little"), (4).to_bytes(4, "little")))
    assert "not a whole zip" in refused(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no zip", b"PK\x03\x04" + bytes(40)],
)
def test_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    assert "not a whole zip" in refused(tmp_path / "a.zip")


def test_damaged_content(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("b/x", b"A" * 100)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue().replace(b"A" * 100, b"A" * 99 + b"B"))
    assert "Bad CRC-32" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "entries", [[("x", b"")], [("b/x", b""), ("c/y", b"")], [(".b/x", b"")], [("a b/x", b"")]]
)
def test_not_one_folder_with_a_name(tmp_path: Path, entries: list[tuple[str, bytes]]) -> None:
    reason = refused(zipped(tmp_path / "a.zip", *entries))
    assert "does not hold one folder" in reason or "cannot be a bundle's name" in reason


def test_folders_hold_plain_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("x")
    (folder / ".gitattributes").write_text("x")
    (folder / "LICENSE").write_text("x")
    with opened(folder) as found:
        assert found.files == ("LICENSE",)
    (folder / "link").symlink_to("/etc/passwd")
    assert "is a link or a device" in refused(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    assert "is a link or a device" in refused(folder)
    (folder / "pipe").unlink()
    (folder / "docs").symlink_to("/etc")
    assert "is a link or a device" in refused(folder)


def test_files_of_a_folder_with_names_that_are_not_safe(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "x\x1b[2J.py").write_text("")
    assert "holds control characters" in refused(folder)


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_ways_of_packing_that_zips_seldom_have(tmp_path: Path, way: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", way) as archive:
        archive.writestr("b/x", b"A" * 99)
    assert "is packed in a way" in refused(tmp_path / "a.zip")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no such file or folder"), opened(tmp_path / "none.zip"):
        pass
