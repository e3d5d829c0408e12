# CMake's view of a Mac with Apple's processor, compiled for on Linux by zig (tools/mac/zig-cc); tools/mac/link-check uses
# it. The environment names zig (MLXR_ZIG) and the folder with headers and libraries (MLXR_MAC_SYSROOT).
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_C_COMPILER ${CMAKE_CURRENT_LIST_DIR}/zig-cc cc)
set(CMAKE_CXX_COMPILER ${CMAKE_CURRENT_LIST_DIR}/zig-cc c++)
foreach(tool AR RANLIB)
  string(TOLOWER ${tool} name)
  set(CMAKE_${tool} ${CMAKE_CURRENT_LIST_DIR}/zig-${name})
  foreach(language C CXX)
    set(CMAKE_${language}_COMPILER_${tool} ${CMAKE_${tool}})
  endforeach()
endforeach()
set(CMAKE_INSTALL_NAME_TOOL /bin/false) # only `cmake --install` would call it
set(CMAKE_FIND_ROOT_PATH $ENV{MLXR_MAC_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
