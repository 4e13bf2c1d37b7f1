// What standard output is: a terminal gets live lines and colour, a file or a pipe gets plain
// lines.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace weft::client {

bool StdoutIsTerminal();
// Whether keys can be read and screens drawn: standard input and output are terminals, and one that
// knows control sequences (TERM).
bool HasFullScreen();
// Columns of the terminal; 80 when unknown.
int TerminalWidth();
// Lines of the terminal; 24 when unknown.
int TerminalHeight();
// Whether the environment (LC_ALL, LC_CTYPE, LANG) asks for UTF-8.
bool IsUtf8Environment();
// What a model wrote, with a '?' in place of each control character but line ends and tabs: they
// could change what the terminal does from then on.
std::string ForTerminal(absl::string_view text);

}  // namespace weft::client
