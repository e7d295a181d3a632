// What can be told from the bytes of an ONNX file alone.
#pragma once

#include <string>

namespace lowdose {

// Throws Error where the file calls a function of the domain `lowdose` that it does not hold: our kernels would run in
// its place, but such a file was cut short and serves no other engine.
void check_functions(const std::string& bytes);

}  // namespace lowdose
