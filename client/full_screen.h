// FullScreen: the whole terminal for one program: a screen of its own, no cursor, every key as it
// is pressed. What was on the terminal before, and how it was set, comes back when this goes.
#pragma once

#include <termios.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::client {

// Keys are the characters that they give; these give none.
enum SpecialKey : int {
  kKeyEscape = 27,
  kKeyUp = 256,
  kKeyDown,
  kKeyPageUp,
  kKeyPageDown,
  kKeyHome,
  kKeyEnd,
  kKeyHangUp,  // the terminal is gone
};

class FullScreen {
 public:
  // Standard input and output must be one terminal.
  FullScreen();
  ~FullScreen();
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  // Puts text over the text that is there.
  void Show(const std::string& frame);
  // The keys that were pressed, once standard input is readable.
  std::vector<int> Keys();

 private:
  termios before_{};
};

// Lines and, in the last row, a footer, as what a terminal of this size shows when it is sent them:
// lines are cut, and every one clears what stood behind it, so that nothing needs to be cleared
// before, which would flicker.
std::string Frame(const std::vector<std::string>& lines, const std::string& footer, int columns,
                  int rows);

// The keys in what a terminal has sent. What it sends for keys that are not in SpecialKey is left
// out.
std::vector<int> ParseKeys(absl::string_view bytes);

}  // namespace weft::client
