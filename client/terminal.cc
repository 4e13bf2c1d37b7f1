#include "client/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace weft::client {

bool StdoutIsTerminal() { return isatty(STDOUT_FILENO) == 1; }

bool HasFullScreen() {
  const char* kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): one thread
  return isatty(STDIN_FILENO) == 1 && StdoutIsTerminal() && kind != nullptr &&
         absl::string_view(kind) != "dumb";
}

int TerminalWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

int TerminalHeight() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return 24;
  return size.ws_row;
}

bool IsUtf8Environment() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    if (value == nullptr || *value == '\0') continue;
    const std::string locale = absl::AsciiStrToLower(value);
    return absl::StrContains(locale, "utf-8") || absl::StrContains(locale, "utf8");
  }
  return false;
}

std::string ForTerminal(absl::string_view text) {
  std::string shown(text);
  for (char& c : shown) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)) && c != '\n' && c != '\t') c = '?';
  }
  return shown;
}

}  // namespace weft::client
