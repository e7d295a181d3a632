// The instruction sets that kernels are built for, and the one to use on this processor.
#pragma once

#include <string>

namespace lowdose::ops {

enum class InstructionSet { portable, sse42, avx2, avx512 };  // slowest first

// The fastest one that was built and that the processor has. The environment variable LOWDOSE_CPU (a name as below)
// lowers it. Throws Error when the variable holds another name or more than the processor has.
InstructionSet instruction_set();

std::string name_of(InstructionSet set);  // portable, sse4.2, avx2 or avx512

}  // namespace lowdose::ops
