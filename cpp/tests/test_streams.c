/* What streams of lowdose.h do: the same bits in every way of giving frames, references, chosen settings, scans.
 * Arguments: the folder of models; for slow tools anything more, which leaves the larger networks out. */
#include <math.h>

#include "api.h"

/* Frame by frame, without and with a queue, as a whole sequence, in place, with strides: the same bits. */
static void test_ways(lowdose_model* model) {
    enum { n_frames = 6 };
    const size_t frame_bytes = n_pixels * sizeof(float);
    uint16_t* raw = make_frames(n_frames);
    float* expected = malloc(frame_bytes * n_frames);
    lowdose_frame frames[n_frames];
    lowdose_result results[n_frames];
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream* stream = open_stream(model, options);
    int i, queue;
    CHECK(expected);
    for (i = 0; i < n_frames; ++i) {
        frames[i] = frame_of(raw + n_pixels * i, LOWDOSE_UINT16, (uint64_t)i + 5);
        results[i] = result_of(expected + n_pixels * i, LOWDOSE_FLOAT32);
    }
    CHECK_STATUS(lowdose_stream_denoise(stream, n_frames, frames, results), LOWDOSE_OK);
    CHECK(results[3].sequence == 8 && results[3].timestamp == -8000);
    CHECK(memcmp(expected, expected + n_pixels, frame_bytes) != 0);
    CHECK_STATUS(lowdose_stream_denoise(stream, 0, NULL, NULL), LOWDOSE_OK);
    lowdose_stream_close(stream);

    for (queue = 0; queue < 8; queue += 7) {
        float* out = malloc(frame_bytes);
        int n_out = 0;
        lowdose_status status = LOWDOSE_OK;
        CHECK(out);
        options.queue_frames = queue;
        stream = open_stream(model, options);
        for (i = 0; i < n_frames; ++i) {
            lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
            CHECK_STATUS(lowdose_stream_push(stream, &frames[i]), LOWDOSE_OK);
            if (queue) continue;
            CHECK_STATUS(lowdose_stream_pop(stream, &result, -1), i == 0 ? LOWDOSE_NONE : LOWDOSE_OK);
            if (i == 0) continue;
            CHECK(result.sequence == (uint64_t)n_out + 5 && result.n_dropped == 0);
            CHECK(memcmp(out, expected + n_pixels * n_out++, frame_bytes) == 0);
        }
        CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_OK);
        while (status == LOWDOSE_OK) {
            lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
            status = lowdose_stream_pop(stream, &result, -1);
            if (status != LOWDOSE_OK) break;
            CHECK(result.sequence == (uint64_t)n_out + 5 && result.timestamp == -1000 * (n_out + 5));
            CHECK(result.age_ms > 0);
            CHECK(memcmp(out, expected + n_pixels * n_out++, frame_bytes) == 0);
        }
        CHECK(status == LOWDOSE_END && n_out == n_frames);
        {
            const lowdose_statistics s = statistics_of(stream);
            CHECK(s.pushed == n_frames && s.popped == n_frames && s.in_flight == 0);
            CHECK(s.total.count == n_frames && s.network.p50_ms > 0 && s.network.max_ms >= s.network.p99_ms);
            CHECK(s.wait.count == (queue ? n_frames : 0u) && s.age.count == n_frames);
        }
        lowdose_stream_close(stream);
        free(out);
    }

    /* In place, upside down and with gaps between the rows; uint16 out. */
    {
        enum { stride = width + 5 };
        uint16_t* place = calloc((size_t)stride * height * n_frames, sizeof(uint16_t));
        int y, x;
        CHECK(place);
        options.queue_frames = 0;
        options.dtype_out = LOWDOSE_UINT16;
        stream = open_stream(model, options);
        for (i = 0; i < n_frames; ++i) {
            uint16_t* last_row = place + stride * height * i + stride * (height - 1);
            for (y = 0; y < height; ++y)
                memcpy(last_row - stride * y, raw + n_pixels * i + width * y, width * sizeof(uint16_t));
            frames[i].data = results[i].data = last_row;
            frames[i].row_stride_bytes = results[i].row_stride_bytes = -(ptrdiff_t)(stride * sizeof(uint16_t));
            results[i].dtype = LOWDOSE_UINT16;
        }
        CHECK_STATUS(lowdose_stream_denoise(stream, n_frames, frames, results), LOWDOSE_OK);
        for (i = 0; i < n_frames; ++i)
            for (y = 0; y < height; ++y) {
                const uint16_t* row = (const uint16_t*)results[i].data - stride * y;
                for (x = 0; x < width; ++x) {
                    const double value = (double)expected[n_pixels * i + width * y + x];
                    CHECK(row[x] == (uint16_t)nearbyint(value < 0 ? 0 : value));
                }
                for (x = width; x < stride; ++x) CHECK(row[x] == 0);
            }
        lowdose_stream_close(stream);
        free(place);
    }
    free(raw);
    free(expected);
}

