"""``make mutate``: seeds a fault into a copy of the sources and sees that a proof or a bench finds it, for each fault listed
here. Exit code 1: one was not found, 2: no such fault, no tools."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from formal import prove
from sim import toolchain

ROOT = Path(__file__).parent.parent
COPIED = ("hdl", "formal", "sim", "host", "tests")

SURVIVED, UNUSABLE = 1, 2

PROOF, BENCH = "formal.run --only", "sim.run --bench"
"""What can find a fault: a module and its option, whose value is a proof's or a bench's name."""


class Fault(NamedTuple):
    """One change to one file, and who finds it. ``old`` stands in ``file`` exactly once; ``found_by`` is a finder and a name."""

    name: str
    file: str
    old: str
    new: str
    found_by: tuple[str, str]


FAULTS = (
    Fault(
        "a commit writes another flow's row",
        "hdl/flow_state.py",
        "write.addr.eq(self.flow)",
        "write.addr.eq(self.flow ^ 1)",
        (PROOF, "flow_state_row"),
    ),
    Fault(
        "a flow takes the row of the one before it",
        "hdl/flow_swap.py",
        "same.eq(self.waits | ~self.coming | (self.coming_flow == held_flow))",
        "same.eq(self.waits | ~self.coming | self.valid)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row just computed is not seen",
        "hdl/flow_swap.py",
        "from_stage.eq(self.valid & (self.coming_flow == here_flow))",
        "from_stage.eq(0)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row on its way to the memory is not seen",
        "hdl/flow_swap.py",
        "from_left.eq(leaves & (self.coming_flow == left_flow))",
        "from_left.eq(0)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row from before the reset is seen",
        "hdl/flow_swap.py",
        "self.advance & ~stays & near_new",
        "self.advance & ~stays & near_new & from_stage",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a row goes to the flow behind it",
        "hdl/flow_swap.py",
        "write.addr.eq(left_flow)",
        "write.addr.eq(here_flow)",
        (PROOF, "flow_swap"),
    ),
    Fault(
        "a frame changes while it waits",
        "hdl/fix_frames.py",
        "m.d.comb += advance.eq(~self.o.valid | self.o.ready)",
        "m.d.comb += advance.eq(1)",
        (PROOF, "parser_trailer_8_any"),
    ),
    Fault(
        "a copy that came before passes again",
        "hdl/feed_arbiter.py",
        "(~ahead | stray | early)",
        "(stray | early)",
        (PROOF, "arbiter_once"),
    ),
    Fault(
        "a gap beat tells one packet too few",
        "hdl/feed_arbiter.py",
        "Mux(resets, 0, due.before - channel.passed)",
        "Mux(resets, 0, due.before - channel.passed - 1)",
        (PROOF, "arbiter_gaps"),
    ),
    Fault(
        "a dropped packet's later beats pass",
        "hdl/feed_arbiter.py",
        "silent.eq(dropped)",
        "silent.eq(0)",
        (PROOF, "arbiter_whole"),
    ),
    Fault(
        "a beat is lost behind a gap beat",
        "hdl/feed_arbiter.py",
        "(self.o.ready & ~gap_first)",
        "self.o.ready",
        (PROOF, "arbiter_whole"),
    ),
    Fault(
        "a feed that is far behind is waited for",
        "hdl/feed_arbiter.py",
        "(other.last <= channel.passed) & (due.below <= other.last)",
        "(other.last <= channel.passed)",
        (BENCH, "feed_arbiter"),
    ),
    Fault(
        "an old feed begins the channel anew",
        "hdl/feed_arbiter.py",
        "~ahead & ~own.old & went_back",
        "~ahead & went_back",
        (BENCH, "feed_arbiter"),
    ),
    Fault(
        "a beat overwrites what is not released",
        "hdl/payload_store.py",
        "room = used <= STORE_BYTES - LANES",
        "room = used <= STORE_BYTES",
        (PROOF, "store_bytes"),
    ),
    Fault(
        "a packet has a turn with each beat",
        "hdl/payload_store.py",
        "within_packet.eq(~beat.last)",
        "within_packet.eq(0)",
        (PROOF, "store_turn"),
    ),
    Fault(
        "a beat is handed over twice",
        "hdl/payload_store.py",
        "m.d.sync += output.valid.eq(taken & chosen)",
        "m.d.sync += output.valid.eq(self.i.valid & chosen)",
        (PROOF, "store_once"),
    ),
    Fault(
        "a message is lost when its queue is full",
        "hdl/ring_writer.py",
        "self.i.ready.eq(frames.w_rdy & messages.w_rdy)",
        "self.i.ready.eq(messages.w_rdy)",
        (PROOF, "queue_once"),
    ),
    Fault(
        "a packet's last bytes come twice",
        "hdl/trim.py",
        "silent.eq(beat.last)",
        "silent.eq(0)",
        (PROOF, "strip_bytes"),
    ),
    Fault(
        "a flow's first beat is told with another flow's bit",
        "hdl/fix_characters.py",
        "came.bit_select(kept_flow, 1).eq(1)",
        "came.bit_select(flow, 1).eq(1)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a beat with three field ends is told once",
        "hdl/fix_characters.py",
        "(self.valid | again) & reached[ends][lanes]",
        "0",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a field goes on behind a hole",
        "hdl/fix_tokenizer.py",
        "m.d.comb += [left.eq(0), left.first_sum.eq(sum_before)]",
        "m.d.comb += left.first_sum.eq(sum_before)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "the first of two points is not looked for",
        "hdl/fix_characters.py",
        "marks_now[lane] & ~marks_now[:lane].any()",
        "marks_now[lane]",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a sign makes a number bad",
        "hdl/fix_segmenter.py",
        "& ~known.point & ~minus_first).any()",
        "& ~known.point).any()",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "digits of a partial beat turn one lane too little",
        "hdl/fix_segmenter.py",
        "(known.beat.count + 1)",
        "known.beat.count",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a tag may begin with 0",
        "hdl/fix_tokenizer.py",
        "carried.tag_bad | segment.tag_bad | (segment.tag_zero & (carried.tag_count == 0))",
        "carried.tag_bad | segment.tag_bad",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a field of one byte too many is none",
        "hdl/fix_tokenizer.py",
        "is_in(left_over, range(lanes + 1, 2 * lanes))",
        "is_in(left_over, range(lanes + 2, 2 * lanes))",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "bytes of a beat told twice count twice",
        "hdl/fix_tokenizer.py",
        "Mux(beat.count == 0, 0, beat.sums[ends])",
        "beat.sums[ends]",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a field does not grow older with its packet's end",
        "hdl/fix_tokenizer.py",
        "Mux(beat.last, left.open, left.older)",
        "left.older",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a BEGIN goes on behind an overrun",
        "hdl/fix_tokenizer.py",
        "begun & ~(beat.gap | (may_cut & is_in(left_over, range(lanes, lanes + n))))",
        "begun & ~beat.gap",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a longer symbol has another CRC",
        "hdl/crc64.py",
        "(moved_out << 3)",
        "(moved_out << 2)",
        (BENCH, "fix_tokenizer"),
    ),
    Fault(
        "a longer tag of data is not counted",
        "hdl/fix_facts.py",
        'to_body + len("999=|")',
        'to_body + len("99=|")',
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a message may be one byte too long",
        "hdl/fix_facts.py",
        "CHECK_SUM_FIELD_BYTES - MESSAGE_LIMIT - 1",
        "CHECK_SUM_FIELD_BYTES - MESSAGE_LIMIT - 2",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a CheckSum may be above 255",
        "hdl/fix_facts.py",
        "plain & ~_above(digits, 0xFF)",
        "plain",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "data of 4096 bytes can be announced",
        "hdl/fix_facts.py",
        "huge.eq(large | _above(digits, MOST_DATA_BYTES))",
        "huge.eq(large)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "data passed over hide the body's end",
        "hdl/fix_framer.py",
        "~(body_passed | data_passed))",
        "~data_passed)",
        (PROOF, "parser_data_beyond_8"),
    ),
    Fault(
        "a body's end is counted twice",
        "hdl/fix_framer.py",
        'with m.If(~self.waits & (~body_is_set if name == "body" else 1)):',
        "with m.If(~self.waits):",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "no message begins in a field that fails",
        "hdl/fix_framer.py",
        "field.begin & ~fits",
        "field.begin & ~fits & ~(before.in_body | before.in_data)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "two spans that end in a beat become one",
        "hdl/fix_facts.py",
        "two.begin & (one.begin | ~two.begin_at_first)",
        "two.begin & ~two.begin_at_first",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "an announcement outlives the next field",
        "hdl/fix_framer.py",
        "behind.announced.eq(announces)",
        "behind.announced.eq(before.announced | announces)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a hole leaves the message as it was",
        "hdl/fix_messages.py",
        "cuts_or_done.eq(framed.cuts | Cat(field.done for field in fields).any())",
        "cuts_or_done.eq(Cat(field.done for field in fields).any())",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a CheckSum is not compared",
        "hdl/fix_messages.py",
        "check_sum_wrong[k].eq(field.outcome.complete & ~good)",
        "check_sum_wrong[k].eq(0)",
        (PROOF, "parser_trailer_8"),
    ),
    Fault(
        "the last of equal tags counts",
        "hdl/fix_messages.py",
        "takes = known.tags & ~state.seen & self.read",
        "takes = known.tags & self.read",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a fragment is not told",
        "hdl/fix_messages.py",
        "flags[_FRAGMENT].eq(framed.known.fragment)",
        "flags[_FRAGMENT].eq(0)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a number that ends with its message is lost",
        "hdl/fix_frames.py",
        "own.eq(Mux(gave_one, one.as_value(), 0))",
        "own.eq(0)",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a message takes the time of its last packet",
        "hdl/fix_frames.py",
        "times.read_row.eq(Cat(second.span_slot, second.row.flow))",
        "times.read_row.eq(Cat(step.slot, second.row.flow))",
        (BENCH, "fix_parser"),
    ),
    Fault(
        "a packet's bytes are overwritten while they are needed",
        "hdl/packet_history.py",
        "full.eq(~kept[-1] & (many | kept[row_bits - 2 : row_bits].all()))",
        "full.eq(~kept[-1] & many)",
        (PROOF, "history_wraps"),
    ),
    Fault(
        "a packet comes in before the one in front of it is at hand",
        "hdl/packet_history.py",
        "& ~(ahead & all_came & ~self.next_packet)",
        "",
        (PROOF, "history_keeps"),
    ),
    Fault(
        "the packet behind is overwritten where nothing is needed of the one at hand",
        "hdl/packet_history.py",
        "& ~(rows_ahead[row_bits - 2 : row_bits].all() | rows_ahead[row_bits])",
        "& ~rows_ahead[row_bits]",
        (PROOF, "history_wraps"),
    ),
    Fault(
        "what comes of a packet in the cycle before it is at hand is not counted",
        "hdl/packet_history.py",
        "self.already.eq(next_bytes_ahead)",
        "self.already.eq(bytes_ahead)",
        (PROOF, "history_keeps"),
    ),
    Fault(
        "what came of a packet before it is at hand is not caught up with",
        "hdl/sbe_walker.py",
        "rest.eq(-history.already)",
        "rest.eq(0)",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "a packet ends where a message does",
        "hdl/sbe_walker.py",
        "with m.If(settled & at_end & was_ended):",
        "with m.If(settled & at_end):",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "a byte in the lane of its place is looked for a row further",
        "hdl/packet_history.py",
        "is_beyond = place[:LANE_BITS] > bank_lane",
        "is_beyond = place[:LANE_BITS] >= bank_lane",
        (PROOF, "history_ports"),
    ),
    Fault(
        "what comes is counted where nothing is taken",
        "hdl/packet_history.py",
        "Mux(self.i.valid & ~shut, beat.count, 0)",
        "Mux(self.i.valid, beat.count, 0)",
        (PROOF, "history_keeps"),
    ),
    Fault(
        "a message has a frame more than ENTRY_LIMIT",
        "hdl/sbe_walker.py",
        "at_limit.eq(frames == ENTRY_LIMIT - 2)",
        "at_limit.eq(frames == ENTRY_LIMIT - 1)",
        (PROOF, "sbe_entries"),
    ),
    Fault(
        "a message's last frame is not counted",
        "hdl/sbe_walker.py",
        "step.message.frames.eq(Mux(step.has_frame, frames + 1, frames))",
        "step.message.frames.eq(frames)",
        (PROOF, "walker_counts_length"),
    ),
    Fault(
        "frames of a message are counted on in the next one",
        "hdl/sbe_walker.py",
        "m.d.sync += [frames.eq(0), no_frames.eq(1), at_limit.eq(0), start.eq(end)",
        "m.d.sync += [no_frames.eq(1), at_limit.eq(0), start.eq(end)",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "what the walk found changes while it waits",
        "hdl/sbe_walker.py",
        "        with m.If(advance):\n            m.d.sync += [self.valid.eq",
        "        with m.If(1):\n            m.d.sync += [self.valid.eq",
        (PROOF, "walker_waits_length"),
    ),
    Fault(
        "a group of a schema newer than the message is looked for",
        "hdl/sbe_walker.py",
        "begins_node.eq(is_node & ~too_old)",
        "begins_node.eq(is_node)",
        (PROOF, "sbe_first"),
    ),
    Fault(
        "an entry begins at its end",
        "hdl/sbe_walker.py",
        "step.entry_offset.eq(Mux(state[State.ENTRY], begin - start, 0))",
        "step.entry_offset.eq(Mux(state[State.ENTRY], end - start, 0))",
        (PROOF, "sbe_entries"),
    ),
    Fault(
        "one entry more than its group counts",
        "hdl/sbe_walker.py",
        "last_entry[level].eq(entries[level] == 2)",
        "last_entry[level].eq(entries[level] == 1)",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "entries without a length are no error",
        "hdl/sbe_walker.py",
        "with m.Elif((entry_length == 0) & ~inside):",
        "with m.Elif((entry_length == 0) & inside):",
        (PROOF, "sbe_entries"),
    ),
    Fault(
        "a frame of the SBE decoder changes while it waits",
        "hdl/sbe_decoder.py",
        "m.d.comb += [advance.eq(~self.o.valid | self.o.ready)",
        "m.d.comb += [advance.eq(1)",
        (PROOF, "sbe_entries_any"),
    ),
    Fault(
        "the frame of an unknown template is malformed",
        "hdl/sbe_decoder.py",
        "kind.eq(Mux(held.step.unknown, Kind.OTHER, Kind.MALFORMED))",
        "kind.eq(Kind.MALFORMED)",
        (PROOF, "sbe_first"),
    ),
    Fault(
        "an absent price is not flagged",
        "hdl/sbe_decoder.py",
        "Mux(held.price_present | held.step.failed, 0, Flag.PRICE_ABSENT)",
        "Mux(held.price_present | ~held.step.failed, 0, Flag.PRICE_ABSENT)",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "a factor is one limb short",
        "hdl/sbe_scale.py",
        "places = min(width, RESULT_BITS) if self._lowest == 0 else RESULT_BITS",
        "places = min(width, RESULT_BITS) // 2",
        (BENCH, "sbe_decoder"),
    ),
    Fault(
        "a run of lines goes over a page",
        "hdl/dma_pcie.py",
        "& (line % (BOUNDARY_BYTES // LINE_BYTES) != 0)",
        "& (line % (2 * BOUNDARY_BYTES // LINE_BYTES) != 0)",
        (PROOF, "writer_rules"),
    ),
    Fault(
        "a run of lines is longer than max payload",
        "hdl/dma_pcie.py",
        "(run_lines < most)",
        "(run_lines <= most)",
        (PROOF, "writer_rules"),
    ),
    Fault(
        "a TLP begins with credit for its first line",
        "hdl/dma_pcie.py",
        "(run_lines <= granted)",
        "(granted != 0)",
        (PROOF, "writer_credit"),
    ),
    Fault(
        "a line joins any run",
        "hdl/dma_pcie.py",
        "~takes_run & here.follows",
        "~takes_run",
        (PROOF, "writer_once"),
    ),
    Fault(
        "what a block dropped is not sent again",
        "hdl/dma_pcie.py",
        "m.d.comb += planned_next.eq(back)",
        "m.d.comb += planned_next.eq(planned)",
        (BENCH, "line_writer"),
    ),
    Fault(
        "a late number counts for a new TLP",
        "hdl/dma_pcie.py",
        "oldest.eq(number),",
        "oldest.eq(oldest),",
        (BENCH, "line_writer"),
    ),
    Fault(
        "credit of dropped lines is lost",
        "hdl/dma_pcie.py",
        "lines_sent.eq(lines_sent - (sent - settled)),",
        "lines_sent.eq(lines_sent),",
        (BENCH, "line_writer"),
    ),
    Fault(
        "what the link's end has cut off is not ended",
        "hdl/pcie_series7.py",
        "void.eq(in_packet & ~within)",
        "void.eq(0)",
        (BENCH, "pcie_series7"),
    ),
)
"""The faults, those of what keeps flows apart and of the blocks around the parser first."""


class Verdict(NamedTuple):
    """What came of a fault."""

    fault: Fault
    found: bool
    note: str
    seconds: float


def seed(fault: Fault, root: Path) -> None:
    """Change the copy of the sources in ``root``. Raises ValueError where ``old`` does not stand there once."""
    path = root / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"'{fault.old}' stands {text.count(fault.old)} times in {fault.file}, not once")
    path.write_text(text.replace(fault.old, fault.new))


def find(fault: Fault) -> Verdict:
    """Seed a fault and run what should find it."""
    began = time.perf_counter()
    finder, name = fault.found_by
    with tempfile.TemporaryDirectory(prefix="tickgate-fault-") as folder:
        root = Path(folder)
        for part in COPIED:
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        seed(fault, root)
        environment = toolchain.environment() | {
            "TICKGATE_FORMAL": str(root / "build" / "formal"),
            "TICKGATE_SIM_CACHE": str(root / "build" / "sim"),
        }
        module, option = finder.split()
        result = subprocess.run(
            [sys.executable, "-m", module, option, name],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    # Not the exit code alone: a design that cannot even be built shows nothing about who finds faults, nor does a proof that only ends
    # without a counterexample.
    failed = re.search(rf"^{name}(\.\w+)? failed.*", result.stdout, re.MULTILINE)
    found = result.returncode == 1 and failed is not None and prove.NO_VERDICT not in failed[0]
    lines = (result.stdout + result.stderr).strip().splitlines()
    note = next((line for line in lines if "failed" in line), lines[-1] if lines else "")
    return Verdict(fault, found, note, time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for the faults that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m formal.mutations", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="only faults whose name or file has this text (default: all)")
    options = parser.parse_args(arguments)
    chosen = [
        fault for fault in FAULTS if options.only is None or options.only in fault.name or options.only in fault.file
    ]
    if not chosen:
        print(f"no fault with '{options.only}' in its name or file", file=sys.stderr)
        return UNUSABLE
    try:
        prove.require_tools()
        toolchain.require_compiler()
    except toolchain.ToolMissing as missing:
        print(missing, file=sys.stderr)
        return UNUSABLE
    console = Console(soft_wrap=True)
    console.width = max(console.width, 110)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = []
        for verdict in pool.map(find, chosen):
            verdicts.append(verdict)
            console.print(f"{verdict.fault.name}: {'found' if verdict.found else 'NOT FOUND'}", highlight=False)
    table = Table("fault", "file", "found by")
    table.add_column("seconds", justify="right")
    for verdict in verdicts:
        fault = verdict.fault
        by = " ".join(fault.found_by[1:]) if verdict.found else f"[red]not by {fault.found_by[1]}"
        table.add_row(fault.name, fault.file, by, f"{verdict.seconds:.0f}")
    console.print(table)
    for verdict in verdicts:
        if not verdict.found:
            console.print(f"[red]not found[/]: {verdict.fault.name} ({verdict.note})", highlight=False)
    return 0 if all(verdict.found for verdict in verdicts) else SURVIVED


if __name__ == "__main__":
    sys.exit(main())
