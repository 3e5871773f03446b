"""Hostile code in real workers: what each layer of the jail keeps it from.

An attack runs in the whole jail, and where it can be shown, without the layer
that stops it: then it must succeed, or the test would prove nothing.
"""

import errno
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from asi_evolve_jax.evaluation import jail
from asi_evolve_jax.evaluation.jail import Sandbox
from asi_evolve_jax.evaluation.limits import Limits
from asi_evolve_jax.evaluation.stages import Stage, StageRequest
from asi_evolve_jax.evaluation.workers import WorkerPool
from asi_evolve_jax.tracks.circle_packing import packing

HERE = str(pathlib.Path(__file__).parent)
LIMITS = Limits(
  memory_bytes=1 << 30,
  scratch_bytes=8 << 20,
  reply_bytes=64 << 20,
  threads=320,
)
WHOLE = Sandbox()
NONE = Sandbox("none")
SPACES = Sandbox(layers=("namespaces",))
# As in a container that forbids namespaces.
RULES = Sandbox(layers=("landlock", "seccomp"))
MAGIC = b"PLANTED!"


@pytest.fixture(scope="module")
def here():
  """What this machine can do; a test that needs more is skipped."""
  return jail.available()


def needs(here, *layers):
  for name in layers:
    if name not in here.layers:
      why = here.missing.get(name, here.reason) or "not on this kernel"
      pytest.skip(f"no layer {name!r} here: {why}")


@pytest.fixture(scope="module")
def pools():
  sys.path.insert(0, HERE)
  made = {}

  def get(sandbox):
    if sandbox not in made:
      preload = ["escape_stages", "numpy"]
      made[sandbox] = WorkerPool(
        preload, LIMITS, cores=(None,), warm=0, sandbox=sandbox
      )
    return made[sandbox]

  yield get
  for pool in made.values():
    pool.close()
  sys.path.remove(HERE)


@pytest.fixture
def run(pools, tmp_path):
  """Runs a stage to its end and returns the Outcome."""

  def run(sandbox, name, *, trusted=False, deadline_s=20.0, **fields):
    options = fields.pop("options", {})
    request = StageRequest(
      **{
        "source": "",
        "payload": b"",
        "seeds": (0,),
        "options": options,
        "scratch": str(tmp_path / "scratch"),
        "cache": "",
        "deadline_s": deadline_s,
        "author": "symbolic",
      }
      | fields
    )
    entry = name if ":" in name else f"escape_stages:{name}"
    pool = pools(sandbox)
    job = pool.start(
      Stage(name.partition(":")[2] or name, entry, trusted), request
    )
    until = time.monotonic() + deadline_s + 20
    while (outcome := job.poll()) is None:
      assert time.monotonic() < until, "the job does not end"
      pool.wait(0.05)
    return outcome

  return run


@pytest.fixture
def facts(run):
  """Runs a stage that must end well and returns its report."""

  def facts(sandbox, name, **fields):
    outcome = run(sandbox, name, **fields)
    assert outcome.status == "ok", outcome.error
    return outcome.reply.report

  return facts


