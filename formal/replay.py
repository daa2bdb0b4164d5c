"""A solver's counterexample, run again by Amaranth's simulator: which assertion it breaks, with waves.

The solver worked on gates that Yosys made, the simulator works on the Amaranth source. That both break says that neither is
mistaken about what was meant.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from amaranth.sim import Simulator

from formal.specification import Specification


class Violation(NamedTuple):
    """An assertion that does not hold: where it stands, and in which cycle from the first, 0."""

    file: str
    line: int
    cycle: int


class UnreadableWitness(Exception):
    """A counterexample that the tools found and did not write whole."""


def _inputs(witness: Path) -> Iterator[dict[str, int]]:
    """The ports' values in each step of a Yosys witness. Raises :class:`UnreadableWitness`."""
    try:
        trace = json.loads(witness.read_text())
    except json.JSONDecodeError as error:
        raise UnreadableWitness(f"{witness}: {error}") from error
    for step in trace["steps"]:
        # The first signal is the last of the text. Memories' first contents come last and stand only in the first step.
        bits, values = step["bits"].translate(str.maketrans("x?", "00")), {}
        for signal in trace["signals"]:
            if bits:
                cut = len(bits) - signal["width"]
                bits, text = bits[:cut], bits[cut:]
                if len(signal["path"]) == 1:
                    name = signal["path"][0].removeprefix("\\")
                    values[name] = values.get(name, 0) | int(text, 2) << signal["offset"]
        yield values


def replay(build: Callable[[], Specification], witness: Path, waves: Path) -> Violation | None:
    """Run the specification with a witness's inputs and write ``waves``; the first assertion that breaks, if any does.
    Raises :class:`UnreadableWitness`."""
    specification = build()
    specification.simulated = True
    simulator = Simulator(specification)
    simulator.add_clock(1e-8)
    found = None

    async def testbench(context):
        nonlocal found
        for cycle, values in enumerate(_inputs(witness)):
            for name, value in values.items():
                if name in specification.ports:
                    context.set(specification.ports[name], value)
            for broken, (file, line) in specification.claims:
                if found is None and context.get(broken):
                    found = Violation(file, line, cycle)
            await context.tick()

    simulator.add_testbench(testbench)
    with simulator.write_vcd(str(waves)):
        simulator.run()
    return found
