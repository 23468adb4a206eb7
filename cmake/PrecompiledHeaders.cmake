# Headers that are read once instead of for every object: GoogleTest, LibTorch's tensors.
#
#   xcomposer_precompile(test_ops NAME tests_torch_computing HEADERS ... LIBRARIES ... [PROGRAM] [OPTIMISE_LITTLE])
#
# GCC takes a precompiled header only with the options that it was made with, so there is one for every set of
# options; the first target that asks for a NAME makes it, and all others with that NAME share it. PROGRAM: for
# the objects of a program (-fPIE), not of a library (-fPIC). Definitions (-D) that the headers know nothing of
# may differ from target to target.
#
# Sources include what they use: they compile with CMAKE_DISABLE_PRECOMPILE_HEADERS=ON too. Clang always goes
# without: what is built with it are the fuzz targets, and they show where a room leaves out an include.
#
# Rooms without LibTorch get none. It would save 0.3 s per object, and with a precompiled <string> GCC 12 at -O3
# inlines differently and warns of overflows that are not there.
function(xcomposer_precompile target)
  cmake_parse_arguments(P "PROGRAM;OPTIMISE_LITTLE" "NAME" "HEADERS;LIBRARIES" ${ARGN})
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  set(owner precompiled_${P_NAME})
  if(NOT TARGET ${owner})
    set(nothing ${CMAKE_BINARY_DIR}/generated/nothing.cpp)
    file(CONFIGURE OUTPUT ${nothing} CONTENT "")
    add_library(${owner} OBJECT EXCLUDE_FROM_ALL ${nothing})
    target_link_libraries(${owner} PRIVATE xcomposer_options ${P_LIBRARIES})
    target_precompile_headers(${owner} PRIVATE ${P_HEADERS})
    if(P_PROGRAM)
      set_target_properties(${owner} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
      target_compile_options(${owner} PRIVATE ${CMAKE_CXX_COMPILE_OPTIONS_PIE})
    endif()
    if(P_OPTIMISE_LITTLE)
      xcomposer_optimise_little(${owner})
    endif()
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()

# Of an object of `ops` or `model`, 4 s, LibTorch's headers are about 3; read ready-made, 1.
function(xcomposer_precompile_torch target)
  xcomposer_precompile(${target} NAME torch LIBRARIES xcomposer_torch
    HEADERS <algorithm> <functional> <map> <memory> <optional> <string> <utility> <vector>
            <ATen/core/Tensor.h> <ATen/ops/empty.h> <ATen/ops/from_blob.h> <ATen/ops/zeros.h> <torch/library.h>)
endfunction()

# Whether the test includes LibTorch, and whether it is optimised as the library is. Of an object with GoogleTest,
# 1 to 5 s, its headers are 0.9; read ready-made, 0.3. Optimised, a test without LibTorch would gain less.
function(xcomposer_precompile_test target)
  cmake_parse_arguments(T "" "TORCH;COMPUTES" "" ${ARGN})
  set(name tests)
  set(headers <gmock/gmock.h> <gtest/gtest.h> <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring>
      <filesystem> <fstream> <functional> <limits> <map> <memory> <mutex> <optional> <random> <set> <sstream>
      <stdexcept> <string> <string_view> <thread> <utility> <vector>)
  set(libraries GTest::gmock GTest::gtest)
  set(options PROGRAM)
  if(T_TORCH)
    string(APPEND name _torch)
    list(APPEND headers <ATen/Functions.h> <ATen/TensorOperators.h> <ATen/core/Tensor.h>)
    list(APPEND libraries xcomposer_torch)
  elseif(T_COMPUTES)
    return()
  endif()
  if(T_COMPUTES)
    string(APPEND name _computing)
  else()
    list(APPEND options OPTIMISE_LITTLE)
  endif()
  xcomposer_precompile(${target} NAME ${name} HEADERS ${headers} LIBRARIES ${libraries} ${options})
  # The same false warnings, in 2 of the tests' objects.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds> $<$<COMPILE_LANGUAGE:CXX>:-Wno-stringop-overflow>)
  endif()
endfunction()
