// What can be told from, and changed in, the bytes of an ONNX file alone.
#pragma once

#include <cstdint>
#include <string>

namespace lowdose {

// Throws Error where the file calls a function of the domain `lowdose` that it does not hold: our kernels would run in
// its place, but such a file was cut short and serves no other engine.
void check_functions(const std::string& bytes);

// The file with its inputs `weight_set` and `cutoff` made constants, where it has them. What a graph computes from them
// is then constant too, so that a device that runs all of the graph need not take If, Range and the like.
std::string with_settings(const std::string& bytes, std::int64_t weight_set, float cutoff);

}  // namespace lowdose
