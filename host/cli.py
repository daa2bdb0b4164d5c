"""The command `tickgate`."""

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from hdl.sbe_venue import Venue
    from host.capture.reader import Captures
    from host.playback.selection import Selection

app = typer.Typer(
    help="An open trading gateway: FPGA protocol parsing, a NumPy and Numba host.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
journal_app = typer.Typer(help="Verify, search and export a journal; make room for one.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
console = Console()
errors = Console(stderr=True)

BAD_INPUT = 2
INTERRUPTED = 130
DEMO_DIRECTORY = Path("build/demo")
DEMO_ORDERS = 20_000


class Stoppable(Protocol):
    """What ends after its present slice when it is told so."""

    stop: bool


def _fail(text: object) -> typer.Exit:
    errors.print(f"tickgate: {text}", style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(BAD_INPUT)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """For imports: what they leave stays, and to look for garbage among it takes a tenth of a gateway's start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 2."""
    from bitstreams.tools import ToolFailed
    from host.gateway.pipeline import GatewayError
    from host.journal import JournalError
    from sim.toolchain import ToolMissing

    try:
        yield
    except FileNotFoundError as error:
        raise _fail(f"{error.filename}: no such file") from None
    except OSError as error:
        raise _fail(f"{error.filename or 'operating system'}: {error.strerror}") from None
    # CaptureError, SchemaError, CardError, RingError and LimitsError are ValueErrors.
    except (ValueError, JournalError, GatewayError, ToolMissing, ToolFailed) as error:
        raise _fail(error) from None


CaptureArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="CAPTURE...",
        help="pcap or pcapng files, FIX logs or byte streams, compressed or not; - is standard input. Several are merged by time.",
    ),
]
AsCapturedOption = Annotated[
    bool,
    typer.Option("--as-captured", help="Neither put TCP segments in order nor IPv4 fragments together."),
]
CARD_HELP = (
    "rtl: (the card's RTL, simulated), soft: (the same in Numba), serial:DEVICE (a board; DEVICE?baud=NUMBER), "
    "eth:INTERFACE (a board; INTERFACE?traffic=INTERFACE&board=MAC) or pcie:ADDRESS (a card in a slot; pcie:sim: a simulated one)."
)
CardOption = Annotated[str, typer.Option("--card", metavar="URL", help=CARD_HELP)]
SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", metavar="XML", help="SBE schema of the UDP flows; without one UDP is ignored."),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="How the schema's messages become frames: a shipped profile or a file; by default the schema's own.",
    ),
]
LimitsOption = Annotated[
    Path | None,
    typer.Option(
        "--limits", metavar="TOML", help="Instruments, accounts and nodes; without it no instrument is known."
    ),
]
JournalOption = Annotated[
    Path | None,
    typer.Option("--journal", metavar="DIR", help="Keep the journal here; by default it is deleted at the end."),
]
FeedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--feed",
        metavar="A=GROUP,B=GROUP",
        help="Two feeds of one channel, such as A=224.0.31.64:14340,B=224.0.32.64:15340; may be repeated. By default they are found.",
    ),
]
JsonOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON too.")]


