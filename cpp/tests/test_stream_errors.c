/* Every error that the streams of lowdose.h document. Arguments: the folder of models, an ONNX Runtime that fails when
 * it is told to (where there is one). */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include <math.h>

#include "api.h"

typedef struct progress {
    int n_calls, cancel_at;
    double last_share;
} progress;

static int32_t LOWDOSE_CALL count_progress(void* user, const char* step, double share) {
    progress* seen = user;
    CHECK(step && *step && share >= seen->last_share && share <= 1);
    seen->last_share = share;
    return ++seen->n_calls == seen->cancel_at;
}

static void refuse_options(lowdose_model* model, lowdose_stream_options options, lowdose_status wanted,
                           const char* word) {
    char message[1024];
    lowdose_stream* stream = (lowdose_stream*)&options;
    CHECK_STATUS(lowdose_stream_open(model, &options, &stream), wanted);
    CHECK(!stream);
    CHECK_STATUS(lowdose_model_message(model, message, sizeof message), LOWDOSE_OK);
    if (!strstr(message, word)) fprintf(stderr, "'%s' is not in: %s\n", word, message);
    CHECK(strstr(message, word));
}

static void test_stream_options(lowdose_engine* engine, const char* folder) {
    lowdose_model *model = open_model(engine, folder, "wcvd"), *scan = open_model(engine, folder, "udvd-4d-lite");
    const lowdose_stream_options good = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream_options bad;
    lowdose_stream* stream = NULL;
    float* plane = calloc(n_pixels, sizeof(float));
    uint8_t* all_bad = malloc(n_pixels);
    progress seen = {0, 0, 0};
    CHECK(plane && all_bad);
    memset(all_bad, 1, n_pixels);

    CHECK_STATUS(lowdose_stream_open(NULL, &good, &stream), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_open(model, NULL, &stream), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_open(model, &good, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_close(NULL), LOWDOSE_OK);

#define REFUSE(change, status, word)              \
    do {                                          \
        bad = good;                               \
        change;                                   \
        refuse_options(model, bad, status, word); \
    } while (0)
    REFUSE(bad.struct_bytes = 8, LOWDOSE_ERROR_ARGUMENT, "struct_bytes");
    REFUSE(bad.height = 0, LOWDOSE_ERROR_SIZE, "0x56");
    REFUSE(bad.width = -1, LOWDOSE_ERROR_SIZE, "40x-1");
    REFUSE(bad.width = 3, LOWDOSE_ERROR_SIZE, "too small");
    REFUSE(bad.dtype_in = 0, LOWDOSE_ERROR_DTYPE, "no lowdose_dtype");
    REFUSE(bad.dtype_out = 7, LOWDOSE_ERROR_DTYPE, "no lowdose_dtype");
    REFUSE(bad.scan_y = 4, LOWDOSE_ERROR_ARGUMENT, "scan_y and scan_x");
    REFUSE(bad.scan_y = bad.scan_x = 4, LOWDOSE_ERROR_ARGUMENT, "takes no scan");
    REFUSE(bad.threads = -1, LOWDOSE_ERROR_ARGUMENT, "threads");
    REFUSE(bad.tile_px = -1, LOWDOSE_ERROR_ARGUMENT, "tile");
    REFUSE(bad.max_bytes = 1, LOWDOSE_ERROR_MEMORY, "cap");
    REFUSE(bad.max_bytes = 100000, LOWDOSE_ERROR_MEMORY, "cap");
    REFUSE(bad.height = bad.width = 1 << 30, LOWDOSE_ERROR_MEMORY, "memory");
    REFUSE(bad.given = 8, LOWDOSE_ERROR_ARGUMENT, "LOWDOSE_GIVE");
    REFUSE(bad.weight_set = 1000, LOWDOSE_ERROR_ARGUMENT, "weight set 1000");
    REFUSE(bad.cutoff = -1, LOWDOSE_ERROR_ARGUMENT, "cutoff");
    REFUSE(bad.offset = (float)NAN, LOWDOSE_ERROR_ARGUMENT, "offset");
    REFUSE(bad.policy = 3, LOWDOSE_ERROR_ARGUMENT, "no lowdose_policy");
    REFUSE(bad.policy = LOWDOSE_NEWEST_WINS, LOWDOSE_ERROR_ARGUMENT, "queue_frames");
    REFUSE(bad.deadline_ms = 5, LOWDOSE_ERROR_ARGUMENT, "queue_frames");
    REFUSE((bad.queue_frames = 1, bad.deadline_ms = NAN), LOWDOSE_ERROR_ARGUMENT, "deadline");
    REFUSE(bad.queue_frames = -1, LOWDOSE_ERROR_ARGUMENT, "queue of -1");
    plane[7] = (float)INFINITY;
    REFUSE(bad.gain = plane, LOWDOSE_ERROR_ARGUMENT, "gain");
    REFUSE(bad.dark = plane, LOWDOSE_ERROR_ARGUMENT, "dark");
    REFUSE(bad.bad_pixels = all_bad, LOWDOSE_ERROR_ARGUMENT, "no good");
    bad = good;
    bad.given = 0;
    refuse_options(scan, bad, LOWDOSE_ERROR_ARGUMENT, "scan");
    bad.scan_y = bad.scan_x = 3;
    bad.queue_frames = 2;
    bad.policy = LOWDOSE_DROP_OLDEST;
    refuse_options(scan, bad, LOWDOSE_ERROR_ARGUMENT, "cannot lose positions");

    bad = good;
    bad.progress = count_progress;
    bad.progress_user = &seen;
    stream = open_stream(model, bad);
    CHECK(seen.n_calls >= 3 && seen.last_share == 1);
    lowdose_stream_close(stream);
    for (int at = seen.n_calls; at > 0; --at) {
        progress cancelled = {0, 0, 0};
        cancelled.cancel_at = at;
        bad.progress_user = &cancelled;
        refuse_options(model, bad, LOWDOSE_ERROR_CANCELLED, "cancelled");
        CHECK(cancelled.n_calls == at);
    }
    free(plane);
    free(all_bad);
    lowdose_model_close(model);
    lowdose_model_close(scan);
}

static void test_stream_errors(lowdose_model* model) {
    char message[1024];
    float* pixels = calloc(n_pixels, sizeof(float));
    lowdose_stream_options options = options_of(LOWDOSE_FLOAT32, LOWDOSE_FLOAT32);
    lowdose_stream* stream = open_stream(model, options);
    lowdose_frame frame = frame_of(pixels, LOWDOSE_FLOAT32, 1);
    lowdose_result result = result_of(pixels, LOWDOSE_FLOAT32);
    lowdose_stream_info info;
    lowdose_statistics statistics;
    int queue;
    CHECK(pixels);
    memset(&info, 0, sizeof info);
    info.struct_bytes = sizeof info;
    statistics.struct_bytes = sizeof statistics;

    CHECK_STATUS(lowdose_stream_push(NULL, &frame), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_push(stream, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_pop(NULL, &result, 0), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_pop(stream, NULL, 0), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_flush(NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_reset(NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_denoise(NULL, 0, NULL, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, NULL, &result), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_query(NULL, &info), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_query(stream, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_statistics(NULL, &statistics), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_statistics(stream, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_message(NULL, message, sizeof message), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_message(stream, message, 0), LOWDOSE_ERROR_ARGUMENT);
    statistics.struct_bytes = info.struct_bytes = 9;
    CHECK_STATUS(lowdose_stream_statistics(stream, &statistics), LOWDOSE_ERROR_ARGUMENT);
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_ERROR_ARGUMENT);
    info.struct_bytes = sizeof info;
    CHECK_STATUS(lowdose_stream_query(stream, &info), LOWDOSE_OK);
    CHECK(info.latency_frames == 1 && info.n_channels == 1 && info.n_tiles == 1 && info.is_settled);
    CHECK(info.cutoff == 0.2f && info.weight_set == 0 && info.offset == 0);

    /* A frame or a result that is not the stream's is refused and costs nothing. */
#define BAD_BUFFER(member, value, status)                                                   \
    do {                                                                                    \
        const lowdose_frame good_frame = frame;                                             \
        const lowdose_result good_result = result;                                          \
        frame.member = value;                                                               \
        result.member = value;                                                              \
        CHECK_STATUS(lowdose_stream_push(stream, &frame), status);                          \
        CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), status);                       \
        CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &good_result_copy), status); \
        frame = good_frame;                                                                 \
        CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), status);           \
        result = good_result;                                                               \
    } while (0)
    {
        lowdose_result good_result_copy = result;
        BAD_BUFFER(struct_bytes, 16, LOWDOSE_ERROR_ARGUMENT);
        BAD_BUFFER(height, height + 1, LOWDOSE_ERROR_SIZE);
        BAD_BUFFER(width, 0, LOWDOSE_ERROR_SIZE);
        BAD_BUFFER(dtype, LOWDOSE_UINT16, LOWDOSE_ERROR_DTYPE);
        BAD_BUFFER(dtype, 77, LOWDOSE_ERROR_DTYPE);
        BAD_BUFFER(reserved, 1, LOWDOSE_ERROR_ARGUMENT);
        BAD_BUFFER(row_stride_bytes, 4 * width - 1, LOWDOSE_ERROR_SIZE);
        BAD_BUFFER(row_stride_bytes, -4, LOWDOSE_ERROR_SIZE);
        BAD_BUFFER(channel_stride_bytes, 3, LOWDOSE_ERROR_SIZE);
        BAD_BUFFER(data, NULL, LOWDOSE_ERROR_NULL);
    }
    CHECK(statistics_of(stream).pushed == 0);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, NAN), LOWDOSE_ERROR_ARGUMENT);

    /* Order. */
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_ORDER);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_ERROR_ORDER); /* its result was not popped */
    CHECK_STATUS(lowdose_stream_message(stream, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "popped first"));
    CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_ERROR_ORDER);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_ERROR_ORDER);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_ORDER);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), LOWDOSE_END);
    CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), LOWDOSE_NONE);
    CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_OK); /* an empty sequence */
    CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), LOWDOSE_END);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_ORDER); /* wcvd needs two */
    lowdose_stream_close(stream);

    stream = open_stream(model, options); /* a sequence that is refused as a whole, and the next one */
    pixels[7] = (float)INFINITY;
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_FRAME);
    pixels[7] = 0;
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
    lowdose_stream_close(stream);

    for (queue = 0; queue < 5; queue += 4) { /* frames that are refused, where the result would be */
        options.queue_frames = queue;
        stream = open_stream(model, options);
        frame.sequence = 1;
        CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
        pixels[5 * width + 6] = (float)NAN;
        frame.sequence = 2;
        CHECK_STATUS(lowdose_stream_push(stream, &frame), queue ? LOWDOSE_OK : LOWDOSE_ERROR_FRAME);
        pixels[5 * width + 6] = 0;
        frame.sequence = 3;
        CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK);
        if (queue) {
            CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_ORDER);
            CHECK_STATUS(lowdose_stream_pop(stream, &result, 10000), LOWDOSE_ERROR_FRAME);
            CHECK(result.sequence == 2);
        }
        CHECK_STATUS(lowdose_stream_message(stream, message, sizeof message), LOWDOSE_OK);
        if (!queue) CHECK(strstr(message, "pixel (5, 6)"));
        CHECK_STATUS(lowdose_stream_pop(stream, &result, 10000), LOWDOSE_OK);
        CHECK(result.sequence == 1);
        CHECK(statistics_of(stream).refused == 1 && statistics_of(stream).in_flight == 1);

        CHECK_STATUS(lowdose_stream_reset(stream), LOWDOSE_OK);
        CHECK(statistics_of(stream).discarded == 1 && statistics_of(stream).in_flight == 0);
        frame.sequence = 9;
        CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_OK); /* one alone: too few for wcvd */
        CHECK_STATUS(lowdose_stream_flush(stream), LOWDOSE_OK);
        CHECK_STATUS(lowdose_stream_pop(stream, &result, -1), LOWDOSE_ERROR_ORDER);
        CHECK(result.sequence == 9);
        CHECK_STATUS(lowdose_stream_pop(stream, &result, -1), LOWDOSE_END);
        CHECK(statistics_of(stream).refused == 2);
        lowdose_stream_close(stream);
    }
    free(pixels);
}

