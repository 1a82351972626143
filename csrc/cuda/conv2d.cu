// conv2d: cross-correlation, channels last. Derivation: tinydiff/ops/conv2d.py; H_out = H', W_out = W'.
//
// v1_naive           one value a thread, straight from memory
// v2_implicit_gemm   the product of gemm.cuh: the matrix of pixels under the filter, (N H' W', R S C), is never made;
//                    its values are looked up in x when a tile of it goes to shared memory. Both gradients likewise.
//
// On tensor cores, in bfloat16 alone: the same with the product of tensor_cores.cuh
// v3_tensor_cores   one tile of 64 x 64 a block
// v4_tall_tiles     128 x 64
// v5_square_tiles   128 x 128
//
// The weight gradient sums over the pixels, in parts of so many that do not depend on the device; merge adds them.
#include "gemm.cuh"
#ifdef TINYDIFF_BF16
#include "tensor_cores.cuh"
#endif

struct Conv {
    int N, H, W, C, R, S, O, stride, before, H_out, W_out;

    __device__ int64 pixels() const { return int64(N) * H * W; }
    __device__ int64 pixels_out() const { return int64(N) * H_out * W_out; }
};
#define CONV int N, int H, int W, int C, int R, int S, int O, int stride, int before, int H_out, int W_out
#define THE_CONV {N, H, W, C, R, S, O, stride, before, H_out, W_out}

// A pixel of an image; n < 0 is none.
struct Pixel {
    int n, h, w;
};

__device__ inline Pixel pixel_at(int64 i, int N, int H, int W) {
    if (i >= int64(N) * H * W) return {-1, 0, 0};
    return {int(i / W / H), int(i / W % H), int(i % W)};
}

// A place in the filter and a channel; r < 0 is none.
struct Tap {
    int r, s, channel;
};

__device__ inline Tap tap_at(int64 i, int R, int S, int channels) {
    if (i >= int64(R) * S * channels) return {-1, 0, 0};
    return {int(i / channels / S), int(i / channels % S), int(i % channels)};
}

// What y's pixel sees of x through one tap: 0 outside the image.
__device__ inline float seen(const Conv& conv, const Real* x, Pixel p, Tap tap) {
    const int h = p.h * conv.stride + tap.r - conv.before, w = p.w * conv.stride + tap.s - conv.before;
    if (p.n < 0 || tap.r < 0 || h < 0 || h >= conv.H || w < 0 || w >= conv.W) return 0;
    return x[((int64(p.n) * conv.H + h) * conv.W + w) * conv.C + tap.channel];
}

// The gradient that x's pixel gets through one tap, from the pixel of y that sees it so: 0 if none does.
__device__ inline float received(const Conv& conv, const Real* dy, Pixel p, Tap tap) {
    const int h = p.h + conv.before - tap.r, w = p.w + conv.before - tap.s;
    if (p.n < 0 || tap.r < 0 || h < 0 || w < 0 || h % conv.stride || w % conv.stride) return 0;
    const int h_out = h / conv.stride, w_out = w / conv.stride;
    if (h_out >= conv.H_out || w_out >= conv.W_out) return 0;
    return dy[((int64(p.n) * conv.H_out + h_out) * conv.W_out + w_out) * conv.O + tap.channel];
}

// (N H' W', R S C): what each pixel of y sees.
struct Seen {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* x;
    __device__ Pixel outer(int64 m) const { return pixel_at(m, conv.N, conv.H_out, conv.W_out); }
    __device__ Tap inner(int64 k) const { return tap_at(k, conv.R, conv.S, conv.C); }
    __device__ float at(Pixel p, Tap tap) const { return seen(conv, x, p, tap); }
};

// The same, turned: (R S C, N H' W').
struct SeenTurned {
    static constexpr bool ALONG_K = false;
    const Conv& conv;
    const Real* x;
    __device__ Tap outer(int64 m) const { return tap_at(m, conv.R, conv.S, conv.C); }
    __device__ Pixel inner(int64 k) const { return pixel_at(k, conv.N, conv.H_out, conv.W_out); }
    __device__ float at(Tap tap, Pixel p) const { return seen(conv, x, p, tap); }
};

