"""Fills in the templates beside it: shell values quoted for the shell, HTML escaped. Knows no step."""

from __future__ import annotations

import shlex


def render(template: str, **values: str | int) -> str:
    """The text of ``templates/<template>`` with ``values`` filled in; a name that it lacks is an error."""
    # Imported here: jinja2 costs 40 ms, and the table of steps is on the way to "nothing to do".
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("flatpack_build.steps", "templates"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        # Not "{#": the shell writes ${#array}.
        comment_start_string="<%#",
        comment_end_string="#%>",
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment.get_template(template).render(values)
