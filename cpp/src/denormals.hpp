// Denormal numbers count as zero while an object lives, in the calling thread; then the thread is as it was. A host's
// threads must not be changed, and no result may depend on the thread that computed it.
#pragma once

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#define LOWDOSE_HAS_MXCSR
#endif

namespace lowdose {

class DenormalsAsZero {
public:
#ifdef LOWDOSE_HAS_MXCSR
    DenormalsAsZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | flush_to_zero | denormals_are_zero); }
    ~DenormalsAsZero() { _mm_setcsr(before_); }
#else
    DenormalsAsZero() = default;
#endif
    DenormalsAsZero(const DenormalsAsZero&) = delete;
    DenormalsAsZero& operator=(const DenormalsAsZero&) = delete;

private:
#ifdef LOWDOSE_HAS_MXCSR
    static constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    unsigned before_;
#endif
};

}  // namespace lowdose
