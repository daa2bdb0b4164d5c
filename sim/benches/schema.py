"""The schema that SBE benches use: that of the demo's market data."""

from pathlib import Path

SCHEMA = Path(__file__).parents[2] / "host" / "generate" / "demo_market_data.xml"
