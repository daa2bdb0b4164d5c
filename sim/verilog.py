"""The card's RTL as Verilog, for Verilator."""

import re
from collections.abc import Iterator

from amaranth.back import verilog
from amaranth.lib import wiring

ZERO_MEMORY = re.compile(r"^ *initial begin\n(?: *\S+\[\d+\] = \d+'h0+;\n)+ *end\n", re.MULTILINE)

COMBINATIONAL = "  always_comb"
NAME = re.compile(r"(?<![\w.$\\'])(?:\\\S+|[A-Za-z_]\w*)")
TARGET = re.compile(r"^ *(?:(\\\S+|[A-Za-z_]\w*)|\{([^}]*)\}) ?(?:\[[\d:]+\])? = ")


def convert(component: wiring.Component, name: str) -> str:
    """Verilog of ``component`` as the module ``name``, with the ports of its signature.

    Memories of zeros lose their initial values: the store alone has 262,144 of them, and Verilator starts
    everything at zero when told so (``--x-initial 0``). Verilator never executes an ``always @*`` that reads nothing, as
    one that sets bits to a constant: it becomes ``always_comb``.

    Raises ValueError where bits of a signal are set depending on other bits of it: Verilator may simulate that with old
    values (found with 5.0, by a frame that differed).
    """
    text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    text = ZERO_MEMORY.sub("", text).replace("  always @*", COMBINATIONAL)
    if found := sorted(set(self_reads(text))):
        raise ValueError(f"{name}: set depending on other bits of the same signal: {', '.join(found)}")
    return text


def self_reads(text: str) -> Iterator[str]:
    """Signals that a combinational block both sets and reads, a name for each block."""
    lines = iter(text.splitlines())
    for line in lines:
        if not line.startswith(COMBINATIONAL):
            continue
        targets, reads = set[str](), set[str]()
        # One statement, or a block that ends as deep as it began.
        is_block = line.endswith("begin")
        for statement in lines:
            if is_block and statement == "  end":
                break
            found = TARGET.match(statement)
            if found:
                targets |= set(NAME.findall(found[1] or found[2]))
            reads |= set(NAME.findall(statement[found.end() :] if found else statement))
            if not is_block and statement.endswith(";"):
                break
        yield from targets & reads
