"""Runs a declared build step and watches what it looks for: a file that it did not declare is named, and an error.

The step itself knows nothing of this: what lies around it is no part of its key.
"""

from __future__ import annotations

from flatpack_build import events, fs
from flatpack_build.action import StepFunction, Surroundings
from flatpack_build.errors import StepError, UsageError
from flatpack_build.executor.protocol import Job
from flatpack_build.params import RunParams
from flatpack_build.sandbox import Observation, observing
from flatpack_build.tracing import strace_problem
from flatpack_build.undeclared import Observed, explained, refusal


def run_declared(step: StepFunction, job: Job, around: Surroundings, *, trace: bool) -> None:
    """Run the step of ``job``; with ``trace`` under strace. Raises ``FlatpackError``, with the step's place."""
    if trace and strace_problem(job.out.parent):
        raise UsageError(
            f"FLATPACK_TRACE is set, but build steps cannot be traced here: {strace_problem()}",
            hint="install strace, or build without FLATPACK_TRACE",
        )
    with observing(trace=trace) as observation:
        try:
            step(job.params, job.inputs, job.out)
        except StepError as error:
            raise explained(error, around, _observed(job, observation)) from error
    seen = _observed(job, observation)
    problem = refusal(around, seen) if seen else None
    if problem:
        raise problem
    if trace:
        events.note(f"build step {around.name!r} was traced: it looked for nothing that it does not declare")


def _observed(job: Job, observation: Observation) -> Observed | None:
    """What is known of the one command that ran; ``None`` when none was started."""
    assert isinstance(job.params, RunParams)
    if not observation.results:
        return None
    result = observation.results[-1]
    given = frozenset(name for folder in job.inputs.values() for name, _ in fs.walk_files(folder))
    return Observed(given, job.params.outputs, result.folder, result.output, result.missed, result.reached)
