// Runs the verilated Ethernet card with its RGMII pins tied to a raw socket: frames from there go byte by byte to rx, behind a preamble and with
// their FCS (traffic to traffic_rx, where the card has that), and what tx sends goes back as frames if its FCS is right. Faults happen at random, by a seed: frames that are lost, damaged on the
// wire, or come twice.

#include <poll.h>
#include <sys/socket.h>

#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "Vethernet_card.h"
#include "harness_constants.h"

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int PREAMBLE_BYTES = 7;
constexpr uint8_t PREAMBLE = 0x55, START = 0xD5;
constexpr int FCS_BYTES = 4;
constexpr int GAP_BYTES = 12;
constexpr size_t SHORTEST = 60, LONGEST = 1600;
// After so many byte times without anything on either wire nothing happens in the board until the next frame comes.
constexpr int AT_REST_BYTES = 20000;
constexpr int REST_MS = 5;
// How often the socket is looked at while the wire is idle: a system call costs what some byte times do.
constexpr int LOOK_BYTES = 32;
// RGMII at 1 Gb/s takes a byte in 8 ns, and the card's clock a cycle in two of them.
constexpr int BYTES_A_CYCLE = 2;

struct Direction {
    double losses = 0, damages = 0, repeats = 0;
    uint64_t lost = 0, damaged = 0, repeated = 0;
};

// A wire to the board: frames that wait for it, with preamble and FCS, and how many bytes of the first one are over, its gap's too.
struct Wire {
    std::deque<Bytes> frames;
    size_t at = 0;
};

struct Board {
    VerilatedContext context;
    Vethernet_card card{&context};
    int socket = -1;
    std::mt19937_64 random;
    Direction link_down, link_up, traffic;
    uint64_t frames_up = 0, broken_up = 0;
    uint32_t crc_table[256];
    Wire down, traffic_down;
    Bytes up;  // the frame on tx, from its preamble on
    int quiet = 0, phase = 0, gap = GAP_BYTES;
};

bool happens(Board& b, double probability) {
    return probability > 0 && std::uniform_real_distribution<double>()(b.random) < probability;
}

uint32_t crc32(const Board& b, const uint8_t* bytes, size_t count) {
    uint32_t crc = ~0u;
    while (count--) crc = crc >> 8 ^ b.crc_table[(crc ^ *bytes++) & 0xFF];
    return ~crc;
}

// Cards with one port have no second one to drive: of each pair the call takes the first one that compiles.
template <class Card>
auto has_traffic_port(const Card& card, int) -> decltype(card.traffic_rx, true) { return true; }
template <class Card>
bool has_traffic_port(const Card&, long) { return false; }

template <class Card>
auto drive_traffic(Card& card, unsigned edges, bool clock, bool reset, int) -> decltype(card.traffic_rx, void()) {
    card.traffic_rx = edges;
    card.traffic_rx_clk = clock;
    card.traffic_rx_rst = reset;
}
template <class Card>
void drive_traffic(Card&, unsigned, bool, bool, long) {}

bool is_link(const uint8_t* frame) { return (frame[12] << 8 | frame[13]) == int(ETHERTYPE); }

// A MARK goes the way of the packets.
bool is_traffic(const uint8_t* frame) { return !is_link(frame) || frame[14] == MARK; }

void damage(Board& b, Bytes& frame, size_t first) {
    const size_t bit = std::uniform_int_distribution<size_t>(8 * first, 8 * frame.size() - 1)(b.random);
    frame[bit / 8] ^= uint8_t(1u << bit % 8);
}

// A frame from the socket onto the wire.
void send_down(Board& b, const uint8_t* frame, size_t count) {
    Direction& direction = is_link(frame) ? b.link_down : b.traffic;
    Wire& taken = is_traffic(frame) && has_traffic_port(b.card, 0) ? b.traffic_down : b.down;
    if (happens(b, direction.losses)) {
        ++direction.lost;
        return;
    }
    Bytes wire(PREAMBLE_BYTES, PREAMBLE);
    wire.push_back(START);
    wire.insert(wire.end(), frame, frame + count);
    while (wire.size() < PREAMBLE_BYTES + 1 + SHORTEST) wire.push_back(0);
    const uint32_t fcs = crc32(b, &wire[PREAMBLE_BYTES + 1], wire.size() - PREAMBLE_BYTES - 1);
    for (int n = 0; n < FCS_BYTES; ++n) wire.push_back(uint8_t(fcs >> 8 * n));
    if (happens(b, direction.repeats)) {
        ++direction.repeated;
        taken.frames.push_back(wire);
    }
    if (happens(b, direction.damages)) {
        ++direction.damaged;
        damage(b, wire, PREAMBLE_BYTES + 1);
    }
    taken.frames.push_back(std::move(wire));
}

// A whole frame from tx, to the socket.
void send_up(Board& b) {
    Bytes& up = b.up;
    ++b.frames_up;
    size_t begin = 0;
    while (begin < up.size() && up[begin] == PREAMBLE) ++begin;
    const bool has_start = begin == PREAMBLE_BYTES && begin < up.size() && up[begin] == START;
    const size_t count = up.size() - begin - 1;
    if (happens(b, b.link_up.damages)) {
        ++b.link_up.damaged;
        damage(b, up, PREAMBLE_BYTES + 1);
    } else if (!has_start || count < SHORTEST + FCS_BYTES || b.gap < GAP_BYTES) {
        ++b.broken_up;
        return;
    }
    const uint8_t* frame = &up[begin + 1];
    uint32_t fcs = 0;
    for (int n = 0; n < FCS_BYTES; ++n) fcs |= uint32_t(frame[count - FCS_BYTES + n]) << 8 * n;
    if (crc32(b, frame, count - FCS_BYTES) != fcs) {
        ++b.broken_up;
        return;
    }
    if (happens(b, b.link_up.losses)) {
        ++b.link_up.lost;
        return;
    }
    const bool twice = happens(b, b.link_up.repeats);
    b.link_up.repeated += twice;
    for (int n = 0; n <= twice; ++n) send(b.socket, frame, count - FCS_BYTES, MSG_DONTWAIT);
}

