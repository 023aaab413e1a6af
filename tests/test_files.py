"""Files are replaced atomically, and keep their mode, owner and links."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax import HierarchicalSoftmax, Tree
from boltzmax._lib import files
from boltzmax.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has other modes, owners and links")

TREE = Tree.from_paths(["animal/cat", "animal/dog", "plant"])
LAYER = HierarchicalSoftmax(TREE, 4)
NOBODY = 65534

Write = Callable[[Path], Any]


def apply(path: Path) -> None:
    """Replace a file with its softmax, or create one."""
    source = path
    if not path.exists():
        source = path.parent / "source.npy"
        np.save(source, np.arange(6.0).reshape(2, 3))
    assert main(["apply", "softmax", str(source), str(path)]) == 0
    assert np.load(path).shape == (2, 3)


WRITERS: dict[str, Write] = {"tree": TREE.save, "layer": LAYER.save, "apply": apply}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Restore the umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def old_file(path: Path, mode: int = 0o644) -> Path:
    np.save(path, np.arange(6.0).reshape(2, 3))
    path.chmod(mode)
    return path


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"source.npy"}


@every_writer
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o400, 0o755, 0o2644])
def test_the_mode_is_kept(write: Write, mode: int, tmp_path: Path) -> None:
    path = old_file(tmp_path / "a.npy", mode)
    before = path.read_bytes()
    write(path)
    assert mode_of(path) == mode
    assert path.read_bytes() != before
    assert names(tmp_path) == {"a.npy"}


@every_writer
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o227, 0o440)])
def test_a_new_file_has_the_mode_of_the_umask(
    write: Write, mask: int, mode: int, tmp_path: Path
) -> None:
    np.save(tmp_path / "source.npy", np.zeros((2, 3)))
    os.umask(mask)
    write(tmp_path / "new.npy")
    assert mode_of(tmp_path / "new.npy") == mode
    assert names(tmp_path) == {"new.npy"}


@pytest.mark.parametrize("name", ["old.npy", "new.npy"])
def test_incomplete_files_are_private(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_file(tmp_path / "old.npy", 0o600)
    write, seen = np.savez, []

    def watched(file: Any, **arrays: Any) -> None:
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", watched)
    TREE.save(tmp_path / name)
    assert seen == [0o600]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to be root")
@every_writer
def test_the_owner_is_kept(write: Write, tmp_path: Path) -> None:
    path = old_file(tmp_path / "a.npy")
    os.chown(path, 1234, 2345)
    path.chmod(0o4640)
    write(path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode_of(path)) == (1234, 2345, 0o4640)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Return a file with two extended attributes; skip where there are none."""
    if not hasattr(os, "setxattr"):
        pytest.skip("no extended attributes on this platform")
    path = old_file(tmp_path / "a.npy")
    try:
        for name in ("user.origin", "user.hour"):
            os.setxattr(path, name, name.encode())
    except OSError as error:
        pytest.skip(f"this file system has no extended attributes: {error}")
    return path


@every_writer
def test_extended_attributes_are_kept(write: Write, labelled: Path) -> None:
    labelled.chmod(0o444)
    write(labelled)
    assert {os.getxattr(labelled, name) for name in os.listxattr(labelled)} >= {
        b"user.origin",
        b"user.hour",
    }
    assert mode_of(labelled) == 0o444


