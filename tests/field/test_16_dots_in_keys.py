"""Keys with dots: webdataset takes what follows the first dot for the extension; hidden images are counted."""

from pathlib import Path

from tests.field.pools import read, sample, write_tar


def test_images_that_a_dot_hides_are_counted_with_an_example(tmp_path: Path) -> None:
    plain = [m for i in range(4) for m in sample(f"{i:03}", i)]
    dotted = [m for i in range(4) for m in sample(f"photo.{i:03}", 10 + i)]
    path = write_tar(tmp_path / "0.tar", plain + dotted)
    found, reader = read(path)
    assert [one.status for one in found] == ["ok"] * 4 + ["no_image"]
    oddity = reader.oddities.as_dict()["dotted_key"]
    assert (oddity.count, oddity.example) == (4, f"{path}: photo.000.jpg")
    (warning,) = reader.oddities.warnings()
    assert warning.startswith("4 images are not read, such as ")
    assert "keys without dots" in warning


def test_further_members_with_dots_beside_an_image_are_no_oddity(tmp_path: Path) -> None:
    _, reader = read(write_tar(tmp_path / "0.tar", [*sample("a", 1), ("a.seg.png", b"x")]))
    assert reader.oddities.as_dict() == {}
