#include "instruction_set.hpp"

#include <cstdlib>

#include "error.hpp"

namespace lowdose::ops {

namespace {

constexpr InstructionSet all[] = {InstructionSet::portable, InstructionSet::sse42, InstructionSet::avx2,
                                  InstructionSet::avx512};

bool is_available(InstructionSet set) {
#ifdef LOWDOSE_X86_KERNELS
    switch (set) {
        case InstructionSet::portable:
            return true;
        case InstructionSet::sse42:
            return __builtin_cpu_supports("sse4.2");
        case InstructionSet::avx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        case InstructionSet::avx512:
            return __builtin_cpu_supports("avx512f");
    }
#endif
    return set == InstructionSet::portable;
}

}  // namespace

InstructionSet instruction_set() {
    InstructionSet best = InstructionSet::portable;
    std::string names;
    for (const InstructionSet set : all)
        if (is_available(set)) {
            best = set;
            names += (names.empty() ? "" : ", ") + name_of(set);
        }
    const char* wanted = std::getenv("LOWDOSE_CPU");
    if (!wanted || !*wanted) return best;
    for (const InstructionSet set : all)
        if (is_available(set) && name_of(set) == wanted) return set;
    throw Error(std::string("LOWDOSE_CPU is '") + wanted + "': on this processor it may be " + names);
}

std::string name_of(InstructionSet set) {
    switch (set) {
        case InstructionSet::portable:
            return "portable";
        case InstructionSet::sse42:
            return "sse4.2";
        case InstructionSet::avx2:
            return "avx2";
        default:
            return "avx512";
    }
}

}  // namespace lowdose::ops
