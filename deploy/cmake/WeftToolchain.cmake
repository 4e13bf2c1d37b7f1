# Language level, warnings, sanitizers, compiler cache and linker, for our own targets only.
# Everything hangs on the interface target weft_options, which weft_library & co. link privately.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

option(WEFT_BUILD_TESTS "Build the tests (needs GoogleTest)" ON)
option(WEFT_BUILD_BENCHMARKS "Build the benchmarks (needs Google Benchmark)" ON)
set(WEFT_SANITIZE "" CACHE STRING "Sanitizers, comma separated: address,undefined or thread")

find_program(WEFT_CCACHE ccache)
if(WEFT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The first two kinds of sloppiness are what ccache asks for before it caches compilations with
  # precompiled headers. The rest makes what one build folder compiled serve the others, those of
  # other clones and those that ctest builds, which has a locale of its own.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,locale
      "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${WEFT_CCACHE}")
endif()

find_program(WEFT_MOLD mold)
find_program(WEFT_LLD ld.lld)
if(WEFT_MOLD)
  set(WEFT_LINKER mold)
elseif(WEFT_LLD)
  set(WEFT_LINKER lld)
endif()
if(WEFT_LINKER)
  add_link_options(-fuse-ld=${WEFT_LINKER})
endif()

add_library(weft_options INTERFACE)
function(weft_cxx_options)
  foreach(option IN LISTS ARGN)
    target_compile_options(weft_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${option}>")
  endforeach()
endfunction()
weft_cxx_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor -Werror
  # Header-only dependencies instantiate templates in our files; these two fire inside them.
  -Wno-sign-conversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # GCC 12 warns of overlapping copies inside std::string that cannot happen (GCC bug 105651).
  weft_cxx_options(-Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  weft_cxx_options(-Wthread-safety)
endif()
# Debug information for stack traces, without the weight of full DWARF: links and caches stay fast.
add_compile_options("$<$<AND:$<CONFIG:RelWithDebInfo>,$<COMPILE_LANGUAGE:CXX>>:-g1>")

if(WEFT_SANITIZE)
  add_compile_options(-fsanitize=${WEFT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${WEFT_SANITIZE})
  if(WEFT_SANITIZE MATCHES undefined)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  # With the sanitizers' code between, GCC 12 loses track of which alternative a std::variant holds.
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    weft_cxx_options(-Wno-maybe-uninitialized)
  endif()
endif()
