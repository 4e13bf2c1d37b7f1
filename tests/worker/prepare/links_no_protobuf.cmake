# Fails when PROGRAM needs the shared library of Protocol Buffers, or does not need SentencePiece's.
execute_process(COMMAND "${READELF}" -d "${PROGRAM}" OUTPUT_VARIABLE needs COMMAND_ERROR_IS_FATAL ANY)
if(NOT needs MATCHES "libsentencepiece")
  message(FATAL_ERROR "${PROGRAM} does not link SentencePiece: this test looks at the wrong thing")
endif()
if(needs MATCHES "libproto(buf|c)")
  message(FATAL_ERROR "${PROGRAM} links Protocol Buffers next to SentencePiece, which has its own:\n${needs}")
endif()
