"""What the judge says a build would do is what a build then does, and looking changes nothing. Reasons name the cause."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile, SourceTree
from flatpack_build.builder import Builder
from flatpack_build.explain import Explanation
from flatpack_build.graph import Graph, in_order
from flatpack_build.judge import Judgement, judge
from flatpack_build.last import read_last
from flatpack_build.params import IndexParams, Params
from flatpack_build.reasons import Reasons
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from tests.computing import LINKS, Computing, Ground, linked, step, write
from tests.heard import Heard


class Yard(Ground):
    """A ground whose builds leave word for explanations, and that can be judged."""

    def _builder(self, graph: Graph, runner: Runner, versions: Mapping[str, str], forced: tuple[str, ...]) -> Builder:
        digests = DigestCache(self.root / "digests.json")
        return Builder(
            runner,
            [graph],
            digests=lambda _flatpack: digests,
            versions=lambda tool: versions.get(tool, "1"),
            record=Record(self.root / "record.jsonl"),
            forced=forced,
        )

    def make(self, actions: list[Action], *names: str, forced: tuple[str, ...] = ()) -> list[str]:
        """Build (all, or what the names need); what ran."""
        graph = Graph("x", in_order("x", actions), ())
        self.executor.ran = []
        scratch = Scratch(self.root / "cache")
        store = LocalStore(self.root / "cache")
        builder = self._builder(
            graph, Runner(store, LocalActionCache(self.root / "cache"), self.executor, scratch), {}, forced
        )
        wanted = graph.closure(names or graph.actions)
        try:
            for name in graph.actions:
                if name in wanted and not builder.check(name):
                    builder.run(name, Heard())
        finally:
            builder.keep_last(self.root / "last")
            scratch.close()
        return self.executor.ran

    def look(
        self, actions: list[Action], *, forced: tuple[str, ...] = (), versions: Mapping[str, str] | None = None
    ) -> Reasons:
        """Judge without building."""
        graph = Graph("x", in_order("x", actions), ())
        store, cache = LocalStore(self.root / "cache"), LocalActionCache(self.root / "cache")
        runner = Runner(store, cache, self.executor, Scratch(self.root / "cache"))
        last = read_last(self.root / "last/x.json")
        builder = self._builder(graph, runner, versions or {}, forced)
        judgements = judge(builder, runner, graph, forced, last)
        return Reasons(judgements, last, cache, store, builder.tree, lambda _pack: "", os.fspath(self.root))

    def verdicts(self, actions: list[Action], *, forced: tuple[str, ...] = ()) -> dict[str, str]:
        return {name: judged.verdict for name, judged in self.look(actions, forced=forced).judgements.items()}

    def why(self, actions: list[Action], name: str) -> list[Explanation]:
        return self.look(actions).explain([name])


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    write(yard, "source", "a\nb\nc\n")
    write(yard, "other", "b")
    return yard


def chain(yard: Yard) -> list[Action]:
    """source -> fold (ignores case) -> last; and ``other``, which depends on nothing of it."""
    return [
        step("fold", upper=True, source=SourceFile(str(yard.user / "source"))),
        step("last", first=Output("fold", "result")),
        step("other", tree=SourceTree(str(yard.user), ("other",))),
    ]


def everything(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        os.fspath(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
    }


def test_what_was_never_built_would_run(yard: Yard) -> None:
    assert set(yard.verdicts(chain(yard)).values()) == {"would run"}
    assert [item.reason for item in yard.why(chain(yard), "last")] == ["it has not been built here yet"] * 2


def test_nothing_changed(yard: Yard) -> None:
    yard.make(chain(yard))
    os.utime(yard.user / "source")
    assert set(yard.verdicts(chain(yard)).values()) == {"up to date"}
    (why,) = yard.why(chain(yard), "last")
    assert why.reason.startswith("nothing has changed")
    assert why.changes == ()


def test_an_edit_is_shown_line_by_line_at_its_cause(yard: Yard) -> None:
    yard.make(chain(yard))
    write(yard, "source", "a\nB\nc\n")
    assert yard.verdicts(chain(yard)) == {"fold": "would run", "last": "may run", "other": "up to date"}
    last, fold = yard.why(chain(yard), "last")
    assert last.waits_for == ("fold",)
    assert "if what that makes comes out as before, this stays as it is" in last.reason
    (change,) = fold.changes
    (file,) = change.files
    assert (change.part, file.path) == ("input source", "user/source")
    assert file.lines[1:] == (" a", "-b", "+B", " c")
    assert yard.make(chain(yard)) == ["fold"]


def test_an_early_cutoff_is_told_as_one(yard: Yard) -> None:
    yard.make(chain(yard))
    write(yard, "source", "A\nb\nc\n")
    yard.make(chain(yard), "fold")
    last, fold = yard.why(chain(yard), "last")
    assert last.verdict == "up to date"
    assert "came out the same" in last.reason
    assert fold.changes[0].part == "input source"


def test_what_was_rebuilt_since_is_still_the_cause(yard: Yard) -> None:
    yard.make(chain(yard))
    write(yard, "source", "new\nb\nc\n")
    yard.make(chain(yard), "fold")
    last, fold = yard.why(chain(yard), "last")
    assert last.verdict == "would run"
    assert last.changes[0].producer == "fold"
    assert fold.since == "last"
    assert fold.verdict == "up to date"
    assert "-a" in fold.changes[0].files[0].lines
    assert yard.why(chain(yard), "fold")[0].reason.startswith("nothing has changed")  # since its own last build


def test_files_that_came_and_went(yard: Yard) -> None:
    write(yard, "third", "c")
    before = [step("x", tree=SourceTree(str(yard.user), ("other", "source")))]
    yard.make(before)
    after = [step("x", tree=SourceTree(str(yard.user), ("other", "third")))]
    (why,) = yard.why(after, "x")
    assert [(file.path, file.how) for file in why.changes[0].files] == [
        ("user/source", "removed"),
        ("user/third", "added"),
    ]


def test_a_parameter_is_named_with_both_values(yard: Yard) -> None:
    yard.make(chain(yard))
    changed = [step("fold", "new", upper=True, source=SourceFile(str(yard.user / "source"))), *chain(yard)[1:]]
    (why,) = yard.why(changed, "fold")
    assert [(change.part, change.before, change.after) for change in why.changes] == [
        ("parameter command", "fold", "new")
    ]


@dataclasses.dataclass(frozen=True)
class Tooled(Params):
    """A step that depends on a tool's version."""

    step = "tooled"
    tools = ("llama-cpp-python",)


