from __future__ import annotations

import gzip
import hashlib
import os
import random
import socket
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching.http import Client, Policy, public_url
from tests.fetching.server import Exchange, Request, Site
from tests.heard import Heard

DATA = random.Random(7).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def client(policy: Policy) -> Client:
    return Client(policy, environ={})


def test_downloads_and_reports(site: Site, client: Client, out: Path) -> None:
    listener = Heard()
    with events.listening(listener):
        digest, size = client.download(site.serve("/a", DATA), out / "a", SHA)
    assert (digest, size) == (SHA, len(DATA))
    assert (out / "a").read_bytes() == DATA
    assert listener.steps[-1] == (len(DATA), len(DATA), "bytes")
    assert listener.notes == []


def test_resumes_where_the_connection_broke(site: Site, client: Client, out: Path, waits: list[float]) -> None:
    url = site.ranges("/a", DATA, cut_after=[1_000_000, 0, 500_000])
    listener = Heard()
    with events.listening(listener):
        digest, _ = client.download(url, out / "a", SHA)
    assert digest == SHA
    starts = [request.headers.get("range") for request in site.requests]
    assert starts[0] is None
    assert [start is not None for start in starts[1:]] == [True, True, True]
    assert int(str(starts[3]).removeprefix("bytes=").rstrip("-")) > 1_000_000, "what had come was thrown away"
    assert len(waits) == 3
    assert any("resumed at byte" in note for note in listener.notes)


def test_a_file_that_changes_meanwhile_is_fetched_anew(site: Site, client: Client, out: Path) -> None:
    new = DATA[::-1]

    def handler(exchange: Exchange, request: Request) -> None:
        if len(site.requests) == 1:
            exchange.reply(200, DATA[:1_000_000], ETag='"old"', Content_Length=str(len(DATA)))
            exchange.cut()
        else:
            assert request.headers["if-range"] == '"old"'
            exchange.reply(200, new, ETag='"new"')

    site.routes["/a"] = handler
    client.download(site.url + "/a", out / "a")
    assert (out / "a").read_bytes() == new


def test_a_range_of_another_version_is_not_taken(site: Site, client: Client, out: Path) -> None:
    """A server that ignores If-Range and sends the rest of the new file."""
    new = DATA[::-1]

    def handler(exchange: Exchange, request: Request) -> None:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if len(site.requests) == 1:
            exchange.reply(200, DATA[:1_000_000], ETag='"old"', Content_Length=str(len(DATA)))
            exchange.cut()
        elif start:
            place = f"bytes {start}-{len(new) - 1}/{len(new)}"
            exchange.reply(206, new[start:], ETag='"new"', Content_Range=place)
        else:
            exchange.reply(200, new, ETag='"new"')

    site.routes["/a"] = handler
    client.download(site.url + "/a", out / "a")
    assert (out / "a").read_bytes() == new


def test_mixed_versions_under_one_tag_are_found_by_the_digest(site: Site, client: Client, out: Path) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if len(site.requests) == 1:
            exchange.reply(200, bytes(1_000_000), ETag='"same"', Content_Length=str(len(DATA)))
            exchange.cut()
        elif start:
            place = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            exchange.reply(206, DATA[start:], ETag='"same"', Content_Range=place)
        else:
            exchange.reply(200, DATA, ETag='"same"')

    site.routes["/a"] = handler
    assert client.download(site.url + "/a", out / "a", SHA)[0] == SHA
    assert len(site.requests) == 3


def test_no_range_without_a_strong_tag(site: Site, client: Client, out: Path) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        assert "range" not in request.headers
        cut = len(site.requests) == 1
        exchange.reply(200, DATA[:5000] if cut else DATA, ETag='W/"weak"', Content_Length=str(len(DATA)))
        if cut:
            exchange.cut()

    site.routes["/a"] = handler
    assert client.download(site.url + "/a", out / "a")[0] == SHA


