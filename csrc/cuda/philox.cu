// philox: random numbers as a pure function of who asks for them. Contract: tinydiff/ops/philox.py.
//
// v1_naive     one block of four numbers a thread
#include "philox.cuh"

// The four words that thread i of N samples draws, and where its numbers begin in y (N, M) and how many there are.
// Seed and draw are read from the arrays where those are not null.
struct Drawn {
    uint4 words;
    int64 first, valid;
};

__device__ inline Drawn draw_four(const int64* seed_array, int64 seed, unsigned purpose, const int64* sample,
                                  const int64* draw_array, int64 draw, int64 N, int64 M) {
    const int64 blocks = ceil_div(M, int64(4)), i = global_thread();
    if (i >= N * blocks) return {make_uint4(0, 0, 0, 0), 0, 0};
    const int64 n = i / blocks, block = i % blocks;
    const auto key = static_cast<unsigned long long>(seed_array ? *seed_array : seed);
    const int64 which = draw_array ? *draw_array : draw;
    const uint4 counter = make_uint4(unsigned(block), unsigned(which), unsigned(sample[n]), purpose);
    return {philox4x32(counter, unsigned(key), unsigned(key >> 32)), n * M + 4 * block, M - 4 * block};
}

// One thread does four numbers of one sample; so do the two below.
// launch: threads >= N ceil(M / 4)
// writes: y (N, M), all of it. reproducible: yes.
extern "C" __global__ void philox_bits_v1_naive(const int64* seed_array, int64 seed, unsigned purpose,
                                                const int64* sample, const int64* draw_array, int64 draw, unsigned* y,
                                                int64 N, int64 M) {
    const Drawn drawn = draw_four(seed_array, seed, purpose, sample, draw_array, draw, N, M);
    const unsigned words[4] = {drawn.words.x, drawn.words.y, drawn.words.z, drawn.words.w};
    for (int j = 0; j < 4; ++j)
        if (j < drawn.valid) y[drawn.first + j] = words[j];
}

// launch, writes, reproducible: as above.
extern "C" __global__ void philox_uniform_v1_naive(const int64* seed_array, int64 seed, unsigned purpose,
                                                   const int64* sample, const int64* draw_array, int64 draw, float* y,
                                                   int64 N, int64 M) {
    const Drawn drawn = draw_four(seed_array, seed, purpose, sample, draw_array, draw, N, M);
    const unsigned words[4] = {drawn.words.x, drawn.words.y, drawn.words.z, drawn.words.w};
    for (int j = 0; j < 4; ++j)
        if (j < drawn.valid) y[drawn.first + j] = float(uniform(words[j]));
}

// launch, writes, reproducible: as above.
extern "C" __global__ void philox_normal_v1_naive(const int64* seed_array, int64 seed, unsigned purpose,
                                                  const int64* sample, const int64* draw_array, int64 draw, float* y,
                                                  int64 N, int64 M) {
    const Drawn drawn = draw_four(seed_array, seed, purpose, sample, draw_array, draw, N, M);
    const float2 a = normals(drawn.words.x, drawn.words.y), b = normals(drawn.words.z, drawn.words.w);
    store4(y + drawn.first, make_float4(a.x, a.y, b.x, b.y), drawn.valid);
}
