# A room is one folder of the architecture, built as an OBJECT library.
#
#   xcomposer_room(NAME checkpoint SOURCES a.cpp b.cpp ROOMS base LIBRARIES nlohmann_json::nlohmann_json)
#
# TORCH as the first word: most of its sources include LibTorch, which is then precompiled.
#
# The room sees its own headers, the headers of the rooms it names and whatever those see; nothing else.
# To make that hold although all rooms live under src/, each room's headers are reached through a folder
# of links in the build tree (rooms/<name>/<name> -> the source folder). Object libraries are used since a
# static archive would drop the TORCH_LIBRARY registrations.

function(xcomposer_room)
  cmake_parse_arguments(ROOM "TORCH" "NAME;FOLDER" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  if(NOT ROOM_FOLDER)
    set(ROOM_FOLDER ${CMAKE_SOURCE_DIR}/src/${ROOM_NAME})
  endif()
  set(view ${CMAKE_BINARY_DIR}/rooms/${ROOM_NAME})
  file(MAKE_DIRECTORY ${view})
  get_filename_component(leaf ${ROOM_FOLDER} NAME)
  file(CREATE_LINK ${ROOM_FOLDER} ${view}/${leaf} SYMBOLIC)

  set(target room_${ROOM_NAME})
  list(TRANSFORM ROOM_SOURCES PREPEND ${ROOM_FOLDER}/
       REGEX "^[^/]")
  add_library(${target} OBJECT ${ROOM_SOURCES})
  target_include_directories(${target} PUBLIC ${view} ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(${target} PRIVATE xcomposer_options PUBLIC ${ROOM_LIBRARIES})
  target_compile_definitions(${target} PRIVATE XCOMPOSER_BUILDING)
  if(ROOM_TORCH)
    xcomposer_precompile_torch(${target})
  endif()
  set(closure ${ROOM_NAME})
  foreach(dependency IN LISTS ROOM_ROOMS)
    target_link_libraries(${target} PUBLIC room_${dependency})
    get_property(below GLOBAL PROPERTY XCOMPOSER_CLOSURE_${dependency})
    list(APPEND closure ${below})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set_property(GLOBAL PROPERTY XCOMPOSER_CLOSURE_${ROOM_NAME} "${closure}")
  set_property(GLOBAL APPEND PROPERTY XCOMPOSER_ROOMS ${ROOM_NAME})
endfunction()

# The objects of the named rooms and of every room below them go into `target`, but for those that are
# named after WITHOUT: the target has something else in their place.
function(xcomposer_link_rooms target)
  cmake_parse_arguments(LINK "" "" "WITHOUT" ${ARGN})
  set(all "")
  foreach(name IN LISTS LINK_UNPARSED_ARGUMENTS)
    get_property(below GLOBAL PROPERTY XCOMPOSER_CLOSURE_${name})
    if(NOT below)
      message(FATAL_ERROR "${target}: there is no room '${name}' in this build")
    endif()
    list(APPEND all ${below})
  endforeach()
  list(REMOVE_DUPLICATES all)
  if(LINK_WITHOUT)
    list(REMOVE_ITEM all ${LINK_WITHOUT})
  endif()
  foreach(name IN LISTS all)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:room_${name}>)
    # The objects are named above; here only the include directories and libraries are wanted.
    target_include_directories(${target} PRIVATE
      $<TARGET_PROPERTY:room_${name},INTERFACE_INCLUDE_DIRECTORIES>)
    get_target_property(libraries room_${name} INTERFACE_LINK_LIBRARIES)
    if(libraries)
      list(FILTER libraries EXCLUDE REGEX "room_")
      target_link_libraries(${target} PRIVATE ${libraries})
    endif()
  endforeach()
endfunction()

# Checks themselves need no speed: -O3 makes them a third slower to compile than -O1, and instrumented, -O1
# twice as slow as -O0.
function(xcomposer_optimise_little target)
  if(XCOMPOSER_SANITIZE)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0>)
  else()
    target_compile_options(${target} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
  endif()
endfunction()

# xcomposer_test(NAME checkpoint SOURCES a_test.cpp ROOMS checkpoint WITHOUT ... LIBRARIES ...)
# One executable test_<name>; every TEST is a ctest entry of its own, so that a skip shows as a skip.
# TORCH: most of the sources include LibTorch, which is then precompiled.
# COMPUTES keeps the optimisation of the build: for tests that hold loops of reference arithmetic.
function(xcomposer_test)
  cmake_parse_arguments(T "COMPUTES;TORCH" "NAME;TIMEOUT" "SOURCES;ROOMS;WITHOUT;LIBRARIES" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  if(XCOMPOSER_SANITIZE)
    math(EXPR T_TIMEOUT "4 * ${T_TIMEOUT}")
  endif()
  set(target test_${T_NAME})
  add_executable(${target} ${T_SOURCES})
  target_link_libraries(${target} PRIVATE xcomposer_options ${T_LIBRARIES} GTest::gmock GTest::gtest
                        GTest::gtest_main)
  if(NOT T_COMPUTES)
    xcomposer_optimise_little(${target})
  endif()
  xcomposer_precompile_test(${target} TORCH "${T_TORCH}" COMPUTES "${T_COMPUTES}")
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/include)
  target_compile_definitions(${target} PRIVATE
    XCOMPOSER_SHARED_DIR="${XCOMPOSER_SHARED_DIR}" XCOMPOSER_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  xcomposer_link_rooms(${target} ${T_ROOMS} WITHOUT ${T_WITHOUT})
  gtest_discover_tests(${target} TEST_PREFIX "${T_NAME}." NO_PRETTY_VALUES DISCOVERY_TIMEOUT 120
                       PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_NAME}")
endfunction()
