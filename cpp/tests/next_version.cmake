# The next patch version as it may become: every struct that callers fill in is longer, and there is one more function.
# Tests that were built against today's header run on that library, and tests that were built against its header on today's.
file(READ ${PROJECT_SOURCE_DIR}/include/lowdose.h header)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/lowdose.h)
math(EXPR next_patch "${PROJECT_VERSION_PATCH} + 1")
set(later "${header}")
string(REPLACE "LOWDOSE_VERSION_PATCH ${PROJECT_VERSION_PATCH}\n" "LOWDOSE_VERSION_PATCH ${next_patch}\n" later "${later}")
foreach(struct engine_options model_options model_info stream_options stream_info frame result replace_options statistics)
  string(REPLACE "} lowdose_${struct};" "    uint64_t appended[3];\n} lowdose_${struct};" longer "${later}")
  if(longer STREQUAL later)
    message(FATAL_ERROR "lowdose.h holds no struct lowdose_${struct}")
  endif()
  set(later "${longer}")
endforeach()
string(REPLACE "/* ---- status ---" "LOWDOSE_API uint32_t LOWDOSE_CALL lowdose_appended(void);\n\n/* ---- status ---" later "${later}")
set(next ${CMAKE_CURRENT_BINARY_DIR}/next)
file(GENERATE OUTPUT ${next}/include/lowdose.h CONTENT "${later}")
file(GENERATE OUTPUT ${next}/appended.cpp
  CONTENT "#include \"lowdose.h\"\nuint32_t lowdose_appended(void) { return LOWDOSE_VERSION_PATCH; }\n")

set(source ${PROJECT_SOURCE_DIR}/src)
add_library(lowdose_next SHARED ${source}/c_api.cpp ${source}/c_api_stream.cpp ${next}/appended.cpp)
target_compile_definitions(lowdose_next PRIVATE LOWDOSE_BUILD)
target_include_directories(lowdose_next PUBLIC ${next}/include)
target_link_libraries(lowdose_next PRIVATE lowdose_core)
set_target_properties(lowdose_next PROPERTIES OUTPUT_NAME lowdose LIBRARY_OUTPUT_DIRECTORY ${next}
  VERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}.${next_patch}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

# name: of a test above, with its arguments.
function(run_on_the_next_version name)
  target_link_options(${name} PRIVATE -Wl,--enable-new-dtags)  # LD_LIBRARY_PATH comes first
  add_test(NAME ${name}_on_the_next_version COMMAND ${name} ${ARGN})
  set_tests_properties(${name}_on_the_next_version PROPERTIES SKIP_RETURN_CODE 77
    ENVIRONMENT "LOWDOSE_ONNXRUNTIME=${LOWDOSE_ONNXRUNTIME};LD_LIBRARY_PATH=${next}")
endfunction()
run_on_the_next_version(test_abi ${next_patch})
run_on_the_next_version(test_streams ${models})
run_on_the_next_version(test_hpp ${models})
run_on_the_next_version(test_replace ${models})

# An application of the next version on the library of today: what it does not know is 0.
add_executable(test_streams_of_the_next_version test_streams.c)
target_include_directories(test_streams_of_the_next_version BEFORE PRIVATE ${next}/include)
target_link_libraries(test_streams_of_the_next_version PRIVATE lowdose m)
add_test(NAME test_streams_of_the_next_version COMMAND test_streams_of_the_next_version ${models})
set_tests_properties(test_streams_of_the_next_version PROPERTIES SKIP_RETURN_CODE 77
  ENVIRONMENT "LOWDOSE_ONNXRUNTIME=${LOWDOSE_ONNXRUNTIME}")