ReplayCardOption = Annotated[
    str | None,
    typer.Option("--card", metavar="URL", help=f"{CARD_HELP} (default: rtl:, with --out and --diff soft:)"),
]
InstrumentOption = Annotated[
    list[str] | None,
    typer.Option("--instrument", metavar="ID|SYMBOL", help="Only what is of this instrument; may be repeated."),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option("--template", metavar="NAME|ID", help="Only SBE messages of this template; may be repeated."),
]
ChannelOption = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="ADDRESS:PORT", help="Only flows to this destination; may be repeated."),
]
StartOption = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="Packets from then on, such as 2026-03-02T14:30:00.5 (UTC)."),
]
EndOption = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Packets before then.")]
SpeedOption = Annotated[
    str | None,
    typer.Option(
        "--speed", metavar="SPEED", help="1x (the capture's clock), 10x, ... or max (default: max, with --to 1x)."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR|FILE", help="Write tables: a folder of Parquet files, or a .arrow, .csv, .parquet."
    ),
]
TableOption = Annotated[
    str, typer.Option("--table", metavar="NAME", help="Of a single file: frames, books, TEMPLATE or TEMPLATE.GROUP.")
]
DecimalsOption = Annotated[
    str, typer.Option("--decimals", metavar="TYPE", help="decimal128, or int64 with the exponent as metadata.")
]
FramesOption = Annotated[
    bool, typer.Option("--frames/--no-frames", help="Of a folder: with or without the tables frames and books.")
]
ArbitrateOption = Annotated[
    bool,
    typer.Option("--arbitrate/--no-arbitrate", help="Of tables: one copy of what two feeds carry, or both."),
]
LevelsOption = Annotated[
    int | None, typer.Option("--levels", metavar="N", help="Price levels of the table books (default: 10).")
]
GridOption = Annotated[
    str | None,
    typer.Option(
        "--grid", metavar="TIME", help="Rows of books at multiples of 100ms, 1s, ... (default: at each change)."
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with an --out DIR that was interrupted.")]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="eth:INTERFACE", help="Send the packets out on a network interface.")
]
DiffOption = Annotated[
    list[Path] | None,
    typer.Option("--diff", metavar="CAPTURE", help="Compare frame by frame with this capture; several are merged."),
]
DiffCardOption = Annotated[
    str | None,
    typer.Option("--diff-card", metavar="URL", help="Compare with this card (default: --card, or the same captures)."),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="FIELD", help="A field of frames that may differ, such as timestamp."),
]


@app.command()
def replay(
    captures: CaptureArgument,
    card: ReplayCardOption = None,
    schema: SchemaOption = None,
    profile: ProfileOption = None,
    limits: LimitsOption = None,
    journal: JournalOption = None,
    feed: FeedOption = None,
    json_file: JsonOption = None,
    as_captured: AsCapturedOption = False,
    instruments: InstrumentOption = None,
    templates: TemplateOption = None,
    channels: ChannelOption = None,
    start: StartOption = None,
    end: EndOption = None,
    speed: SpeedOption = None,
    out: OutOption = None,
    table: TableOption = "frames",
    decimals: DecimalsOption = "decimal128",
    frames: FramesOption = True,
    arbitrate: ArbitrateOption = True,
    levels: LevelsOption = None,
    grid: GridOption = None,
    resume: ResumeOption = False,
    to: ToOption = None,
    diff: DiffOption = None,
    diff_card: DiffCardOption = None,
    ignore: IgnoreOption = None,
) -> None:
    """Play captures through a card and the gateway, and say what came out.

    With --out into tables instead, with --to out on a network interface, with --diff against another run.
    """
    from hdl.sbe_venue import load_venue
    from host.capture.reader import open_captures
    from host.card import check_url
    from host.playback.book_table import parse_grid
    from host.playback.commands import Comparing, PacketSender, TableWriter
    from host.playback.pace import parse_speed
    from host.playback.progress import ReplayProgress
    from host.playback.selection import Selection, SelectionError, parse_time

    with _bad_input():
        compares = diff is not None or diff_card is not None
        modes = [name for name, given in (("--out", out), ("--to", to), ("--diff", compares)) if given]
        gateway = [name for name, given in (("--limits", limits), ("--journal", journal)) if given]
        gateway += [name for name, given in (("--json", json_file), ("--feed", feed)) if given and out is None]
        if len(modes) > 1 or (modes and gateway):
            raise SelectionError(f"{' and '.join([*modes, *gateway])}: one of them, each is a run of its own")
        if out is None and (resume or levels is not None or grid is not None or not arbitrate):
            raise SelectionError("--resume, --levels, --grid and --no-arbitrate are of --out DIR")
        if feed and not arbitrate:
            raise SelectionError("--feed says what is arbitrated: leave it out, or --no-arbitrate")
        selection = Selection(
            tuple(instruments or ()),
            tuple(templates or ()),
            tuple(channels or ()),
            None if start is None else parse_time(start),
            None if end is None else parse_time(end),
        )
        pace = parse_speed(speed or ("1x" if to else "max"))
        if to is not None:
            sender = PacketSender(captures, to, selection, pace)
            with _stop_on_interrupt(sender), ReplayProgress(console, "send") as progress:
                sent = sender.run(progress)
            sender.report(console, sent)
            raise typer.Exit(INTERRUPTED if sent.interrupted else 0)
        card = card or ("soft:" if modes else "rtl:")
        check_url(card)
        venue = load_venue(schema, profile) if schema else None
        if compares:
            cards = card, diff_card or card
            check_url(cards[1])
            with console.status("Looking at the captures ..."):
                comparing = Comparing(captures, diff or captures, venue, cards, selection, ignore or (), as_captured)
            for each in dict.fromkeys(cards):
                _prepare(each, venue, gateway=False)
            with _stop_on_interrupt(comparing):
                found = comparing.run()
            comparing.report(console, found)
            raise typer.Exit(1 if found.differences else 0 if found.complete else INTERRUPTED)
        opened = open_captures(captures, as_captured)
        if out is not None:
            with console.status("Looking at the captures ..."):
                writer = TableWriter(
                    opened,
                    venue,
                    card,
                    selection,
                    out,
                    table=table,
                    decimals=decimals,
                    resume=resume,
                    speed=pace,
                    frames=frames,
                    feeds=(feed or ()) if arbitrate else None,
                    levels=levels,
                    grid=None if grid is None else parse_grid(grid),
                )
            warned = _warn(opened)
            _say_left_out(writer.playback.left_out)
            if writer.needs_card:
                _prepare(card, venue, gateway=False)
            with _stop_on_interrupt(writer), ReplayProgress(console) as progress:
                done = writer.run(progress)
            _warn(opened, warned)
            writer.report(console, done)
            if json_file:
                json_file.write_text(json.dumps(writer.named(done), indent=2) + "\n")
            raise typer.Exit(INTERRUPTED if done.interrupted else 0)
        _replay_through_gateway(opened, venue, card, selection, pace, limits, journal, feed or [], json_file)


