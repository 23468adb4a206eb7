# Finds LibTorch: XCOMPOSER_TORCH_FOLDER is an unzipped LibTorch (lib/, include/) or the folder `torch` of a
# Python environment.
#
# -DXCOMPOSER_TORCH_DIR names one; else the variable XCOMPOSER_TORCH_DIR of the environment does, which is kept
# for the configurations that ninja starts. Else what scripts/setup.sh made under .deps is looked for, each
# time: another Python makes it in another folder.
function(xcomposer_has_torch folder result)
  set(${result} FALSE PARENT_SCOPE)
  if(folder AND EXISTS ${folder}/lib/libtorch_cpu.so)
    set(${result} TRUE PARENT_SCOPE)
  endif()
endfunction()

function(xcomposer_search_torch result)
  set(${result} "" PARENT_SCOPE)
  file(GLOB candidates ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch
       ${CMAKE_SOURCE_DIR}/.deps/libtorch)
  foreach(candidate IN LISTS candidates)
    xcomposer_has_torch(${candidate} found)
    if(found)
      set(${result} ${candidate} PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

set(XCOMPOSER_TORCH_DIR "" CACHE PATH "LibTorch, or the torch folder of a Python environment; empty: looked for")
# Earlier versions kept here what they had found.
string(FIND "${XCOMPOSER_TORCH_DIR}" "${CMAKE_SOURCE_DIR}/.deps/" at)
xcomposer_has_torch("${XCOMPOSER_TORCH_DIR}" found)
if(at EQUAL 0 AND NOT found)
  set(XCOMPOSER_TORCH_DIR "" CACHE PATH "" FORCE)
endif()

set(environment "$ENV{XCOMPOSER_TORCH_DIR}")
if(environment)
  get_filename_component(environment "${environment}" ABSOLUTE)
  set(XCOMPOSER_TORCH_DIR_KEPT "${environment}" CACHE INTERNAL "XCOMPOSER_TORCH_DIR of the environment")
endif()

if(XCOMPOSER_TORCH_DIR)
  set(XCOMPOSER_TORCH_FOLDER ${XCOMPOSER_TORCH_DIR})
  if(environment AND NOT environment STREQUAL XCOMPOSER_TORCH_DIR)
    message(STATUS "xcomposer: XCOMPOSER_TORCH_DIR of the cache counts, not the environment's; "
                   "-DXCOMPOSER_TORCH_DIR= (empty) takes it out")
  endif()
else()
  set(XCOMPOSER_TORCH_FOLDER "${XCOMPOSER_TORCH_DIR_KEPT}")
  xcomposer_has_torch("${XCOMPOSER_TORCH_FOLDER}" found)
  if(NOT found AND NOT environment)
    xcomposer_search_torch(XCOMPOSER_TORCH_FOLDER)
  endif()
endif()

xcomposer_has_torch("${XCOMPOSER_TORCH_FOLDER}" found)
if(NOT found AND XCOMPOSER_TORCH_FOLDER)
  message(FATAL_ERROR
    "XCOMPOSER_TORCH_DIR is '${XCOMPOSER_TORCH_FOLDER}', and there is no lib/libtorch_cpu.so in it. Name a "
    "LibTorch of version 2.6 or later, or let what scripts/setup.sh has made be looked for: with "
    "-DXCOMPOSER_TORCH_DIR= (empty) and without the variable in the environment.")
elseif(NOT found)
  message(FATAL_ERROR
    "LibTorch was not found (looked for lib/libtorch_cpu.so under '${CMAKE_SOURCE_DIR}/.deps'). "
    "Run scripts/setup.sh, or set XCOMPOSER_TORCH_DIR to a LibTorch of version 2.6 or later, "
    "or configure with -DXCOMPOSER_TORCH_FREE=ON.")
endif()
message(STATUS "xcomposer: LibTorch in ${XCOMPOSER_TORCH_FOLDER}")

# In a Python environment the CUDA libraries are packages beside torch.
get_filename_component(XCOMPOSER_TORCH_PACKAGES ${XCOMPOSER_TORCH_FOLDER} DIRECTORY)
