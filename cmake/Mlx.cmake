# The MLX backend (core/kernels/mlx): where MLX is, and how a target is built with it. MLX comes from Homebrew (`mlx`) or
# PyPI (`mlx`; on Linux with `mlx-cpu`, which the tests use); both are a folder with include/mlx and lib/libmlx.

# Sets `out` to the version of the MLX in a folder, empty where there is none that the bridge can be built with.
function(mlxr_mlx_version out root)
  set(${out} "" PARENT_SCOPE)
  if(EXISTS ${root}/include/mlx/version.h)
    file(STRINGS ${root}/include/mlx/version.h lines REGEX "^#define MLX_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
    string(REPLACE ";" "." version "${numbers}")
    if(version VERSION_LESS 0.30)
      message(STATUS "MLX ${version} in ${root} is too old: 0.30 at least")
    else()
      set(${out} ${version} PARENT_SCOPE)
    endif()
  endif()
endfunction()

# Links a target with the MLX in a folder.
function(mlxr_link_mlx target root)
  target_link_libraries(${target} PRIVATE ${root}/lib/libmlx${CMAKE_SHARED_LIBRARY_SUFFIX})
  if(EXISTS ${root}/../mlx_cpu.libs) # the wheel finds its own BLAS at run time; the linker has to be told
    target_link_options(${target} PUBLIC -Wl,-rpath-link,${root}/../mlx_cpu.libs)
  endif()
endfunction()

# Compiles the backend into a target, with the list of backends that names it. PRIVATE but for the linker: nobody else
# sees MLX.
function(mlxr_use_mlx target root)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/core/kernels/mlx/*.c ${CMAKE_SOURCE_DIR}/core/kernels/mlx/*.cpp)
  target_sources(${target} PRIVATE ${sources} ${CMAKE_BINARY_DIR}/metal_kernel_sources.c)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers>)
  if(NOT TARGET metal_kernel_sources_file) # for dependencies across folders
    set(metal ${CMAKE_SOURCE_DIR}/core/kernels/metal)
    set(translate ${CMAKE_SOURCE_DIR}/tools/metal-emulator/translate.py)
    file(GLOB files CONFIGURE_DEPENDS ${metal}/*.metal)
    file(GLOB headers CONFIGURE_DEPENDS ${metal}/*.h)
    add_custom_command(
      OUTPUT ${CMAKE_BINARY_DIR}/metal_kernel_sources.c
      COMMAND ${MLXR_PYTHON} ${translate} sources ${files} > ${CMAKE_BINARY_DIR}/metal_kernel_sources.c
      DEPENDS ${files} ${headers} ${translate}
      VERBATIM)
    add_custom_target(metal_kernel_sources_file DEPENDS ${CMAKE_BINARY_DIR}/metal_kernel_sources.c)
  endif()
  set_source_files_properties(${CMAKE_BINARY_DIR}/metal_kernel_sources.c PROPERTIES GENERATED ON)
  add_dependencies(${target} metal_kernel_sources_file)
  target_include_directories(${target} SYSTEM PRIVATE ${root}/include)
  target_compile_definitions(${target} PRIVATE MLXR_MLX=1)
  target_link_libraries(${target} PUBLIC ${root}/lib/libmlx${CMAKE_SHARED_LIBRARY_SUFFIX})
  if(EXISTS ${root}/../mlx_cpu.libs)
    target_link_options(${target} PUBLIC -Wl,-rpath-link,${root}/../mlx_cpu.libs)
  endif()
endfunction()

set(places ${MLXR_MLX_ROOT})
if(APPLE AND NOT MLXR_MLX STREQUAL OFF AND NOT MLXR_MLX_ROOT)
  find_program(python NAMES python3)
  execute_process(COMMAND ${python} -ISc
                          "import importlib.util as u; s = u.find_spec('mlx'); print(s.submodule_search_locations[0] if s else '')"
                  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(GLOB own ${CMAKE_SOURCE_DIR}/build/venv-mlx/lib/python3*/site-packages/mlx)
  list(APPEND places /opt/homebrew/opt/mlx /usr/local/opt/mlx ${own} ${found})
endif()
set(MLXR_MLX_HERE "")
if(MLXR_MLX)
  foreach(place ${places})
    mlxr_mlx_version(version ${place})
    if(version AND NOT MLXR_MLX_HERE)
      set(MLXR_MLX_HERE ${place})
      message(STATUS "MLX ${version} in ${place}: the backend mlx is built in")
    endif()
  endforeach()
  if(MLXR_MLX STREQUAL ON AND NOT MLXR_MLX_HERE)
    message(FATAL_ERROR "MLXR_MLX is ON, but no MLX of 0.30 or later was found; set MLXR_MLX_ROOT")
  endif()
endif()

set(MLXR_LINKER_LANGUAGE C)
if(MLXR_MLX_HERE OR MLXR_MLX_TEST_ROOTS)
  set(CMAKE_CXX_STANDARD 20)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
  enable_language(CXX)
endif()
if(MLXR_MLX_HERE)
  set(MLXR_LINKER_LANGUAGE CXX)
  set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
endif()