// (N H W, R S O): what each pixel of x gets back.
struct Received {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* dy;
    __device__ Pixel outer(int64 m) const { return pixel_at(m, conv.N, conv.H, conv.W); }
    __device__ Tap inner(int64 k) const { return tap_at(k, conv.R, conv.S, conv.O); }
    __device__ float at(Pixel p, Tap tap) const { return received(conv, dy, p, tap); }
};

// The filter as (R S O, C), to go back through.
struct FilterTurned {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* w;
    __device__ int outer(int64 c) const { return c < conv.C ? int(c) : -1; }
    __device__ Tap inner(int64 k) const { return tap_at(k, conv.R, conv.S, conv.O); }
    __device__ float at(int c, Tap tap) const {
        if (c < 0 || tap.r < 0) return 0;
        return w[((int64(tap.r) * conv.S + tap.s) * conv.C + c) * conv.O + tap.channel];
    }
};

// What is added to the sum of pixel m and channel o. b and add may be null; of add, one row serves `add_pixels`
// neighbouring pixels: H' W' for a time shift, 1 for a residual.
struct Epilogue {
    const float* b;
    const Real* add;
    int add_pixels, O;
    __device__ float operator()(int64 m, int64 o, float sum) const {
        if (add) sum += add[m / add_pixels * O + o];
        return b ? sum + b[o] : sum;
    }
};

// One thread does one value of y.
// launch: threads >= N H' W' O
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void conv2d_forward_v1_naive(const Real* x, const Real* w, const float* b, const Real* add,
                                                   Real* y, int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread();
    if (i >= conv.pixels_out() * O) return;
    const int64 m = i / O, o = i % O;
    const Pixel p = pixel_at(m, N, H_out, W_out);
    float sum = 0;
    for (int r = 0; r < R; ++r)
        for (int s = 0; s < S; ++s)
            for (int c = 0; c < C; ++c) sum += seen(conv, x, p, {r, s, c}) * w[((int64(r) * S + s) * C + c) * O + o];
    y[i] = Epilogue{b, add, add_pixels, O}(m, o, sum);
}

// One block does 64 pixels and 64 channels of y.
// launch: grid (ceil(N H' W' / 64), ceil(O / 64)), block 256, shared: GEMM_SHARED_BYTES
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_forward_v2_implicit_gemm(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                    int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    const int K = R * S * C;
    const Epilogue epilogue{b, add, add_pixels, O};
    multiply_tile(Seen{conv, x}, Dense<false>{w, O, K, O}, 0, K, [&](int64 m, int64 o, float sum) {
        if (m < conv.pixels_out() && o < O) y[m * O + o] = epilogue(m, o, sum);
    });
}

// One thread does one value of dx: it gathers from every pixel of y that saw it.
// launch: threads >= N H W C
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void conv2d_input_gradient_v1_naive(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread();
    if (i >= conv.pixels() * C) return;
    const int64 c = i % C;
    const Pixel p = pixel_at(i / C, N, H, W);
    float sum = 0;
    for (int r = 0; r < R; ++r)
        for (int s = 0; s < S; ++s)
            for (int o = 0; o < O; ++o)
                sum += received(conv, dy, p, {r, s, o}) * w[((int64(r) * S + s) * C + c) * O + o];
    dx[i] = sum;
}

// One block does 64 pixels and 64 channels of dx.
// launch: grid (ceil(N H W / 64), ceil(C / 64)), block 256, shared: GEMM_SHARED_BYTES
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_input_gradient_v2_implicit_gemm(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    multiply_tile(Received{conv, dy}, FilterTurned{conv, w}, 0, int64(R) * S * O, [&](int64 m, int64 c, float sum) {
        if (m < conv.pixels() && c < C) dx[m * C + c] = sum;
    });
}

// One thread does one value of one part of dw.
// launch: grid (ceil(R S C O / block), parts). needs: parts x stretch >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void conv2d_weight_gradient_v1_naive(const Real* x, const Real* dy, float* dw_parts,
                                                           int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread(), size = int64(R) * S * C * O;
    if (i >= size) return;
    const Tap tap = tap_at(i / O, R, S, C);
    const int64 o = i % O, first = blockIdx.y * stretch;
    float sum = 0;
    for (int64 m = first; m < min(conv.pixels_out(), first + stretch); ++m)
        sum += seen(conv, x, pixel_at(m, N, H_out, W_out), tap) * dy[m * O + o];
    dw_parts[blockIdx.y * size + i] = sum;
}

