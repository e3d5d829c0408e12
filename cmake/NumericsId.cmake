# Writes a source that names what computes: the sources of every layer whose arithmetic ends up in a KV page, the compiler
# and its flags. Pages on disk are only taken by a build of the same name (core/runtime/fingerprint.h).
#
#     cmake -D ROOT=… -D COMPILER=… -D OUT=… -P cmake/NumericsId.cmake
set(id "${COMPILER}\n")
foreach(layer base quant loaders kernels graph)
  file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/core/${layer}/*.c ${ROOT}/core/${layer}/*.h
       ${ROOT}/core/${layer}/*.cpp ${ROOT}/core/${layer}/*.hpp ${ROOT}/core/${layer}/*.metal ${ROOT}/core/${layer}/*.cmake)
  list(SORT sources)
  foreach(source ${sources})
    file(SHA256 ${ROOT}/${source} hash)
    string(APPEND id "${source} ${hash}\n")
  endforeach()
endforeach()
string(SHA256 id "${id}")
file(WRITE ${OUT} "#include \"runtime/fingerprint.h\"\n\nconst char fingerprint_numerics[] = \"${id}\";\n")
