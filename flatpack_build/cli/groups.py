"""Groups of commands that say what was probably meant where there is no such command. Knows none of the commands."""

from __future__ import annotations

from collections.abc import Mapping

import click


class HelpfulGroup(click.Group):
    """``guessed``: what people type who know other tools -> the command line that does it here."""

    guessed: Mapping[str, str] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            hint = self.hint(args[0], known) or f"see: {ctx.command_path} --help"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def hint(self, word: str, known: list[str]) -> str:
        """What to do instead; empty: nobody knows."""
        if word in self.guessed:
            return f"see: {self.guessed[word]}"
        import difflib  # only for a mistake

        near = difflib.get_close_matches(word, known, n=1)
        return f"did you mean {near[0]!r}?" if near else ""