// One block does 64 taps and 64 channels of one part of dw.
// launch: grid (ceil(R S C / 64), ceil(O / 64), parts), block 256, shared: GEMM_SHARED_BYTES. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_weight_gradient_v2_implicit_gemm(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    const int64 taps = int64(R) * S * C, pixels = conv.pixels_out();
    const int64 first = blockIdx.z * stretch, last = min(pixels, first + stretch);
    multiply_tile(SeenTurned{conv, x}, Dense<false>{dy, O, pixels, O}, first, last, [&](int64 tap, int64 o, float sum) {
        if (tap < taps && o < O) dw_parts[(blockIdx.z * taps + tap) * O + o] = sum;
    });
}

#ifdef TINYDIFF_BF16
// The operands of tensor_cores.cuh. Along k, a step is one place in the filter and 32 channels: all places of the
// filter for the first channels, then for the next, so that the pixels read for one place are still near for the
// others. Channels beyond the last are zeros.
struct TapStep {
    int r, s, channel;
};

__device__ inline void next_tap(TapStep& tap, int R, int S) {
    if (++tap.s < S) return;
    tap.s = 0;
    if (++tap.r < R) return;
    tap.r = 0;
    tap.channel += STEP;
}

__device__ inline int steps_of_taps(int R, int S, int channels) { return R * S * ceil_div(channels, STEP); }

// Where a pixel of y begins to look at x, or a pixel of x at dy: `origin` is the place of (h, w) in its first channel,
// which may lie outside the image.
struct Corner {
    int64 origin;
    int h, w;
};

// (N H' W', taps): what each pixel of y sees.
struct SeenPieces {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* x;
    __device__ Corner outer(int64 m) const {
        const Pixel p = pixel_at(m, conv.N, conv.H_out, conv.W_out);
        const int h = p.h * conv.stride - conv.before, w = p.w * conv.stride - conv.before;
        if (p.n < 0) return {0, conv.H, 0};  // below the image: sees nothing
        return {((int64(p.n) * conv.H + h) * conv.W + w) * conv.C, h, w};
    }
    __device__ TapStep inner(int64 k) const { return {0, 0, int(k)}; }
    __device__ void next(TapStep& tap) const { next_tap(tap, conv.R, conv.S); }
    __device__ Piece at(const Corner& corner, const TapStep& tap) const {
        const unsigned h = corner.h + tap.r, w = corner.w + tap.s;
        if (h >= unsigned(conv.H) || w >= unsigned(conv.W)) return {x, 0};
        return piece_of(x, corner.origin + (tap.r * conv.W + tap.s) * conv.C, tap.channel, conv.C);
    }
};

// (N H W, taps): what each pixel of x gets back.
struct ReceivedPieces {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* dy;
    __device__ Corner outer(int64 m) const {
        const Pixel p = pixel_at(m, conv.N, conv.H, conv.W);
        if (p.n < 0) return {0, -1, 0};
        return {int64(p.n) * conv.H_out, p.h + conv.before, p.w + conv.before};
    }
    __device__ TapStep inner(int64 k) const { return {0, 0, int(k)}; }
    __device__ void next(TapStep& tap) const { next_tap(tap, conv.R, conv.S); }
    __device__ Piece at(const Corner& corner, const TapStep& tap) const {
        int h = corner.h - tap.r, w = corner.w - tap.s;
        if (h < 0 || w < 0) return {dy, 0};
        if (conv.stride > 1) {
            if (h % conv.stride || w % conv.stride) return {dy, 0};
            h /= conv.stride, w /= conv.stride;
        }
        if (h >= conv.H_out || w >= conv.W_out) return {dy, 0};
        return piece_of(dy, ((corner.origin + h) * conv.W_out + w) * conv.O, tap.channel, conv.O);
    }
};

