# No function that is compiled for an instruction set lies in a second object too: the linker keeps one of
# them, and a processor that lacks the set would run it (kernels/cpu/simd.h).
#
#   cmake -DNM=nm "-DOBJECTS=a.o;b.o" -P check_isa_symbols.cmake
#
# OBJECTS: all of the kernels; isa_*.cpp are those for an instruction set.
set(of_isas 0)
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --defined-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  get_filename_component(name ${object} NAME)
  set(isa FALSE)
  if(name MATCHES "^isa_" AND NOT name MATCHES "^isa_kernels")
    set(isa TRUE)
    math(EXPR of_isas "${of_isas} + 1")
  endif()
  string(REGEX MATCHALL " W [^\n]+" symbols "${symbols}")  # functions of which the linker keeps one
  foreach(symbol IN LISTS symbols)
    if(DEFINED "seen${symbol}" AND (isa OR "isa${symbol}"))
      message(SEND_ERROR "${name} and ${seen${symbol}} both have${symbol}")
    endif()
    set("seen${symbol}" ${name})
    if(isa)
      set("isa${symbol}" TRUE)
    endif()
  endforeach()
endforeach()
if(of_isas LESS 2)
  message(FATAL_ERROR "objects of ${of_isas} instruction sets: what should be compared?")
endif()
