// Computes MMD beside the page: first {real, uniform} -> {floor, band}, then {samples} -> the value.

import { floorOf, medianBandwidths, squaredMmd } from "./mmd.js";

let real, bandwidths;

onmessage = ({ data: { samples, uniform, ...given } }) => {
  try {
    if (samples) return postMessage({ result: squaredMmd(samples, real.subarray(0, samples.length), bandwidths) });
    [real, bandwidths] = [given.real, medianBandwidths(given.real)];
    postMessage({ result: floorOf(real, uniform, bandwidths) });
  } catch (error) {
    postMessage({ error: error.message });
  }
};