// The filter as (taps, O), and as (taps, C) to go back through.
struct FilterPieces {
    static constexpr bool ALONG_K = false;
    const Conv& conv;
    const Real* w;
    __device__ int outer(int64 o) const { return int(o); }
    __device__ TapStep inner(int64 k) const { return {0, 0, int(k)}; }
    __device__ void next(TapStep& tap) const { next_tap(tap, conv.R, conv.S); }
    __device__ Piece at(int o, const TapStep& tap) const {
        if (tap.channel >= conv.C) return {w, 0};
        return piece_of(w, ((int64(tap.r) * conv.S + tap.s) * conv.C + tap.channel) * conv.O, o, conv.O);
    }
};

struct FilterPiecesTurned {
    static constexpr bool ALONG_K = true;
    const Conv& conv;
    const Real* w;
    __device__ int outer(int64 c) const { return int(c); }
    __device__ TapStep inner(int64 k) const { return {0, 0, int(k)}; }
    __device__ void next(TapStep& tap) const { next_tap(tap, conv.R, conv.S); }
    __device__ Piece at(int c, const TapStep& tap) const {
        if (c >= conv.C) return {w, 0};
        return piece_of(w, ((int64(tap.r) * conv.S + tap.s) * conv.C + c) * conv.O, tap.channel, conv.O);
    }
};

// The same as SeenPieces, turned: (R S C8, N H' W'), where C8 is C filled up with zeros to a multiple of eight, so that
// a piece lies in one pixel.
__device__ inline int filled_up(int channels) { return ceil_div(channels, PIECE) * PIECE; }

struct PixelStep {
    Pixel p;
    int64 left;  // pixels until the last
};

struct SeenPiecesTurned {
    static constexpr bool ALONG_K = false;
    const Conv& conv;
    const Real* x;
    int64 last;                  // pixel of this sum
    int step_n, step_h, step_w;  // how far a step is

    __device__ SeenPiecesTurned(const Conv& given, const Real* all, int64 end)
        : conv(given),
          x(all),
          last(end),
          step_n(STEP / (given.H_out * given.W_out)),
          step_h(STEP / given.W_out % given.H_out),
          step_w(STEP % given.W_out) {}
    __device__ Tap outer(int64 m) const { return tap_at(m, conv.R, conv.S, filled_up(conv.C)); }
    __device__ PixelStep inner(int64 k) const { return {pixel_at(k, conv.N, conv.H_out, conv.W_out), last - k}; }
    __device__ void next(PixelStep& k) const {
        k.left -= STEP;
        k.p.w += step_w;
        k.p.h += step_h;
        k.p.n += step_n;
        if (k.p.w >= conv.W_out) k.p.w -= conv.W_out, ++k.p.h;
        if (k.p.h >= conv.H_out) k.p.h -= conv.H_out, ++k.p.n;
    }
    __device__ Piece at(const Tap& tap, const PixelStep& k) const {
        const int h = k.p.h * conv.stride + tap.r - conv.before, w = k.p.w * conv.stride + tap.s - conv.before;
        if (tap.r < 0 || k.left <= 0 || unsigned(h) >= unsigned(conv.H) || unsigned(w) >= unsigned(conv.W))
            return {x, 0};
        return piece_of(x, ((int64(k.p.n) * conv.H + h) * conv.W + w) * conv.C, tap.channel, conv.C);
    }
};

template <class T>
__device__ inline void forward_on_tensor_cores(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                               int add_pixels, const Conv& conv) {
    const int O = conv.O;
    multiply_on_tensor_cores<T>(SeenPieces{conv, x}, FilterPieces{conv, w}, 0, steps_of_taps(conv.R, conv.S, conv.C),
                                [&](int64 m, int64 o, float u, float v) {
                                    if (m >= conv.pixels_out() || o >= O) return;
                                    if (add) {
                                        const float2 pair =
                                            load_pair(add + (add_pixels == 1 ? m : m / add_pixels) * O, o, O);
                                        u += pair.x, v += pair.y;
                                    }
                                    if (b) u += b[o], v += o + 1 < O ? b[o + 1] : 0.0f;
                                    store_pair(y + m * O, o, O, u, v);
                                });
}

