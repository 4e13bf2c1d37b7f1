// TerminalProgram: a program in a terminal of its own, with what it draws, the keys that a person
// presses, and how it leaves the terminal.
#pragma once

#include <sys/types.h>
#include <termios.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/process/file_descriptor.h"

namespace weft::testing {

class TerminalProgram {
 public:
  // `program` is a path. The environment is ours with these variables besides.
  TerminalProgram(const std::string& program, const std::vector<std::string>& arguments,
                  const std::map<std::string, std::string>& environment, int columns, int rows);
  ~TerminalProgram();  // kills what still runs
  TerminalProgram(const TerminalProgram&) = delete;
  TerminalProgram& operator=(const TerminalProgram&) = delete;

  void Press(const std::string& keys);
  void Resize(int columns, int rows);
  void Signal(int signal);
  void HangUp();  // the terminal goes

  // Reads on until all that the program has drawn since the last Forget fulfils the condition;
  // false when it does not within 20 s.
  bool AwaitDrawn(const std::function<bool(const std::string&)>& condition);
  bool AwaitDrawn(const std::string& text);
  [[nodiscard]] const std::string& drawn() const { return drawn_; }
  void Forget() { drawn_.clear(); }

  // The status of waitpid once the program has ended, or stopped; -1 when it does neither within
  // the limit. All that it drew has then been read.
  int AwaitEnd(absl::Duration limit = absl::Seconds(20));
  // Whether the terminal is set as it was when the program began.
  [[nodiscard]] bool IsRestored() const;

 private:
  void Read();

  FileDescriptor terminal_;
  FileDescriptor program_side_;  // open, so that its settings outlive the program
  termios before_{};
  pid_t pid_ = 0;
  bool ended_ = false;
  std::string drawn_;
};

}  // namespace weft::testing
