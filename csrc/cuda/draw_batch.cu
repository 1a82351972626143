// draw_batch: which images a training step sees, at which noise steps. Contract: tinydiff/ops/draw_batch.py.
//
// v1_naive     one place in the batch a thread; the order of an epoch is worked out where it is asked for
#include "philox.cuh"

// What stands at a place, in [0, n), in the order of an epoch; half: bits of half the number of an image.
__device__ inline int64 shuffled(int64 place, int64 epoch, int64 n, int half, unsigned purpose, int64 seed) {
    constexpr int ROUNDS = 6;
    const unsigned mask = (1u << half) - 1;
    const auto key = static_cast<unsigned long long>(seed);
    int64 index = place;
    do {
        unsigned left = unsigned(index >> half), right = unsigned(index) & mask;
        for (unsigned round = 0; round < ROUNDS; ++round) {
            const uint4 counter = make_uint4(right, unsigned(epoch), round, purpose);
            const unsigned before = left;
            left = right;
            right = before ^ (philox4x32(counter, unsigned(key), unsigned(key >> 32)).x & mask);
        }
        index = int64(left) << half | right;
    } while (index >= n);
    return index;
}

__device__ inline float uniform_of(int64 seed, unsigned purpose, int64 sample, int64 draw) {
    const auto key = static_cast<unsigned long long>(seed);
    const uint4 counter = make_uint4(0, unsigned(draw), unsigned(sample), purpose);
    return float(uniform(philox4x32(counter, unsigned(key), unsigned(key >> 32)).x));
}

// One thread does one place of the batch: its image, its noise step and its label.
// launch: threads >= N
// reads: labels (n,) of the data set, number (1,) of the training step
// writes: index, step and, where it is not null, labels_N (N,), all of them. reproducible: yes.
extern "C" __global__ void draw_batch_forward_v1_naive(const int64* labels, const int64* number, int64* index,
                                                       int64* step, int64* labels_N, int64 n, int N, int noise_steps,
                                                       int classes, float dropout, int64 seed, int half,
                                                       unsigned order_purpose, unsigned step_purpose,
                                                       unsigned drop_purpose) {
    const int64 slot = global_thread();
    if (slot >= N) return;
    const int64 position = (*number - 1) * N + slot;
    const int64 image = shuffled(position % n, position / n, n, half, order_purpose, seed);
    float along = uniform_of(seed, step_purpose, 0, *number) + float(double(slot) / N);
    if (along >= 1) along -= 1;
    index[slot] = image;
    step[slot] = int64(along * float(noise_steps));
    if (!labels_N) return;
    const bool dropped = uniform_of(seed, drop_purpose, slot, *number) < dropout;
    labels_N[slot] = dropped ? classes : labels[image];
}