void look(Board& b) {
    uint8_t frame[LONGEST];
    ssize_t count;
    while (b.down.frames.size() < 2 && b.traffic_down.frames.size() < 2 && (count = recv(b.socket, frame, LONGEST, MSG_DONTWAIT | MSG_TRUNC)) > 0)
        if (size_t(count) <= LONGEST) send_down(b, frame, size_t(count));
}

// The wires of one direction: data and control of the rising edge, then of the falling one.
unsigned edges(unsigned byte, unsigned control) { return (byte & 15) | control << 4 | (byte >> 4) << 5 | control << 9; }

// What is on a wire now.
unsigned next_edges(Board& b, Wire& wire) {
    if (wire.frames.empty()) return 0;
    b.quiet = 1;
    const Bytes& frame = wire.frames.front();
    const unsigned now = wire.at < frame.size() ? edges(frame[wire.at], 1) : 0;
    if (++wire.at == frame.size() + GAP_BYTES) {
        wire.frames.pop_front();
        wire.at = 0;
        look(b);
    }
    return now;
}

void byte_time(Board& b) {
    if (b.down.frames.empty() && b.traffic_down.frames.empty() && b.quiet % LOOK_BYTES == 0) look(b);
    ++b.quiet;
    b.card.rx = next_edges(b, b.down);
    const unsigned traffic = next_edges(b, b.traffic_down);
    // The domains' edges come one after the other, as those of clocks that know nothing of each other.
    b.card.rx_clk = 1;
    b.card.eval();
    drive_traffic(b.card, traffic, true, false, 0);
    b.card.eval();
    b.card.tx_clk = 1;
    b.card.eval();
    if (++b.phase == BYTES_A_CYCLE) {
        b.phase = 0;
        b.card.clk = 1;
        b.card.eval();
    }
    b.card.rx_clk = b.card.tx_clk = b.card.clk = 0;
    drive_traffic(b.card, traffic, false, false, 0);
    b.card.eval();

    const unsigned tx = b.card.tx;
    if (tx >> 4 & 1) {
        b.quiet = 1;
        b.up.push_back(uint8_t((tx & 15) | (tx >> 5 & 15) << 4));
    } else if (!b.up.empty()) {
        send_up(b);
        b.up.clear();
        b.gap = 1;
    } else {
        ++b.gap;
    }
}

}  // namespace

extern "C" {

void* tickgate_board_open(int socket, uint64_t seed) {
    Board* b = new Board;
    b->socket = socket;
    b->random.seed(seed);
    for (uint32_t n = 0; n < 256; ++n) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
        b->crc_table[n] = crc;
    }
    // There is a race at time 0: some edges under reset.
    b->card.rst = b->card.rx_rst = b->card.tx_rst = 1;
    for (int n = 0; n < 8; ++n) {
        b->card.rx_clk = b->card.tx_clk = b->card.clk = 1;
        drive_traffic(b->card, 0, true, true, 0);
        b->card.eval();
        b->card.rx_clk = b->card.tx_clk = b->card.clk = 0;
        drive_traffic(b->card, 0, false, true, 0);
        b->card.eval();
    }
    b->card.rst = b->card.rx_rst = b->card.tx_rst = 0;
    drive_traffic(b->card, 0, false, false, 0);
    return b;
}

void tickgate_board_close(void* handle) { delete static_cast<Board*>(handle); }

// How probable it is that a frame is lost, damaged, or comes twice: of the link downwards (0), of it upwards (1), of the traffic (2).
void tickgate_board_disturb(void* handle, int which, double losses, double damages, double repeats) {
    Board& b = *static_cast<Board*>(handle);
    Direction& direction = which == 0 ? b.link_down : which == 1 ? b.link_up : b.traffic;
    direction.losses = losses;
    direction.damages = damages;
    direction.repeats = repeats;
}

// Faults so far of each kind and direction, as in `tickgate_board_disturb`: lost, damaged, repeated.
void tickgate_board_faults(void* handle, uint64_t* faults) {
    Board& b = *static_cast<Board*>(handle);
    for (const Direction* direction : {&b.link_down, &b.link_up, &b.traffic}) {
        *faults++ = direction->lost;
        *faults++ = direction->damaged;
        *faults++ = direction->repeated;
    }
}

uint64_t tickgate_board_frames_up(void* handle) { return static_cast<Board*>(handle)->frames_up; }

// Frames from tx that were no frames: a wrong FCS, preamble or length, or too small a gap. Those that were damaged on the wire count too.
uint64_t tickgate_board_broken_up(void* handle) { return static_cast<Board*>(handle)->broken_up; }

// Lets time pass: so many byte times, or while nothing happens.
void tickgate_board_run(void* handle, uint64_t bytes) {
    Board& b = *static_cast<Board*>(handle);
    while (bytes--) {
        if (b.quiet > AT_REST_BYTES) {
            pollfd waits{b.socket, POLLIN, 0};
            if (poll(&waits, 1, REST_MS) == 0) return;
            b.quiet = 0;
        }
        byte_time(b);
    }
}
}