template <class T>
__device__ inline void input_gradient_on_tensor_cores(const Real* dy, const Real* w, Real* dx, const Conv& conv) {
    multiply_on_tensor_cores<T>(ReceivedPieces{conv, dy}, FilterPiecesTurned{conv, w}, 0,
                                steps_of_taps(conv.R, conv.S, conv.O), [&](int64 m, int64 c, float u, float v) {
                                    if (m < conv.pixels()) store_pair(dx + m * conv.C, c, conv.C, u, v);
                                });
}

template <class T>
__device__ inline void weight_gradient_on_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch,
                                                       const Conv& conv) {
    const int64 pixels = conv.pixels_out(), first = blockIdx.z * stretch, last = min(pixels, first + stretch);
    const int C8 = filled_up(conv.C), taps = conv.R * conv.S, O = conv.O;
    multiply_on_tensor_cores<T>(SeenPiecesTurned(conv, x, last), Rows<false>{dy, O, last, O}, first,
                                int(ceil_div(last - first, int64(STEP))), [&](int64 m, int64 o, float u, float v) {
                                    const int tap = int(m) / C8, c = int(m) % C8;
                                    if (tap >= taps || c >= conv.C) return;
                                    const int64 row = (int64(blockIdx.z) * taps + tap) * conv.C + c;
                                    store_pair(dw_parts + row * O, o, O, u, v);
                                });
}

// One block does 64 pixels and 64 channels of y.
// launch: grid (ceil(N H' W' / 64), ceil(O / 64)), block 128, shared: 32768 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_forward_v3_tensor_cores(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                   int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<SmallTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 128 pixels and 64 channels of y.
// launch: grid (ceil(N H' W' / 128), ceil(O / 64)), block 128, shared: 49152 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_forward_v4_tall_tiles(const Real* x, const Real* w, const float* b, const Real* add, Real* y, int add_pixels,
                                 CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<TallTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 128 pixels and 128 channels of y.
// launch: grid (ceil(N H' W' / 128), ceil(O / 128)), block 256, shared: 65536 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_forward_v5_square_tiles(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                   int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<SquareTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 64 pixels and 64 channels of dx.
// launch: grid (ceil(N H W / 64), ceil(C / 64)), block 128, shared: 32768 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_input_gradient_v3_tensor_cores(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<SmallTile>(dy, w, dx, conv);
}

// One block does 128 pixels and 64 channels of dx.
// launch: grid (ceil(N H W / 128), ceil(C / 64)), block 128, shared: 49152 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_input_gradient_v4_tall_tiles(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<TallTile>(dy, w, dx, conv);
}

// One block does 128 pixels and 128 channels of dx.
// launch: grid (ceil(N H W / 128), ceil(C / 128)), block 256, shared: 65536 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_input_gradient_v5_square_tiles(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<SquareTile>(dy, w, dx, conv);
}

// One block does 64 taps and 64 channels of one part of dw.
// launch: grid (ceil(R S C8 / 64), ceil(O / 64), parts), block 128, shared: 32768 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_weight_gradient_v3_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<SmallTile>(x, dy, dw_parts, stretch, conv);
}

// One block does 128 taps and 64 channels of one part of dw.
// launch: grid (ceil(R S C8 / 128), ceil(O / 64), parts), block 128, shared: 49152 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_weight_gradient_v4_tall_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<TallTile>(x, dy, dw_parts, stretch, conv);
}

// One block does 128 taps and 128 channels of one part of dw.
// launch: grid (ceil(R S C8 / 128), ceil(O / 128), parts), block 256, shared: 65536 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_weight_gradient_v5_square_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<SquareTile>(x, dy, dw_parts, stretch, conv);
}
#endif

// One thread adds the parts of one value. launch: threads >= size. writes: merged, all of it. reproducible: yes.
extern "C" __global__ void conv2d_merge_v1_naive(const float* parts, float* merged, int count, int64 size) {
    merge_parts(parts, merged, count, size);
}

// One block sums 32 channels of dy over the pixels of one sample: the gradient of a time shift. Added up over the
// samples it is that of the bias.
// launch: grid (ceil(O / 32), N), block 256, shared: 256 floats
// writes: sums (N, O), all of it. reproducible: yes.
extern "C" __global__ void conv2d_column_sums_v1_naive(const Real* dy, float* sums, int64 rows, int O, int64 stretch) {
    column_sums(dy, sums, rows, O, stretch);
}
