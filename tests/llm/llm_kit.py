"""A Client over the real google-genai, pointed at a loopback server."""

import dataclasses

from asi_evolve_jax.llm import connect, port
from asi_evolve_jax.settings import (
  ModelSettings,
  ResearcherSettings,
  RunSettings,
)

KEY = "sk-loopback-4711-aaaa"
MODEL = "gemini-3.8-flash"
SCHEMA = {
  "type": "object",
  "properties": {
    "name": {"type": "string"},
    "sizes": {"type": "array", "items": {"type": "integer"}},
  },
  "required": ["name"],
}


class Book:
  """Calls in a dict; what is left is what a test says."""

  def __init__(self, **left):
    self.calls = {}
    self.limits = left

  def record(self, call):
    if call.id in self.calls:
      return False
    self.calls[call.id] = call
    return True

  def find(self, call_id):
    return self.calls.get(call_id)

  def left(self):
    spent = {
      name: sum(c.usage.get(name, 0.0) for c in self.calls.values())
      for name in self.limits
    }
    return {name: limit - spent[name] for name, limit in self.limits.items()}

  @property
  def last(self):
    return list(self.calls.values())[-1]


def settings(server, llm="gemini", **models):
  defaults = {"timeout_s": 5.0, "deadline_s": 20.0, "tries": 3}
  base = server.url if llm in ("gemini", "vertex") else ""
  return RunSettings(
    name="test",
    track="toy",
    llm=llm,
    researcher=ResearcherSettings(proposer="llm"),
    models=ModelSettings(**{"base_url": base, **defaults, **models}),
  )


def client(server, book=None, *, environ=None, llm="gemini", **models):
  return connect.connect(
    settings(server, llm, **models),
    connect.RESEARCHER,
    book or Book(),
    [],
    {"GEMINI_API_KEY": KEY} if environ is None else environ,
  )


def chat(text, usage=(7, 3), **more):
  """Returns the entry for a completion, as OpenAI's servers tell it."""
  choice = {"message": {"content": text}, "finish_reason": "stop", **more}
  usage = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
  return {"body": {"choices": [choice], "usage": usage}}


def local(server, book=None, **models):
  """Returns a client of an OpenAI-compatible server, of a model "mine"."""
  return client(
    server,
    book,
    llm=f"openai:{server.url}/v1",
    environ={"OPENAI_API_KEY": KEY},
    names=("mine",),
    prices={"mine": {"input": 0.0, "output": 0.0}},
    **models,
  )


PROMPT = port.Prompt(
  role="researcher",
  purpose="propose",
  about="round 1",
  text="What next?",
  system="Be brief.",
)


def prompt(**changes):
  return dataclasses.replace(PROMPT, **changes)