/* (raw - dark) * gain, bad pixels as the mean of their neighbours: as if the host had done it. */
static void test_references(lowdose_model* model) {
    enum { n_frames = 2, n_bad = 3 };
    const int bad_y[n_bad] = {0, 7, 7}, bad_x[n_bad] = {0, 10, 11};
    uint16_t* raw = make_frames(n_frames);
    float* planes = malloc(sizeof(float) * n_pixels * (2 + 3 * n_frames));
    float *dark = planes, *gain = planes + n_pixels, *corrected = planes + 2 * n_pixels;
    float *expected = corrected + n_pixels * n_frames, *out = expected + n_pixels * n_frames;
    uint8_t* bad = calloc(n_pixels, 1);
    lowdose_stream_options options = options_of(LOWDOSE_FLOAT32, LOWDOSE_FLOAT32);
    lowdose_stream* stream;
    lowdose_frame frames[n_frames];
    lowdose_result results[n_frames];
    int i, k, y, x;
    CHECK(planes && bad);
    for (k = 0; k < n_bad; ++k) bad[bad_y[k] * width + bad_x[k]] = (uint8_t)(k + 1);
    for (i = 0; i < n_pixels; ++i) {
        dark[i] = (float)(i % 3);
        gain[i] = 1.0f + (float)(i % 5) / 4;
    }
    for (i = 0; i < n_frames; ++i) {
        float* plane = corrected + n_pixels * i;
        for (k = 0; k < n_pixels; ++k) plane[k] = ((float)raw[n_pixels * i + k] - dark[k]) * gain[k];
        for (k = 0; k < n_bad; ++k) {
            double sum = 0;
            int n = 0;
            for (y = bad_y[k] - 1; y <= bad_y[k] + 1; ++y)
                for (x = bad_x[k] - 1; x <= bad_x[k] + 1; ++x)
                    if (y >= 0 && y < height && x >= 0 && x < width && !bad[y * width + x]) {
                        sum += (double)plane[y * width + x];
                        ++n;
                    }
            plane[bad_y[k] * width + bad_x[k]] = (float)(sum / n);
        }
        frames[i] = frame_of(plane, LOWDOSE_FLOAT32, 0);
        results[i] = result_of(expected + n_pixels * i, LOWDOSE_FLOAT32);
    }
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_denoise(stream, n_frames, frames, results), LOWDOSE_OK);
    lowdose_stream_close(stream);

    options.dtype_in = LOWDOSE_UINT16;
    options.dark = dark;
    options.gain = gain;
    options.bad_pixels = bad;
    for (i = 0; i < n_frames; ++i) {
        for (k = 0; k < n_bad; ++k) raw[n_pixels * i + bad_y[k] * width + bad_x[k]] = 60000;
        frames[i] = frame_of(raw + n_pixels * i, LOWDOSE_UINT16, 0);
        results[i] = result_of(out + n_pixels * i, LOWDOSE_FLOAT32);
    }
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_denoise(stream, n_frames, frames, results), LOWDOSE_OK);
    CHECK(memcmp(expected, out, sizeof(float) * n_pixels * n_frames) == 0);
    lowdose_stream_close(stream);

    dark[0] = -3e38f; /* a finite reference that takes a pixel out of float32 */
    gain[0] = 2;
    bad[0] = 0;
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_push(stream, &frames[0]), LOWDOSE_ERROR_FRAME);
    lowdose_stream_close(stream);
    free(raw);
    free(planes);
    free(bad);
}

