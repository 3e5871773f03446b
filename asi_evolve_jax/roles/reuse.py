"""What is computed once: an Artifact is made once, and measured once a rung.

Programs that come to equal computations share an Artifact, and with it what
was measured of it. A repeat is there to check that, and shares nothing.
"""

from __future__ import annotations

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, REPEAT, Artifact, Result
from asi_evolve_jax.roles.attempt import Attempt, recordable


def artifact_fault(attempt: Attempt) -> str:
  """Returns why what its stages made cannot be an Artifact, or ""."""
  hash = attempt.report.get("artifact_hash")
  if not isinstance(hash, str) or not hash.isalnum() or len(hash) > 64:
    return "its report has no artifact_hash, a name of letters and digits"
  return ""


def keep_artifact(attempt: Attempt, records: Records, track: str) -> Artifact:
  """Stores the payload of an attempt, and returns the record to write.

  Args:
    attempt: whose stage has just made it, without a fault.
    records: that hold the payload from now on.
    track: its name.
  """
  report = attempt.report
  platform = report.get("platform", "cpu")
  attempt.artifact = report["artifact_hash"]
  return Artifact(
    hash=attempt.artifact,
    program=attempt.task.program,
    track=track,
    platform=platform if isinstance(platform, str) else "cpu",
    shape_key=attempt.shape_key,
    blob=records.put_bytes(attempt.payload),
    report=recordable(report),
  )


def take_artifact(attempt: Attempt, records: Records, view: View) -> None:
  """Lets an attempt go on behind the stage that would make it again."""
  if attempt.task.purpose == REPEAT:
    return  # from the source on
  known = view.artifacts.get((attempt.task.program, attempt.shape_key))
  payload = records.get_bytes(known.blob) if known else None
  if known is None or payload is None:
    return
  attempt.artifact = known.hash
  attempt.payload = payload
  attempt.report.update(known.report)
  makers = [i for i, s in enumerate(attempt.stages) if s.makes_artifact]
  attempt.index = makers[0] + 1


def measured(attempt: Attempt, view: View) -> Result | None:
  """Returns an ok Result of an equal Artifact that says the same, if any."""
  task = attempt.task
  for program in sorted(view.artifact_users.get(attempt.artifact, ())):
    for known in view.results_of.get(program, ()):
      if (
        known.status == OK
        and known.artifact == attempt.artifact
        and known.rung == task.rung
        and known.seeds == task.seeds
        and known.purpose == task.purpose
      ):
        return known
  return None
