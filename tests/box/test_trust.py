"""The verdict on a box: who signed it, and whether that key may sign that flatpack."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from flatpack_build.box.policy import policy_of_keys
from flatpack_build.box.trust import EVERYTHING, TrustedKey, TrustMode, TrustPolicy, judge_box
from flatpack_build.errors import BoxError
from tests.box.original import original_box, original_folder, original_payload
from tests.box.samples import KeyPair


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
