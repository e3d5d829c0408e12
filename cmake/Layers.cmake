# One static library per layer; a layer links only the layers below it, so that an upward call fails at link time too.
add_library(mlxr_flags INTERFACE)
target_include_directories(mlxr_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/core)
target_compile_options(mlxr_flags INTERFACE -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow
                       $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
                       -fno-math-errno -ffp-contract=off)
target_compile_definitions(mlxr_flags INTERFACE _GNU_SOURCE)
if(MLXR_WERROR)
  target_compile_options(mlxr_flags INTERFACE -Werror)
endif()
if(MLXR_SANITIZE)
  target_compile_options(mlxr_flags INTERFACE -fsanitize=${MLXR_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  target_link_options(mlxr_flags INTERFACE -fsanitize=${MLXR_SANITIZE})
endif()

if(MLXR_COVERAGE)
  target_compile_options(mlxr_flags INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(mlxr_flags INTERFACE --coverage)
endif()
if(MLXR_FUZZ) # coverage for the fuzzer in every layer; its main comes with each target
  target_compile_options(mlxr_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(mlxr_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# mlxr_layer(NAME DEPENDS … LIBS …): the *.c of core/NAME (and its folders) as mlxr_NAME.
function(mlxr_layer name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/core/${name}/*.c)
  list(FILTER sources EXCLUDE REGEX "/core/kernels/mlx/") # cmake/Mlx.cmake builds these
  if(NOT sources) # a layer that has only headers yet
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/${name}_empty.c)
    file(WRITE ${sources} "typedef int mlxr_${name}_has_no_sources_yet;\n")
  endif()
  add_library(mlxr_${name} STATIC ${sources})
  target_link_libraries(mlxr_${name} PUBLIC mlxr_flags ${ARG_DEPENDS} ${ARG_LIBS})
endfunction()
