"""What on this machine costs latency, and how it is mended: `tickgate doctor`."""

from host.doctor.checks import examine
from host.doctor.finding import Finding, Machine, State
from host.doctor.measure import measure

__all__ = ["Finding", "Machine", "State", "examine", "measure"]
