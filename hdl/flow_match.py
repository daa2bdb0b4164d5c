"""The flow table's lowest row that fits a packet (docs/ethernet.md, rule 4)."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.flow import Parser, Protocol
from hdl.limits import FLOWS

FlowRow = data.StructLayout(
    {
        "protocol": unsigned(8),
        "parser": unsigned(8),
        "destination": unsigned(32),
        "destination_port": unsigned(16),
        "source": unsigned(32),
        "source_port": unsigned(16),
    }
)
"""A row of the flow table. Protocol 0: not in use; source address or port 0: any."""

FlowKey = data.StructLayout(
    {
        "protocol": unsigned(8),
        "destination": unsigned(32),
        "destination_port": unsigned(16),
        "source": unsigned(32),
        "source_port": unsigned(16),
    }
)
"""What a packet says of its flow."""

GROUP_ROWS = 8
"""Rows of which the lowest that fits is chosen in one stage, before one of the groups is chosen in the next."""

DELAY = 2
"""Cycles from a key to its row."""

Found = data.StructLayout({"found": 1, "row": range(FLOWS), "parser": Parser, "followed": 1})


class FlowMatch(wiring.Component):
    """Finds the row of a key, one key a cycle; the answer can be seen ``DELAY`` cycles after the key.

    ``followed``: TCP sequence numbers are followed in that row's bytes, since it is read as FIX and names one connection.
    ``table`` is meant to stand still while keys come: a change counts a cycle later.
    """

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__(
            {
                "table": In(data.ArrayLayout(FlowRow, flows)),
                "key": In(FlowKey),
                "found": Out(1),
                "row": Out(range(FLOWS)),
                "parser": Out(Parser),
                "followed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows = []
        for n in range(self._flows):
            row = self.table[n]
            any_source, any_port = Signal(name=f"any_source{n}"), Signal(name=f"any_port{n}")
            followed = Signal(name=f"followed{n}")
            m.d.sync += [
                any_source.eq(row.source == 0),
                any_port.eq(row.source_port == 0),
                followed.eq(
                    (row.protocol == Protocol.TCP)
                    & (row.parser == Parser.FIX)
                    & (row.source != 0)
                    & (row.source_port != 0)
                ),
            ]

            # Compared: each part of the key by itself.
            same = Signal(5, name=f"same{n}")
            key = self.key
            m.d.sync += same.eq(
                Cat(
                    row.protocol == key.protocol,
                    row.destination == key.destination,
                    row.destination_port == key.destination_port,
                    any_source | (row.source == key.source),
                    any_port | (row.source_port == key.source_port),
                )
            )
            choice = Signal(Found, name=f"choice{n}")
            m.d.comb += [
                choice.found.eq(same.all()),
                choice.row.eq(n),
                choice.parser.eq(row.parser[:2]),
                choice.followed.eq(followed),
            ]
            rows.append(choice)

        # Chosen in each group, then among the groups.
        groups = []
        for start in range(0, self._flows, GROUP_ROWS):
            group = Signal(Found, name=f"group{start // GROUP_ROWS}")
            m.d.sync += group.eq(self._lowest(m, rows[start : start + GROUP_ROWS], f"lowest{start // GROUP_ROWS}"))
            groups.append(group)
        chosen = self._lowest(m, groups, "lowest")
        m.d.comb += [
            self.found.eq(chosen.found),
            self.row.eq(chosen.row),
            self.parser.eq(chosen.parser),
            self.followed.eq(chosen.followed),
        ]
        return m

    @staticmethod
    def _lowest(m, choices, name):
        """The first of the choices that was found."""
        chosen = Signal(Found, name=name)
        for choice in reversed(choices):
            with m.If(choice.found):
                m.d.comb += chosen.eq(choice)
        return chosen