@pytest.fixture(scope="module")
def victim():
  """A process with a secret in its environment and in its memory."""
  program = (
    "import ctypes; libc = ctypes.CDLL(None);"
    # Lets anybody attach who may at all, whatever Yama says.
    "libc.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0);"
    f"held = ctypes.create_string_buffer({MAGIC!r});"
    "print(ctypes.addressof(held), flush=True); input()"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", program],
    env={**os.environ, "SOME_KEY": MAGIC.decode()},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  process.address = int(process.stdout.readline())
  yield process
  process.kill()
  process.communicate()


def succeeded(report):
  return {name for name, error in report.items() if error == ""}


def test_what_holds_a_worker_is_told_from_outside(here, run):
  outcome = run(WHOLE, "status")
  assert outcome.confinement.layers == here.layers
  assert outcome.confinement.holds == here.holds
  assert run(NONE, "status").confinement.layers == ()


def test_worker_is_alone_without_rights_and_without_descriptors(
  here, facts, tmp_path
):
  needs(here, "seccomp")
  report = facts(WHOLE, "status")
  for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
    assert int(report[name], 16) == 0
  assert report["NoNewPrivs"] == "1"
  assert report["Seccomp"] == "2"
  # The standard ones and the socket that the reply goes through.
  assert len(report["descriptors"]) == 4
  assert report["cwd"] == report["home"] == str(tmp_path / "scratch")
  needs(here, "namespaces")
  assert int(report["Pid"]) == 2


def test_environment_of_other_processes(here, facts, victim):
  path = f"/proc/{victim.pid}/environ"
  assert path in facts(NONE, "environments")["found"]
  for sandbox in (WHOLE, SPACES, RULES):
    needs(here, *set(sandbox.layers) & {"namespaces", "landlock"})
    found = facts(sandbox, "environments")["found"]
    assert found == [] if sandbox is not SPACES else path not in found


def test_files_of_a_person_the_held_out_text_and_others_scratch(
  here, facts, tmp_path
):
  secrets = {}
  for name in ("home/.ssh/id", "corpus/held_out/held_out.bin", "scratch2/log"):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("private")
    secrets[str(path)] = str(path.parent)
  files = {"files": list(secrets)}
  assert succeeded(facts(NONE, "reads", options=files)) == set(secrets)
  folders = {"files": [*secrets.values(), "/", os.path.expanduser("~")]}
  for sandbox in (WHOLE, SPACES, RULES):
    needs(here, *set(sandbox.layers) & {"namespaces", "landlock"})
    assert succeeded(facts(sandbox, "reads", options=files)) == set()
    seen = succeeded(facts(sandbox, "lists", options=folders))
    # Of its root it may see what is there: next to nothing.
    assert seen <= (
      {"/", os.path.expanduser("~")} if sandbox is SPACES else set()
    )


def test_writing_anywhere_but_to_scratch(here, facts, tmp_path):
  victim = tmp_path / "victim.py"

  def attack(sandbox):
    victim.write_text("original")
    return succeeded(facts(sandbox, "writes", options={"victim": str(victim)}))

  assert attack(NONE) >= {"create", "append", "emptied", "chmod", "times"}
  for path in tmp_path.glob("victim*"):
    path.unlink()
  for sandbox in (WHOLE, RULES, SPACES):
    needs(here, *set(sandbox.layers) & {"root", "landlock"})
    assert attack(sandbox) == set()
    assert victim.read_text() == "original"
    assert [p.name for p in tmp_path.glob("victim*")] == ["victim.py"]


def test_scratch_is_its_own_and_nothing_of_it_stays(here, facts, run, tmp_path):
  needs(here, "root")
  assert succeeded(facts(WHOLE, "scratch")) == {"write"}
  assert not (tmp_path / "scratch" / "notes").exists()
  # Where there is no file system of its own, there is no place to write.
  assert succeeded(facts(RULES, "scratch")) == set()


def test_faked_files_are_not_there_for_the_stage_that_trusts_them(
  here, facts, run
):
  needs(here, "root", "landlock")

  def left():
    return facts(NONE, "scratch_listing", trusted=True)["files"]

  for sandbox in (WHOLE, RULES):
    assert run(sandbox, "forged_files").status == "ok"
    assert [f for f in left() if not f.endswith(".log")] == []
  run(NONE, "forged_files")
  assert "seed-0.json" in left()


def test_disk_bomb(here, facts):
  needs(here, "root")
  most = {"bytes": 24 << 20}
  report = facts(WHOLE, "disk_bomb", options=most)
  assert report["error"] == os.strerror(errno.ENOSPC)
  assert report["bytes"] <= LIMITS.scratch_bytes
  assert facts(RULES, "disk_bomb", options=most)["bytes"] == 0
  assert facts(NONE, "disk_bomb", options=most)["error"] == ""


def test_sockets(here, facts, tmp_path):
  with (
    socket.create_server(("127.0.0.1", 0)) as tcp,
    socket.socket(socket.AF_UNIX) as unix,
    socket.socket(socket.AF_UNIX) as abstract,
  ):
    options = {
      "port": tcp.getsockname()[1],
      "unix": f"/tmp/escape-{os.getpid()}",
      "abstract": f"escape-{os.getpid()}",
    }
    unix.bind(options["unix"])
    abstract.bind("\0" + options["abstract"])
    unix.listen()
    abstract.listen()
    try:
      report = {
        sandbox: facts(sandbox, "sockets", options=options)
        for sandbox in (NONE, WHOLE, SPACES, RULES)
      }
    finally:
      os.unlink(options["unix"])
  assert len(succeeded(report[NONE])) == 6
  needs(here, "seccomp")
  assert succeeded(report[WHOLE]) == succeeded(report[RULES]) == set()
  needs(here, "root")
  # A network that is empty and files that are not there, without a filter. It
  # can still talk to itself.
  assert succeeded(report[SPACES]) <= {"pair", "listen"}


def test_fork_bomb_and_thread_bomb(here, facts):
  needs(here, "seccomp")
  most = {"most": 1_000}
  for sandbox in (WHOLE, RULES):
    report = facts(sandbox, "fork_bomb", options=most)
    assert report == {"count": 0, "error": "PermissionError"}
  needs(here, "count")
  report = facts(SPACES, "fork_bomb", options=most)
  assert 100 < report["count"] < LIMITS.threads
  assert report["error"] == "BlockingIOError"
  assert facts(WHOLE, "thread_bomb", options=most)["count"] < LIMITS.threads
  assert facts(NONE, "fork_bomb", options={"most": 400})["error"] == ""


def test_memory_bomb(here, run, facts):
  needs(here, "seccomp")
  outcome = run(WHOLE, "worker_stages:hungry")
  assert outcome.status == "failed"
  assert "config.workers.memory_gb" in outcome.error
  assert succeeded(facts(WHOLE, "memory_bomb")) == set()
  assert succeeded(facts(SPACES, "memory_bomb")) == {"memfd", "shared"}


def test_signals_to_others(here, pools, facts):
  def attack(sandbox):
    pool = pools(sandbox)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
      options = {"server": os.getpid(), "victim": sleeper.pid}
      report = facts(sandbox, "kills", options=options)
      died = sleeper.poll() is not None
      sleeper.kill()
    assert pool._server.poll() is None
    assert report.pop("delivered") == 1
    return succeeded(report) - {"itself"}, died

  # Its parent is the fork server: not attacked where that would succeed.
  needs(here, "seccomp", "landlock")
  assert attack(WHOLE) == attack(RULES) == (set(), False)
  needs(here, "namespaces")
  reached, died = attack(SPACES)
  assert not died
  # The first process of the namespace ignores it, and -1 means nobody else.
  assert reached <= {"parent", "everyone"}


def test_a_process_outside_can_be_killed_without_a_jail(facts):
  # The control of the test above.
  with subprocess.Popen(["sleep", "60"]) as sleeper:
    facts(NONE, "kills_victim", options={"victim": sleeper.pid})
    assert sleeper.wait(5) == -9


def test_memory_and_descriptors_of_others(here, facts, victim):
  options = {"victim": victim.pid, "address": victim.address}
  open_to = succeeded(facts(NONE, "meddles", options=options))
  assert {"ptrace", "read", "maps", "memory"} <= open_to
  needs(here, "landlock", "namespaces")
  for sandbox in (WHOLE, RULES, SPACES):
    assert succeeded(facts(sandbox, "meddles", options=options)) == set()


def test_calls_that_escapes_are_made_of(here, facts):
  needs(here, "seccomp")
  report = facts(WHOLE, "denied_calls")
  unknown = {report.pop(name) for name in ("clone3", "new", "x32")}
  assert unknown == {errno.ENOSYS}
  assert set(report.values()) == {errno.EPERM}


def test_daemons_die_with_the_stage(here, facts):
  def left(name):
    comms = (p.read_text() for p in pathlib.Path("/proc").glob("[0-9]*/comm"))
    try:
      return [c for c in comms if c.strip() == name]
    except OSError:  # one ended while we looked
      return left(name)

  needs(here, "seccomp", "namespaces")
  for i, sandbox in enumerate((WHOLE, SPACES, NONE)):
    name = f"daemon{os.getpid()}.{i}"
    report = facts(sandbox, "daemon", options={"name": name})
    assert report["error"] == ("PermissionError" if sandbox is WHOLE else "")
    assert left(name) == []


def test_replies_that_lie(here, run):
  needs(here, "seccomp")
  for name, part in (
    ("two_replies", "goes on after its end"),
    ("forged_confinement", "status is None"),
    ("huge", "larger than 67108864 bytes"),
    ("worker_stages:garbage", "not a frame"),
    ("worker_stages:forged", "larger than what was sent"),
  ):
    outcome = run(WHOLE, name)
    assert outcome.status == "failed"
    assert part in outcome.error
    assert outcome.reply.metrics == ()
    assert outcome.confinement.layers == here.layers


def test_a_patched_judge_judges_nothing(here, run):
  # Two circles on one spot: no packing at all.
  overlap = (np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0.4, 0.4]))
  arrays = [tuple(packing.as_array(a, "x") for a in overlap)]
  payload = packing.encode(arrays)
  patched = run(WHOLE, "patches", payload=payload)
  assert patched.status == "ok"
  outcome = run(
    WHOLE,
    "asi_evolve_jax.tracks.circle_packing.score:run",
    trusted=True,
    payload=patched.reply.payload,
    options={"circles": 2, "cpu_seconds": 5.0},
  )
  assert (outcome.status, outcome.reply.gate) == ("rejected", "valid_packing")
  assert outcome.reply.metrics == ()


