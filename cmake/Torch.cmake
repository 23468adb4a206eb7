# Imported targets for LibTorch: xcomposer_torch (CPU) and, in a CUDA build, xcomposer_torch_cuda.
#
# find_package(Torch) is not used: in the Python package it stops without a CUDA toolkit and brings CUDA
# flags of its own. Its folder is found in cmake/TorchFolder.cmake.
set(torch_lib ${XCOMPOSER_TORCH_FOLDER}/lib)
set(torch_include ${XCOMPOSER_TORCH_FOLDER}/include)
file(GLOB XCOMPOSER_TORCH_EXTRA_LIB_DIRS ${XCOMPOSER_TORCH_PACKAGES}/nvidia/*/lib)

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
  add_library(xcomposer_torch_cuda INTERFACE)
  # The CUDA back end registers itself when it is loaded; nothing refers to its symbols.
  target_link_libraries(xcomposer_torch_cuda INTERFACE
    -Wl,--no-as-needed torch::torch_cuda torch::c10_cuda -Wl,--as-needed xcomposer_torch CUDA::cudart)
endif()
set(XCOMPOSER_TORCH_RPATH ${torch_lib} ${XCOMPOSER_TORCH_EXTRA_LIB_DIRS})
