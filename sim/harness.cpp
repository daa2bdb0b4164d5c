// Runs the verilated card from memory: packets in, whole lines of host memory out.
//
// The card's bus addresses are offsets in the ring's mapping. Credits are read from the mapping's header and
// written to the card's registers, as a driver would do.

#include <atomic>
#include <cstdint>
#include <cstring>

#include "Vcard.h"
#include "harness_constants.h"

// Cycles without a beat taken, a line written or a packet finished after which the card hangs: the longest work that one
// beat makes is a few times the longest packet's bytes.
constexpr uint64_t HANGS_AFTER = 1 << 18;
constexpr int QUIET_CYCLES = 32;  // longer than the card's pipeline

// Verilator's spelling of the port group__name.
#define PORT(group, name) group##___05F##name

namespace {

struct Harness {
    VerilatedContext context;
    Vcard card{&context};
    uint8_t* memory;
    uint64_t memory_bytes;
    uint64_t cycles = 0;
    uint32_t pushed = 0;       // packets whose last beat was taken
    uint64_t beat_offset = 0;  // bytes of the current packet that were taken
    uint64_t frames_read = 0, payload_read = 0;
    bool out_of_bounds = false;
};

// A frame's last byte is its generation: the last word goes last, behind everything before it.
void write_line(Harness& h) {
    const uint32_t* words = &h.card.PORT(memory, payload)[0];
    const uint64_t address = words[0] | uint64_t(words[1]) << 32;
    if (address % LINE_BYTES != 0 || address + LINE_BYTES > h.memory_bytes) {
        h.out_of_bounds = true;
        return;
    }
    uint8_t line[LINE_BYTES];
    std::memcpy(line, words + 2, LINE_BYTES);
    std::memcpy(h.memory + address, line, LINE_BYTES - 8);
    uint64_t last;
    std::memcpy(&last, line + LINE_BYTES - 8, 8);
    reinterpret_cast<std::atomic<uint64_t>*>(h.memory + address + LINE_BYTES - 8)->store(last, std::memory_order_release);
}

// One clock cycle; inputs must be set. The card's outputs change with the rising edge only.
void cycle(Harness& h) {
    if (h.card.PORT(memory, valid)) write_line(h);
    h.card.clk = 1;
    h.card.eval();
    h.card.clk = 0;
    h.card.eval();
    ++h.cycles;
}

void write_register(Harness& h, uint32_t address, uint64_t value) {
    h.card.PORT(bus, address) = address;
    h.card.PORT(bus, write_data) = value;
    h.card.PORT(bus, write) = 1;
    cycle(h);
    h.card.PORT(bus, write) = 0;
}

uint64_t credit(const Harness& h, uint64_t offset) {
    return reinterpret_cast<std::atomic<uint64_t>*>(h.memory + offset)->load(std::memory_order_acquire);
}

bool update_credit(Harness& h) {
    const uint64_t frames = credit(h, FRAMES_READ_OFFSET), payload = credit(h, PAYLOAD_READ_OFFSET);
    const bool changed = frames != h.frames_read || payload != h.payload_read;
    if (frames != h.frames_read) write_register(h, FRAMES_READ_REGISTER, h.frames_read = frames);
    if (payload != h.payload_read) write_register(h, PAYLOAD_READ_REGISTER, h.payload_read = payload);
    return changed;
}

void set_beat(Harness& h, const uint8_t* bytes, uint64_t length, uint64_t timestamp) {
    // PacketBeat, from the lowest bit: 64 data, 4 count, 1 last, 64 timestamp.
    const uint64_t left = length - h.beat_offset;
    const uint64_t count = left < 8 ? left : 8;
    uint64_t data = 0;
    std::memcpy(&data, bytes + h.beat_offset, count);
    const uint64_t head = count | uint64_t(left <= 8) << 4;
    const uint64_t low = head | timestamp << 5, high = timestamp >> 59;
    uint32_t* words = &h.card.PORT(packets, payload)[0];
    words[0] = uint32_t(data);
    words[1] = uint32_t(data >> 32);
    words[2] = uint32_t(low);
    words[3] = uint32_t(low >> 32);
    words[4] = uint32_t(high);
}

}  // namespace

extern "C" {

void* tickgate_open(uint8_t* memory, uint64_t memory_bytes) {
    Harness* h = new Harness;
    h->memory = memory;
    h->memory_bytes = memory_bytes;
    h->card.PORT(memory, ready) = 1;
    h->card.PORT(packets, valid) = 0;
    h->card.PORT(bus, write) = 0;
    h->card.rst = 1;
    // There is a race at time 0: two edges under reset.
    cycle(*h);
    cycle(*h);
    h->card.rst = 0;
    return h;
}

void tickgate_close(void* handle) { delete static_cast<Harness*>(handle); }

void tickgate_write(void* handle, uint32_t address, uint64_t value) {
    write_register(*static_cast<Harness*>(handle), address, value);
}

uint64_t tickgate_read(void* handle, uint32_t address) {
    Harness& h = *static_cast<Harness*>(handle);
    h.card.PORT(bus, address) = address;
    // Counters say what was COUNTER_LAG cycles before.
    for (uint64_t waited = 0; waited <= COUNTER_LAG; ++waited) cycle(h);
    return h.card.PORT(bus, read_data);
}

uint64_t tickgate_cycles(void* handle) { return static_cast<Harness*>(handle)->cycles; }

// Feeds packets until all are finished with, or the card waits for credit that is not there. Returns how many were taken;
// `unfinished` says how many of those it is not done with. -1: the card wrote outside the memory. -2: it hangs.
int64_t tickgate_feed(void* handle, const uint8_t* data, const uint64_t* offset, const uint32_t* length,
                      const uint64_t* timestamp, int64_t packets, uint32_t* unfinished) {
    Harness& h = *static_cast<Harness*>(handle);
    int64_t index = 0;
    bool presented = false;
    uint64_t moved = h.cycles;  // when the card last did something
    uint32_t finished = h.card.finished;
    update_credit(h);
    while (!h.out_of_bounds) {
        if (h.card.stalled && !update_credit(h)) {
            // Credit comes from the caller's side. What the card can do without it comes first: writes under way, and
            // packets that end in it, so that what was said to be done stays so.
            h.card.PORT(packets, valid) = 0;
            for (int quiet = 0; quiet < QUIET_CYCLES; ++quiet) {
                cycle(h);
                if (h.card.PORT(memory, valid)) quiet = 0;
            }
            if (h.card.stalled && !update_credit(h)) break;
            presented = false;
        }
        if (!presented && index < packets) {
            set_beat(h, data + offset[index], length[index], timestamp[index]);
            presented = true;
        }
        if (!presented && h.card.finished == h.pushed && !h.card.PORT(memory, valid)) break;
        h.card.PORT(packets, valid) = presented;
        const bool taken = presented && h.card.PORT(packets, ready);
        if (taken || h.card.PORT(memory, valid) || h.card.finished != finished) {
            moved = h.cycles;
            finished = h.card.finished;
        } else if (h.cycles - moved > HANGS_AFTER) {
            h.card.PORT(packets, valid) = 0;
            return -2;
        }
        cycle(h);
        if (taken) {
            presented = false;
            h.beat_offset += 8;
            if (h.beat_offset >= length[index]) {
                h.beat_offset = 0;
                ++h.pushed;
                ++index;
            }
        }
    }
    h.card.PORT(packets, valid) = 0;
    if (h.out_of_bounds) return -1;
    *unfinished = h.pushed - h.card.finished;
    return index;
}
}
