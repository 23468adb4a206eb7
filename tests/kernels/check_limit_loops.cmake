# The loops that measure what a processor can do at most hold all their sums in registers: one that is kept in
# memory halves what is measured (kernels/cpu/limits.cpp). Between the first and the last of the measured
# instructions of a function nothing is read from the stack nor written to it.
#
#   cmake -DOBJDUMP=objdump "-DOBJECTS=a.o;b.o" -P check_limit_loops.cmake
#
# OBJECTS: limits.cpp's is looked for among them.
list(FILTER OBJECTS INCLUDE REGEX "/limits\\.cpp\\.o(bj)?$")
execute_process(COMMAND ${OBJDUMP} -d --no-show-raw-insn ${OBJECTS} OUTPUT_VARIABLE text RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "${OBJDUMP} cannot read ${OBJECTS}")
endif()
set(loops 0)
string(REPLACE ";" " " text "${text}")
string(REPLACE ">:\n" ";" functions "${text}")  # each ends with the name of the next
foreach(measured vfmadd[0-9]*ps vpdpbusd vpmaddubsw vdpbf16ps)
  foreach(function IN LISTS functions)
    if(NOT function MATCHES "(${measured}.*${measured})")
      continue()
    endif()
    math(EXPR loops "${loops} + 1")
    if(CMAKE_MATCH_1 MATCHES "[^\n]*\\(%r[sb]p[^\n]*")
      message(SEND_ERROR "a loop of ${measured} uses the stack: ${CMAKE_MATCH_0}")
    endif()
  endforeach()
endforeach()
if(loops LESS 6)
  message(FATAL_ERROR "${loops} loops found, expected 6 or more: FMA of two widths, three kinds of 8-bit products, bfloat16")
endif()
