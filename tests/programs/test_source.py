"""Sources that differ in nothing a machine can see are one Program."""

from asi_evolve_jax.programs.source import program_id


def test_comments_docstrings_and_layout_do_not_matter():
  a = '"""One."""\ndef f(x):\n  """Doc."""\n  return x + 1  # add\n'
  b = "def f(x):\n\n    return (x+1)\n"
  assert program_id(a) == program_id(b)


def test_code_matters():
  assert program_id("def f(x): return x + 1") != program_id(
    "def f(x): return x + 2"
  )


def test_strings_that_are_no_docstrings_matter():
  assert program_id("x = 'a'") != program_id("x = 'b'")


def test_source_that_does_not_parse_has_an_identity():
  assert program_id("def f(:\n") == program_id("def f(:  \n\n")
  assert program_id("def f(:") != program_id("def g(:")
  assert program_id("\x00")  # ast refuses null bytes in its own way