def test_range_not_satisfiable_starts_again(site: Site, client: Client, out: Path) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        if "range" in request.headers:
            exchange.reply(416, Content_Range="bytes */5")
        elif len(site.requests) == 1:
            exchange.reply(200, DATA[:5000], ETag='"a"', Content_Length=str(len(DATA)))
            exchange.cut()
        else:
            exchange.reply(200, b"short", ETag='"b"')

    site.routes["/a"] = handler
    client.download(site.url + "/a", out / "a")
    assert (out / "a").read_bytes() == b"short"


def test_always_cut_short_is_an_error(site: Site, client: Client, out: Path, waits: list[float]) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        exchange.reply(200, DATA[:1000], Content_Length=str(len(DATA)))
        exchange.cut()

    site.routes["/a"] = handler
    with pytest.raises(SourceError, match=r"cut short.*tried 5 times"):
        client.download(site.url + "/a", out / "a")
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_a_chunked_answer_that_ends_early_is_noticed(site: Site, client: Client, out: Path) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        exchange.send_response(200)
        exchange.send_header("Transfer-Encoding", "chunked")
        exchange.end_headers()
        exchange.wfile.write(b"5\r\nhello\r\n")
        if len(site.requests) == 1:
            exchange.cut()
        else:
            exchange.wfile.write(b"0\r\n\r\n")

    site.routes["/a"] = handler
    client.download(site.url + "/a", out / "a")
    assert (out / "a").read_bytes() == b"hello"
    assert len(site.requests) == 2


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("", 0.5)])
def test_busy_then_well(site: Site, client: Client, out: Path, waits: list[float], header: str, wait: float) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        if len(site.requests) == 1:
            exchange.reply(503, b"busy", **({"Retry_After": header} if header else {}))
        else:
            exchange.reply(200, DATA)

    site.routes["/a"] = handler
    assert client.download(site.url + "/a", out / "a")[0] == SHA
    assert waits == [wait]


