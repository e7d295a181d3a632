# Installs the build and builds a project against it, by find_package and by pkg-config, and runs it.
# BUILD, SOURCE, WORK: folders; C_COMPILER; RUNTIME: of ONNX Runtime, may be empty; LIBDIR.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(failed)
    message(FATAL_ERROR "${ARGN}: ${failed}\n${out}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/first)
file(RENAME ${WORK}/first ${WORK}/prefix)  # what is installed may be moved

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK}/build)
file(READ ${WORK}/build/models.txt models)
run(${WORK}/build/consumer ${models} "${RUNTIME}")
run(${WORK}/build/consumer_hpp)

find_program(PKG_CONFIG NAMES pkg-config pkgconf)
if(NOT PKG_CONFIG)
  message(FATAL_ERROR "pkg-config is not installed")
endif()
set(ENV{PKG_CONFIG_PATH} ${WORK}/prefix/${LIBDIR}/pkgconfig)
execute_process(COMMAND ${PKG_CONFIG} --cflags --libs lowdose OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${PKG_CONFIG} --variable=models lowdose OUTPUT_VARIABLE models
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
run(${C_COMPILER} ${SOURCE}/main.c ${flags} -Wl,-rpath,${WORK}/prefix/${LIBDIR} -o ${WORK}/by_pkg_config)
run(${WORK}/by_pkg_config ${models} "${RUNTIME}")
