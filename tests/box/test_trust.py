from __future__ import annotations

import io
import shutil
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.keys import load_public_key
from flatpack_build.box.policy import load_policy, policy_of_keys, project_trust, trust_mode, user_trust
from flatpack_build.box.trust import EVERYTHING, TrustedKey, TrustMode, TrustPolicy, judge_box
from flatpack_build.box.trusted_keys import TrustFolder
from flatpack_build.errors import BoxError, FlatpackError, KeyFileError, ManifestError, UsageError
from flatpack_build.project import Project, find_project
from tests.box.original import original_box, original_folder, original_payload
from tests.box.samples import KeyPair, make_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    """A box of the flatpack "chat"."""
    return make_box(tmp_path_factory.mktemp("boxes"), key.private)


def released(pair: KeyPair, path: Path) -> Path:
    """The public key of ``pair`` without the mark of a development key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(pair.public_file.read_text().splitlines(keepends=True)[1:]))
    return path


def _policy(pair: KeyPair, *flatpacks: str, mode: TrustMode = TrustMode.ENFORCE) -> TrustPolicy:
    return TrustPolicy(mode, (TrustedKey("maker", pair.public, flatpacks or EVERYTHING, "user"),))


@pytest.mark.parametrize("flatpacks", [(), ("chat",), ("other", "ch*"), ("[abc]hat",)])
def test_a_trusted_key_for_this_flatpack(box: Path, key: KeyPair, flatpacks: tuple[str, ...]) -> None:
    judgement = judge_box(box, _policy(key, *flatpacks))
    assert judgement.verified and judgement.verified.key_id == key.public.key_id
    assert judgement.trusted and judgement.trusted.name == "maker"
    assert (judgement.flatpack, judgement.warning) == ("chat", "")


@pytest.mark.parametrize("flatpacks", [("cha",), ("chat-*",), ("CHAT",), ("other", "?")])
def test_a_trusted_key_for_others_only(box: Path, key: KeyPair, flatpacks: tuple[str, ...]) -> None:
    with pytest.raises(BoxError) as caught:
        judge_box(box, _policy(key, *flatpacks))
    assert f"signed by maker {key.public.key_id[:12]}, which may not sign the flatpack 'chat'" in caught.value.message
    assert ", ".join(sorted(flatpacks)) in caught.value.message
    judgement = judge_box(box, _policy(key, *flatpacks, mode=TrustMode.WARN))
    assert judgement.verified and judgement.trusted is None
    assert "may not sign" in judgement.warning


def test_two_decisions_on_one_key_add_up(box: Path, key: KeyPair) -> None:
    keys = (TrustedKey("a", key.public, ("x",), "user"), TrustedKey("b", key.public, ("chat",), "project"))
    judgement = judge_box(box, TrustPolicy(TrustMode.ENFORCE, keys))
    assert judgement.trusted and judgement.trusted.name == "b"


def test_an_unknown_signer_is_refused_naming_who_is_trusted(box: Path, other_key: KeyPair, key: KeyPair) -> None:
    with pytest.raises(BoxError) as caught:
        judge_box(box, _policy(other_key, "demo-*"))
    assert f"trusted keys: maker {other_key.public.key_id[:12]} for demo-*" in caught.value.message
    assert "unknown key" in caught.value.message
    assert "flatpack trust add" in caught.value.hint
    judgement = judge_box(box, _policy(other_key, mode=TrustMode.WARN))
    assert (judgement.verified, judgement.trusted, judgement.flatpack) == (None, None, "chat")
    assert "unknown key" in judgement.warning


def test_who_signed_is_said_where_the_key_is_at_hand(box: Path, other_key: KeyPair, key: KeyPair) -> None:
    policy = TrustPolicy(TrustMode.ENFORCE, _policy(other_key).keys, (other_key.public_file, key.public_file))
    with pytest.raises(BoxError) as caught:
        judge_box(box, policy)
    message = f"signed by a development key that is not trusted here: {key.public.key_id[:12]} ({key.public_file})"
    assert message in caught.value.message
    assert other_key.public.key_id[:12] in caught.value.message.split("trusted keys:")[1]
    assert caught.value.hint.endswith(f"flatpack trust add {key.public_file} --development")


def test_nobody_is_trusted_at_first(box: Path) -> None:
    with pytest.raises(BoxError, match="unknown key, one of 2048 bits; trusted keys: none"):
        judge_box(box, TrustPolicy(TrustMode.ENFORCE, ()))
    assert judge_box(box, TrustPolicy(TrustMode.WARN, ())).warning


@pytest.mark.parametrize("mode", [TrustMode.ENFORCE, TrustMode.WARN])
def test_what_was_changed_or_is_no_box_is_refused_in_both_modes(
    tmp_path: Path, box: Path, key: KeyPair, mode: TrustMode
) -> None:
    data = bytearray(box.read_bytes())
    data[500] ^= 1
    for content, message in (
        (bytes(data), "damaged"),
        (box.read_bytes()[: -256 - 25], "no signature"),
        (b"hello", "not a box"),
    ):
        (tmp_path / "a.fpk").write_bytes(content)
        with pytest.raises(BoxError, match=message):
            judge_box(tmp_path / "a.fpk", _policy(key, mode=mode))


def test_off_looks_at_no_signature(tmp_path: Path, box: Path, key: KeyPair) -> None:
    (tmp_path / "a.fpk").write_bytes(box.read_bytes()[:-1] + b"x")
    judgement = judge_box(tmp_path / "a.fpk", _policy(key, mode=TrustMode.OFF))
    assert (judgement.verified, judgement.trusted, judgement.looked_at) == (None, None, False)
    assert "off" in judgement.warning
    (tmp_path / "a.fpk").write_bytes(b"hello")
    with pytest.raises(BoxError, match="not a box"):
        judge_box(tmp_path / "a.fpk", _policy(key, mode=TrustMode.OFF))


def test_the_name_of_an_original_box_is_its_folder(tmp_path: Path, key: KeyPair) -> None:
    box = tmp_path / "other-name.fpk"
    box.write_bytes(original_box(original_payload(original_folder(tmp_path)), key.private.rsa))
    assert judge_box(box, _policy(key, "chat")).flatpack == "chat"
    with pytest.raises(BoxError, match="may not sign the flatpack 'chat'"):
        judge_box(box, _policy(key, "other-name"))


def test_a_box_without_a_name_needs_a_key_for_everything(tmp_path: Path, key: KeyPair) -> None:
    (tmp_path / "chat").write_text("a single file")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("chat/a"))
        archive.addfile(tarfile.TarInfo("other/a"))
    for payload in (original_payload(tmp_path / "chat"), zstandard.compress(stream.getvalue())):
        (tmp_path / "chat.fpk").write_bytes(original_box(payload, key.private.rsa))
        assert judge_box(tmp_path / "chat.fpk", _policy(key)).flatpack is None
        with pytest.raises(BoxError, match="does not say which flatpack it is"):
            judge_box(tmp_path / "chat.fpk", _policy(key, "chat", "?*"))


def test_keys_of_the_command_line_are_all_that_counts(box: Path, key: KeyPair, other_key: KeyPair) -> None:
    assert judge_box(box, policy_of_keys([key.public])).trusted
    with pytest.raises(BoxError, match="unknown key"):
        judge_box(box, policy_of_keys([other_key.public]))


# --- the folder


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


# --- the policy


def _project(root: Path, settings: str = "") -> Project:
    root.mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text(f"[tool.flatpack-build]\n{settings}")
    return find_project(root, {})


def _user(tmp_path: Path, config: str = "") -> dict[str, str]:
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "config.toml").write_text(config)
    return {"FLATPACK_CONFIG": str(tmp_path / "config")}


@pytest.mark.parametrize(
    ("environment", "project", "user", "mode"),
    [
        ("", "", "", "enforce"),
        ("", "warn", "", "warn"),
        ("", "", "off", "off"),
        ("", "off", "enforce", "enforce"),
        ("", "warn", "off", "warn"),
        ("", "enforce", "off", "enforce"),
        ("off", "enforce", "enforce", "off"),
        ("enforce", "off", "off", "enforce"),
    ],
)
def test_the_mode(tmp_path: Path, environment: str, project: str, user: str, mode: str) -> None:
    environ = _user(tmp_path, f'trust = "{user}"\n' if user else "") | {"FLATPACK_TRUST": environment}
    there = _project(tmp_path / "p", f'trust = "{project}"\n' if project else "")
    assert trust_mode(there, environ) is TrustMode(mode)


def test_modes_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FLATPACK_TRUST is 'no'"):
        trust_mode(None, {"FLATPACK_TRUST": "no"})
    with pytest.raises(ManifestError, match='expected "enforce", "warn" or "off"') as caught:
        trust_mode(None, _user(tmp_path, "trust = true\n"))
    assert caught.value.place and caught.value.place.line == 1
    with pytest.raises(ManifestError, match="unknown key 'trusts'"):
        trust_mode(None, _user(tmp_path, 'trusts = "off"\n'))
    with pytest.raises(ManifestError, match='expected "enforce", "warn" or "off", got the text "of"'):
        _project(tmp_path / "p", 'trust = "of"\n')


def test_all_places_of_keys(tmp_path: Path, key: KeyPair, other_key: KeyPair, large_key: KeyPair) -> None:
    environ = _user(tmp_path)
    project = _project(tmp_path / "p", 'trusted_keys = ["vendor.pub.pem"]\n')
    released(other_key, project.root / "vendor.pub.pem")
    user_trust(environ).add(released(large_key, tmp_path / "u.pem"), name="u", flatpacks=["x"], development=False)
    project_trust(project).add(tmp_path / "u.pem", name="team", flatpacks=["y"], development=False)
    project.public_key.write_text(key.public_file.read_text())
    policy = load_policy(project, environ)
    assert [(each.name, each.scope, each.flatpacks, each.key.key_id) for each in policy.keys] == [
        ("u", "user", ("x",), large_key.public.key_id),
        ("team", "project", ("y",), large_key.public.key_id),
        ("vendor", "settings", ("*",), other_key.public.key_id),
        ("(own)", "signing key", ("*",), key.public.key_id),
    ]
    assert len(policy.public_keys) == 3
    assert (project.root / "keys/trusted/team.pub.pem").is_file()
    assert [each.name for each in load_policy(None, environ).keys] == ["u"]


def test_a_projects_development_key_is_trusted_there_and_nowhere_else(tmp_path: Path, box: Path, key: KeyPair) -> None:
    environ = _user(tmp_path)
    mine, other = _project(tmp_path / "mine"), _project(tmp_path / "other")
    for name in ("development.pub.pem", "second.pub.pem"):
        (mine.root / "keys").mkdir(exist_ok=True)
        (mine.root / "keys" / name).write_text(key.public_file.read_text())
    judgement = judge_box(box, load_policy(mine, environ))
    assert judgement.trusted and judgement.trusted.scope == "signing key"
    for project in (other, None):
        with pytest.raises(BoxError, match="unknown key"):
            judge_box(box, load_policy(project, environ))
    (other.root / "keys").mkdir()
    (other.root / "keys" / "theirs.pub.pem").write_text(key.public_file.read_text())
    with pytest.raises(BoxError, match="signed by a development key that is not trusted here"):
        judge_box(box, load_policy(other, environ))


def test_a_key_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    project = _project(tmp_path / "p", 'trusted_keys = ["gone.pem"]\n')
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_policy(project, _user(tmp_path))


def test_loading_tells_where_a_key_came_from(tmp_path: Path, key: KeyPair) -> None:
    path = released(key, tmp_path / "a.pub.pem")
    assert load_public_key(path).source == str(path)
