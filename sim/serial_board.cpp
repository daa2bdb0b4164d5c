// Runs the verilated serial card with its pins tied to a terminal: what comes from there goes bit by bit to rx, what tx says goes back as
// bytes. Faults happen at random, by a seed: wrong bits on either wire, and bytes that never arrive.

#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <random>

#include "Vserial_top.h"

namespace {

constexpr int FRAME_BITS = 10;
// After so long without a byte on either wire nothing happens in the board until the next one comes.
constexpr int AT_REST_BITS = 1000;
constexpr int REST_MS = 5;

struct Board {
    VerilatedContext context;
    Vserial_top card{&context};
    int cycles_a_bit;
    int terminal = -1;  // -1: the cable is not there
    std::mt19937_64 random;
    double bit_errors = 0, byte_losses = 0;
    uint64_t faults = 0, bytes_up = 0;
    unsigned down = 0, up = 0;       // the byte on either wire
    int down_left = 0, up_left = 0;  // and its bits that are not over
    int up_phase = 0;                // cycles into the bit on tx
    int quiet_bits = 0;
};

bool happens(Board& b, double probability) {
    if (probability <= 0 || std::uniform_real_distribution<double>()(b.random) >= probability) return false;
    ++b.faults;
    return true;
}

bool next_bit_down(Board& b) {
    if (b.down_left == 0) {
        uint8_t byte;
        while (b.terminal >= 0 && read(b.terminal, &byte, 1) == 1) {
            if (happens(b, b.byte_losses)) continue;
            b.down = unsigned(byte) << 1 | 1u << (FRAME_BITS - 1);
            b.down_left = FRAME_BITS;
            break;
        }
    }
    bool bit = true;
    if (b.down_left) {
        bit = b.down & 1;
        b.down >>= 1;
        --b.down_left;
        b.quiet_bits = 0;
    }
    return bit != happens(b, b.bit_errors);
}

void sample_up(Board& b) {
    if (b.up_left == 0) {
        if (b.card.tx) return;
        b.up_left = FRAME_BITS;
        b.up_phase = 0;
        b.up = 0;
    }
    if (b.up_phase == b.cycles_a_bit / 2) {
        const bool bit = b.card.tx != happens(b, b.bit_errors);
        b.up = b.up >> 1 | unsigned(bit) << (FRAME_BITS - 1);
        if (--b.up_left == 0) {
            ++b.bytes_up;
            const bool broken = !(b.up >> (FRAME_BITS - 1)) || (b.up & 1);
            const uint8_t byte = uint8_t(b.up >> 1);
            // A host that does not read loses what the terminal cannot keep.
            if (!broken && !happens(b, b.byte_losses) && b.terminal >= 0 && write(b.terminal, &byte, 1) != 1) ++b.faults;
        }
        b.quiet_bits = 0;
    }
    if (++b.up_phase == b.cycles_a_bit) b.up_phase = 0;
}

void cycle(Board& b) {
    b.card.clk = 1;
    b.card.eval();
    b.card.clk = 0;
    b.card.eval();
}

}  // namespace

extern "C" {

void* tickgate_board_open(int cycles_a_bit, uint64_t seed) {
    Board* b = new Board;
    b->cycles_a_bit = cycles_a_bit;
    b->random.seed(seed);
    b->card.rx = 1;
    b->card.rst = 1;
    // There is a race at time 0: two edges under reset.
    cycle(*b);
    cycle(*b);
    b->card.rst = 0;
    return b;
}

void tickgate_board_close(void* handle) { delete static_cast<Board*>(handle); }

// The terminal's file descriptor, which does not block; -1 pulls the cable.
void tickgate_board_connect(void* handle, int terminal) { static_cast<Board*>(handle)->terminal = terminal; }

// How probable it is that a bit is wrong, and that a byte is lost.
void tickgate_board_disturb(void* handle, double bit_errors, double byte_losses) {
    Board& b = *static_cast<Board*>(handle);
    b.bit_errors = bit_errors;
    b.byte_losses = byte_losses;
}

uint64_t tickgate_board_faults(void* handle) { return static_cast<Board*>(handle)->faults; }

uint64_t tickgate_board_bytes_up(void* handle) { return static_cast<Board*>(handle)->bytes_up; }

// Lets time pass: `bits` of it, until `bytes_up` have come up in all, or while nothing happens.
void tickgate_board_run(void* handle, uint64_t bits, uint64_t bytes_up) {
    Board& b = *static_cast<Board*>(handle);
    while (bits-- && b.bytes_up < bytes_up) {
        if (b.quiet_bits < AT_REST_BITS) {
            ++b.quiet_bits;
        } else if (b.down_left == 0) {
            pollfd waits{b.terminal, POLLIN, 0};
            if (poll(&waits, 1, REST_MS) == 0) return;
        }
        b.card.rx = next_bit_down(b);
        for (int n = 0; n < b.cycles_a_bit; ++n) {
            cycle(b);
            sample_up(b);
        }
    }
}
}
