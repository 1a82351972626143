// What a convolution and its gradients multiply: matrices that are never made, their values looked up in x, dy and w.
// The operands of gemm.cuh, and in bfloat16 those of tensor_cores.cuh. H_out = H', W_out = W'.
#pragma once

#include "gemm.cuh"
#ifdef TINYDIFF_BF16
#include "tensor_cores.cuh"
#endif

struct Conv {
    int N, H, W, C, R, S, O, stride, before, H_out, W_out;

    __device__ int64 pixels() const { return int64(N) * H * W; }
    __device__ int64 pixels_out() const { return int64(N) * H_out * W_out; }
};

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
#endif