def test_how_a_jailed_process_ended_is_told(here, run, tmp_path):
  needs(here, "namespaces")
  for name, status, part in (
    ("crash", "failed", "crashed with SIGSEGV"),
    ("hard_exit", "failed", "exit code 7"),
    ("raises", "failed", "the width must divide 64"),
  ):
    # Signals to itself need no filter, so the namespace alone tells as well.
    for sandbox in (WHOLE, SPACES):
      outcome = run(sandbox, f"worker_stages:{name}")
      assert (outcome.status, part in outcome.error) == (status, True), (
        outcome.error
      )
  outcome = run(WHOLE, "busy", deadline_s=0.7)
  assert outcome.status == "timeout"
  assert outcome.cpu_seconds > 0.05
  assert outcome.peak_memory_bytes > 1 << 20


def test_trusted_stages_read_what_they_declare(here, facts, tmp_path):
  for name in ("search", "held_out"):
    (tmp_path / "corpus" / name).mkdir(parents=True)
  fields = {
    "trusted": True,
    "folders": {"search": str(tmp_path / "corpus" / "search")},
    "options": {"other": str(tmp_path / "corpus" / "held_out")},
  }
  everything = {"search", "other", "scratch", "outside"}
  assert succeeded(facts(NONE, "reads_declared", **fields)) == everything
  needs(here, "landlock")
  declared = succeeded(facts(WHOLE, "reads_declared", **fields))
  assert declared == {"search", "scratch"}


@pytest.mark.parametrize(
  ("mode", "author", "refused"),
  [
    ("auto", "symbolic", False),
    ("auto", "llm:some-model", True),
    ("auto", "import", True),
    ("auto", "", True),
    ("auto", "symbolic:not", True),
    ("auto", "baseline", False),
    ("required", "symbolic", True),
    ("none", "llm:some-model", False),
  ],
)
def test_where_nothing_holds(run, mode, author, refused):
  outcome = run(Sandbox(mode, layers=()), "scratch", author=author)
  if refused:
    assert outcome.status == "failed"
    assert "was not run: no jail on this machine holds it" in outcome.error
    assert "--config.workers.sandbox=none" in outcome.error
    assert outcome.reply.report == {}
  else:
    assert outcome.status == "ok"


def test_models_are_let_in_where_the_jail_holds(here, run):
  needs(here, "landlock", "seccomp")
  for sandbox in (WHOLE, RULES, Sandbox("required")):
    assert run(sandbox, "scratch", author="llm:some-model").status == "ok"


def test_a_mode_that_is_none_is_refused():
  with pytest.raises(ValueError, match="auto, required, none"):
    Sandbox("off")
