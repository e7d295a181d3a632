/* Every function of lowdose.h, and every error that it documents. Arguments: the folder of models, a library that is no
 * ONNX Runtime, one that says it is too old, a folder with a model of a Unicode name, and for slow tools how many bytes
 * lie between the prefixes of a model file that are tried. */
#include <math.h>

#include "check.h"

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
    CHECK(s.pushed == s.popped + s.dropped_full + s.dropped_late + s.dropped_results + s.refused + s.discarded +
                          s.in_flight);
    return s;
}

/* Messages of the log callback. */
static int n_logged, n_errors_logged;
static void LOWDOSE_CALL count_log(void* user, lowdose_log_level level, const char* message) {
    CHECK(user == &n_logged && message && *message);
    ++n_logged;
    n_errors_logged += level == LOWDOSE_LOG_ERROR;
}

static void test_version(void) {
    CHECK(lowdose_version() == LOWDOSE_VERSION);
    CHECK(strcmp(lowdose_status_name(LOWDOSE_ERROR_FRAME), "LOWDOSE_ERROR_FRAME") == 0);
    CHECK(strcmp(lowdose_status_name((lowdose_status)99), "unknown status") == 0);
}

static void test_engine_errors(const char* no_runtime, const char* old_runtime) {
    char message[512] = "x";
    lowdose_engine* engine = (lowdose_engine*)message;
    lowdose_engine_options options = {sizeof options, NULL, NULL, NULL};
    const char* text = NULL;

    CHECK_STATUS(lowdose_engine_create(NULL, &engine, message, sizeof message), LOWDOSE_ERROR_NULL);
    CHECK(engine == NULL && message[0]);
    CHECK_STATUS(lowdose_engine_create(&options, NULL, message, sizeof message), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_create(&options, &engine, message, sizeof message), LOWDOSE_ERROR_ARGUMENT);
    CHECK(strstr(message, "runtime_path"));
    options.struct_bytes = 3;
    CHECK_STATUS(lowdose_engine_create(&options, &engine, NULL, 0), LOWDOSE_ERROR_ARGUMENT);
    options.struct_bytes = sizeof options;

    options.runtime_path = "/no/such/folder/libonnxruntime.so";
    CHECK_STATUS(lowdose_engine_create(&options, &engine, message, sizeof message), LOWDOSE_ERROR_RUNTIME);
    CHECK(strstr(message, "cannot load ONNX Runtime"));
    CHECK_STATUS(lowdose_engine_create(&options, &engine, message, 5), LOWDOSE_ERROR_RUNTIME);
    CHECK(strlen(message) == 4);
    options.runtime_path = no_runtime;
    CHECK_STATUS(lowdose_engine_create(&options, &engine, message, sizeof message), LOWDOSE_ERROR_RUNTIME);
    CHECK(strstr(message, "is not ONNX Runtime"));
    options.runtime_path = old_runtime;
    CHECK_STATUS(lowdose_engine_create(&options, &engine, message, sizeof message), LOWDOSE_ERROR_RUNTIME);
    CHECK(strstr(message, "ONNX Runtime 1.5.3") && strstr(message, "too old"));
    CHECK(engine == NULL);

    CHECK_STATUS(lowdose_engine_destroy(NULL), LOWDOSE_OK);
    CHECK_STATUS(lowdose_engine_message(NULL, message, sizeof message), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_device(NULL, 0, &text), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_runtime(NULL, &text), LOWDOSE_ERROR_NULL);
}

