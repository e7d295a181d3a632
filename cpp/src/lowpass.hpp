// The low-pass of the weight-centric denoisers: keep a disc of the frame's spectrum.
#pragma once

#include "fft.hpp"

namespace lowdose {

// A cutoff from here on keeps every frequency: sqrt(0.5) cycles/pixel lies in the spectrum's corner.
constexpr float cutoff_all = 0.7072f;
// What stands for "no low-pass".
constexpr float cutoff_none = 1.0f;

// True where the model file's LowPass function keeps the frequency (row k_y, column k_x), in the same
// single-precision operations, so that both agree on every coefficient at the rim.
bool inside_disc(int k_y, int height, int k_x, int width, float cutoff);

// frame, out: (height, width) float32; out may be frame itself. cutoff in cycles/pixel on both axes. parallel: who does
// the work; nobody given, the caller alone. The result does not depend on it.
void low_pass(const float* frame, int height, int width, float cutoff, ops::InstructionSet set, float* out,
              Parallel parallel = {});

}  // namespace lowdose
