# cmake --install: the program, both libraries, the header, and what pkg-config and find_package need to find them.
# Everything is relocatable: the tree may be moved as a whole.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(mlxr_lib_static PROPERTIES EXPORT_NAME static)
set_target_properties(mlxr_lib_shared PROPERTIES EXPORT_NAME shared)
install(TARGETS mlxr_lib_static mlxr_lib_shared EXPORT MLXRTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET mlxr)
  install(TARGETS mlxr RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# The libraries that Dependencies.cmake found for the core: pkg-config must name them to users of libmlxr.a.
set(MLXR_PC_REQUIRES)
set(MLXR_CONFIG_CHECKS)
foreach(library JANSSON UTF8PROC PCRE2 XXHASH)
  if(${library}_FOUND)
    string(APPEND MLXR_PC_REQUIRES " ${${library}_MODULE_NAME}")
    string(APPEND MLXR_CONFIG_CHECKS "  pkg_check_modules(${library} QUIET IMPORTED_TARGET ${${library}_MODULE_NAME})\n")
  endif()
endforeach()
string(STRIP "${MLXR_PC_REQUIRES}" MLXR_PC_REQUIRES)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/MLXR)
install(EXPORT MLXRTargets NAMESPACE MLXR:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/MLXRConfig.cmake.in
                              ${CMAKE_BINARY_DIR}/package/MLXRConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/package/MLXRConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/package/MLXRConfig.cmake ${CMAKE_BINARY_DIR}/package/MLXRConfigVersion.cmake
        DESTINATION ${package_dir})

# pcfiledir is where mlxr.pc lies when it is read, so the prefix is found from there, however deep the folder is.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(MLXR_PC_LIBDIR ${CMAKE_INSTALL_LIBDIR})
  set(MLXR_PC_TO_PREFIX ../..)
else()
  set(MLXR_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH MLXR_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" MLXR_PC_TO_PREFIX ${MLXR_PC_TO_PREFIX})
endif()
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(MLXR_PC_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
else()
  set(MLXR_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(${CMAKE_SOURCE_DIR}/mlxr.pc.in ${CMAKE_BINARY_DIR}/package/mlxr.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/package/mlxr.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
