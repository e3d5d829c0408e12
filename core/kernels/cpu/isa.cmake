# Files named *_avx2.c, *_avx512.c, … are compiled for that instruction set; everything else for the baseline.
# Included from core/CMakeLists.txt: source properties are visible only in the folder that builds the target.
