#include "tests/testing/terminal_program.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <array>
#include <csignal>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "tests/testing/await.h"

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX names it so

namespace weft::testing {
namespace {

winsize SizeOf(int columns, int rows) {
  winsize size{};
  size.ws_col = static_cast<uint16_t>(columns);
  size.ws_row = static_cast<uint16_t>(rows);
  return size;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

TerminalProgram::TerminalProgram(const std::string& program,
                                 const std::vector<std::string>& arguments,
                                 const std::map<std::string, std::string>& environment, int columns,
                                 int rows) {
  // All that needs memory stands before the fork: other threads may hold its locks.
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) {
    variables.push_back(absl::StrCat(name, "=", value));
  }
  for (char** entry = environ; *entry != nullptr; ++entry) {  // of two the first one counts
    variables.emplace_back(*entry);
  }
  const std::vector<char*> argv = Pointers(words);
  const std::vector<char*> envp = Pointers(variables);
  winsize size = SizeOf(columns, rows);
  int terminal = -1;
  int program_side = -1;
  WEFT_CHECK(openpty(&terminal, &program_side, nullptr, nullptr, &size) == 0);
  fcntl(terminal, F_SETFD, FD_CLOEXEC);
  terminal_ = FileDescriptor(terminal);
  program_side_ = FileDescriptor(program_side);
  tcgetattr(program_side, &before_);
  pid_ = fork();
  if (pid_ == 0) {
    login_tty(program_side);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  WEFT_CHECK(pid_ > 0);
}

TerminalProgram::~TerminalProgram() {
  if (ended_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void TerminalProgram::Press(const std::string& keys) {
  WEFT_CHECK(write(terminal_.get(), keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

void TerminalProgram::Resize(int columns, int rows) {
  const winsize size = SizeOf(columns, rows);
  WEFT_CHECK(ioctl(terminal_.get(), TIOCSWINSZ, &size) == 0);
}

void TerminalProgram::HangUp() {
  program_side_.Close();
  terminal_.Close();
}

void TerminalProgram::Signal(int signal) { kill(pid_, signal); }

void TerminalProgram::Read() {
  if (!terminal_.is_open()) return;
  pollfd output = {.fd = terminal_.get(), .events = POLLIN, .revents = 0};
  std::array<char, 4096> buffer{};
  while (poll(&output, 1, 0) > 0 && (output.revents & POLLIN) != 0) {
    const ssize_t got = read(terminal_.get(), buffer.data(), buffer.size());
    if (got <= 0) return;
    drawn_.append(buffer.data(), static_cast<size_t>(got));
  }
}

bool TerminalProgram::AwaitDrawn(const std::function<bool(const std::string&)>& condition) {
  return Await([&] {
    Read();
    return condition(drawn_);
  });
}

bool TerminalProgram::AwaitDrawn(const std::string& text) {
  return AwaitDrawn([&](const std::string& drawn) { return absl::StrContains(drawn, text); });
}

int TerminalProgram::AwaitEnd(absl::Duration limit) {
  int status = -1;
  const bool changed = Await(
      [&] {
        Read();  // a full terminal would hold the program up
        return waitpid(pid_, &status, WNOHANG | WUNTRACED) == pid_;
      },
      limit);
  Read();
  if (!changed) return -1;
  ended_ = !WIFSTOPPED(status);
  return status;
}

bool TerminalProgram::IsRestored() const {
  termios now{};
  tcgetattr(program_side_.get(), &now);
  return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag &&
         now.c_oflag == before_.c_oflag && now.c_cflag == before_.c_cflag;
}

}  // namespace weft::testing
