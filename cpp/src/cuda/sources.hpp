// The kernels' source texts, and the compiler for them.
#pragma once

#include <string>
#include <vector>

namespace lowdose::cuda {

// Texts of the .cu files beside this one, put into the library at build time.
extern const char* const common_source;
extern const char* const blind_spot_source;
extern const char* const low_pass_source;

// Machine code for GPUs of a compute capability (90: 9.0). Needs no GPU. Throws Error with the compiler's words, and
// where NVRTC is not installed.
std::string compiled(const char* text, const std::vector<std::string>& options, int capability);

}  // namespace lowdose::cuda