class Anything(Computing):
    def run(self, job, listener):  # type: ignore[no-untyped-def]  # as in the protocol
        from flatpack_build.executor.protocol import Execution

        self.ran.append(job.name)
        (job.out / "result").write_text("made")
        return Execution(0.01, 1, ())


def test_a_new_version_of_a_tool_is_named(yard: Yard) -> None:
    yard.executor = Anything()
    actions = [Action("compress:x", Tooled(), {}), Action("after", IndexParams(), {"in": Output("compress:x")})]
    yard.make(actions)
    after, cause = yard.look(actions, versions={"llama-cpp-python": "2"}).explain(["after"])
    assert cause.action == "compress:x"
    assert [(change.part, change.before, change.after) for change in cause.changes] == [
        ("tool llama-cpp-python", "1", "2")
    ]
    assert after.verdict == "may run"


def test_a_forgotten_action_says_so(yard: Yard) -> None:
    yard.make(chain(yard))
    assert yard.verdicts(chain(yard), forced=("fold",)) == {
        "fold": "would run", "last": "may run", "other": "up to date",
    }  # fmt: skip
    assert "doit forget" in yard.look(chain(yard), forced=("fold",)).reason("fold")


def test_an_output_that_the_cache_lost_is_made_again_if_somebody_reads_it(yard: Yard) -> None:
    yard.make(chain(yard))
    for blob in (yard.root / "cache/blobs").rglob("*"):
        if blob.is_file() and blob.read_text() == "FOLDA\nB\nC\n":
            blob.unlink()
    assert yard.verdicts(chain(yard))["fold"] == "up to date"
    changed = [chain(yard)[0], step("last", "new", first=Output("fold", "result")), chain(yard)[2]]
    assert yard.verdicts(changed) == {"fold": "would run", "last": "would run", "other": "up to date"}
    assert "the cache no longer has its output, and last needs it" in yard.look(changed).reason("fold")
    assert yard.make(changed) == ["fold", "last"]


def test_a_cache_that_was_deleted_is_no_error(yard: Yard) -> None:
    import shutil

    yard.make(chain(yard))
    shutil.rmtree(yard.root / "cache")
    assert {item.verdict for item in yard.why(chain(yard), "last")} == {"would run"}
    assert "cache no longer has" in yard.why(chain(yard), "fold")[0].reason


def test_a_missing_file_is_named_and_what_needs_it_cannot_be_built(yard: Yard) -> None:
    yard.make(chain(yard))
    (yard.user / "source").unlink()
    assert yard.verdicts(chain(yard)) == {"fold": "fails", "last": "fails", "other": "up to date"}
    last, fold = yard.why(chain(yard), "last")
    assert last.reason == "it needs fold, which cannot be built"
    assert "user/source" in fold.reason


def test_without_the_old_content_digests_are_shown(yard: Yard) -> None:
    yard.make(chain(yard))
    write(yard, "source", "x")
    for blob in (yard.root / "cache/blobs").rglob("*"):
        if blob.is_file() and blob.read_text() == "a\nb\nc\n":
            blob.unlink()
    (why,) = yard.why(chain(yard), "fold")
    (file,) = why.changes[0].files
    assert file.lines == ()
    assert file.before is not None
    assert file.after is not None
    assert file.before.digest != file.after.digest


@settings(max_examples=60, deadline=None)
@given(
    links=LINKS,
    edits=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("aAbB"), st.sampled_from(["", "n3", "n5"])), min_size=1, max_size=6
    ),
)
def test_a_build_does_what_the_judge_said(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]], edits: list[tuple[int, str, str]]
) -> None:
    yard = Yard(tmp_path_factory.mktemp("yard"))
    for number in range(3):
        write(yard, str(number), "a")
    actions = linked(yard.user, links)
    for number, text, only in edits:
        write(yard, str(number), text)
        before = everything(yard.root)
        reasons = yard.look(actions)
        reasons.explain(reasons.judgements)
        assert everything(yard.root) == before
        ran = yard.make(actions, *([only] if only else []))
        built = Graph("x", in_order("x", actions), ()).closure([only] if only else reasons.judgements)
        for name in built:
            agrees(reasons.judgements[name], name in ran)


def agrees(judgement: Judgement, ran: bool) -> None:
    """What waits for something may turn out to be in the cache; everything else is certain."""
    if judgement.verdict == "up to date":
        assert not ran
    elif not judgement.waits_for:
        assert judgement.verdict == "would run"
        assert ran