def test_retry_after_as_a_date(site: Site, waits: list[float], out: Path) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        if len(site.requests) == 1:
            exchange.reply(429, Retry_After="Thu, 01 Jan 1970 00:01:40 GMT")
        else:
            exchange.reply(200, b"x")

    site.routes["/a"] = handler
    policy = Policy(sleep=waits.append, now=lambda: 90.0, chance=lambda: 0.0)
    Client(policy, environ={}).download(site.url + "/a", out / "a")
    assert waits == [10.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(
    site: Site, client: Client, out: Path, waits: list[float]
) -> None:
    site.routes["/a"] = lambda exchange, _: exchange.reply(503, Retry_After="3600")
    with pytest.raises(SourceError, match="asks to wait 3600 s"):
        client.download(site.url + "/a", out / "a")
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_refusals_are_final(site: Site, client: Client, out: Path, waits: list[float], status: int) -> None:
    site.routes["/a"] = lambda exchange, _: exchange.reply(status, b"no")
    with pytest.raises(SourceError, match=f"status {status}") as caught:
        client.download(site.url + "/a", out / "a")
    assert len(site.requests) == 1
    assert waits == []
    assert caught.value.hint


def test_wrong_digest_names_both(site: Site, client: Client, out: Path) -> None:
    with pytest.raises(VerificationError, match=f"(?s)expected sha256 {'0' * 64}.*got +sha256 {SHA}"):
        client.download(site.serve("/a", DATA), out / "a", "0" * 64)


def test_no_more_is_taken_than_was_locked(site: Site, client: Client, out: Path, waits: list[float]) -> None:
    with pytest.raises(VerificationError, match="more than the 1,000 bytes came that were locked"):
        client.download(site.serve("/a", DATA), out / "a", SHA, most=1000)
    assert (out / "a").stat().st_size <= 1000 < len(DATA)
    assert len(site.requests) == 1 and waits == []
    client.download(site.url + "/a", out / "b", SHA, most=len(DATA))


def test_nobody_listens(client: Client, out: Path, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(SourceError, match=r"refused \(tried 5 times\)"):
            client.download(f"http://127.0.0.1:{port}/a", out / "a")
    assert len(waits) == 4


def test_a_silent_server_times_out(out: Path, waits: list[float]) -> None:
    policy = Policy(sleep=waits.append, attempts=2, read_timeout=0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceError, match="no answer in time"):
            Client(policy, environ={}).download(f"http://127.0.0.1:{silent.getsockname()[1]}/", out / "a")


def test_redirects(site: Site, client: Client, out: Path) -> None:
    site.routes["/a"] = lambda exchange, _: exchange.reply(302, Location="/b")
    site.serve("/b", DATA)
    assert client.download(site.url + "/a", out / "a")[0] == SHA
    site.routes["/circle"] = lambda exchange, _: exchange.reply(302, Location="/circle")
    with pytest.raises(SourceError, match="circles"):
        client.download(site.url + "/circle", out / "b")


def test_a_token_does_not_follow_a_redirect_to_another_host(site: Site, policy: Policy, out: Path) -> None:
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    site.routes["/a"] = lambda exchange, _: exchange.reply(302, Location=elsewhere + "/b")
    site.serve("/b", b"x")
    Client(policy, token="secret-token", environ={}).download(site.url + "/a", out / "a")
    first, second = site.requests
    assert first.headers["authorization"] == "Bearer secret-token"
    assert "authorization" not in second.headers


def test_a_server_that_compresses_unasked(site: Site, client: Client, out: Path) -> None:
    url = site.serve("/a", gzip.compress(DATA), Content_Encoding="gzip")
    assert client.download(url, out / "a")[0] == SHA
    assert site.requests[0].headers["accept-encoding"] == "identity"


def test_netrc_is_used_and_stays_secret(
    site: Site, policy: Policy, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hush-hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", os.fspath(netrc))
    site.routes["/a"] = lambda exchange, _: exchange.reply(403)
    with pytest.raises(SourceError) as caught:
        Client(policy, environ={}).download(site.url + "/a?token=also-secret", out / "a")
    assert site.requests[0].headers["authorization"].startswith("Basic ")
    assert "secret" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_public_url() -> None:
    assert public_url("https://me:pw@example.org:8443/a/b?sig=1#x") == "https://example.org:8443/a/b?…"


def test_empty_file(site: Site, client: Client, out: Path) -> None:
    assert client.download(site.serve("/a", b""), out / "a") == (hashlib.sha256(b"").hexdigest(), 0)


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "many"])
def test_a_length_that_is_no_number_is_none(site: Site, client: Client, out: Path, length: str) -> None:
    def handler(exchange: Exchange, request: Request) -> None:
        exchange.reply(200, b"abc", Content_Length=length)
        exchange.cut()

    site.routes["/f"] = handler
    assert client.download(site.url + "/f", out / "f") == (Digest.of_bytes(b"abc"), 3)


@pytest.mark.parametrize("after", ["\xb2", "9" * 5000, "Mon, 01 Jan 0001 00:00:00 -0000"])
def test_a_time_to_wait_that_is_no_time_is_none(
    site: Site, client: Client, out: Path, waits: list[float], after: str
) -> None:
    site.routes["/f"] = lambda exchange, _: exchange.reply(503, Retry_After=after)
    with pytest.raises(SourceError, match="tried 5 times"):
        client.download(site.url + "/f", out / "f")
    assert len(waits) == 4


def test_what_a_server_says_cannot_steer_the_terminal(site: Site, client: Client, out: Path) -> None:
    site.routes["/f"] = lambda exchange, _: exchange.reply(403, X_Error_Message="\x1b]0;mine\x07 \x9b2J")
    with pytest.raises(SourceError) as caught:
        client.download(site.url + "/f", out / "f")
    assert "\x1b" in str(caught.value), "the server did not get it through"
    assert not {"\x1b", "\x07", "\x9b"} & set(caught.value.shown("/nowhere"))
