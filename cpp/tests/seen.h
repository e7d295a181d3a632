/* Notes every error that a function of lowdose.h returns, one line "function STATUS", in the file that the environment
 * variable LOWDOSE_ERRORS_SEEN names: documented.cmake compares them with what the header says. Include it last. */
#ifndef LOWDOSE_TESTS_SEEN_H
#define LOWDOSE_TESTS_SEEN_H

#include <stdio.h>
#include <stdlib.h>

#include "lowdose.h"

static lowdose_status note_status(const char* function, lowdose_status status) {
    static const char* last_function;
    static lowdose_status last;
    const char* path = getenv("LOWDOSE_ERRORS_SEEN");
    FILE* file;
    if (status >= LOWDOSE_OK || !path || (function == last_function && status == last)) return status;
    last_function = function; /* a loop over damaged files would write as many lines */
    last = status;
    file = fopen(path, "a");
    if (!file) return status;
    fprintf(file, "%s %s\n", function, lowdose_status_name(status));
    fclose(file);
    return status;
}

/* A macro does not expand again inside itself: the function is called. */
#define lowdose_engine_create(...) note_status("lowdose_engine_create", lowdose_engine_create(__VA_ARGS__))
#define lowdose_engine_destroy(...) note_status("lowdose_engine_destroy", lowdose_engine_destroy(__VA_ARGS__))
#define lowdose_engine_device(...) note_status("lowdose_engine_device", lowdose_engine_device(__VA_ARGS__))
#define lowdose_engine_message(...) note_status("lowdose_engine_message", lowdose_engine_message(__VA_ARGS__))
#define lowdose_engine_runtime(...) note_status("lowdose_engine_runtime", lowdose_engine_runtime(__VA_ARGS__))
#define lowdose_model_close(...) note_status("lowdose_model_close", lowdose_model_close(__VA_ARGS__))
#define lowdose_model_message(...) note_status("lowdose_model_message", lowdose_model_message(__VA_ARGS__))
#define lowdose_model_open(...) note_status("lowdose_model_open", lowdose_model_open(__VA_ARGS__))
#define lowdose_model_open_memory(...) note_status("lowdose_model_open_memory", lowdose_model_open_memory(__VA_ARGS__))
#define lowdose_model_query(...) note_status("lowdose_model_query", lowdose_model_query(__VA_ARGS__))
#define lowdose_model_tap(...) note_status("lowdose_model_tap", lowdose_model_tap(__VA_ARGS__))
#define lowdose_stream_close(...) note_status("lowdose_stream_close", lowdose_stream_close(__VA_ARGS__))
#define lowdose_stream_denoise(...) note_status("lowdose_stream_denoise", lowdose_stream_denoise(__VA_ARGS__))
#define lowdose_stream_flush(...) note_status("lowdose_stream_flush", lowdose_stream_flush(__VA_ARGS__))
#define lowdose_stream_message(...) note_status("lowdose_stream_message", lowdose_stream_message(__VA_ARGS__))
#define lowdose_stream_open(...) note_status("lowdose_stream_open", lowdose_stream_open(__VA_ARGS__))
#define lowdose_stream_pop(...) note_status("lowdose_stream_pop", lowdose_stream_pop(__VA_ARGS__))
#define lowdose_stream_push(...) note_status("lowdose_stream_push", lowdose_stream_push(__VA_ARGS__))
#define lowdose_stream_query(...) note_status("lowdose_stream_query", lowdose_stream_query(__VA_ARGS__))
#define lowdose_stream_replace(...) note_status("lowdose_stream_replace", lowdose_stream_replace(__VA_ARGS__))
#define lowdose_stream_reset(...) note_status("lowdose_stream_reset", lowdose_stream_reset(__VA_ARGS__))
#define lowdose_stream_statistics(...) note_status("lowdose_stream_statistics", lowdose_stream_statistics(__VA_ARGS__))

#endif
