# Run by every build: writes OUTPUT, the source file that tells the commit of SOURCE, where it has
# changed. A tree that is not a git checkout of its own has no commit.
set(commit "")
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel
                  OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(top)
    get_filename_component(top ${top} REALPATH)
    get_filename_component(here ${SOURCE} REALPATH)
  endif()
  if(top AND top STREQUAL here)
    execute_process(COMMAND ${GIT} --no-optional-locks -C ${SOURCE}
                            describe --always --dirty --exclude=* --abbrev=12
                    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
set(text "#include \"xcomposer/version.h\"\n\nnamespace xcomposer {\n\n")
string(APPEND text "const char* Commit() { return \"${commit}\"; }\n\n}  // namespace xcomposer\n")
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
