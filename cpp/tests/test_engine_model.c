/* Engine and model of lowdose.h, with every error that they document. Arguments: the folder of models, a library that
 * is no ONNX Runtime, one that says it is too old, a folder with a model of a Unicode name, and for slow tools how many
 * bytes lie between the prefixes of a model file that are tried. */
#include "api.h"

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

static void test_model_errors(lowdose_engine* engine, const char* folder) {
    char message[1024];
    lowdose_model* model = NULL;
    lowdose_model_info info;
    lowdose_model_options options = {sizeof options, "gpu", 0};
    int32_t dy, dx;
    char* bytes;
    size_t n_bytes;
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
    CHECK_STATUS(lowdose_model_open_memory(engine, "LOWDENG1 and so on", 18, NULL, &model), LOWDOSE_ERROR_MODEL);
    CHECK_STATUS(lowdose_engine_message(engine, message, sizeof message), LOWDOSE_OK);
    CHECK(strstr(message, "is an engine"));
    CHECK_STATUS(lowdose_model_open_memory(engine, "no model", 8, &options, &model), LOWDOSE_ERROR_ARGUMENT);
    options.struct_bytes = sizeof options;
    bytes = read_model(model_path(folder, "wcid"), &n_bytes);
    CHECK_STATUS(lowdose_model_open_memory(engine, bytes, n_bytes, &options, &model), LOWDOSE_ERROR_DEVICE);
    free(bytes);

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
    const char* name =
        "Gr\xc3\xb6\xc3\x9f"
        "e-\xe9\x9b\xbb\xe5\xad\x90";
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

int main(int argc, char** argv) {
    lowdose_engine* engine;
    CHECK(argc >= 6);
    test_version();
    test_engine_errors(argv[2], argv[3]);
    engine = test_engine(runtime_path());
    test_model_errors(engine, argv[1]);
    test_unicode_path(engine, argv[4]);
    test_model(engine, argv[1]);
    test_damaged_models(engine, model_path(argv[1], "wcid"), (size_t)atoi(argv[5]));
    lowdose_engine_destroy(engine);
    return 0;
}
