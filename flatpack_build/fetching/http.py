"""Files behind http(s): tried again with patience, resumed where they broke off, checked. Knows no API of any site."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit, urlunsplit

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching.stream import Fetched, Meter, Readable, Sink, mismatch
from flatpack_build.manifest.source import HttpSource
from flatpack_build.params import FetchParams

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

T = TypeVar("T")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_PERMANENT: Mapping[int, tuple[str, str]] = {
    401: ("the server wants credentials", "put them into ~/.netrc"),
    403: ("the server forbids it", "are you allowed to have it? credentials go into ~/.netrc"),
    404: ("there is no such file", "check the address"),
    410: ("the file is gone for good", "find another source"),
}
_PROGRESS = 1 << 20
_CHUNK = 1 << 16  # what is read at once is lost when the connection breaks meanwhile


@dataclass(frozen=True)
class Policy:
    """How patient to be, in seconds. ``attempts``: so many failures in a row, with no megabyte gained, are too many."""

    attempts: int = 5
    backoff: float = 0.5
    longest_wait: float = 60
    connect_timeout: float = 15
    read_timeout: float = 60
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    now: Callable[[], float] = time.time


class TransientError(Exception):
    """What may go better the next time. ``after`` is how many seconds the server asks to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


def public_url(url: str) -> str:
    """The URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))


class _Patience:
    """Counts failures and waits between them."""

    def __init__(self, policy: Policy, what: str) -> None:
        self._policy = policy
        self._what = what
        self._failures = 0

    def renew(self) -> None:
        self._failures = 0

    def wait(self, error: TransientError) -> None:
        """Raises ``SourceError`` when it was once too often."""
        self._failures += 1
        policy = self._policy
        hint = "check the network; what was built so far is kept, so just build again"
        if self._failures >= policy.attempts:
            raise SourceError(f"{self._what}: {error} (tried {self._failures} times)", hint=hint) from error
        if error.after is not None and error.after > policy.longest_wait:
            raise SourceError(
                f"{self._what}: {error}, and asks to wait {error.after:.0f} s", hint="try later"
            ) from error
        # Jitter keeps many machines that failed together from coming back together.
        pause = policy.backoff * 2 ** (self._failures - 1) * (0.5 + policy.chance())
        pause = max(error.after or 0.0, min(pause, policy.longest_wait))
        events.note(f"{self._what}: {error}; trying again in {pause:.1f} s")
        policy.sleep(pause)


class Client:
    """One session. ``token`` goes to the host it was asked for only, never along with a redirect."""

    def __init__(
        self, policy: Policy | None = None, *, token: str = "", environ: Mapping[str, str] = os.environ
    ) -> None:
        import requests  # 80 ms, needed only when there is something to fetch

        self._policy = policy or Policy()
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "flatpack-build"
        # Compressed on the way, lengths and ranges would count other bytes than the file's.
        self._session.headers["Accept-Encoding"] = "identity"
        if not environ.get("REQUESTS_CA_BUNDLE") and not environ.get("CURL_CA_BUNDLE"):
            self._session.verify = environ.get("SSL_CERT_FILE") or True
        self._auth = self._bearer(token) if token else None

    @staticmethod
    def _bearer(token: str) -> Callable[[PreparedRequest], PreparedRequest]:
        def sign(request: PreparedRequest) -> PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        return sign

    def _open(self, url: str, headers: Mapping[str, str]) -> Response:
        """Raises ``SourceError`` for what will not change, ``TransientError`` for what may."""
        import requests

        timeout = self._policy.connect_timeout, self._policy.read_timeout
        try:
            response = self._session.get(url, headers=dict(headers), auth=self._auth, stream=True, timeout=timeout)
        except requests.exceptions.SSLError as error:
            hint = "is the clock right? a certificate of your own goes into REQUESTS_CA_BUNDLE"
            raise SourceError(f"{public_url(url)}: no secure connection: {_reason(error)}", hint=hint) from error
        except requests.exceptions.TooManyRedirects as error:
            raise SourceError(f"{public_url(url)}: it redirects in circles", hint="check the address") from error
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise SourceError(f"{public_url(url)}: not a usable address", hint="check the address") from error
        except requests.exceptions.RequestException as error:
            raise TransientError(_reason(error)) from error
        if url.startswith("https:") and any(hop.url.startswith("http:") for hop in (*response.history, response)):
            response.close()
            raise SourceError(f"{public_url(url)}: it redirects to an unprotected address", hint="use another source")
        if response.status_code in (200, 206, 416):
            return response
        status = f"status {response.status_code}"
        after = self._retry_after(response.headers.get("Retry-After", ""))
        code = response.headers.get("X-Error-Message", "")
        response.close()
        if response.status_code in _TRANSIENT:
            raise TransientError(f"the server is busy or broken ({status})", after)
        reason, hint = _PERMANENT.get(response.status_code, ("the server refuses", "check the address"))
        raise SourceError(f"{public_url(url)}: {reason} ({status}{': ' + code if code else ''})", hint=hint)

    def _retry_after(self, text: str) -> float | None:
        if (seconds := _whole(text)) is not None:
            return seconds
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._policy.now())
        except (TypeError, ValueError, OverflowError):
            return None

    def read(self, url: str, use: Callable[[Readable], T]) -> T:
        """Give the beginning of what is behind ``url`` to ``use``; from the start again when the connection breaks."""
        patience = _Patience(self._policy, public_url(url))
        while True:
            try:
                with self._open(url, {}) as response:
                    return use(_Body(response))
            except TransientError as error:
                patience.wait(error)

    def download(self, url: str, path: Path, expected: str = "", *, most: int = 0) -> tuple[Digest, int]:
        """Write what is behind ``url`` to the new file ``path``; give its sha256 and bytes.

        With the ``expected`` sha256 bytes that are others raise ``VerificationError``, and so do more than ``most`` (0:
        any number). Raises ``SourceError`` when the file cannot be had, ``OSError`` when it cannot be written.
        """
        patience = _Patience(self._policy, public_url(url))
        with Sink(path) as sink:
            transfer = _Transfer(url, sink, most)
            while True:
                before = sink.size
                try:
                    with self._open(url, transfer.headers()) as response:
                        transfer.take(response)
                except TransientError as error:
                    if sink.size - before >= _PROGRESS:
                        patience.renew()
                    patience.wait(error)
                    continue
                if not expected or sink.digest == expected:
                    return sink.digest, sink.size
                if not transfer.resumed:
                    raise mismatch(public_url(url), path.name, expected, sink.digest)
                # Some servers change a file and not its tag: then the two halves are of different files.
                events.note(f"{public_url(url)}: the resumed download does not match; fetching it from the start")
                transfer.restart()


class _Body:
    """A response's bytes as they came. Raises ``TransientError`` where they break off."""

    def __init__(self, response: Response) -> None:
        self._raw = response.raw
        self._decode = response.headers.get("Content-Encoding", "identity") not in ("identity", "")

    def read(self, size: int, /) -> bytes:
        import urllib3

        try:
            data: bytes = self._raw.read(size, decode_content=self._decode)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"the connection broke ({_reason(error)})") from error
        return data


