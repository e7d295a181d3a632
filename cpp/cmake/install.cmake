# What acquisition software needs: headers, library, models, and the packages that find them. In a wheel all of it lies
# inside the import package, where lowdose.get_include() and its like look; the models are there already.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
if(SKBUILD)
  set(prefix lowdose/)
  set(libdir lib)
  set(LOWDOSE_MODELS_DIR lowdose/models)
  set(PC_MODELS models)
else()
  set(prefix "")
  set(libdir ${CMAKE_INSTALL_LIBDIR})
  set(LOWDOSE_MODELS_DIR share/lowdose/models)
  set(PC_MODELS share/lowdose/models)
  file(GLOB models ${PROJECT_SOURCE_DIR}/../runtime/lowdose/models/*)
  install(FILES ${models} DESTINATION share/lowdose/models)
endif()
set(package ${prefix}${libdir}/cmake/lowdose)

install(FILES include/lowdose.h include/lowdose.hpp DESTINATION ${prefix}include)
install(TARGETS lowdose EXPORT lowdoseTargets
  RUNTIME DESTINATION ${prefix}bin LIBRARY DESTINATION ${prefix}${libdir} ARCHIVE DESTINATION ${prefix}${libdir}
  INCLUDES DESTINATION ${prefix}include)
install(EXPORT lowdoseTargets NAMESPACE lowdose:: DESTINATION ${package})
configure_package_config_file(cmake/lowdoseConfig.cmake.in lowdoseConfig.cmake INSTALL_DESTINATION ${package}
  PATH_VARS LOWDOSE_MODELS_DIR)
write_basic_package_version_file(lowdoseConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lowdoseConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/lowdoseConfigVersion.cmake
  DESTINATION ${package})
file(RELATIVE_PATH PC_PREFIX /${libdir}/pkgconfig /)
set(PC_LIBDIR ${libdir})
configure_file(cmake/lowdose.pc.in lowdose.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lowdose.pc DESTINATION ${prefix}${libdir}/pkgconfig)
