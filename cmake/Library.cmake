# The shared library from the rooms, and its installation as a package.
#
# Users need no header but include/xcomposer and no dependency but the library itself: LibTorch is found
# at run time through the RUNPATH that is recorded here, or lies beside the library
# (XCOMPOSER_BUNDLE_TORCH).
include(CMakePackageConfigHelpers)

add_library(xcomposer SHARED)
add_library(xcomposer::xcomposer ALIAS xcomposer)
xcomposer_link_rooms(xcomposer api)
if(XCOMPOSER_HAVE_CUDA)
  if(TARGET room_kernels_cuda)
    xcomposer_link_rooms(xcomposer kernels_cuda)
  endif()
  target_link_libraries(xcomposer PRIVATE xcomposer_torch_cuda)
endif()
target_link_libraries(xcomposer PRIVATE xcomposer_options)
target_include_directories(xcomposer INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(xcomposer INTERFACE cxx_std_17)
# Static archives among the dependencies keep their symbols to themselves.
target_link_options(xcomposer PRIVATE -Wl,--exclude-libs,ALL)
# LibTorch and sentencepiece both export FLAGS_minloglevel, an int and an object, and the loader takes the
# first for both. Were that LibTorch's, the object's constructor would write past the int, into the flag that
# makes LibTorch end the process where it should throw (no memory, say). So sentencepiece comes first.
if(XCOMPOSER_HAVE_SENTENCEPIECE)
  target_link_options(xcomposer BEFORE PRIVATE
    -Wl,--push-state,--no-as-needed,${SENTENCEPIECE_LIBRARY},--pop-state)
endif()
# An executable's link step looks into LibTorch's own dependencies too.
set(xcomposer_rpath_link "")
foreach(folder IN LISTS XCOMPOSER_TORCH_RPATH)
  list(APPEND xcomposer_rpath_link -Wl,-rpath-link,${folder})
endforeach()
target_link_options(xcomposer INTERFACE $<BUILD_INTERFACE:${xcomposer_rpath_link}>)

# Before version 1 every minor version may change the binary interface.
set(soversion ${PROJECT_VERSION_MAJOR})
if(soversion EQUAL 0)
  set(soversion ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endif()
set_target_properties(xcomposer PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${soversion})

# The build has the RUNPATH of the installation: CMake would pad one of its own with colons, and the loader
# takes the empty entry behind a colon for the folder that a program is started in.
set(xcomposer_bundle_folder xcomposer-libtorch)
set_target_properties(xcomposer PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
if(XCOMPOSER_BUNDLE_TORCH)
  set_target_properties(xcomposer PROPERTIES INSTALL_RPATH "$ORIGIN/${xcomposer_bundle_folder}")
  set(xcomposer_bundle_links ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}/${xcomposer_bundle_folder})
  file(MAKE_DIRECTORY ${xcomposer_bundle_links})
  foreach(folder IN LISTS XCOMPOSER_TORCH_RPATH)
    file(GLOB libraries ${folder}/*.so ${folder}/*.so.*)
    foreach(library IN LISTS libraries)
      get_filename_component(name ${library} NAME)
      file(CREATE_LINK ${library} ${xcomposer_bundle_links}/${name} SYMBOLIC)
    endforeach()
  endforeach()
  set(xcomposer_installed_rpath_link
      "-Wl,-rpath-link,\${libdir}/${xcomposer_bundle_folder}")
else()
  set_target_properties(xcomposer PROPERTIES INSTALL_RPATH "${XCOMPOSER_TORCH_RPATH}")
  set(xcomposer_installed_rpath_link ${xcomposer_rpath_link})
endif()

# Programs of ours that are installed find the library beside them.
file(RELATIVE_PATH xcomposer_bin_to_lib
     ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
function(xcomposer_find_at_runtime target)
  # In the build the folders are bin and lib, whatever they are called where it is installed.
  set(folders "$ORIGIN/${xcomposer_bin_to_lib}" "$ORIGIN/../lib")
  list(REMOVE_DUPLICATES folders)
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${folders}" BUILD_WITH_INSTALL_RPATH ON)
endfunction()

# --- installation ----------------------------------------------------------------------------------
install(TARGETS xcomposer EXPORT xcomposerTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/xcomposer DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/xcomposer)
install(EXPORT xcomposerTargets NAMESPACE xcomposer:: DESTINATION ${package_folder})
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/xcomposerConfig.cmake.in
  ${CMAKE_BINARY_DIR}/package/xcomposerConfig.cmake INSTALL_DESTINATION ${package_folder}
  PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/package/xcomposerConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH xcomposer_pc_to_prefix
     ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
# As words that begin with two dashes: of what begins with -Wl pkgconf prints spaces as they are.
set(xcomposer_pc_rpath_link "")
foreach(option IN LISTS xcomposer_installed_rpath_link)
  string(REPLACE "-Wl,-rpath-link," "--for-linker=-rpath-link=" option "${option}")
  string(REPLACE " " "\\ " option "${option}")
  string(APPEND xcomposer_pc_rpath_link " ${option}")
endforeach()
configure_file(${CMAKE_SOURCE_DIR}/cmake/xcomposer.pc.in ${CMAKE_BINARY_DIR}/package/xcomposer.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/package/xcomposerConfig.cmake
              ${CMAKE_BINARY_DIR}/package/xcomposerConfigVersion.cmake DESTINATION ${package_folder})
install(FILES ${CMAKE_BINARY_DIR}/package/xcomposer.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

if(XCOMPOSER_BUNDLE_TORCH)
  configure_file(${CMAKE_SOURCE_DIR}/cmake/BundleTorch.cmake.in ${CMAKE_BINARY_DIR}/BundleTorch.cmake @ONLY)
  install(SCRIPT ${CMAKE_BINARY_DIR}/BundleTorch.cmake)
endif()