static void test_replace_errors(lowdose_engine* engine, lowdose_model* model, const char* folder) {
    lowdose_stream_options small = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream* stream = open_stream(model, small);
    lowdose_replace_options options = {sizeof options, LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF, 1, 0.3f};
    lowdose_model* larger = NULL;
    char message[1024], *bytes, *place;
    size_t n_bytes;
    CHECK_STATUS(lowdose_stream_replace(NULL, model, &options), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_replace(stream, NULL, &options), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_stream_replace(stream, model, NULL), LOWDOSE_ERROR_ARGUMENT);
    CHECK_STATUS(lowdose_stream_message(stream, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "9 weight sets"));
    options.struct_bytes = 8;
    CHECK_STATUS(lowdose_stream_replace(stream, model, &options), LOWDOSE_ERROR_ARGUMENT);
    options.struct_bytes = sizeof options;
    options.given |= LOWDOSE_GIVE_OFFSET;
    CHECK_STATUS(lowdose_stream_replace(stream, model, &options), LOWDOSE_ERROR_ARGUMENT);
    options.given = LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF;
    options.weight_set = 9;
    CHECK_STATUS(lowdose_stream_replace(stream, model, &options), LOWDOSE_ERROR_ARGUMENT);
    options.weight_set = 1;

    /* The same model, but for frames of at least 90 px. */
    bytes = read_model(model_path(folder, "wcvd"), &n_bytes);
    for (place = bytes; place < bytes + n_bytes - 20 && memcmp(place, "\"min_size_px\": 7", 16) != 0;) ++place;
    CHECK(memcmp(place, "\"min_size_px\": 7", 16) == 0);
    memcpy(place, "\"min_size_px\":90", 16);
    CHECK_STATUS(lowdose_model_open_memory(engine, bytes, n_bytes, NULL, &larger), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_replace(stream, larger, &options), LOWDOSE_ERROR_SIZE);
    lowdose_model_close(larger);
    free(bytes);
    lowdose_stream_close(stream);
}

