# weft_library, weft_binary, weft_test, weft_benchmark: the only ways to make a target here.
#
# Layers: a library may depend only on libraries of a lower LAYER; the coordinator and the worker never
# depend on each other; kernels know no protobuf and no gRPC; pure libraries (PURE) depend on Abseil and
# pure libraries alone. A violation stops the configure step with both names.
#
#    0  common/base
#   10  common/{time,file,log,process,...}, kernels/{tensor,random}, proto (generated)
#   11  common/tls
#   15  common/{rpc,metrics}, kernels/device
#   20  kernels/ops, proto/spec
#   25  kernels/attention
#   30  coordinator/core, worker/{comm,data,model,checkpoint}
#   31  worker/data/generated;  32  worker/data/readers;  33  which of them a job names
#   32  the interface of coordinator/store;  35  coordinator/driver
#   40  coordinator/{store,service}, worker/{train,agent,prepare}
#   50  worker/rank
#   60  programs

define_property(TARGET PROPERTY WEFT_LAYER)
define_property(TARGET PROPERTY WEFT_SIDE)
define_property(TARGET PROPERTY WEFT_PURE)
set(WEFT_BUILT_SOURCES "" CACHE INTERNAL "")

function(_weft_side out)
  file(RELATIVE_PATH here "${PROJECT_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REGEX REPLACE "/.*" "" side "${here}")
  set(${out} "${side}" PARENT_SCOPE)
endfunction()

function(_weft_remember_sources)
  set(all "${WEFT_BUILT_SOURCES}")
  foreach(source IN LISTS ARGN)
    get_filename_component(path "${source}" ABSOLUTE)
    list(APPEND all "${path}")
  endforeach()
  set(WEFT_BUILT_SOURCES "${all}" CACHE INTERNAL "")
endfunction()

function(_weft_check_dependency name layer side pure dependency)
  if(NOT TARGET ${dependency})
    message(FATAL_ERROR "${name} depends on ${dependency}, which is not a target (yet): check the order of folders")
  endif()
  get_target_property(other_layer ${dependency} WEFT_LAYER)
  if(NOT other_layer MATCHES "^[0-9]+$")
    if(pure AND NOT dependency MATCHES "^absl::")
      message(FATAL_ERROR "${name} is PURE and may use Abseil only, not ${dependency}")
    endif()
    if(side STREQUAL "kernels" AND dependency MATCHES "^(gRPC|protobuf|prometheus)")
      message(FATAL_ERROR "${name}: kernels know no ${dependency}")
    endif()
    return()
  endif()
  get_target_property(other_side ${dependency} WEFT_SIDE)
  get_target_property(other_pure ${dependency} WEFT_PURE)
  if(NOT other_layer LESS layer)
    message(FATAL_ERROR "${name} (layer ${layer}) may not depend on ${dependency} (layer ${other_layer}): layers go downwards only")
  endif()
  if(pure AND NOT other_pure)
    message(FATAL_ERROR "${name} is PURE and may not depend on ${dependency}, which is not")
  endif()
  foreach(pair "coordinator|worker" "worker|coordinator" "client|coordinator" "client|worker"
               "kernels|proto" "kernels|worker" "proto|kernels" "common|proto" "common|kernels")
    if("${side}|${other_side}" STREQUAL pair)
      message(FATAL_ERROR "${name} (${side}/) may not depend on ${dependency} (${other_side}/)")
    endif()
  endforeach()
endfunction()

# weft_library(NAME n LAYER l SRCS ... [DEPS ...] [PRIVATE_DEPS ...] [PRECOMPILE headers ...] [PURE]
#              [CUDA_SRCS ...] [NO_CUDA_SRCS ...])
# PRECOMPILE: large headers that most of the sources include, read once for the library.
# CUDA_SRCS are built with CUDA only, NO_CUDA_SRCS without it only.
function(weft_library)
  cmake_parse_arguments(arg "PURE" "NAME;LAYER"
    "SRCS;DEPS;PRIVATE_DEPS;PRECOMPILE;CUDA_SRCS;NO_CUDA_SRCS" ${ARGN})
  _weft_side(side)
  _weft_remember_sources(${arg_CUDA_SRCS} ${arg_NO_CUDA_SRCS})
  if(WEFT_HAVE_CUDA)
    list(APPEND arg_SRCS ${arg_CUDA_SRCS})
    if(arg_CUDA_SRCS)
      list(APPEND arg_PRIVATE_DEPS weft_cuda_toolkit)
    endif()
  else()
    list(APPEND arg_SRCS ${arg_NO_CUDA_SRCS})
  endif()
  foreach(dependency IN LISTS arg_DEPS arg_PRIVATE_DEPS)
    _weft_check_dependency(${arg_NAME} ${arg_LAYER} ${side} ${arg_PURE} ${dependency})
  endforeach()
  _weft_remember_sources(${arg_SRCS})
  set(sources ${arg_SRCS})
  list(FILTER sources INCLUDE REGEX "\\.(cc|cu)$")
  if(sources)
    add_library(${arg_NAME} STATIC ${arg_SRCS})
    target_include_directories(${arg_NAME} PUBLIC "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${arg_NAME} PUBLIC ${arg_DEPS} PRIVATE ${arg_PRIVATE_DEPS} weft_options)
    if(arg_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      target_precompile_headers(${arg_NAME} PRIVATE ${arg_PRECOMPILE})
      target_compile_options(${arg_NAME} PRIVATE -fpch-preprocess)  # so that ccache sees what they are
    endif()
  else()
    add_library(${arg_NAME} INTERFACE ${arg_SRCS})
    target_include_directories(${arg_NAME} INTERFACE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${arg_NAME} INTERFACE ${arg_DEPS} ${arg_PRIVATE_DEPS})
  endif()
  set_target_properties(${arg_NAME} PROPERTIES WEFT_LAYER ${arg_LAYER} WEFT_SIDE ${side} WEFT_PURE ${arg_PURE})
endfunction()

# Programs of a tsan build carry annotations for libraries that were built without the sanitizer; they
# export them (-rdynamic), so that those libraries use them too.
function(_weft_sanitizer_support name)
  if(TARGET weft_thread_sanitizer)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:weft_thread_sanitizer>)
    target_link_options(${name} PRIVATE -rdynamic)
    target_link_libraries(${name} PRIVATE absl::synchronization ${CMAKE_DL_LIBS})
  endif()
endfunction()

# weft_binary(NAME n SRCS ... DEPS ...): a program; it lands in <build>/bin.
function(weft_binary)
  cmake_parse_arguments(arg "" "NAME" "SRCS;DEPS" ${ARGN})
  _weft_side(side)
  foreach(dependency IN LISTS arg_DEPS)
    _weft_check_dependency(${arg_NAME} 60 ${side} FALSE ${dependency})
  endforeach()
  _weft_remember_sources(${arg_SRCS})
  add_executable(${arg_NAME} ${arg_SRCS})
  target_include_directories(${arg_NAME} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} weft_options)
  _weft_sanitizer_support(${arg_NAME})
endfunction()

# What all tests include, read once for all of them: a third of the time that most take to compile.
function(_weft_precompile_for_test name)
  # -pthread: what gRPC asks of its users must be asked of all, for the headers to fit.
  set(options -fpch-preprocess -pthread)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    return()
  endif()
  if(NOT TARGET weft_test_headers)
    set(source "${CMAKE_BINARY_DIR}/tests/test_headers.cc")
    file(GENERATE OUTPUT "${source}" CONTENT "")
    add_library(weft_test_headers OBJECT "${source}")
    # As a program's, which is what its users are.
    set_target_properties(weft_test_headers PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(weft_test_headers PRIVATE -fPIE ${options})
    target_link_libraries(weft_test_headers PRIVATE GTest::gmock absl::statusor weft_options)
    target_precompile_headers(weft_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h> <absl/status/statusor.h>)
  endif()
  target_precompile_headers(${name} REUSE_FROM weft_test_headers)
  target_compile_options(${name} PRIVATE ${options})
endfunction()

# weft_test(NAME n SRCS ... DEPS ... [LABELS ...] [TIMEOUT seconds] [SERIAL])
# One ctest entry a binary; labels: unit simulation contract kernels process tidy.
function(weft_test)
  cmake_parse_arguments(arg "SERIAL" "NAME;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  _weft_remember_sources(${arg_SRCS})
  add_executable(${arg_NAME} ${arg_SRCS})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_include_directories(${arg_NAME} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main weft_options)
  _weft_precompile_for_test(${arg_NAME})
  _weft_sanitizer_support(${arg_NAME})
  add_test(NAME ${arg_NAME} COMMAND ${arg_NAME})
  set_tests_properties(${arg_NAME} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}"
    ENVIRONMENT "WEFT_BIN_DIR=${CMAKE_BINARY_DIR}/bin;WEFT_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
  # Tests of processes look at what the whole machine runs and keeps in shared memory.
  if(arg_SERIAL OR "process" IN_LIST arg_LABELS)
    set_tests_properties(${arg_NAME} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()

# weft_benchmark(NAME n SRCS ... DEPS ...): a Google Benchmark program in <build>/bench; never a test.
function(weft_benchmark)
  cmake_parse_arguments(arg "" "NAME" "SRCS;DEPS" ${ARGN})
  _weft_remember_sources(${arg_SRCS})
  if(NOT WEFT_BUILD_BENCHMARKS)
    return()
  endif()
  add_executable(${arg_NAME} ${arg_SRCS})
  set_target_properties(${arg_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
  target_include_directories(${arg_NAME} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${arg_NAME} PRIVATE ${arg_DEPS} benchmark::benchmark_main weft_options)
endfunction()

# A source file that no target builds, and a test that is not registered, stop the configure step.
function(weft_check_every_source_is_built)
  foreach(folder common kernels proto coordinator worker client tests)
    if(folder STREQUAL "tests" AND NOT WEFT_BUILD_TESTS)
      continue()
    endif()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cc"
      "${PROJECT_SOURCE_DIR}/${folder}/*.cu")
    foreach(source IN LISTS sources)
      if(NOT source IN_LIST WEFT_BUILT_SOURCES)
        list(APPEND orphans "${source}")
      endif()
    endforeach()
  endforeach()
  if(orphans)
    string(REPLACE ";" "\n  " orphans "${orphans}")
    message(FATAL_ERROR "no target builds:\n  ${orphans}")
  endif()
endfunction()