class _Transfer:
    """One download over as many responses as it takes."""

    def __init__(self, url: str, sink: Sink, most: int) -> None:
        self._url = url
        self._sink = sink
        self._most = most
        self._validator = ""
        self._total: int | None = None
        self.resumed = False

    def restart(self) -> None:
        self._sink.restart()
        self._validator = ""
        self.resumed = False

    def headers(self) -> dict[str, str]:
        if not self._sink.size or not self._validator:
            return {}
        return {"Range": f"bytes={self._sink.size}-", "If-Range": self._validator}

    def take(self, response: Response) -> None:
        """Read one response to its end. Raises ``TransientError`` when that comes too early."""
        if response.status_code == 416 or (response.status_code == 206 and not self._continues(response)):
            self.restart()
            raise TransientError("the server cannot go on where the download broke off")
        encoded = response.headers.get("Content-Encoding", "identity") not in ("identity", "")
        length = response.headers.get("Content-Length", "")
        if response.status_code == 206:
            self.resumed = True
            events.note(f"{public_url(self._url)}: resumed at byte {self._sink.size}")
        else:
            self._sink.restart()
            self.resumed = False
            self._total = None if encoded else _whole(length)
            self._validator = "" if encoded else _validator(response)
        meter = Meter(self._total)
        meter.done = self._sink.size
        body = _Body(response)
        while chunk := body.read(_CHUNK):
            if self._most and self._sink.size + len(chunk) > self._most:
                raise VerificationError(
                    f"{public_url(self._url)}: more than the {self._most:,} bytes came that were locked",
                    hint="it was changed where it comes from; if that is right, run: flatpack lock <name>",
                )
            self._sink.write(chunk)
            meter.add(len(chunk))
        if self._total is not None and self._sink.size != self._total:
            raise TransientError(f"cut short: {self._sink.size} of {self._total} bytes came")

    def _continues(self, response: Response) -> bool:
        match = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", "")
        )
        if match is None or not self._sink.size or int(match[1]) != self._sink.size:
            return False
        same = _validator(response) in ("", self._validator)
        return same and (match[2] == "*" or self._total in (None, int(match[2])))


def _whole(text: str) -> int | None:
    """A number in a header; ``None`` for what is none, or is one of more digits than any file has bytes."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text.strip()) else None


def _validator(response: Response) -> str:
    """What names this very version of the file; a weak tag does not say that the bytes are the same."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _reason(error: BaseException) -> str:
    """A network library's nested exceptions in a few words, with no address in them."""
    text = repr(error)
    known = {
        "NameResolution": "the host's name cannot be resolved",
        "Name or service not known": "the host's name cannot be resolved",
        "Temporary failure in name": "the host's name cannot be resolved",
        "Connection refused": "the connection was refused",
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "no answer in time",
        "timed out": "no answer in time",
        "CERTIFICATE_VERIFY": "the certificate is not trusted",
        "IncompleteRead": "cut short",
        "Connection reset": "it was reset",
        "RemoteDisconnected": "the server hung up",
        "Network is unreachable": "the network is unreachable",
        "ProxyError": "the proxy does not answer",
    }
    return next((words for sign, words in known.items() if sign in text), type(error).__name__)


def resolve(source: HttpSource, out: Path, client: Client) -> Fetched:
    """Download the file below ``out`` and say what it is. Raises ``SourceError``."""
    digest, size = client.download(source.url, out / source.name)
    return Fetched({source.name: digest}, {}, size)


def fetch(params: FetchParams, source: HttpSource, out: Path, client: Client) -> None:
    """Raises ``SourceError``, ``VerificationError``."""
    ((name, expected),) = params.files.items()
    client.download(source.url, out / name, expected, most=params.size)
