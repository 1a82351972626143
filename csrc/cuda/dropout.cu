// dropout: values left out at random, the others made larger. Derivation: tinydiff/ops/dropout.py.
//
// v1_eight     eight values a thread, as many as philox decides at once: every sixteenth, so that half a warp takes
//              sixteen neighbours in one access, 64 bytes of them, or 32 in bfloat16
#include "philox.cuh"

// One thread does the eight values of one block of philox; its backward too, which makes dx of dy.
// launch: threads >= N 16 ceil(M / 128)
// reads: x (N, M), number (1,), slot (N,) unless it is null
// writes: y (N, M), all of it. reproducible: yes.
extern "C" __global__ void dropout_forward_v1_eight(const Real* x, const int64* number, const int64* slot, Real* y,
                                                    int64 N, int64 M, int64 seed, unsigned purpose, unsigned threshold,
                                                    float scale) {
    constexpr int PARTS = 8, APART = 16;  // halves of a block, and how far apart the values lie that they decide
    const int64 blocks = APART * ceil_div(M, int64(PARTS * APART)), i = global_thread();
    if (i >= N * blocks) return;
    const int64 n = i / blocks, block = i % blocks;

    const auto key = static_cast<unsigned long long>(seed);
    const uint4 counter = make_uint4(unsigned(block), unsigned(*number), unsigned(slot ? slot[n] : n), purpose);
    const uint4 drawn = philox4x32(counter, unsigned(key), unsigned(key >> 32));
    const unsigned words[PARTS / 2] = {drawn.x, drawn.y, drawn.z, drawn.w};
    const int64 first = block / APART * (PARTS * APART) + block % APART;
    UNROLL for (int part = 0; part < PARTS; ++part) {
        const int64 m = first + part * APART;
        if (m >= M) return;
        const unsigned half = part % 2 ? words[part / 2] >> 16 : words[part / 2] & 0xFFFF;
        y[n * M + m] = float(x[n * M + m]) * (half >= threshold ? scale : 0.0f);
    }
}
