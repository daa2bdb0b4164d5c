// The verilated PCIe card in the slot of a small root complex: what it writes goes to this process's memory, what the process reads and
// writes goes to BAR0 as requests (docs/pcie.md). Time passes only while something is asked for.

#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>

#include "Vpcie_card.h"
#include "harness_constants.h"

// Verilator's spelling of the port group__name.
#define PORT(group, name) group##___05F##name

namespace {

// So long a load takes on a host, in cycles: what passes in the card meanwhile.
constexpr uint64_t ROUND_TRIP_CYCLES = 250;
constexpr uint64_t LOST_AFTER_CYCLES = 100000;
constexpr uint64_t SETTLE_CYCLES = 20;
constexpr uint32_t WRITE_COMBINING_BYTES = 64;
constexpr uint32_t GRANTED_HEADERS = 16, GRANTED_DATA = 256;
constexpr uint32_t FUNCTION = 0x0300, HOST = 0x0000;
constexpr uint64_t BAR_ADDRESS = 0xfe000000;

struct Beat {
    uint32_t data[4];
    uint32_t flags;  // count, header, last
};

struct Slot {
    VerilatedContext context;
    Vpcie_card card{&context};
    uint8_t* memory;
    uint64_t memory_bytes, bus_address;
    uint64_t cycles = 0;
    std::mt19937_64 random;
    double busy;  // chance that the root complex takes nothing in a cycle
    bool up = true, master = false, reset = false;
    unsigned max_payload;
    uint32_t headers = GRANTED_HEADERS, data = GRANTED_DATA;  // credit limits
    uint32_t headers_owed = 0, data_owed = 0;
    std::deque<uint32_t> sent;  // numbers that are to be acknowledged
    std::deque<Beat> down;
    // The request that comes in.
    uint64_t address = 0;
    uint32_t left = 0, number = 0, length = 0;
    bool is_dropped = false;
    // The completion that is waited for.
    uint64_t value = 0;
    uint32_t value_beats = 0;
    bool has_value = false, in_completion = false, is_good = false;
    uint64_t faults = 0, requests = 0, cut_off = 0;
};

uint32_t field(const uint32_t* words, int at, int bits) {
    const uint64_t two = words[at / 32] | (at % 32 + bits > 32 ? uint64_t(words[at / 32 + 1]) << 32 : 0);
    return uint32_t(two >> (at % 32) & ((uint64_t(1) << bits) - 1));
}

void set(uint32_t* words, int at, int bits, uint32_t value) {
    words[at / 32] |= (value & uint32_t((uint64_t(1) << bits) - 1)) << (at % 32);
}

// The card's memory is written in the order of its bytes, a line's last word behind the others: a frame's generation is there.
void write_beat(Slot& s, const uint32_t* words, uint32_t bytes) {
    const uint64_t at = s.address - s.bus_address;
    if (s.is_dropped) return;
    if (s.address < s.bus_address || at + bytes > s.memory_bytes) {
        ++s.faults;
        return;
    }
    for (uint32_t byte = 0; byte < bytes; byte += 8) {
        uint64_t word;
        std::memcpy(&word, reinterpret_cast<const uint8_t*>(words) + byte, 8);
        reinterpret_cast<std::atomic<uint64_t>*>(s.memory + at + byte)->store(word, std::memory_order_release);
    }
}

void take_write(Slot& s, const uint32_t* beat) {
    if (beat[4] & BEAT_HEADER) {
        const uint32_t fmt = field(beat, REQUEST_FMT_AT, REQUEST_FMT_BITS);
        const uint32_t first = field(beat, REQUEST_ADDRESS_FIRST_AT, 32), second = field(beat, REQUEST_ADDRESS_SECOND_AT, 32);
        s.address = fmt & HAS_FOUR_DWORDS ? uint64_t(first) << 32 | second : first;
        s.length = s.left = 4 * field(beat, REQUEST_LENGTH_AT, REQUEST_LENGTH_BITS);
        s.number = field(beat, REQUEST_TAG_AT, REQUEST_TAG_BITS);
        // As a block does: without Bus Master Enable nothing goes out.
        s.is_dropped = !s.master;
        const bool is_legal = field(beat, REQUEST_TYPE_AT, REQUEST_TYPE_BITS) == MEMORY_TYPE && (fmt & HAS_DATA) &&
                              s.length && s.length <= 128u << s.max_payload &&
                              s.address % 4096 + s.length <= 4096 && bool(fmt & HAS_FOUR_DWORDS) == (s.address >> 32 != 0);
        if (!is_legal) ++s.faults;
        ++s.requests;
        return;
    }
    // What is under way when it is taken away is cut off.
    s.is_dropped |= !s.master;
    const uint32_t bytes = 4 * (beat[4] & 7);
    write_beat(s, beat, bytes);
    s.address += bytes;
    s.left -= bytes;
    if (beat[4] & BEAT_LAST) {
        if (s.left) ++s.faults;
        if (s.is_dropped) {
            ++s.cut_off;
            return;
        }
        s.sent.push_back(s.number);
        s.headers_owed += 1;
        s.data_owed += s.length / CREDIT_BYTES;
    }
}

void take_completion(Slot& s, const uint32_t* beat) {
    if (beat[4] & BEAT_HEADER) {
        s.is_good = field(beat, COMPLETION_STATUS_AT, COMPLETION_STATUS_BITS) == SUCCESSFUL;
        s.has_value = beat[4] & BEAT_LAST;
    } else {
        s.value = beat[0] | uint64_t(beat[1]) << 32;
        s.has_value = true;
    }
}

bool is_busy(Slot& s) { return s.busy > 0 && std::uniform_real_distribution<double>()(s.random) < s.busy; }

void set_link(Slot& s) {
    uint64_t link = uint64_t(s.up) | uint64_t(s.master && s.up) << 1 | uint64_t(s.reset) << 2 | uint64_t(s.max_payload) << 3 |
                    uint64_t(FUNCTION) << 6;
    link |= uint64_t(s.headers & 0xff) << 22 | uint64_t(s.data & 0xfff) << 30;
    s.card.link = link;
}

void cycle(Slot& s) {
    Vpcie_card& c = s.card;
    set_link(s);
    const bool takes = !is_busy(s);
    c.PORT(writes, ready) = takes;
    c.PORT(completions, ready) = takes;
    c.PORT(requests, valid) = !s.down.empty();
    if (!s.down.empty()) {
        for (int word = 0; word < 4; ++word) c.PORT(requests, payload)[word] = s.down.front().data[word];
        c.PORT(requests, payload)[4] = s.down.front().flags;
    }
    c.acknowledges = !s.sent.empty() && !is_busy(s);
    if (c.acknowledges) {
        c.acknowledged = s.sent.front();
        s.sent.pop_front();
        s.headers += s.headers_owed;
        s.data += s.data_owed;
        s.headers_owed = s.data_owed = 0;
    }
    c.eval();
    if (takes && c.PORT(writes, valid)) take_write(s, &c.PORT(writes, payload)[0]);
    if (takes && c.PORT(completions, valid)) take_completion(s, &c.PORT(completions, payload)[0]);
    const bool taken = !s.down.empty() && c.PORT(requests, ready);
    c.clk = 1;
    c.eval();
    c.clk = 0;
    c.eval();
    if (taken) s.down.pop_front();
    ++s.cycles;
}

void run(Slot& s, uint64_t cycles) {
    while (cycles--) cycle(s);
}

void request(Slot& s, uint32_t fmt, uint64_t offset, uint32_t dwords, bool has_data) {
    Beat header{};
    set(header.data, REQUEST_FMT_AT, REQUEST_FMT_BITS, fmt);
    set(header.data, REQUEST_TYPE_AT, REQUEST_TYPE_BITS, MEMORY_TYPE);
    set(header.data, REQUEST_LENGTH_AT, REQUEST_LENGTH_BITS, dwords);
    set(header.data, REQUEST_FIRST_ENABLE_AT, REQUEST_FIRST_ENABLE_BITS, 0xf);
    set(header.data, REQUEST_LAST_ENABLE_AT, REQUEST_LAST_ENABLE_BITS, dwords > 1 ? 0xf : 0);
    set(header.data, REQUEST_REQUESTER_AT, REQUEST_REQUESTER_BITS, HOST);
    header.data[REQUEST_ADDRESS_FIRST_AT / 32] = uint32_t(BAR_ADDRESS + offset);
    header.flags = 3 | BEAT_HEADER | (has_data ? 0 : BEAT_LAST);
    s.down.push_back(header);
}

void write(Slot& s, uint64_t offset, const uint8_t* bytes, uint64_t count) {
    request(s, HAS_DATA, offset, uint32_t(count / 4), true);
    for (uint64_t at = 0; at < count; at += 16) {
        Beat beat{};
        const uint64_t now = count - at < 16 ? count - at : 16;
        std::memcpy(beat.data, bytes + at, now);
        beat.flags = uint32_t(now / 4) | (at + now == count ? BEAT_LAST : 0);
        s.down.push_back(beat);
    }
}

// Nothing that was under way arrives.
void forget(Slot& s) {
    s.down.clear();
    s.sent.clear();
    s.left = 0;
    s.headers = GRANTED_HEADERS;
    s.data = GRANTED_DATA;
    s.headers_owed = s.data_owed = 0;
}

}  // namespace

