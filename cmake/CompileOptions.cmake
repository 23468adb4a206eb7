# What every translation unit of ours is compiled with.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(xcomposer_options INTERFACE)
target_compile_options(xcomposer_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic $<$<BOOL:${XCOMPOSER_WERROR}>:-Werror>>)
set(XCOMPOSER_CUDA_WARNINGS -Xcompiler=-Wall,-Wextra)
if(XCOMPOSER_WERROR)
  set(XCOMPOSER_CUDA_WARNINGS -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror)
endif()
# GCC 12 at -O3 sees overlaps in std::string's own code that cannot occur (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(xcomposer_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
# -ffp-contract=off: the compiler must not fuse products and sums on its own, or the same expression
# would round differently from one processor to the next. Kernels ask for FMA by name.
target_compile_options(xcomposer_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
find_package(Threads REQUIRED)
target_link_libraries(xcomposer_options INTERFACE Threads::Threads)

# Optimising instrumented code takes the longest of all that is compiled, and full symbols up to as
# long again; functions and lines are enough for a report.
set(XCOMPOSER_INSTRUMENTED_OPTIONS -O1 -g1 -fno-omit-frame-pointer)
if(XCOMPOSER_SANITIZE)
  # Of the folder, so that what a target asks for comes after it.
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${XCOMPOSER_SANITIZE};${XCOMPOSER_INSTRUMENTED_OPTIONS}>")
  if(XCOMPOSER_SANITIZE MATCHES "undefined")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>)
  endif()
  # GCC's flow analysis loses track in instrumented code and warns of what is not there; the builds
  # without sanitizers hold warnings to be errors.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(xcomposer_options INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized -Wno-error>)
  endif()
  add_link_options(-fsanitize=${XCOMPOSER_SANITIZE})
endif()
