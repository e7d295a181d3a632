#include <lowdose.h>
#include <stdio.h>
#include <string.h>

/* Arguments: folder of the installed models, ONNX Runtime. */
int main(int argc, char** argv) {
    char message[512] = "", path[4096];
    lowdose_engine_options options = {sizeof options, NULL, NULL, NULL};
    lowdose_engine* engine = NULL;
    lowdose_model* model = NULL;
    if (lowdose_version() / 1000 != LOWDOSE_VERSION / 1000) return 1;
    if (argc < 3 || !*argv[2]) {
        options.runtime_path = "no such library";
        if (lowdose_engine_create(&options, &engine, message, sizeof message) != LOWDOSE_ERROR_RUNTIME) return 2;
        return strstr(message, "cannot load") ? 0 : 3;
    }
    options.runtime_path = argv[2];
    snprintf(path, sizeof path, "%s/wcvd.onnx", argv[1]);
    if (lowdose_engine_create(&options, &engine, message, sizeof message) != LOWDOSE_OK) return 4;
    if (lowdose_model_open(engine, path, NULL, &model) != LOWDOSE_OK) return 5;
    lowdose_model_close(model);
    lowdose_engine_destroy(engine);
    return 0;
}
