// A vector of floats, for units that are compiled once per instruction set: LOWDOSE_VECTOR_BYTES says how wide it is, 0
// asks for plain loops that any compiler takes. Everything is in an unnamed namespace: a function built for AVX-512
// must not be the one that the linker hands to the rest of the program.
#pragma once

#include <cstring>

namespace lowdose::ops {

namespace {

#if LOWDOSE_VECTOR_BYTES > 0

typedef float Vector __attribute__((vector_size(LOWDOSE_VECTOR_BYTES)));
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

#else

struct Vector {
    float lane[8];
};
inline Vector operator*(float a, Vector b) {
    for (float& lane : b.lane) lane *= a;
    return b;
}
inline Vector operator*(Vector a, const Vector& b) {
    for (int i = 0; i < 8; ++i) a.lane[i] *= b.lane[i];
    return a;
}
inline Vector& operator+=(Vector& a, const Vector& b) {
    for (int i = 0; i < 8; ++i) a.lane[i] += b.lane[i];
    return a;
}
inline Vector operator+(Vector a, const Vector& b) { return a += b; }
inline Vector operator-(Vector a, const Vector& b) {
    for (int i = 0; i < 8; ++i) a.lane[i] -= b.lane[i];
    return a;
}
inline Vector larger(Vector a, const Vector& b) {
    for (int i = 0; i < 8; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

#endif

constexpr int lanes = sizeof(Vector) / sizeof(float);

inline Vector load(const float* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

inline void store(float* to, const Vector& vector) { std::memcpy(to, &vector, sizeof vector); }

}  // namespace

}  // namespace lowdose::ops
