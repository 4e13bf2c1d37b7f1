# CUDA and NCCL: found, or left out with the reason. Sets WEFT_HAVE_CUDA and WEFT_HAVE_NCCL and makes
# weft_cuda_toolkit, which libraries with CUDA sources link, and weft_nccl.
#
# Nothing here needs a GPU: the code is compiled for sm_80 and sm_90a, and compute_80's PTX lets the
# driver of a later GPU make its own. A .cu file includes neither Abseil nor Protocol Buffers nor
# gRPC: nvcc reads every header once for each architecture.

set(WEFT_HAVE_CUDA OFF)
set(WEFT_HAVE_NCCL OFF)

if(WEFT_CUDA STREQUAL OFF)
  weft_note("CUDA" out "WEFT_CUDA=OFF")
else()
  find_program(WEFT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(WEFT_NVCC)
    set(CMAKE_CUDA_COMPILER "${WEFT_NVCC}")
    set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPU architectures")
    if(WEFT_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      # nvcc preprocesses once for each architecture, so a hash of the preprocessed text is not the
      # whole truth; the list of files that were read is.
      set(CMAKE_CUDA_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_DEPEND=1 "${WEFT_CCACHE}")
    endif()
    enable_language(CUDA)
    # Debian's CMake 3.25.1 gives this target a property without asking whether it is there, and
    # CUDA 13 has none. Nothing uses it.
    if(NOT TARGET CUDA::nvToolsExt)
      add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    endif()
    find_package(CUDAToolkit REQUIRED)
    # CMake 3.25 does not know how this nvcc is told of C++20, though it is.
    foreach(kind STANDARD EXTENSION)
      if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
        set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
      endif()
    endforeach()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG -lineinfo")
    set(WEFT_HAVE_CUDA ON)
    list(JOIN CMAKE_CUDA_ARCHITECTURES ", " architectures)
    weft_note("CUDA" in "nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${architectures}")
    target_compile_options(weft_options INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror;--expt-relaxed-constexpr>")
    add_library(weft_cuda_toolkit INTERFACE)
    target_include_directories(weft_cuda_toolkit SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(weft_cuda_toolkit INTERFACE CUDA::cublasLt CUDA::cudart_static)
  elseif(WEFT_CUDA STREQUAL ON)
    message(FATAL_ERROR "WEFT_CUDA=ON, but there is no nvcc in PATH, CUDA_HOME or /usr/local/cuda")
  else()
    weft_note("CUDA" out "no nvcc in PATH, CUDA_HOME or /usr/local/cuda: jobs cannot run on GPUs")
  endif()
endif()

if(NOT WEFT_NCCL STREQUAL OFF AND WEFT_HAVE_CUDA)
  # NCCL has no CMake package; it is looked for beside the toolkit first.
  find_path(WEFT_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(WEFT_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
endif()
if(WEFT_NCCL STREQUAL OFF)
  weft_note("NCCL" out "WEFT_NCCL=OFF")
elseif(NOT WEFT_HAVE_CUDA)
  weft_note("NCCL" out "needs CUDA")
elseif(WEFT_NCCL_INCLUDE AND WEFT_NCCL_LIBRARY)
  set(WEFT_HAVE_NCCL ON)
  add_library(weft_nccl INTERFACE)
  target_include_directories(weft_nccl SYSTEM INTERFACE "${WEFT_NCCL_INCLUDE}")
  target_link_libraries(weft_nccl INTERFACE "${WEFT_NCCL_LIBRARY}")
  weft_note("NCCL" in "${WEFT_NCCL_LIBRARY}")
else()
  weft_note("NCCL" out "no nccl.h and libnccl beside the CUDA toolkit or on the system")
endif()
if(WEFT_NCCL STREQUAL ON AND NOT WEFT_HAVE_NCCL)
  message(FATAL_ERROR "WEFT_NCCL=ON, but NCCL cannot be used: no CUDA, or no nccl.h and libnccl")
endif()
