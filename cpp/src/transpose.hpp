// Rows to columns, in squares that stay in the cache.
#pragma once

#include <algorithm>
#include <cstddef>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#define LOWDOSE_SSE
#endif

namespace lowdose {

// to[x * to_step + y] = scale * from[y * from_step + x] + level for y < n_rows, x < n_columns.
inline void transpose(const float* from, std::size_t from_step, std::size_t n_rows, std::size_t n_columns, float scale,
                      float level, float* to, std::size_t to_step) {
    constexpr std::size_t side = 16;
    const auto one_by_one = [&](std::size_t y0, std::size_t y1, std::size_t x0, std::size_t x1) {
        for (std::size_t y = y0; y < y1; ++y)
            for (std::size_t x = x0; x < x1; ++x) to[x * to_step + y] = scale * from[y * from_step + x] + level;
    };
    for (std::size_t y0 = 0; y0 < n_rows; y0 += side)
        for (std::size_t x0 = 0; x0 < n_columns; x0 += side) {
            const std::size_t y1 = std::min(y0 + side, n_rows), x1 = std::min(x0 + side, n_columns);
#ifdef LOWDOSE_SSE
            const std::size_t y4 = y0 + (y1 - y0) / 4 * 4, x4 = x0 + (x1 - x0) / 4 * 4;
            const __m128 factor = _mm_set1_ps(scale), summand = _mm_set1_ps(level);
            for (std::size_t y = y0; y < y4; y += 4)
                for (std::size_t x = x0; x < x4; x += 4) {
                    __m128 rows[4];
                    for (std::size_t i = 0; i < 4; ++i) rows[i] = _mm_loadu_ps(from + (y + i) * from_step + x);
                    _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
                    for (std::size_t i = 0; i < 4; ++i)
                        _mm_storeu_ps(to + (x + i) * to_step + y, _mm_add_ps(_mm_mul_ps(factor, rows[i]), summand));
                }
            one_by_one(y4, y1, x0, x1);
            one_by_one(y0, y4, x4, x1);
#else
            one_by_one(y0, y1, x0, x1);
#endif
        }
}

}  // namespace lowdose
