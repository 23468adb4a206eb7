# Fails where one of FILES would look for libraries in the folder that it is started in: that is what the
# loader takes an empty entry of a RUNPATH for.
foreach(file IN LISTS FILES)
  execute_process(COMMAND ${READELF} -d ${file} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
  if(NOT dynamic MATCHES "R(UN)?PATH\\)[^[]*\\[([^]]*)\\]")
    continue()
  endif()
  set(path ":${CMAKE_MATCH_2}:")
  if(path MATCHES "::")
    message(SEND_ERROR "${file} has an empty entry in its RUNPATH: ${CMAKE_MATCH_2}")
  endif()
endforeach()
