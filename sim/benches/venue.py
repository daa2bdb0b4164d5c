"""The venue that SBE benches use: that of the demo's market data."""

from pathlib import Path

from hdl.sbe_venue import load_venue

VENUE = load_venue(Path(__file__).parents[2] / "host" / "generate" / "demo_market_data.xml")
