"""The card's RTL as Verilog, for Verilator."""

import re

from amaranth.back import verilog
from amaranth.lib import wiring

ZERO_MEMORY = re.compile(r"^ *initial begin\n(?: *\S+\[\d+\] = \d+'h0+;\n)+ *end\n", re.MULTILINE)


def convert(component: wiring.Component, name: str) -> str:
    """Verilog of ``component`` as the module ``name``, with the ports of its signature.

    Memories of zeros lose their initial values: the store alone has 262,144 of them, and Verilator starts
    everything at zero when told so (``--x-initial 0``).
    """
    text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    return ZERO_MEMORY.sub("", text)