extern "C" {

void* tickgate_pcie_open(uint8_t* memory, uint64_t memory_bytes, uint64_t bus_address, uint32_t max_payload, double busy,
                         uint64_t seed) {
    Slot* s = new Slot;
    s->memory = memory;
    s->memory_bytes = memory_bytes;
    s->bus_address = bus_address;
    s->max_payload = max_payload;
    s->busy = busy;
    s->random.seed(seed);
    s->card.rst = 1;
    // There is a race at time 0: two edges under reset.
    run(*s, 2);
    s->card.rst = 0;
    run(*s, SETTLE_CYCLES);
    return s;
}

void tickgate_pcie_close(void* handle) { delete static_cast<Slot*>(handle); }

// A link that is down gives all ones, as a host's bridge does.
uint64_t tickgate_pcie_load(void* handle, uint64_t offset) {
    Slot& s = *static_cast<Slot*>(handle);
    if (!s.up) return ~uint64_t(0);
    s.has_value = false;
    request(s, 0, offset, 2, false);
    const uint64_t begun = s.cycles;
    while (!s.has_value && s.cycles - begun < LOST_AFTER_CYCLES) cycle(s);
    const uint64_t value = s.has_value && s.is_good ? s.value : ~uint64_t(0);
    run(s, ROUND_TRIP_CYCLES);
    return value;
}

void tickgate_pcie_store(void* handle, uint64_t offset, uint64_t value) {
    Slot& s = *static_cast<Slot*>(handle);
    if (s.up) write(s, offset, reinterpret_cast<const uint8_t*>(&value), 8);
}

// In pieces, as a host's write-combining buffers make them.
void tickgate_pcie_copy(void* handle, uint64_t offset, const uint8_t* bytes, uint64_t count) {
    Slot& s = *static_cast<Slot*>(handle);
    if (!s.up) return;
    for (uint64_t at = 0; at < count;) {
        const uint64_t room = WRITE_COMBINING_BYTES - (offset + at) % WRITE_COMBINING_BYTES;
        const uint64_t now = count - at < room ? count - at : room;
        write(s, offset + at, bytes + at, now);
        at += now;
    }
}

void tickgate_pcie_master(void* handle, int enable) {
    Slot& s = *static_cast<Slot*>(handle);
    s.master = enable;
    run(s, SETTLE_CYCLES);
}

void tickgate_pcie_link(void* handle, int up) {
    Slot& s = *static_cast<Slot*>(handle);
    s.up = up;
    if (!up) s.master = false;
    forget(s);
    run(s, SETTLE_CYCLES);
}

void tickgate_pcie_reset(void* handle) {
    Slot& s = *static_cast<Slot*>(handle);
    s.reset = true;
    run(s, SETTLE_CYCLES);
    s.reset = false;
    s.master = false;
    run(s, SETTLE_CYCLES);
}

void tickgate_pcie_run(void* handle, uint64_t cycles) { run(*static_cast<Slot*>(handle), cycles); }
uint64_t tickgate_pcie_cycles(void* handle) { return static_cast<Slot*>(handle)->cycles; }
uint64_t tickgate_pcie_faults(void* handle) { return static_cast<Slot*>(handle)->faults; }
uint64_t tickgate_pcie_cut_off(void* handle) { return static_cast<Slot*>(handle)->cut_off; }
uint64_t tickgate_pcie_requests(void* handle) { return static_cast<Slot*>(handle)->requests; }
}
