"""A folder of trusted keys: added, listed, removed, and never half understood."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from flatpack_build.box.trust import TrustMode, TrustPolicy, judge_box
from flatpack_build.box.trusted_keys import TrustFolder
from flatpack_build.errors import FlatpackError, KeyFileError, ManifestError, UsageError
from tests.box.samples import KeyPair, released


def test_keys_are_added_listed_and_removed(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    assert folder.keys() == ([], [])
    one = folder.add(released(key, tmp_path / "vendor.pub.pem"), name=None, flatpacks=["chat-*"], development=False)
    two = folder.add(released(other_key, tmp_path / "x.pem"), name="ci", flatpacks=[], development=False)
    assert (one.name, one.flatpacks, two.name, two.flatpacks) == ("vendor", ("chat-*",), "ci", ("*",))
    trusted, others = folder.keys()
    assert [(each.name, each.key.key_id, each.flatpacks) for each in trusted] == [
        ("ci", other_key.public.key_id, ("*",)),
        ("vendor", key.public.key_id, ("chat-*",)),
    ]
    assert others == []
    assert sorted(path.name for path in folder.folder.iterdir()) == ["ci.pub.pem", "trust.toml", "vendor.pub.pem"]
    (found,) = folder.find("vendor")
    folder.remove(found)
    assert [each.name for each in folder.keys()[0]] == ["ci"]
    assert "vendor" not in (folder.folder / "trust.toml").read_text()
    (found,) = folder.find(other_key.public.key_id[:8].upper())
    folder.remove(found)
    assert folder.keys() == ([], [])
    assert folder.find("ci") == [] == folder.find(other_key.public.key_id[:7])
    folder.add(tmp_path / "x.pem", name="ci", flatpacks=["b"], development=False)
    assert [(each.name, each.flatpacks) for each in folder.keys()[0]] == [("ci", ("b",))]


@pytest.mark.parametrize("line", ["key = []", 'key = [{{name = "old", id = "{id}", flatpacks = ["a"]}}]'])
def test_lines_that_a_person_wrote_in_another_form_are_kept(
    tmp_path: Path, key: KeyPair, other_key: KeyPair, line: str
) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    folder.folder.mkdir()
    shutil.copyfile(released(other_key, tmp_path / "x.pem"), folder.folder / "old.pub.pem")
    (folder.folder / "trust.toml").write_text(f"# mine\n{line.format(id=other_key.public.key_id)}\n")
    folder.add(released(key, tmp_path / "new.pub.pem"), name=None, flatpacks=["b"], development=False)
    old = ("a",) if "old" in line else ("*",)
    assert [(each.name, each.flatpacks) for each in folder.keys()[0]] == [("new", ("b",)), ("old", old)]
    assert (folder.folder / "trust.toml").read_text().startswith("# mine\n")


def test_adding_again_changes_what_it_may_sign_and_keeps_a_persons_words(tmp_path: Path, key: KeyPair) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    public = released(key, tmp_path / "vendor.pub.pem")
    folder.add(public, name=None, flatpacks=["a", "b"], development=False)
    file = folder.folder / "trust.toml"
    file.write_text("# met them at the fair\n" + file.read_text())
    folder.add(public, name=None, flatpacks=["c"], development=False)
    ((trusted,), _) = folder.keys()
    assert (trusted.name, trusted.flatpacks) == ("vendor", ("c",))
    assert file.read_text().startswith("# met them at the fair\n")
    folder.add(public, name="better", flatpacks=["c"], development=False)
    assert [each.name for each in folder.keys()[0]] == ["better"]
    assert sorted(path.name for path in folder.folder.iterdir()) == ["better.pub.pem", "trust.toml"]


def test_a_name_that_is_taken(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    folder.add(released(key, tmp_path / "a.pub.pem"), name="x", flatpacks=[], development=False)
    with pytest.raises(UsageError, match="another key is trusted by the name"):
        folder.add(released(other_key, tmp_path / "b.pub.pem"), name="x", flatpacks=[], development=False)
    released(other_key, folder.folder / "y.pub.pem")
    with pytest.raises(UsageError, match="y"):
        folder.add(tmp_path / "a.pub.pem", name="y", flatpacks=[], development=False)
    assert [(each.name, each.key.key_id) for each in folder.keys()[0]] == [
        ("x", key.public.key_id),
        ("y", other_key.public.key_id),
    ]


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a b", "a/b", "x" * 65])
def test_names_that_are_none(tmp_path: Path, key: KeyPair, name: str) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    with pytest.raises(UsageError):
        folder.add(released(key, tmp_path / ".pub.pem"), name=name, flatpacks=[], development=False)
    assert folder.keys() == ([], [])


def test_a_pattern_that_no_name_could_fit(tmp_path: Path, key: KeyPair) -> None:
    with pytest.raises(UsageError, match="no name of a flatpack"):
        TrustFolder(tmp_path / "t", "user").add(
            released(key, tmp_path / "a.pub.pem"), name=None, flatpacks=["a/b"], development=False
        )


def test_a_file_put_there_by_hand_is_trusted_for_everything(tmp_path: Path, key: KeyPair) -> None:
    released(key, tmp_path / "trusted" / "friend.pub.pem")
    ((trusted,), _) = TrustFolder(tmp_path / "trusted", "user").keys()
    assert (trusted.name, trusted.flatpacks) == ("friend", ("*",))


def test_a_development_key_is_trusted_only_when_that_was_said(tmp_path: Path, key: KeyPair, box: Path) -> None:
    folder = TrustFolder(tmp_path / "trusted", "user")
    with pytest.raises(UsageError, match="is a development key"):
        folder.add(key.public_file, name=None, flatpacks=[], development=False)
    assert folder.keys() == ([], [])
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "dropped.pub.pem").write_text(key.public_file.read_text())
    trusted, (other,) = folder.keys()
    assert (trusted, other.key_id) == ([], key.public.key_id)
    added = folder.add(key.public_file, name="mine", flatpacks=["chat"], development=True)
    assert added.key.development
    ((trusted_key,), others) = folder.keys()
    assert (trusted_key.name, trusted_key.key.development, others) == ("mine", True, [])
    assert judge_box(box, TrustPolicy(TrustMode.ENFORCE, (trusted_key,))).trusted


GOOD = '[[key]]\nname = "a"\nid = "' + "0" * 64 + '"\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[[key]\n", 1, "not valid TOML"),
        ("keys = 1\n", 1, "unknown key 'keys'; did you mean"),
        ("key = 1\n", 1, "expected [[key]] tables"),
        (GOOD + "flatpack = []\n", 4, "unknown key 'flatpack'"),
        (GOOD + 'flatpacks = "x"\n', 4, "a list of names"),
        (GOOD + "flatpacks = [1]\n", 4, "a list of names"),
        (GOOD + "development = 1\n", 4, "true or false"),
        ('[[key]]\nname = "a"\n', 1, "id: expected"),
        (GOOD.replace('"a"', '"../a"'), 2, "name: expected"),
        (GOOD.replace("000", "xyz"), 3, "id: expected"),
    ],
)
def test_a_list_that_cannot_be_understood_trusts_nobody(
    tmp_path: Path, key: KeyPair, text: str, line: int, message: str
) -> None:
    folder = TrustFolder(tmp_path, "user")
    released(key, tmp_path / "a.pub.pem")
    (tmp_path / "trust.toml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        folder.keys()
    assert message.split("; did")[0] in caught.value.message
    assert caught.value.place and caught.value.place.line == line


def test_a_line_whose_key_is_gone_trusts_nobody(tmp_path: Path) -> None:
    (tmp_path / "trust.toml").write_text(GOOD)
    assert TrustFolder(tmp_path, "user").keys() == ([], [])


def test_a_broken_or_private_key_in_the_folder_is_an_error(tmp_path: Path, key: KeyPair) -> None:
    (tmp_path / "a.pub.pem").write_bytes(key.private_file.read_bytes())
    with pytest.raises(KeyFileError, match="private key"):
        TrustFolder(tmp_path, "user").keys()


def test_a_folder_that_everybody_can_write_to_is_refused(tmp_path: Path, key: KeyPair) -> None:
    released(key, tmp_path / "t" / "a.pub.pem")
    for path in (tmp_path / "t", tmp_path / "t" / "a.pub.pem"):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(before | 0o002)
        with pytest.raises(KeyFileError, match="everybody"):
            TrustFolder(tmp_path / "t", "user").keys()
        path.chmod(before)
    assert len(TrustFolder(tmp_path / "t", "user").keys()[0]) == 1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, key: KeyPair) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FlatpackError, match="cannot be changed"):
        TrustFolder(tmp_path / "file" / "t", "user").add(
            released(key, tmp_path / "a.pub.pem"), name=None, flatpacks=[], development=False
        )
