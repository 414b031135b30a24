"""Whom to trust here: the user, the project, the settings, the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatpack_build.box.keys import load_public_key
from flatpack_build.box.policy import load_policy, project_trust, trust_mode, user_trust
from flatpack_build.box.trust import TrustMode, judge_box
from flatpack_build.errors import BoxError, KeyFileError, ManifestError, UsageError
from flatpack_build.project import Project, find_project
from tests.box.samples import KeyPair, released


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