def _replay_through_gateway(
    opened: "Captures",
    venue: "Venue | None",
    card: str,
    selection: "Selection",
    pace: float | None,
    limits: Path | None,
    journal: Path | None,
    feed: list[str],
    json_file: Path | None,
) -> None:
    from host.gateway.limits import Limits, load_limits
    from host.playback import Replay, flows_of
    from host.playback.feeds import SAMPLE_PACKETS, arbiter_of, feeds_json, feeds_table
    from host.playback.pace import paced
    from host.playback.progress import ReplayProgress
    from host.playback.report import print_report
    from host.playback.selection import Chooser
    from host.playback.symbols import find_symbols

    with console.status("Looking at the captures ..."):
        found, left_out = flows_of(opened, venue)
        flows = selection.flows(found)
        symbols = {} if venue is None else find_symbols(selection.instruments, opened, found, venue)
        chooser = Chooser(selection, venue, flows, symbols)
        samples = (capture.sample(SAMPLE_PACKETS) for capture in opened.captures)
        feeds = arbiter_of(feed, flows, samples, venue)
    warned = _warn(opened)
    _say_left_out(left_out)
    known = load_limits(limits) if limits else Limits()
    with _journal(journal) as directory:
        _prepare(card, venue)
        run = Replay(opened, card, flows, venue, known, directory, feeds, chooser)
        with _stop_on_interrupt(run), ReplayProgress(console) as progress:
            result = run.run(progress, lambda packets: paced(packets, pace))
        _warn(opened, warned)
        chooser.check_met()
        print_report(console, result)
        channels = () if feeds is None else feeds.report()
        if channels:
            console.print(feeds_table(channels))
        if not limits and result.gateway.journaled:
            console.print("No --limits file was given, so no instrument was known.", style="yellow")
    if json_file:
        named = result.named() | {"feeds": feeds_json(channels)}
        json_file.write_text(json.dumps(named, indent=2) + "\n")
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not result.reconciliation.closes:
        raise typer.Exit(1)


def _say_left_out(flows: int) -> None:
    if flows:
        errors.print(f"tickgate: the card's flow table is full; {flows} flows are passed over", style="yellow")


