# Fails when a compilation of row_loops.cc left a symbol that the linker may merge with another
# file's (weak, unique, common): code for AVX-512 could then run on a CPU that lacks it. Nothing but
# the table may be visible at all.
#   cmake -DNM=nm -DARCHIVES="a;b" -P vector_symbols.cmake
foreach(archive IN LISTS ARCHIVES)
  execute_process(COMMAND "${NM}" --defined-only "${archive}" OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "cannot read ${archive}")
  endif()
  string(REGEX MATCHALL "[^\n]* [A-Zuvw] [^\n]*" visible "${symbols}")
  list(FILTER visible EXCLUDE REGEX "__odr_asan")  # AddressSanitizer's mark beside the table
  list(LENGTH visible count)
  if(NOT count EQUAL 1 OR NOT visible MATCHES " [RD] .*kTable")
    message(FATAL_ERROR "${archive}: expected one visible symbol, the table, but found:\n${visible}")
  endif()
endforeach()
