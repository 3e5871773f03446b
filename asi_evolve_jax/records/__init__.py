"""What happened: every role writes it here and reads it from here."""

from asi_evolve_jax.records.codec import RecordError
from asi_evolve_jax.records.leases import Held, Lease
from asi_evolve_jax.records.log import Cursor
from asi_evolve_jax.records.records import Records
from asi_evolve_jax.records.store import StoreError
from asi_evolve_jax.records.views import View

__all__ = [
  "Cursor",
  "Held",
  "Lease",
  "RecordError",
  "Records",
  "StoreError",
  "View",
]