@app.command()
def schema(
    path: Annotated[Path, typer.Argument(metavar="XML", help="An SBE schema.")],
    message: Annotated[
        list[str] | None,
        typer.Option("--message", metavar="NAME", help="Only this message, by name or template id; may be repeated."),
    ] = None,
    profile: ProfileOption = None,
    suggest: Annotated[
        bool, typer.Option("--suggest-profile", help="Print a profile drafted from the schema's semantics instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check an SBE schema and print its messages, fields, offsets and sizes, and what cards make of them."""
    from hdl.sbe_profile import ProfileError, find_profile
    from hdl.sbe_schema import SchemaError, load_schema
    from hdl.sbe_suggest import suggest_profile
    from hdl.sbe_venue import Venue
    from hdl.sbe_walker import undecodable
    from host.sbe import listing

    with _bad_input():
        known = load_schema(path)
        if suggest:
            print(suggest_profile(known), end="")
            return
        venue, hint = None, None
        try:
            venue = Venue.of(known, find_profile(known, profile))
        except ProfileError as error:
            if profile is not None:
                raise
            hint = str(error)
        shown = [each for each in known.messages if not message or {each.name, str(each.id)} & set(message)]
        if not shown:
            raise SchemaError(f"{path}: there is no message {' or '.join(map(repr, message or []))}")
    if as_json:
        # Not by rich, which would break lines.
        print(json.dumps(listing.schema_json(replace(known, messages=tuple(shown)), venue), indent=2))
        return
    console.print(listing.summary(known, venue), highlight=False, markup=False, soft_wrap=True)
    if not message:
        console.print(listing.messages_table(known, venue))
        reason = hint if venue is None else undecodable(venue)
        if reason is not None:
            console.print(f"Not for rtl: {reason}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    for each in shown:
        console.print(listing.fields_table(each), highlight=False)


@app.command()
def decode(
    captures: CaptureArgument,
    schema: Annotated[Path, typer.Option("--schema", metavar="XML", help="SBE schema of the captures' flows.")],
    profile: ProfileOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write a file for each table here; by default only count."),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Of the files: parquet, arrow or csv.")
    ] = "parquet",
    as_captured: AsCapturedOption = False,
) -> None:
    """Decode every field of every SBE message to tables: one for each template, and one for each group."""
    from hdl.flow import Parser
    from hdl.sbe_venue import load_venue
    from host.capture.reader import open_captures
    from host.playback import Progress, flows_of
    from host.playback.progress import ReplayProgress
    from host.sbe.export import export
    from host.sbe.full_decode import FullDecoder
    from host.table_files import WRITERS

    with _bad_input():
        if file_format not in WRITERS:
            raise ValueError(f"format '{file_format}' is none of {', '.join(WRITERS)}")
        venue = load_venue(schema, profile)
        opened = open_captures(captures, as_captured)
        with console.status("Looking at the captures ..."):
            flows, left_out = flows_of(opened, venue)
        warned = _warn(opened)
        sbe = [flow for flow in flows if flow.parser is Parser.SBE]
        if left_out:
            errors.print(f"tickgate: the flow table is full; {left_out} flows are passed over", style="yellow")
        with ReplayProgress(console, "decode") as progress:
            done = export(
                FullDecoder(venue, sbe),
                opened.batches(),
                folder,
                file_format,
                lambda packets, packet_bytes, messages: progress(
                    Progress(packets, packet_bytes, messages, opened.done_bytes, opened.total_bytes)
                ),
            )
        _warn(opened, warned)
        table = Table(title="Tables", title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("table", overflow="fold")
        table.add_column("rows", justify="right")
        for name, rows in done.rows.items():
            table.add_row(name, f"{rows:,}")
        console.print(table)
        count = sum(done.problems.values())
        listed = ", ".join(f"{name} {number:,}" for name, number in sorted(done.problems.items()))
        console.print(
            f"{done.messages:,} messages, {count:,} of them not to their end{': ' + listed if listed else ''}",
            highlight=False,
        )
        if folder is not None:
            console.print(f"Written to {folder}, a .{file_format} file each.", highlight=False, soft_wrap=True)


@app.command()
def generate(
    capture: Annotated[Path, typer.Argument(metavar="CAPTURE", help="The pcap file to write.")],
    orders: Annotated[int, typer.Option(metavar="N", help="Well-formed order messages.")] = DEMO_ORDERS,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same bytes.")] = 1,
    sessions: Annotated[int, typer.Option(metavar="N", help="FIX sessions over TCP.")] = 8,
    feeds: Annotated[int, typer.Option(metavar="N", help="Market data feeds: 0, 1 or 2 (A and B).")] = 1,
    malformed: Annotated[float, typer.Option(metavar="SHARE", help="Share of malformed messages, 0 to 1.")] = 0.01,
) -> None:
    """Make up a capture: FIX orders of several sessions and market data in SBE.

    Beside CAPTURE, its schema (.xml) and its limits (.toml) are written, for --schema and --limits.
    """
    from host.demo import DEMO_LIMITS
    from host.gateway.limits import dump_limits
    from host.generate import SCHEMA
    from host.generate import generate as make

    with _bad_input():
        made = make(orders, seed, sessions=sessions, feeds=feeds, malformed=malformed)
        made.write(capture)
        shutil.copyfile(SCHEMA, capture.with_suffix(".xml"))
        capture.with_suffix(".toml").write_text(dump_limits(DEMO_LIMITS))
    sent = made.sent
    console.print(
        f"{capture}: {len(made.packets):,} packets, {sent.messages:,} messages "
        f"({sent.orders:,} orders, {sent.malformed.total():,} malformed, {sent.sbe.total():,} market data)",
        highlight=False,
    )
    console.print(
        f"Play it: tickgate replay {capture} --schema {capture.with_suffix('.xml')} "
        f"--limits {capture.with_suffix('.toml')}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def demo(
    card: CardOption = "rtl:",
    orders: Annotated[int, typer.Option(metavar="N", help="Well-formed order messages.")] = DEMO_ORDERS,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the generated traffic.")] = 1,
) -> None:
    """Generate traffic, replay it, and check that everything that was sent is accounted for."""
    from hdl.sbe_venue import load_venue
    from host import demo as parts
    from host.generate import SCHEMA
    from host.generate import generate as make
    from host.playback.progress import ReplayProgress
    from host.playback.report import print_report

    with _bad_input():
        DEMO_DIRECTORY.mkdir(parents=True, exist_ok=True)
        console.print(f"Generating {orders:,} orders of 8 FIX sessions with market data between them.")
        made = make(orders, seed)
        _prepare(card, load_venue(SCHEMA))
        journal = DEMO_DIRECTORY / "journal"
        shutil.rmtree(journal, ignore_errors=True)
        capture = DEMO_DIRECTORY / "demo.pcap"
        run = parts.make_replay(made, capture, card, journal)
        with _stop_on_interrupt(run), ReplayProgress(console) as progress:
            result = run.run(progress)
        checks = parts.check(made, result)
        print_report(console, result)
        table = Table(title="\nReconciliation", title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("what", min_width=46)
        for column in ("sent", "found", ""):
            table.add_column(column, justify="right")
        for each in checks:
            mark = "[green]ok[/]" if each.closes else "[bold red]DIFFERS[/]"
            table.add_row(each.name, f"{each.sent:,}", f"{each.found:,}", mark)
        console.print(table)
        file = DEMO_DIRECTORY / "summary.json"
        file.write_text(json.dumps(parts.summary(made, result, checks), indent=2) + "\n")
        console.print(f"\nThe capture is {capture}, this summary {file}.", highlight=False)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not all(each.closes for each in checks):
        raise typer.Exit(1)


@app.command()
def serve(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file (docs/serve.md).")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read the configuration, and say what would run.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON each second.")] = False,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, its modules in one process or in several."""
    with _no_collection():
        from host.serve.config import load_config
        from host.serve.show import Show
        from host.serve.supervisor import ServeError, Supervisor
        from host.serve.warm import warm_stages

    with _bad_input():
        config = load_config(path)
        if check:
            for group in config.groups:
                console.print(f"process: {', '.join(group)}", highlight=False)
            console.print(f"{path} can be served.", highlight=False, soft_wrap=True)
            return
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: stopped.append(number))
        try:
            warm_stages(market_data=bool(config["gateway.schema"]))
            Supervisor(config).run(lambda: bool(stopped), Show(console, errors, as_json))
        except ServeError as error:
            raise _fail(error) from None
    if signal.SIGINT in stopped:
        raise typer.Exit(INTERRUPTED)


@app.command()
def control(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of a gateway that runs.")],
    record: Annotated[
        str, typer.Argument(metavar="JSON", help='A control record, such as {"type": "kill", "scope": "all"}.')
    ],
) -> None:
    """Have a gateway that runs take a control record: it takes effect between two orders, and is journaled."""
    from host.serve.config import load_config
    from host.serve.control import send

    with _bad_input():
        config = load_config(path)
        try:
            content = json.loads(record)
        except ValueError as error:
            raise ValueError(f"no JSON: {error}") from None
        if not isinstance(content, dict):
            raise ValueError("a control record is an object")
        send(config.run, content)


@app.command()
def reports(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of a gateway; it may run, or not.")],
    session: Annotated[int, typer.Option("--session", metavar="N", help="Of this session: a flow's number.")],
    first_sequence: Annotated[
        int,
        typer.Option("--from", metavar="SEQUENCE", min=1, help="Caused by orders from this sequence on. (default: 1)"),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with every field.")] = False,
) -> None:
    """Print what a session was told, or missed because it read too slowly, out of the journal."""
    from host.serve.config import load_config
    from host.serve.reports import show_reports

    with _bad_input():
        show_reports(load_config(path), session, first_sequence, as_json=as_json)


@app.command()
def doctor(
    warm: Annotated[bool, typer.Option("--warm", help="Compile the host's loops into Numba's cache first.")] = False,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Look only, and measure nothing.")] = False,
    directory: Annotated[
        Path, typer.Option("--journal", metavar="DIR", help="Where the journal will be: how fast that disk is.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what on this machine costs latency, and how to mend it."""
    from host.doctor import Machine, examine, measure
    from host.doctor.report import print_findings

    with _bad_input():
        if warm:
            from host.compiled import compile_imports
            from host.playback.warm import warm as warm_replay
            from host.serve.warm import warm_stages

            with console.status("Compiling the host's loops ..."):
                compile_imports()
                warm_replay()
                warm_stages(market_data=True)
        findings = examine(Machine())
        if not no_measure:
            findings += measure(directory)
    if as_json:
        print(json.dumps({"findings": [each.named() for each in findings]}, indent=2))
    else:
        print_findings(console, findings)


BoardArgument = Annotated[str, typer.Argument(metavar="BOARD", help="As `tickgate boards` names it.")]


@app.command()
def boards(
    udev: Annotated[bool, typer.Option("--udev", help="Print udev rules for their programmers and ports.")] = False,
) -> None:
    """List dev boards: what fits on them, and what was built."""
    from host.boards.commands import list_boards

    with _bad_input():
        list_boards(udev)


@app.command()
def build(
    board: BoardArgument,
    interface: Annotated[
        str | None, typer.Option("--interface", metavar="NAME", help="serial or eth; by default the board's first.")
    ] = None,
    schema: SchemaOption = None,
    profile: ProfileOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the bitstream and its manifest go.")] = Path(
        "build/bitstreams"
    ),
) -> None:
    """Build the card for a dev board."""
    from host.boards.commands import build_board

    with _bad_input():
        build_board(board, interface, schema, profile, out)


@app.command()
def flash(
    board: BoardArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="Into the flash, which the board starts from; else until power-off.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A folder of `tickgate build`; by default bitstreams/.")
    ] = None,
    card: Annotated[
        str | None, typer.Option("--card", metavar="URL", help="Where the card is read back; by default its own UART.")
    ] = None,
) -> None:
    """Program a dev board, and read back what is on it."""
    from host.boards.commands import flash_board

    with _bad_input():
        flash_board(board, dry_run=dry_run, persistent=persistent, url=card, folder=folder)


JournalArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A journal's directory.")]
RawOption = Annotated[bool, typer.Option("--raw", help="The raw message too.")]


@journal_app.command("verify")
def journal_verify(directory: JournalArgument) -> None:
    """Read a whole journal and say whether every byte is as it was written: exit code 0, or 1 with file, byte and cause."""
    from host.journal.commands import verify

    with _bad_input():
        code = verify(directory)
    if code:
        raise typer.Exit(code)


@journal_app.command("show")
def journal_show(
    directory: JournalArgument,
    time: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--time", metavar="FROM TO", help="In UTC (2025-11-26T09:30:00.000000001) or ns; TO is not included."
        ),
    ] = None,
    flow: Annotated[int | None, typer.Option("--flow", metavar="N", min=0, max=65535, help="Of this session.")] = None,
    client_order_id: Annotated[
        str | None, typer.Option("--client-order-id", metavar="ID", help="With this ClOrdID (11).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with every column.")] = False,
    raw: RawOption = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="The control records instead: what changed between which orders.")
    ] = False,
) -> None:
    """Print journaled orders in words, found by their indexes."""
    from host.gateway.reject import journaled_numbers
    from host.gateway.verdict import VERDICT_TEXT
    from host.journal.commands import parse_time, show
    from host.journal.index import Query

    with _bad_input():
        times = (parse_time(time[0]), parse_time(time[1])) if time else None
        name = None if client_order_id is None else client_order_id.encode()
        show(
            directory,
            Query(times, flow, name),
            VERDICT_TEXT,
            journaled_numbers,
            limit=limit,
            as_json=as_json,
            raw=raw,
            controls=controls,
        )


