"""A bundle is written whole or not at all, and read only when every byte is as it was written."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import open_bundle, read_manifest, verify, write_bundle
from models.errors import BundleDamaged, BundleError, BundleExists, BundleForeign, BundleNotFound, SchemaTooNew
from tests.toys import classifier_files, classifier_manifest, npz, space_files, space_manifest, write_toys


@pytest.fixture
def space(tmp_path: Path) -> Path:
    return write_toys(tmp_path)[0]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("pristine"))[1]


def _reseal(bundle: Path, **changes: object) -> None:
    """Change fields of a manifest as somebody would who also knows how to seal it."""
    content = json.dumps(json.loads((bundle / "manifest.json").read_text()) | changes).encode()
    (bundle / "manifest.json").write_bytes(content)
    (bundle / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")


def test_a_written_bundle_reads_as_it_was_given(space: Path) -> None:
    manifest = verify(space)
    assert manifest == space_manifest(files=manifest.files)
    assert {name: (space / name).read_bytes() for name in manifest.files} == space_files()


def test_a_bundle_lies_where_its_kind_id_and_version_say(tmp_path: Path) -> None:
    space, classifier = write_toys(tmp_path)
    assert space == tmp_path / "spaces" / "toy-space" / "1"
    assert classifier == tmp_path / "classifiers" / "toy" / "1"


def test_writing_leaves_nothing_but_the_bundle_behind(space: Path) -> None:
    assert [path.name for path in space.parent.iterdir()] == ["1"]


def test_files_are_copied_from_their_paths(tmp_path: Path) -> None:
    (tmp_path / "big.onnx").write_bytes(space_files()["generator.onnx"])
    path = write_bundle(tmp_path, space_manifest(), {**space_files(), "generator.onnx": tmp_path / "big.onnx"})
    assert (path / "generator.onnx").read_bytes() == space_files()["generator.onnx"]


def test_the_seal_can_be_checked_with_the_usual_tool(space: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    subprocess.run(["sha256sum", "--check", "manifest.sha256"], cwd=space, check=True, capture_output=True)


def test_a_version_is_never_written_twice(space: Path, tmp_path: Path) -> None:
    before = (space / "manifest.json").read_bytes()
    with pytest.raises(BundleExists):
        write_bundle(tmp_path, space_manifest(title="Another"), space_files())
    assert (space / "manifest.json").read_bytes() == before


def test_a_bundle_without_its_networks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match=r"a space needs encoder\.onnx, generator\.onnx"):
        write_bundle(tmp_path, space_manifest(), {"latent.npz": b"", "golden.npz": b""})


@pytest.mark.parametrize("name", ["../outside.txt", "sub/file", ".hidden", "manifest.json", "a\n"])
def test_a_file_that_would_not_lie_in_the_bundle_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleDamaged):
        write_bundle(tmp_path, space_manifest(), {**space_files(), name: b"x"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path, space_manifest(), {**space_files(), "generator.onnx": tmp_path / "absent.onnx"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bundle_is_told_by_the_digest_of_its_manifest(space: Path) -> None:
    bundle = open_bundle(space)
    assert bundle.sha256 == hashlib.sha256((space / "manifest.json").read_bytes()).hexdigest()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_noticed(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bundle = tmp_path_factory.mktemp("flip") / "classifiers" / "toy" / "1"
    shutil.copytree(pristine, bundle)
    victim = data.draw(st.sampled_from(sorted(bundle.iterdir())))
    content = bytearray(victim.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    victim.write_bytes(content)
    with pytest.raises(BundleError):
        verify(bundle)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_truncated_file_is_noticed(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    bundle = tmp_path_factory.mktemp("cut") / "classifiers" / "toy" / "1"
    shutil.copytree(pristine, bundle)
    victim = data.draw(st.sampled_from(sorted(bundle.iterdir())))
    os.truncate(victim, data.draw(st.integers(0, victim.stat().st_size - 1)))
    with pytest.raises(BundleDamaged):
        verify(bundle)


@pytest.mark.parametrize("name", ["generator.onnx", "card.md", "manifest.json", "manifest.sha256"])
def test_a_missing_file_is_damage(space: Path, name: str) -> None:
    (space / name).unlink()
    with pytest.raises(BundleDamaged, match=name):
        verify(space)


def test_an_unlisted_file_is_damage(space: Path) -> None:
    (space / "notes.txt").write_text("who put this here?")
    with pytest.raises(BundleDamaged, match=r"notes\.txt not in the manifest"):
        verify(space)


def test_a_folder_in_place_of_a_file_is_damage(space: Path) -> None:
    (space / "card.md").unlink()
    (space / "card.md").mkdir()
    with pytest.raises(BundleDamaged):
        verify(space)


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"{", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_damage(space: Path, content: bytes) -> None:
    (space / "manifest.json").write_bytes(content)
    with pytest.raises(BundleDamaged):
        read_manifest(space)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"kind": "cat"}', b'{"kind": ["space"]}'])
def test_a_manifest_of_something_else_is_foreign(space: Path, content: bytes) -> None:
    (space / "manifest.json").write_bytes(content)
    with pytest.raises(BundleForeign):
        read_manifest(space)


def test_a_newer_schema_is_refused_by_name(space: Path) -> None:
    _reseal(space, schema_version=2, colour="unknown to us")
    with pytest.raises(SchemaTooNew, match="schema 2"):
        read_manifest(space)


def test_a_sealed_manifest_that_breaks_the_schema_is_damage(space: Path) -> None:
    _reseal(space, latent_size=0)
    with pytest.raises(BundleDamaged, match="latent_size"):
        read_manifest(space)


def test_a_sealed_manifest_may_not_forget_a_network(space: Path) -> None:
    files = json.loads((space / "manifest.json").read_text())["files"]
    del files["generator.onnx"]
    _reseal(space, files=files)
    with pytest.raises(BundleDamaged, match=r"a space needs generator\.onnx"):
        verify(space)


@pytest.mark.parametrize("place", ["spaces/other/1", "spaces/toy-space/2", "classifiers/toy-space/1"])
def test_a_bundle_under_another_name_is_foreign(space: Path, tmp_path: Path, place: str) -> None:
    shutil.copytree(space, tmp_path / place)
    with pytest.raises(BundleForeign, match="toy-space/1"):
        read_manifest(tmp_path / place)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        verify(tmp_path / "spaces" / "toy-space" / "9")


def test_a_bundle_opens_only_the_files_it_lists(space: Path) -> None:
    bundle = open_bundle(space)
    assert bundle.file("sample.png") == space / "sample.png"
    with pytest.raises(BundleNotFound, match="passwd"):
        bundle.file("../../../../etc/passwd")


def test_arrays_are_read_by_name(space: Path) -> None:
    assert open_bundle(space).arrays("latent.npz")["mean"].shape == (8,)


@pytest.mark.parametrize("content", [b"not a zip", b"", npz({"x": [1]})[:-30], npz({"x": [object()]})])
def test_arrays_that_are_no_plain_npz_are_damage(tmp_path: Path, content: bytes) -> None:
    path = write_bundle(tmp_path, classifier_manifest(), {**classifier_files(), "direction.npz": content})
    with pytest.raises(BundleDamaged, match="plain arrays"):
        open_bundle(path).arrays("direction.npz")
