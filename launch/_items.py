"""Where the Cognition Base lives in a checkout or an installation."""

from pathlib import Path

import cognition

ITEMS_DIR = Path(cognition.__file__).parent / "items"
