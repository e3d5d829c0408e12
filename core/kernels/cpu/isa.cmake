# Files named *_avx2.c, *_avx512.c, … are compiled for that instruction set; everything else for the baseline. Files of
# another architecture are left out: *_x86.c and the x86 sets, *_arm.c and the ARM sets, *_generic.c where neither is.
# Included from core/CMakeLists.txt: source properties are visible only in the folder that builds the target.
set(x86_sets avx2 avxvnni avx512 avx512vnni avx512bf16 amx)
set(arm_sets neon dotprod i8mm armbf16)
set(flags_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(flags_avxvnni ${flags_avx2} -mavxvnni)
set(flags_avx512 ${flags_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd)
set(flags_avx512vnni ${flags_avx512} -mavx512vnni)
set(flags_avx512bf16 ${flags_avx512} -mavx512bf16)
set(flags_amx ${flags_avx512vnni} -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16)
set(flags_neon)
set(flags_dotprod -march=armv8.2-a+dotprod)
set(flags_i8mm -march=armv8.2-a+dotprod+i8mm)
set(flags_armbf16 -march=armv8.2-a+bf16)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(this_arch x86)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  set(this_arch arm)
else()
  set(this_arch generic)
endif()

# The kernels' loops over vectors must unroll, or their arrays of sums lie in memory: with -O2, which RelWithDebInfo and
# distributions build with, attention took four times as long.
set(flags_kernels -O3)
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR MLXR_SANITIZE)
  set(flags_kernels)
endif()

get_target_property(kernel_sources mlxr_kernels SOURCES)
foreach(arch x86 arm generic)
  set(sets ${arch} ${${arch}_sets})
  if(NOT arch STREQUAL this_arch)
    list(JOIN sets "|" pattern)
    list(FILTER kernel_sources EXCLUDE REGEX "_(${pattern})\\.c$")
    continue()
  endif()
  foreach(set ${${arch}_sets})
    set(of_set ${kernel_sources})
    list(FILTER of_set INCLUDE REGEX "_${set}\\.c$")
    if(of_set)
      set_source_files_properties(${of_set} PROPERTIES COMPILE_OPTIONS "${flags_${set}};${flags_kernels}")
    endif()
  endforeach()
endforeach()
set_target_properties(mlxr_kernels PROPERTIES SOURCES "${kernel_sources}")

# Two passes of GCC are off for AVX2, each of which sends vectors through memory that should stay in registers: one adds
# up in another order (tree-reassoc), one moves a block's loads before the products of the block before it (tree-ter).
# A token meets Q4_K at 19.5 GB/s a core instead of 17.5, and many Q8_0 1.4 times as fast
# (bench/history/2026-11-29-few-rows.json). No result changes: the additions are of integers. The empty asm statement of
# linear_avx2.h keeps the order of its sums with other compilers and in passes that stay on.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND this_arch STREQUAL "x86")
  set_property(SOURCE ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/linear_avx2.c
                      ${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/linear_laid_avx2.c
               APPEND PROPERTY COMPILE_OPTIONS "-fno-tree-ter;-fno-tree-reassoc")
endif()

# Unrolled and inlined throughout, these take minutes to compile when every access is instrumented; checkkernels puts
# guard pages around everything they touch instead.
if(MLXR_SANITIZE)
  set(unrolled ${kernel_sources})
  list(FILTER unrolled INCLUDE REGEX "/linear_(laid_|crossed_|laid_crossed_)?(avx2|avxvnni|avx512vnni|amx|neon|dotprod|i8mm)\\.c$")
  foreach(source ${unrolled})
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=all)
  endforeach()
endif()
