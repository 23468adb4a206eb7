# Imported targets for LibTorch: xcomposer_torch (CPU) and, in a CUDA build, xcomposer_torch_cuda.
#
# find_package(Torch) is not used: in the Python package it stops without a CUDA toolkit and brings CUDA
# flags of its own. Both layouts are accepted: an unzipped LibTorch (lib/, include/) and the folder
# `torch` of a Python environment. XCOMPOSER_TORCH_DIR names one; otherwise the environment that
# scripts/setup.sh makes under .deps is looked for.
set(XCOMPOSER_TORCH_DIR "$ENV{XCOMPOSER_TORCH_DIR}" CACHE PATH "LibTorch, or the torch folder of a Python environment")
if(NOT XCOMPOSER_TORCH_DIR)
  file(GLOB candidates ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch
       ${CMAKE_SOURCE_DIR}/.deps/libtorch)
  foreach(candidate IN LISTS candidates)
    if(EXISTS ${candidate}/lib/libtorch_cpu.so)
      set(XCOMPOSER_TORCH_DIR ${candidate} CACHE PATH "" FORCE)
    endif()
  endforeach()
endif()
if(NOT EXISTS "${XCOMPOSER_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR
    "LibTorch was not found (looked for lib/libtorch_cpu.so in '${XCOMPOSER_TORCH_DIR}'). "
    "Run scripts/setup.sh, or set XCOMPOSER_TORCH_DIR to a LibTorch of version 2.6 or later, "
    "or configure with -DXCOMPOSER_TORCH_FREE=ON.")
endif()
message(STATUS "xcomposer: LibTorch in ${XCOMPOSER_TORCH_DIR}")

set(torch_lib ${XCOMPOSER_TORCH_DIR}/lib)
set(torch_include ${XCOMPOSER_TORCH_DIR}/include)
# In a Python environment the CUDA libraries are packages beside torch.
get_filename_component(site_packages ${XCOMPOSER_TORCH_DIR} DIRECTORY)
file(GLOB XCOMPOSER_TORCH_EXTRA_LIB_DIRS ${site_packages}/nvidia/*/lib)

foreach(name IN ITEMS c10 torch_cpu c10_cuda torch_cuda)
  if(EXISTS ${torch_lib}/lib${name}.so AND NOT TARGET torch::${name})
    add_library(torch::${name} SHARED IMPORTED)
    set_target_properties(torch::${name} PROPERTIES IMPORTED_LOCATION ${torch_lib}/lib${name}.so)
  endif()
endforeach()

add_library(xcomposer_torch INTERFACE)
target_include_directories(xcomposer_torch SYSTEM INTERFACE
  ${torch_include} ${torch_include}/torch/csrc/api/include)
target_link_libraries(xcomposer_torch INTERFACE torch::torch_cpu torch::c10)
foreach(dir IN LISTS XCOMPOSER_TORCH_EXTRA_LIB_DIRS)
  target_link_options(xcomposer_torch INTERFACE -Wl,-rpath-link,${dir})
endforeach()

if(XCOMPOSER_HAVE_CUDA)
  if(NOT TARGET torch::torch_cuda)
    message(FATAL_ERROR "nvcc was found, but LibTorch in ${XCOMPOSER_TORCH_DIR} has no CUDA part. "
      "Use a CUDA LibTorch, or configure with -DXCOMPOSER_WITH_CUDA=OFF.")
  endif()
  add_library(xcomposer_torch_cuda INTERFACE)
  # The CUDA back end registers itself when it is loaded; nothing refers to its symbols.
  target_link_libraries(xcomposer_torch_cuda INTERFACE
    -Wl,--no-as-needed torch::torch_cuda torch::c10_cuda -Wl,--as-needed xcomposer_torch CUDA::cudart)
endif()
set(XCOMPOSER_TORCH_RPATH ${torch_lib} ${XCOMPOSER_TORCH_EXTRA_LIB_DIRS})
