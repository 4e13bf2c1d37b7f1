#include "client/full_screen.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/utf8.h"

namespace weft::client {
namespace {

// ECMA-48 and xterm's control sequences: every terminal of today knows them.
constexpr char kTake[] = "\x1b[?1049h\x1b[?25l\x1b[2J";  // the second screen, no cursor, empty
constexpr char kGiveBack[] = "\x1b[?25h\x1b[?1049l";
constexpr char kTopLeft[] = "\x1b[H";
constexpr char kClearLine[] = "\x1b[K";  // from the cursor on
constexpr char kReversed[] = "\x1b[7m";
constexpr char kPlain[] = "\x1b[0m";

// The Escape key and the first byte of other keys are the same byte. What belongs to another key
// comes at once, over slow lines within this.
constexpr int kEscapeMilliseconds = 50;

constexpr std::pair<const char*, int> kSequences[] = {
    {"[A", kKeyUp},      {"OA", kKeyUp},        {"[B", kKeyDown},  {"OB", kKeyDown},
    {"[5~", kKeyPageUp}, {"[6~", kKeyPageDown}, {"[H", kKeyHome},  {"OH", kKeyHome},
    {"[F", kKeyEnd},     {"OF", kKeyEnd},       {"[1~", kKeyHome}, {"[4~", kKeyEnd},
};

void Write(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written <= 0) return;  // the terminal is gone, which its keys tell
    text.remove_prefix(static_cast<size_t>(written));
  }
}

bool IsReadable(int descriptor, int milliseconds) {
  pollfd input = {.fd = descriptor, .events = POLLIN, .revents = 0};
  return poll(&input, 1, milliseconds) > 0;
}

// Behind an escape: takes the sequence away and tells its key, 0 for one that is not known here.
int TakeSequence(absl::string_view& bytes) {
  for (const auto& [sequence, key] : kSequences) {
    if (absl::ConsumePrefix(&bytes, sequence)) return key;
  }
  // ECMA-48: parameters, then a letter or one of @[\]^_`{|}~.
  if (absl::ConsumePrefix(&bytes, "[")) {
    while (!bytes.empty() && (bytes.front() < '@' || bytes.front() > '~')) bytes.remove_prefix(1);
  }
  if (!bytes.empty()) bytes.remove_prefix(1);
  return 0;
}

}  // namespace

FullScreen::FullScreen() {
  tcgetattr(STDIN_FILENO, &before_);
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_iflag &= ~static_cast<tcflag_t>(IXON);  // Ctrl-S would stop us within a frame
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  Write(kTake);
}

FullScreen::~FullScreen() {
  Write(kGiveBack);
  tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

void FullScreen::Show(const std::string& frame) { Write(frame); }

std::vector<int> FullScreen::Keys() {
  std::string bytes;
  std::array<char, 256> buffer{};
  do {
    const ssize_t got = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got <= 0) return {kKeyHangUp};
    bytes.append(buffer.data(), static_cast<size_t>(got));
  } while (absl::EndsWith(bytes, "\x1b") && IsReadable(STDIN_FILENO, kEscapeMilliseconds));
  return ParseKeys(bytes);
}

std::string Frame(const std::vector<std::string>& lines, const std::string& footer, int columns,
                  int rows) {
  // The last column stays free: what a terminal does behind it differs.
  const auto width = static_cast<size_t>(std::max(1, columns - 1));
  const auto room = static_cast<size_t>(std::max(1, rows - 1));
  std::string frame = kTopLeft;
  for (size_t row = 0; row < room; ++row) {
    const absl::string_view line(row < lines.size() ? absl::string_view(lines[row]) : "");
    absl::StrAppend(&frame, Utf8Prefix(line, width), kClearLine, "\r\n");
  }
  absl::StrAppend(&frame, kReversed, Utf8Prefix(footer, width), kPlain, kClearLine);
  return frame;
}

std::vector<int> ParseKeys(absl::string_view bytes) {
  std::vector<int> keys;
  while (!bytes.empty()) {
    const char byte = bytes.front();
    bytes.remove_prefix(1);
    const bool in_sequence =
        byte == kKeyEscape && !bytes.empty() && (bytes.front() == '[' || bytes.front() == 'O');
    const int key = in_sequence ? TakeSequence(bytes) : static_cast<unsigned char>(byte);
    if (key != 0) keys.push_back(key);
  }
  return keys;
}

}  // namespace weft::client