static lowdose_engine* test_engine(const char* path) {
    char message[512] = "x";
    lowdose_engine* engine = NULL;
    const char* text = NULL;
    /* A struct of a newer header: what is not known here must be 0. */
    struct {
        lowdose_engine_options known;
        uint64_t unknown;
    } newer = {{sizeof newer, NULL, count_log, &n_logged}, 1};
    newer.known.runtime_path = path;

    CHECK_STATUS(lowdose_engine_create(&newer.known, &engine, message, sizeof message), LOWDOSE_ERROR_ARGUMENT);
    CHECK(strstr(message, "does not know"));
    newer.unknown = 0;
    CHECK_STATUS(lowdose_engine_create(&newer.known, &engine, message, sizeof message), LOWDOSE_OK);
    CHECK(engine && !message[0] && n_logged > 0);

    CHECK_STATUS(lowdose_engine_message(engine, message, sizeof message), LOWDOSE_OK);
    CHECK(!message[0]);
    CHECK_STATUS(lowdose_engine_message(engine, NULL, 10), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_message(engine, message, 0), LOWDOSE_ERROR_ARGUMENT);
    CHECK_STATUS(lowdose_engine_runtime(engine, &text), LOWDOSE_OK);
    CHECK(strncmp(text, "1.", 2) == 0);
    CHECK_STATUS(lowdose_engine_runtime(engine, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_device(engine, 0, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_engine_device(engine, 0, &text), LOWDOSE_OK);
    CHECK(text && *text);
    CHECK_STATUS(lowdose_engine_device(engine, 1000, &text), LOWDOSE_END);
    CHECK(!text);
    return engine;
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

static void test_model_errors(lowdose_engine* engine, const char* folder) {
    char message[1024];
    lowdose_model* model = NULL;
    lowdose_model_info info;
    lowdose_model_options options = {sizeof options, "gpu", 0};
    int32_t dy, dx;
    const int before = n_errors_logged;

    CHECK_STATUS(lowdose_model_open(NULL, "x", NULL, &model), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open(engine, NULL, NULL, &model), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open(engine, "x", NULL, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open(engine, "no such file", NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK(!model);
    CHECK_STATUS(lowdose_engine_message(engine, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "no such file"));
    CHECK(n_errors_logged == before + 1);
    CHECK_STATUS(lowdose_model_open(engine, folder, NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, "reucid"), NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK_STATUS(lowdose_engine_message(engine, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "not a denoiser"));
    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, "wcid"), &options, &model), LOWDOSE_ERROR_DEVICE);
    CHECK_STATUS(lowdose_engine_message(engine, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "'gpu' is not available") && strstr(message, "CPUExecutionProvider"));
    options.struct_bytes = 1;
    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, "wcid"), &options, &model), LOWDOSE_ERROR_ARGUMENT);

    CHECK_STATUS(lowdose_model_open_memory(NULL, "x", 1, NULL, &model), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open_memory(engine, NULL, 1, NULL, &model), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open_memory(engine, "x", 1, NULL, NULL), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_open_memory(engine, "x", 0, NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK_STATUS(lowdose_model_open_memory(engine, "no model", 8, NULL, &model), LOWDOSE_ERROR_MODEL);

    info.struct_bytes = sizeof info;
    CHECK_STATUS(lowdose_model_query(NULL, &info), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_tap(NULL, 0, &dy, &dx), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_message(NULL, message, sizeof message), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_close(NULL), LOWDOSE_OK);
}

/* Every prefix of a model file is refused, and so are damaged ones (or they open: not every bit matters). */
static void test_damaged_models(lowdose_engine* engine, const char* path, size_t step) {
    size_t n_bytes = 0, n;
    char* bytes = read_model(path, &n_bytes);
    lowdose_model* model = NULL;
    uint32_t random = 1;
    CHECK_STATUS(lowdose_model_open_memory(engine, bytes, n_bytes, NULL, &model), LOWDOSE_OK);
    lowdose_model_close(model);
    for (n = 1; n < n_bytes; n += step) {
        CHECK_STATUS(lowdose_model_open_memory(engine, bytes, n, NULL, &model), LOWDOSE_ERROR_MODEL);
        CHECK(!model);
    }
    for (n = 0; n < n_bytes; n += 50 * step) {
        const char before = bytes[n];
        lowdose_status status;
        random = random * 1664525u + 1013904223u;
        bytes[n] = (char)(random >> 24);
        status = lowdose_model_open_memory(engine, bytes, n_bytes, NULL, &model);
        CHECK(status == LOWDOSE_OK || status == LOWDOSE_ERROR_MODEL);
        lowdose_model_close(model);
        bytes[n] = before;
    }
    free(bytes);
}

static void test_unicode_path(lowdose_engine* engine, const char* folder) {
    const char* name = "Gr\xc3\xb6\xc3\x9f" "e-\xe9\x9b\xbb\xe5\xad\x90";
    lowdose_model_close(open_model(engine, folder, name));
}

static void test_model(lowdose_engine* engine, const char* folder) {
    char message[64];
    lowdose_model* model = open_model(engine, folder, "wcvd");
    lowdose_model_info info;
    lowdose_model_options options = {sizeof options, "cpu", 1};
    int32_t dy = 9, dx = 9;
    memset(&info, 0, sizeof info);
    info.struct_bytes = sizeof info;
    CHECK_STATUS(lowdose_model_query(model, &info), LOWDOSE_OK);
    CHECK(strcmp(info.method, "wcvd") == 0 && strcmp(info.device, "cpu") == 0 && info.kernels);
    CHECK(info.metadata[0] == '{' && strstr(info.metadata, "\"taps\""));
    CHECK(info.n_taps == 3 && !info.is_scan && info.n_channels == 1 && info.latency_frames == 1);
    CHECK(info.margin_px > 0 && info.align_px == 1 && info.min_height > 0 && info.min_width > 0);
    CHECK(info.fixed_height == 0 && info.fixed_width == 0 && info.n_weight_sets > 1 && info.has_low_pass);
    CHECK_STATUS(lowdose_model_query(model, NULL), LOWDOSE_ERROR_NULL);
    info.struct_bytes = 4;
    CHECK_STATUS(lowdose_model_query(model, &info), LOWDOSE_ERROR_ARGUMENT);
    CHECK_STATUS(lowdose_model_message(model, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "struct_bytes is 4"));
    CHECK_STATUS(lowdose_model_message(model, NULL, 1), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_message(model, message, 0), LOWDOSE_ERROR_ARGUMENT);
    CHECK_STATUS(lowdose_model_tap(model, 0, &dy, &dx), LOWDOSE_OK);
    CHECK(dy == 0 && dx == -1);
    CHECK_STATUS(lowdose_model_tap(model, 3, &dy, &dx), LOWDOSE_END);
    CHECK_STATUS(lowdose_model_tap(model, 0, NULL, &dx), LOWDOSE_ERROR_NULL);
    CHECK_STATUS(lowdose_model_tap(model, 0, &dy, NULL), LOWDOSE_ERROR_NULL);
    lowdose_model_close(model);

    CHECK_STATUS(lowdose_model_open(engine, model_path(folder, "wcvd"), &options, &model), LOWDOSE_OK);
    info.struct_bytes = sizeof info;
    CHECK_STATUS(lowdose_model_query(model, &info), LOWDOSE_OK);
    CHECK(!info.kernels);
    lowdose_model_close(model);
}

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

static void refuse_options(lowdose_model* model, lowdose_stream_options options, lowdose_status wanted, const char* word) {
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

#define REFUSE(change, status, word)            \
    do {                                        \
        bad = good;                             \
        change;                                 \
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
#define BAD_BUFFER(member, value, status)                                                     \
    do {                                                                                      \
        const lowdose_frame good_frame = frame;                                               \
        const lowdose_result good_result = result;                                            \
        frame.member = value;                                                                 \
        result.member = value;                                                                \
        CHECK_STATUS(lowdose_stream_push(stream, &frame), status);                            \
        CHECK_STATUS(lowdose_stream_pop(stream, &result, 0), status);                         \
        CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &good_result_copy), status);   \
        frame = good_frame;                                                                   \
        CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), status);             \
        result = good_result;                                                                 \
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
    lowdose_engine* engine;
    lowdose_model* model;
    const char* folder = argv[1];
    size_t step = 1;
    CHECK(argc >= 5);
    if (argc > 5) step = (size_t)atoi(argv[5]);
    test_version();
    test_engine_errors(argv[2], argv[3]);
    engine = test_engine(runtime_path());
    test_model_errors(engine, folder);
    test_unicode_path(engine, argv[4]);
    test_model(engine, folder);
    test_stream_options(engine, folder);
    model = open_model(engine, folder, "wcvd");
    test_ways(model);
    test_stream_errors(model);
    test_references(model);
    test_choice(model);
    lowdose_model_close(model);
    test_scan(engine, folder);
    test_damaged_models(engine, model_path(folder, "wcid"), step);
    lowdose_engine_destroy(engine);
    test_lifetimes(runtime_path(), folder);
    return 0;
}