@pytest.mark.parametrize("refused", ["user.origin", "user.hour"])
def test_an_attribute_that_cannot_be_kept(
    refused: str, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_one = os.setxattr

    def setxattr(path: Path, name: str, value: bytes) -> None:
        if name == refused:
            raise PermissionError(1, "Operation not permitted")
        set_one(path, name, value)

    monkeypatch.setattr(os, "setxattr", setxattr)
    TREE.save(labelled)
    assert Tree.load(labelled) == TREE
    assert {"user.origin", "user.hour"} - {*os.listxattr(labelled)} == {refused}


@pytest.mark.parametrize(
    ("allowed", "mode", "expected"),
    [
        ("all", 0o6640, 0o6640),
        ("group", 0o6640, 0o640),  # another owner: no set-user-ID
        ("group", 0o664, 0o664),
        ("none", 0o640, 0o600),  # another group, which had no access before
        ("none", 0o664, 0o644),
        ("none", 0o2777, 0o777),
    ],
)
def test_owners_that_cannot_be_kept(
    allowed: str, mode: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path / "a.npy", mode)

    def chown(_: Path, user: int, group: int) -> None:
        if allowed == "none" or (allowed == "group" and user != -1):
            raise PermissionError(1, "Operation not permitted")
        assert group == path.stat().st_gid

    monkeypatch.setattr(os, "chown", chown)
    TREE.save(path)
    assert Tree.load(path) == TREE
    assert mode_of(path) == expected


@every_writer
def test_links_are_followed(write: Write, tmp_path: Path) -> None:
    """The file that they point to is replaced, in its own folder."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    target = old_file(there / "a.npy", 0o600)
    (there / "second.npy").symlink_to("a.npy")
    (here / "first.npy").symlink_to("../there/second.npy")
    before = target.stat().st_ino
    write(here / "first.npy")
    assert os.readlink(here / "first.npy") == "../there/second.npy"
    assert os.readlink(there / "second.npy") == "a.npy"
    assert target.stat().st_ino != before
    assert mode_of(target) == 0o600
    assert (names(here), names(there)) == ({"first.npy"}, {"a.npy", "second.npy"})


@every_writer
def test_target_of_a_dangling_link_is_created(write: Write, tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to("new.npy")
    write(tmp_path / "link.npy")
    assert (tmp_path / "link.npy").is_symlink()
    assert (tmp_path / "new.npy").is_file()
    assert names(tmp_path) == {"link.npy", "new.npy"}


def test_broken_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "no folder" / "file")
    said = "file is first written to a new file in this folder: '.*no folder'"
    with pytest.raises(FileNotFoundError, match=said):
        TREE.save(tmp_path / "link")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        TREE.save(tmp_path / "a")
    assert names(tmp_path) == {"link", "a", "b"}
    assert (tmp_path / "a").is_symlink()


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("folder", "pipe", "link"):
        with pytest.raises(FileExistsError, match="not a regular file"):
            TREE.save(tmp_path / name)
    assert names(tmp_path) == {"folder", "pipe", "link"}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Become a user other than root, for whom permissions apply."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def is_open(folder: Path) -> bool:
    """Whether any user may enter a folder."""
    return folder.is_dir() and all(p.stat().st_mode & 0o001 for p in (folder, *folder.parents))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can enter; `tmp_path` is private, and TMPDIR may be."""
    bases = (Path(name) for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"))
    base = next(filter(is_open, bases), None)
    if base is None:
        pytest.skip("there is no temporary folder for all users")
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_to(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the folder, and the file is unchanged."""
    path = old_file(open_folder / "a.npy", 0o666)
    before = path.read_bytes()
    open_folder.chmod(0o555)
    said = (
        f"Permission denied: a.npy is first written to a new file in this folder: '{open_folder}'"
    )
    with unprivileged():
        for save in (TREE.save, LAYER.save):
            with pytest.raises(PermissionError) as error:
                save(path)
            assert str(error.value).endswith(said)
        assert main(["apply", "softmax", str(path), str(path)]) == 2
    assert said in capsys.readouterr().err
    assert path.read_bytes() == before
    assert mode_of(path) == 0o666
    assert names(open_folder) == {"a.npy"}


def test_files_of_others_in_a_shared_folder(open_folder: Path) -> None:
    """Without the right to give files away, the writer becomes the owner; access does not grow."""
    if os.geteuid() != 0:
        pytest.skip("needs to be root at first")
    path = old_file(open_folder / "a.npy", 0o640)
    open_folder.chmod(0o777)
    with unprivileged():
        TREE.save(path)
        assert Tree.load(path) == TREE
    assert path.stat().st_uid == NOBODY
    assert mode_of(path) in (0o600, 0o640)  # depends on whether the process keeps root's group


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failure_at_the_end_loses_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path / "a.npy", 0o600)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{
        "fsync": (os, "fsync"),
        "replace": (Path, "replace"),
        "chmod": (files, "_take_over"),
    }[step], fail)  # fmt: skip
    for save in (TREE.save, LAYER.save):
        with pytest.raises(OSError, match="No space left"):
            save(path)
    assert path.read_bytes() == before
    assert mode_of(path) == 0o600
    assert names(tmp_path) == {"a.npy"}


def test_a_file_system_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", chmod)
    TREE.save(tmp_path / "tree")
    assert Tree.load(tmp_path / "tree") == TREE
    assert boltzmax.Tree is Tree
