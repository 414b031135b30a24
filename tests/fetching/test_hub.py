from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching import hub
from flatpack_build.fetching.http import Policy
from flatpack_build.manifest.source import HubSource
from flatpack_build.params import FetchParams
from tests.fetching.server import Exchange, Request, Site
from tests.gguf_files import gguf

COMMIT = "ab" * 20
MODEL = gguf()
TOKEN = "hf_very-secret"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def model_hub(site: Site) -> Site:
    """A hub that holds one repository, with a large file and a small one."""
    lfs = {"sha256": sha(MODEL), "size": len(MODEL)}
    siblings = [
        {"rfilename": "q8/model.gguf", "size": len(MODEL), "blobId": "1", "lfs": lfs},
        {"rfilename": "config.json", "size": 2, "blobId": "2"},
    ]
    answer = json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode()
    site.serve("/api/models/org/model/revision/main", answer)
    site.serve("/api/models/org/model/revision/refs%2Fpr%2F1", answer)
    site.serve(f"/org/model/resolve/{COMMIT}/config.json", b"{}")
    site.ranges(f"/org/model/resolve/{COMMIT}/q8/model.gguf", MODEL, cut_after=[])
    return site


def connect(site: Site, policy: Policy, **environ: str) -> hub.Hub:
    return hub.Hub.from_environment({"HF_ENDPOINT": site.url + "/", "HOME": "/nonexistent", **environ}, policy)


def test_a_large_file_is_resolved_without_its_bytes(model_hub: Site, policy: Policy, out: Path) -> None:
    fetched = hub.resolve(HubSource("org/model", "main", "q8/model.gguf"), out, connect(model_hub, policy))
    assert fetched.files == {"model.gguf": sha(MODEL)}
    assert fetched.identity == {"commit": COMMIT}
    assert fetched.size == len(MODEL)
    assert not fetched.present
    assert fetched.facts["architecture"] == "llama"
    assert list(out.iterdir()) == []


def test_a_small_file_is_downloaded(model_hub: Site, policy: Policy, out: Path) -> None:
    fetched = hub.resolve(HubSource("org/model", "refs/pr/1", "config.json"), out, connect(model_hub, policy))
    assert fetched.files == {"config.json": sha(b"{}")}
    assert fetched.present
    assert (out / "config.json").read_bytes() == b"{}"


def test_fetch_takes_the_locked_commit(model_hub: Site, policy: Policy, out: Path) -> None:
    source = HubSource("org/model", "main", "q8/model.gguf")
    params = FetchParams(str(source), {"model.gguf": sha(MODEL)}, {"commit": COMMIT})
    hub.fetch(params, source, out, connect(model_hub, policy))
    assert (out / "model.gguf").read_bytes() == MODEL
    assert [request.path for request in model_hub.requests] == [f"/org/model/resolve/{COMMIT}/q8/model.gguf"]


def test_fetch_refuses_other_bytes(model_hub: Site, policy: Policy, out: Path) -> None:
    source = HubSource("org/model", "main", "q8/model.gguf")
    params = FetchParams(str(source), {"model.gguf": "0" * 64}, {"commit": COMMIT})
    with pytest.raises(VerificationError):
        hub.fetch(params, source, out, connect(model_hub, policy))


def test_the_token_is_sent_and_never_shown(model_hub: Site, policy: Policy, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    for environ in ({"HF_TOKEN": TOKEN}, {"HF_TOKEN_PATH": str(file)}, {"HF_HOME": str(tmp_path)}):
        model_hub.requests.clear()
        with pytest.raises(SourceError) as caught:
            hub.resolve(HubSource("org/none", "main", "x"), out, connect(model_hub, policy, **environ))
        assert model_hub.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in str(caught.value)


def test_a_repository_that_is_not_there(model_hub: Site, policy: Policy, out: Path) -> None:
    with pytest.raises(SourceError, match="404") as caught:
        hub.resolve(HubSource("org/none", "main", "x"), out, connect(model_hub, policy))
    assert "HF_TOKEN" in caught.value.hint
    assert "authorization" not in model_hub.requests[0].headers


def test_a_file_that_is_not_there(model_hub: Site, policy: Policy, out: Path) -> None:
    with pytest.raises(SourceError, match=r"no file 'model\.gguf'") as caught:
        hub.resolve(HubSource("org/model", "main", "model.gguf"), out, connect(model_hub, policy))
    assert "q8/model.gguf" in caught.value.hint


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"sha": "x", "siblings": []}', b'{"sha": 1}'])
def test_an_endpoint_that_is_no_hub(site: Site, policy: Policy, out: Path, answer: bytes) -> None:
    site.serve("/api/models/org/model/revision/main", answer)
    with pytest.raises(SourceError) as caught:
        hub.resolve(HubSource("org/model", "main", "x"), out, connect(site, policy))
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_hub_that_stumbles(model_hub: Site, policy: Policy, out: Path, waits: list[float]) -> None:
    path = "/api/models/org/model/revision/main"
    good = model_hub.routes[path]

    def handler(exchange: Exchange, request: Request) -> None:
        if len(model_hub.requests) == 1:
            exchange.reply(502)
        elif len(model_hub.requests) == 2:
            exchange.reply(200, b'{"sha', Content_Length="5000")
            exchange.cut()
        else:
            good(exchange, request)

    model_hub.routes[path] = handler
    hub.resolve(HubSource("org/model", "main", "config.json"), out, connect(model_hub, policy))
    assert len(waits) == 2


def test_an_answer_nested_without_end_is_none(model_hub: Site, policy: Policy, out: Path) -> None:
    model_hub.serve("/api/models/org/model/revision/main", b"[" * 200_000)
    with pytest.raises(SourceError, match="does not answer as a model hub does"):
        hub.resolve(HubSource("org/model", "main", "x"), out, connect(model_hub, policy))
