// draw_batch: which images a training step sees, at which noise steps. See tinydiff/ops/draw_batch.py.
#include "kernels.h"
#include "philox.h"

TINYDIFF_BEGIN
namespace {

constexpr int ROUNDS = 6;

// What stands at a place, in [0, n), in the order of an epoch.
int64_t shuffled(int64_t place, int64_t epoch, const BatchOptions& options) {
    const uint64_t mask = (uint64_t{1} << options.half) - 1;
    uint64_t index = static_cast<uint64_t>(place);
    do {
        uint64_t left = index >> options.half, right = index & mask;
        for (uint32_t round = 0; round < ROUNDS; ++round) {
            const Words counter{
                {static_cast<uint32_t>(right), static_cast<uint32_t>(epoch), round, options.order_purpose}};
            const uint64_t before = left;
            left = right;
            right = before ^ (encrypt(counter, options.seed).word[0] & mask);
        }
        index = left << options.half | right;
    } while (index >= static_cast<uint64_t>(options.images));
    return static_cast<int64_t>(index);
}

}  // namespace

void draw_batch_forward(const int64_t* labels, int64_t number, const BatchOptions& options, int64_t* index,
                        int64_t* step, int64_t* labels_N) {
    const auto draw = static_cast<uint32_t>(number);
    auto drawn = [&](uint32_t purpose, int64_t slot) {
        return static_cast<float>(
            uniform(encrypt({{0, draw, static_cast<uint32_t>(slot), purpose}}, options.seed).word[0]));
    };
    const int64_t N = options.batch, first = (number - 1) * N;
    const float start = drawn(options.step_purpose, 0);
    for (int64_t slot = 0; slot < N; ++slot) {
        const int64_t position = first + slot;
        index[slot] = shuffled(position % options.images, position / options.images, options);
        float along = start + static_cast<float>(static_cast<double>(slot) / static_cast<double>(N));
        if (along >= 1) along -= 1;
        step[slot] = static_cast<int64_t>(along * static_cast<float>(options.noise_steps));
        if (!labels_N) continue;
        const bool dropped = drawn(options.drop_purpose, slot) < options.dropout;
        labels_N[slot] = dropped ? options.classes : labels[index[slot]];
    }
}

TINYDIFF_END
