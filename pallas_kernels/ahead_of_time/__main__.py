"""`python -m pallas_kernels.ahead_of_time < jobs > results`, JSON lines.

A job is the fields of `cases.Case`; a result has them and what the compiler
said, or why it refused. The exit code is 3 where libtpu is not installed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from pallas_kernels.ahead_of_time.compiler import Compiler, NotCheckedError

NOT_CHECKED = 3


def main() -> int:
  try:
    compiler = Compiler()
  except NotCheckedError as error:
    print(error, file=sys.stderr)
    return NOT_CHECKED
  from pallas_kernels.ahead_of_time import cases

  try:
    for line in sys.stdin:
      job = json.loads(line)
      if "mesh" in job:
        job["mesh"] = tuple(job["mesh"])
      case = cases.Case(**job)
      result: dict[str, Any] = {"case": dataclasses.asdict(case)}
      try:
        compiled = cases.compile_case(compiler, case)
        result["compiled"] = dataclasses.asdict(compiled)
      except Exception as error:  # the compiler's own classes are not public
        result["refused"] = str(error)[:2000]
      print(json.dumps(result), flush=True)
  finally:
    compiler.close()
  return 0


if __name__ == "__main__":
  sys.exit(main())
