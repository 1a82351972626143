// corrupt: the images of a batch lose signal and gain noise, drawn as they go. Contract: tinydiff/ops/corrupt.py.
//
// v1_four      four values a thread, as many as philox draws at once. Bytes for each value: 1 read of an image of
//              bytes, 8 written. Noise is double precision, about 40 operations a value: 128 images of 28 x 28 are 4
//              million of them and 0.9 MB, less than a launch takes on a GPU made for double precision
#include "philox.cuh"

__device__ inline float signed_value(unsigned char byte) { return float(byte) / 127.5f - 1; }
__device__ inline float signed_value(float value) { return value; }

// Which value of an image (height, width, channels) its mirror image has for value m.
__device__ inline int64 opposite(int64 m, int width, int channels) {
    const int64 column = m / channels % width;
    return m + (width - 1 - 2 * column) * channels;
}

// Thread i does four neighbours of one sample. An image or a noise step that is not there, which only the device has
// seen, gives NaN: the run then stops at its loss.
template <class Value>
__device__ inline void corrupt_four(const Value* images, const int64* index, const int64* step, const float* table,
                                    const int64* draw, const int64* slot, float* x, float* target, float* weight,
                                    int64 n, int T, int N, int64 M, int64 seed, unsigned purpose, int width,
                                    int channels, unsigned flip_purpose) {
    constexpr int COLUMNS = 5;
    const int64 blocks = ceil_div(M, int64(4)), i = global_thread();
    if (i >= N * blocks) return;
    const int64 sample = i / blocks, block = i % blocks;
    const bool there = index[sample] >= 0 && index[sample] < n && step[sample] >= 0 && step[sample] < T;
    float rates[COLUMNS];
    for (int k = 0; k < COLUMNS; ++k) rates[k] = there ? table[step[sample] * COLUMNS + k] : not_a_number();
    if (block == 0) weight[sample] = rates[4];

    const unsigned place = unsigned(slot ? slot[sample] : sample);
    const auto key = static_cast<unsigned long long>(seed);
    const uint4 words =
        philox4x32(make_uint4(unsigned(block), unsigned(*draw), place, purpose), unsigned(key), unsigned(key >> 32));
    const float2 low = normals(words.x, words.y), high = normals(words.z, words.w);
    const float eps[4] = {low.x, low.y, high.x, high.y};
    bool mirrored = false;
    if (width > 1) {
        const uint4 of_flip = make_uint4(0, unsigned(*draw), place, flip_purpose);
        mirrored = uniform(philox4x32(of_flip, unsigned(key), unsigned(key >> 32)).x) < 0.5;
    }
    const Value* image = images + (there ? index[sample] : 0) * M;
    float noisy[4] = {}, wanted[4] = {};
    const int64 valid = M - 4 * block;
    for (int j = 0; j < 4 && j < valid; ++j) {
        const int64 m = 4 * block + j;
        const float x0 = signed_value(image[mirrored ? opposite(m, width, channels) : m]);
        noisy[j] = rates[0] * x0 + rates[1] * eps[j];
        wanted[j] = rates[2] * x0 + rates[3] * eps[j];
    }
    const int64 first = sample * M + 4 * block;
    store4(x + first, make_float4(noisy[0], noisy[1], noisy[2], noisy[3]), valid);
    store4(target + first, make_float4(wanted[0], wanted[1], wanted[2], wanted[3]), valid);
}

// Images of bytes, one thread four values.
// launch: threads >= N ceil(M / 4)
// reads: images (n, M), index, step (N,), table (T, 5), draw (1,), slot (N,) unless it is null; width and
//        channels of an image: where the width is more than 1, half of the samples are mirrored along it
// writes: x, target (N, M) and weight (N,), all of them. reproducible: yes.
extern "C" __global__ void corrupt_bytes_v1_four(const unsigned char* images, const int64* index, const int64* step,
                                                 const float* table, const int64* draw, const int64* slot, float* x,
                                                 float* target, float* weight, int64 n, int T, int N, int64 M,
                                                 int64 seed, unsigned purpose, int width, int channels,
                                                 unsigned flip_purpose) {
    corrupt_four(images, index, step, table, draw, slot, x, target, weight, n, T, N, M, seed, purpose, width, channels,
                 flip_purpose);
}

// Images of floats.
// launch, reads, writes, reproducible: as above.
extern "C" __global__ void corrupt_floats_v1_four(const float* images, const int64* index, const int64* step,
                                                  const float* table, const int64* draw, const int64* slot, float* x,
                                                  float* target, float* weight, int64 n, int T, int N, int64 M,
                                                  int64 seed, unsigned purpose, int width, int channels,
                                                  unsigned flip_purpose) {
    corrupt_four(images, index, step, table, draw, slot, x, target, weight, n, T, N, M, seed, purpose, width, channels,
                 flip_purpose);
}
