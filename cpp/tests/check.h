/* What the tests share: a check that names its place, arguments, a deterministic frame. */
#ifndef LOWDOSE_TESTS_CHECK_H
#define LOWDOSE_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lowdose.h"

#define SKIPPED 77 /* what ctest shows as skipped */

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#define CHECK_STATUS(call, wanted)                                                                               \
    do {                                                                                                         \
        const lowdose_status status_ = (call);                                                                   \
        if (status_ != (wanted)) {                                                                               \
            fprintf(stderr, "%s:%d: %s gave %s, not %s\n", __FILE__, __LINE__, #call, lowdose_status_name(status_), \
                    #wanted);                                                                                    \
            exit(1);                                                                                             \
        }                                                                                                        \
    } while (0)

/* The ONNX Runtime to test with; ends the program as skipped when none was named. */
static const char* runtime_path(void) {
    const char* path = getenv("LOWDOSE_ONNXRUNTIME");
    if (!path || !*path) {
        printf("skipped: LOWDOSE_ONNXRUNTIME names no ONNX Runtime library\n");
        exit(SKIPPED);
    }
    return path;
}

/* A file of the folder of models, which is the first argument of the tests. The text is overwritten by the next call. */
static const char* model_path(const char* folder, const char* name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    return path;
}

/* Counts of a few electrons on a slope; another frame for another seed. */
static uint16_t noisy_pixel(uint32_t seed, int y, int x) {
    uint32_t state = seed * 2654435761u + (uint32_t)y * 40503u + (uint32_t)x * 69069u + 1u;
    uint32_t sum = 0;
    int i;
    for (i = 0; i < 4; ++i) {
        state = state * 1664525u + 1013904223u;
        sum += state >> 28;
    }
    return (uint16_t)(sum + (uint32_t)(x / 8));
}

static void fill_frame(uint16_t* frame, int height, int width, uint32_t seed) {
    int y, x;
    for (y = 0; y < height; ++y)
        for (x = 0; x < width; ++x) frame[y * width + x] = noisy_pixel(seed, y, x);
}

static lowdose_engine* open_engine(const char* path) {
    char message[1024];
    lowdose_engine_options options = {sizeof options, NULL, NULL, NULL};
    lowdose_engine* engine = NULL;
    options.runtime_path = path;
    if (lowdose_engine_create(&options, &engine, message, sizeof message) != LOWDOSE_OK) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
    return engine;
}

#endif
