// What standard output is: a terminal gets live lines and colour, a file or a pipe gets plain
// lines.
#pragma once

namespace weft::client {

bool StdoutIsTerminal();
// Columns of the terminal; 80 when unknown.
int TerminalWidth();

}  // namespace weft::client
