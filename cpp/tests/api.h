/* Helpers of the tests of lowdose.h: streams of small frames. Included by C and C++ tests behind lowdose.h. Every error
 * that a function returns is noted in the file that LOWDOSE_ERRORS_SEEN names, so that a test can compare them with
 * those that the header documents. */
#ifndef LOWDOSE_TESTS_API_H
#define LOWDOSE_TESTS_API_H

#include "check.h"
#include "seen.h"

enum { height = 40, width = 56, n_pixels = height * width };

static lowdose_stream_options options_of(int dtype_in, int dtype_out) {
    lowdose_stream_options options;
    memset(&options, 0, sizeof options);
    options.struct_bytes = sizeof options;
    options.height = height;
    options.width = width;
    options.dtype_in = dtype_in;
    options.dtype_out = dtype_out;
    options.threads = 1;
    options.given = LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF | LOWDOSE_GIVE_OFFSET;
    options.cutoff = 0.2f;
    return options;
}

static lowdose_frame frame_of(const void* data, int dtype, uint64_t sequence) {
    lowdose_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.struct_bytes = sizeof frame;
    frame.data = data;
    frame.height = height;
    frame.width = width;
    frame.dtype = dtype;
    frame.sequence = sequence;
    frame.timestamp = -1000 * (int64_t)sequence;
    return frame;
}

static lowdose_result result_of(void* data, int dtype) {
    lowdose_result result;
    memset(&result, 0, sizeof result);
    result.struct_bytes = sizeof result;
    result.data = data;
    result.height = height;
    result.width = width;
    result.dtype = dtype;
    return result;
}

static uint16_t* make_frames(int n_frames) {
    uint16_t* frames = malloc(sizeof(uint16_t) * n_pixels * (size_t)n_frames);
    int i;
    CHECK(frames);
    for (i = 0; i < n_frames; ++i) fill_frame(frames + n_pixels * i, height, width, (uint32_t)i);
    return frames;
}

static lowdose_model* open_model(lowdose_engine* engine, const char* folder, const char* name) {
    lowdose_model* model = NULL;
    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, name), NULL, &model), LOWDOSE_OK);
    return model;
}

static lowdose_stream* open_stream(lowdose_model* model, lowdose_stream_options options) {
    lowdose_stream* stream = NULL;
    CHECK_STATUS(lowdose_stream_open(model, &options, &stream), LOWDOSE_OK);
    return stream;
}

static lowdose_statistics statistics_of(const lowdose_stream* stream) {
    lowdose_statistics s;
    memset(&s, 0, sizeof s);
    s.struct_bytes = sizeof s;
    CHECK_STATUS(lowdose_stream_statistics(stream, &s), LOWDOSE_OK);
    CHECK(s.pushed ==
          s.popped + s.dropped_full + s.dropped_late + s.dropped_results + s.refused + s.discarded + s.in_flight);
    return s;
}

static char* read_model(const char* path, size_t* n_bytes) {
    FILE* file = fopen(path, "rb");
    char* bytes;
    CHECK(file);
    fseek(file, 0, SEEK_END);
    *n_bytes = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*n_bytes);
    CHECK(bytes && fread(bytes, 1, *n_bytes, file) == *n_bytes);
    fclose(file);
    return bytes;
}

#endif