@journal_app.command("export")
def journal_export(
    directory: JournalArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Its ending says the format: parquet, arrow or csv.")
    ],
    raw: RawOption = False,
) -> None:
    """Write all journaled orders to one table."""
    from host.gateway.reject import journaled_numbers
    from host.gateway.verdict import VERDICT_TEXT
    from host.journal.commands import export

    with _bad_input():
        orders = export(directory, out, VERDICT_TEXT, journaled_numbers, raw=raw)
    console.print(f"{out}: {orders:,} orders", highlight=False, soft_wrap=True)


@journal_app.command("prepare")
def journal_prepare(
    directory: JournalArgument,
    room: Annotated[int, typer.Option("--bytes", metavar="N", min=1, help="So much, in whole segments.")],
    segment_bytes: Annotated[
        int | None, typer.Option("--segment-bytes", metavar="N", help="The gateway's [journal] segment_bytes.")
    ] = None,
) -> None:
    """Write the disk's blocks that a journal will take before orders wait for them: spare segments, full of zeros."""
    from host.journal.commands import prepare
    from host.journal.file import SEGMENT_BYTES

    with _bad_input():
        count = prepare(directory, room, segment_bytes or SEGMENT_BYTES)
    console.print(f"{directory}: {count:,} spare segments", highlight=False, soft_wrap=True)


