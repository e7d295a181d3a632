/* A host that has loaded an ONNX Runtime of another version, for all to see, keeps working, and so does lowdose with its
 * own. The other one is LOWDOSE_ONNXRUNTIME_OTHER. Argument: folder of models. */
#include <dlfcn.h>

#include "check.h"

typedef struct api_base {
    const void* const* (*get_api)(uint32_t version);
    const char* (*version)(void);
} api_base;

enum { create_env = 3, create_session_from_array = 8, create_options = 10, input_count = 30 };
enum { release_env = 92, release_session = 95, release_options = 100 };

/* What the host does with its ONNX Runtime, by positions in its table of functions: opens a model. */
static void use_host_runtime(const void* const* api, const char* bytes, size_t n_bytes) {
    void *env = NULL, *options = NULL, *session = NULL;
    size_t n_inputs = 0;
    CHECK(!((void* (*)(int, const char*, void**))api[create_env])(4, "host", &env));
    CHECK(!((void* (*)(void**))api[create_options])(&options));
    CHECK(!((void* (*)(const void*, const void*, size_t, const void*, void**))api[create_session_from_array])(
        env, bytes, n_bytes, options, &session));
    CHECK(!((void* (*)(const void*, size_t*))api[input_count])(session, &n_inputs) && n_inputs > 0);
    ((void (*)(void*))api[release_session])(session);
    ((void (*)(void*))api[release_options])(options);
    ((void (*)(void*))api[release_env])(env);
}

static void use_lowdose(const char* runtime, const char* model_file, const char* version, float* out) {
    enum { size = 32 };
    lowdose_engine* engine = open_engine(runtime);
    lowdose_model* model = NULL;
    lowdose_stream* stream = NULL;
    lowdose_stream_options options;
    lowdose_frame frame;
    lowdose_result result;
    uint16_t pixels[size * size];
    const char* found = NULL;
    CHECK_STATUS(lowdose_engine_runtime(engine, &found), LOWDOSE_OK);
    CHECK((strcmp(found, version) == 0) == (runtime == getenv("LOWDOSE_ONNXRUNTIME_OTHER")));
    memset(&options, 0, sizeof options);
    memset(&frame, 0, sizeof frame);
    memset(&result, 0, sizeof result);
    fill_frame(pixels, size, size, 1);
    options.struct_bytes = sizeof options;
    options.height = options.width = frame.height = frame.width = result.height = result.width = size;
    options.dtype_in = frame.dtype = LOWDOSE_UINT16;
    options.dtype_out = result.dtype = LOWDOSE_FLOAT32;
    frame.struct_bytes = sizeof frame;
    frame.data = pixels;
    result.struct_bytes = sizeof result;
    result.data = out;
    CHECK_STATUS(lowdose_model_open(engine, model_file, NULL, &model), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_open(model, &options, &stream), LOWDOSE_OK);
    CHECK_STATUS(lowdose_stream_denoise(stream, 1, &frame, &result), LOWDOSE_OK);
    lowdose_stream_close(stream);
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
}

int main(int argc, char** argv) {
    static char bytes[1 << 16];
    static float ours[32 * 32], others[32 * 32];
    const char *runtime = runtime_path(), *other = getenv("LOWDOSE_ONNXRUNTIME_OTHER"), *path;
    void* handle;
    const api_base* base;
    const void* const* api;
    size_t n_bytes;
    FILE* file;
    CHECK(argc > 1);
    if (!other || !*other) {
        printf("skipped: LOWDOSE_ONNXRUNTIME_OTHER names no ONNX Runtime of another version\n");
        return SKIPPED;
    }
    path = model_path(argv[1], "wcid");
    file = fopen(path, "rb");
    CHECK(file);
    n_bytes = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    CHECK(n_bytes > 0 && n_bytes < sizeof bytes);

    handle = dlopen(other, RTLD_NOW | RTLD_GLOBAL);
    CHECK(handle);
    base = ((const api_base* (*)(void))dlsym(handle, "OrtGetApiBase"))();
    api = base->get_api(11);
    use_host_runtime(api, bytes, n_bytes);
    use_lowdose(runtime, path, base->version(), ours);
    use_host_runtime(api, bytes, n_bytes);
    use_lowdose(other, path, base->version(), others); /* even both versions inside lowdose */
    use_lowdose(runtime, path, base->version(), ours);
    CHECK(memcmp(ours, others, sizeof ours) == 0);
    printf("host: ONNX Runtime %s\n", base->version());
    return 0;
}
