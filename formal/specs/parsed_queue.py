"""ParsedQueue: frames and messages come out once each, in order."""

from amaranth.hdl import Cat, Signal, Value

from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.ring_writer import ParsedQueue

DEPTH = 2
"""Frames that the queue holds here."""

SPACING = 64
"""Of an item every 64th bit is compared: a queue moves all bits alike, and the proof is about which item comes."""


class Waits(Specification):
    """What is offered stays as it is until it is taken."""

    def state(self, m):
        queue = self.add(m, "queue", ParsedQueue(frames=DEPTH))
        m.d.comb += [
            self.prove(waits_unchanged(m, queue.frames, "frames")),
            self.prove(waits_unchanged(m, queue.messages, "messages")),
        ]


class EachOnce(Specification):
    """One frame and one message, any ones, are watched: each comes out when those before it have, and as it was."""

    def state(self, m):
        queue = self.add(m, "queue", ParsedQueue(frames=DEPTH))
        for output, has, item in (
            (queue.frames, queue.i.payload.has_frame, queue.i.payload.frame),
            (queue.messages, queue.i.payload.has_message, queue.i.payload.message),
        ):
            name = "frame" if output is queue.frames else "message"
            mark = self.free(1, f"{name}_mark")
            bits = Cat(Value.cast(item)[::SPACING])
            ahead, watched = Signal(8, name=f"{name}_ahead"), Signal.like(bits, name=f"{name}_watched")
            waiting, done = Signal(name=f"{name}_waiting"), Signal(name=f"{name}_done")
            comes, goes = taken(queue.i) & has, taken(output)
            with m.If(waiting):
                with m.If(goes):
                    m.d.sync += ahead.eq(ahead - 1)
                    with m.If(ahead == 0):
                        m.d.comb += self.prove(Cat(Value.cast(output.payload)[::SPACING]) == watched)
                        m.d.sync += [waiting.eq(0), done.eq(1)]
            with m.Elif(~done):
                # While none is watched `ahead` counts all that wait.
                m.d.comb += self.prove(~output.valid | (ahead != 0))
                m.d.sync += ahead.eq(ahead + comes - goes)
                with m.If(comes & mark):
                    m.d.sync += [waiting.eq(1), watched.eq(bits), ahead.eq(ahead - goes)]


PROOFS = (
    Proof("queue_waits", "ParsedQueue", "a frame or message that waits does not change", Waits, Method.PDR, 0),
    Proof("queue_once", "ParsedQueue", "each frame and message comes out once, in order", EachOnce, Method.BOUNDED, 12),
)