/* Settings that are not given are chosen with the first result and forgotten by a reset. */
static void test_choice(lowdose_model* model) {
    enum { n_frames = 3 };
    uint16_t* raw = make_frames(n_frames);
    float* out = malloc(sizeof(float) * n_pixels);
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream* stream;
    lowdose_stream_info info;
    lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
    int i;
    CHECK(out);
    info.struct_bytes = sizeof info;
    options.given = 0;
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_OK);
    CHECK(!info.is_settled);
    for (i = 0; i < n_frames; ++i) {
        const lowdose_frame frame = frame_of(raw + n_pixels * i, LOWDOSE_UINT16, 0);
        CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
        CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), i ? LOWDOSE_OK : LOWDOSE_NONE);
    }
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_OK);
    CHECK(info.is_settled && info.cutoff > 0);
    CHECK(statistics_of(stream).choose.count == 1);
    CHECK_STATUS(lowdose_stream_reset(stream), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_OK);
    CHECK(!info.is_settled);
    CHECK(statistics_of(stream).pushed == n_frames);
    lowdose_stream_close(stream);
    free(raw);
    free(out);
}

static void test_scan(lowdose_engine* engine, const char* folder) {
    enum { scan_y = 3, scan_x = 4, n_frames = scan_y * scan_x };
    lowdose_model* model = open_model(engine, folder, "udvd-4d-lite");
    lowdose_model_info about;
    lowdose_stream_info info;
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    uint16_t* raw = make_frames(n_frames);
    float* out = malloc(sizeof(float) * n_pixels);
    lowdose_stream* stream;
    lowdose_status status = LOWDOSE_OK;
    int i, n_out = 0;
    CHECK(out);
    about.struct_bytes = sizeof about;
    info.struct_bytes = sizeof info;
    CHECK_STATUS(lowdose_model_query(model, &about), LOWDOSE_OK);
    CHECK(about.is_scan && about.latency_frames == -1 && about.n_taps > 1);
    options.given = 0;
    options.scan_y = scan_y;
    options.scan_x = scan_x;
    options.queue_frames = 2;
    stream = open_stream(model, options);
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_OK);
    CHECK(info.latency_frames == scan_x + 1 || info.latency_frames == scan_x);
    for (i = 0; i < n_frames; ++i) {
        const lowdose_frame frame = frame_of(raw + n_pixels * i, LOWDOSE_UINT16, (uint64_t)i);
        lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
        CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
        status = lowdose_stream_pop(stream, &result, 0);
        CHECK(status == LOWDOSE_OK || status == LOWDOSE_NONE);
        if (status == LOWDOSE_OK) CHECK(result.sequence == (uint64_t)n_out++);
    }
    CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_OK);
    do {
        lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
        status = lowdose_stream_pop(stream, &result, -1);
        if (status == LOWDOSE_OK) CHECK(result.sequence == (uint64_t)n_out++);
    } while (status == LOWDOSE_OK);
    CHECK(status == LOWDOSE_END && n_out == n_frames);
    lowdose_stream_close(stream);

    /* A frame behind the last position. */
    options.queue_frames = 0;
    stream = open_stream(model, options);
    for (i = 0; i <= n_frames; ++i) {
        const lowdose_frame frame = frame_of(raw, LOWDOSE_UINT16, (uint64_t)i);
        lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
        CHECK_STATUS(lowdose_stream_push(stream, &frame), i < n_frames ? LOWDOSE_OK : LOWDOSE_ERROR_ORDER);
        lowdose_stream_pop(stream, &result, 0);
    }
    lowdose_stream_close(stream);
    lowdose_model_close(model);
    free(raw);
    free(out);
}

/* Handles may be given back in any order. */
static void test_lifetimes(const char* runtime, const char* folder) {
    lowdose_engine* engine = open_engine(runtime);
    lowdose_model* model = open_model(engine, folder, "wcid");
    lowdose_stream* stream;
    uint16_t* raw = make_frames(1);
    float* out = malloc(sizeof(float) * n_pixels);
    const lowdose_frame frame = frame_of(raw, LOWDOSE_UINT16, 0);
    lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
    CHECK(out);
    lowdose_engine_destroy(engine);
    stream = open_stream(model, options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32));
    lowdose_model_close(model);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_OK);
    lowdose_stream_close(stream);
    free(raw);
    free(out);
}

int main(int argc, char** argv) {
    lowdose_engine* engine = open_engine(runtime_path());
    lowdose_model* model;
    CHECK(argc >= 2);
    model = open_model(engine, argv[1], "wcvd");
    test_ways(model);
    test_references(model);
    test_choice(model);
    lowdose_model_close(model);
    if (argc == 2) test_scan(engine, argv[1]);
    lowdose_engine_destroy(engine);
    test_lifetimes(runtime_path(), argv[1]);
    return 0;
}
