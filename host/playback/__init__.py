"""Replays captures through a card and the gateway."""

from host.playback.replay import NoFlow, Progress, Replay, Result, flows_of

__all__ = ["Replay", "Result", "Progress", "NoFlow", "flows_of"]