def _warn(captures: "Captures", before: Collection[str] = ()) -> list[str]:
    """Say what was found missing of captures, unless it was said before; returns all that was said."""
    for warning in captures.warnings:
        if warning not in before:
            errors.print(f"tickgate: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    return captures.warnings


@contextlib.contextmanager
def _journal(directory: Path | None) -> Iterator[Path]:
    if directory is not None:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="tickgate-journal-") as temporary:
        yield Path(temporary)


def _prepare(url: str, venue: "Venue | None", gateway: bool = True) -> None:
    """Compile what the first replay needs, saying so, or say that opening the card will; ``gateway``: whether orders go that way."""
    from host.card.sbe_decoders import is_compiled
    from host.playback.warm import is_warm, warm
    from sim.pcie_card import pcie_card_model
    from sim.shared_library import CARD, is_built

    if gateway and not is_warm():
        console.print("Compiling the host's loops (about half a minute, once) ...")
        warm()
    if url == "soft:" and venue is not None and not is_compiled(venue):
        console.print("Compiling the SBE decoder (about half a minute, once for each schema) ...")
    models = {"rtl:": CARD, "pcie:sim": pcie_card_model()}
    if url in models and not is_built(venue, models[url]):
        console.print("Compiling the card's RTL (about a minute, once for each schema) ...")


@contextlib.contextmanager
def _stop_on_interrupt(run: Stoppable) -> Iterator[None]:
    """Ctrl-C ends the replay after the present slice; a second one ends the program."""

    def stop(number: int, frame: object) -> None:
        run.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@app.callback(invoke_without_command=True)
def _main(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show_version:
        console.print(f"tickgate {version('tickgate')}", highlight=False)
        raise typer.Exit


def _keep_asked_for(name: str) -> None:
    """Have the application know only the command ``name``, if it is one: the parameters of all the others take a tenth of a second."""
    commands = [each for each in app.registered_commands if each.callback and each.callback.__name__ == name]
    if commands:
        app.registered_commands, app.registered_groups = commands, []


def main() -> None:
    """The entry point of the command `tickgate`."""
    _keep_asked_for(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        app()
    except KeyboardInterrupt:
        errors.print("tickgate: interrupted", style="yellow")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone, as in `tickgate ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