#ifndef _WIN32
/* What ONNX Runtime reports comes back, and the stream can be used again. */
static void test_runtime_that_fails(const char* failing_runtime, const char* folder) {
    lowdose_engine* engine = open_engine(failing_runtime);
    lowdose_model *model = open_model(engine, folder, "wcid"), *none = NULL;
    lowdose_stream_options options = options_of(LOWDOSE_UINT16, LOWDOSE_FLOAT32);
    lowdose_stream *stream = open_stream(model, options), *no_stream = NULL, *queued;
    lowdose_replace_options same = {sizeof same, LOWDOSE_GIVE_WEIGHT_SET | LOWDOSE_GIVE_CUTOFF, 0, 0.2f};
    uint16_t* raw = make_frames(1);
    float* out = malloc(sizeof(float) * n_pixels);
    const lowdose_frame frame = frame_of(raw, LOWDOSE_UINT16, 3);
    lowdose_result result = result_of(out, LOWDOSE_FLOAT32);
    char message[1024];
    CHECK(out);
    options.queue_frames = 2;
    queued = open_stream(model, options);

    setenv("LOWDOSE_TEST_RUNTIME_FAILS", "1", 1);
    CHECK_STATUS(lowdose_stream_push(stream, &frame), LOWDOSE_ERROR_RUNTIME);
    CHECK_STATUS(lowdose_stream_message(stream, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "told to fail"));
    CHECK(statistics_of(stream).refused == 1 && statistics_of(stream).in_flight == 0);
    CHECK_STATUS(lowdose_stream_reset(stream), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_ERROR_RUNTIME);
    CHECK_STATUS(lowdose_stream_push(queued, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(queued, &result, -1), LOWDOSE_ERROR_RUNTIME);
    CHECK(result.sequence == 3);
    CHECK_STATUS(lowdose_stream_open(model, &options, &no_stream), LOWDOSE_ERROR_RUNTIME);
    CHECK_STATUS(lowdose_stream_replace(stream, model, &same), LOWDOSE_ERROR_RUNTIME);
    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, "wcid"), NULL, &none), LOWDOSE_ERROR_MODEL);
    unsetenv("LOWDOSE_TEST_RUNTIME_FAILS");

    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_push(queued, &frame), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_pop(queued, &result, -1), LOWDOSE_OK);
    CHECK(statistics_of(stream).replaced == 0);
    lowdose_stream_close(queued);
    lowdose_stream_close(stream);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
    free(raw);
    free(out);
}
#endif

int main(int argc, char** argv) {
    lowdose_engine* engine = open_engine(runtime_path());
    lowdose_model* model;
    CHECK(argc >= 2);
    test_stream_options(engine, argv[1]);
    model = open_model(engine, argv[1], "wcvd");
    test_stream_errors(model);
    test_replace_errors(engine, model, argv[1]);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
#ifndef _WIN32
    CHECK(argc > 2);
    test_runtime_that_fails(argv[2], argv[1]);
#endif
    return 0;
}
