#include "client/checked_output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <iostream>
#include <string>

#include "client/signal_queue.h"
#include "common/process/file_descriptor.h"

namespace weft::client {
namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    out = FileDescriptor(ends[0]);
    in = FileDescriptor(ends[1]);
  }
  FileDescriptor out;
  FileDescriptor in;
};

std::string ReadAll(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 1; got > 0;) {
    got = read(descriptor, buffer.data(), buffer.size());
    text.append(buffer.data(), static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  return text;
}

// As main does.
void WriteTo(int descriptor, const std::string& text) {
  std::signal(SIGPIPE, SIG_IGN);
  const CheckedOutput output(descriptor);
  std::cout << text;
}

TEST(CheckedOutput, HandsEverythingOnInOrder) {
  Pipe pipe;
  std::string text;
  for (int i = 0; i < 4000; ++i) text += std::to_string(i) + "\n";
  {
    const CheckedOutput output(pipe.in.get());
    std::cout << text.substr(0, 17) << 'x' << std::flush << text.substr(17);
  }
  pipe.in.Close();
  EXPECT_EQ(ReadAll(pipe.out.get()), text.substr(0, 17) + "x" + text.substr(17));
}

TEST(CheckedOutput, EndsAsBySigpipeWhenNobodyReads) {
  Pipe pipe;
  pipe.out.Close();
  EXPECT_EXIT(WriteTo(pipe.in.get(), "a line\n"), ::testing::KilledBySignal(SIGPIPE), "^$");
}

TEST(CheckedOutput, EndsWithASentenceWhenTheDiskIsFull) {
  const FileDescriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  EXPECT_EXIT(WriteTo(full.get(), "a line\n"), ::testing::ExitedWithCode(1),
              "^weft: cannot write to standard output: No space left on device\n$");
}

TEST(CheckedOutput, LeavesTheEndToASignalQueueThatHasSigpipe) {
  Pipe pipe;
  pipe.out.Close();
  std::signal(SIGPIPE, SIG_IGN);
  const SignalQueue signals({SIGPIPE});
  WriteTo(pipe.in.get(), "a line\n");
  EXPECT_EQ(signals.Next(absl::ZeroDuration()), SIGPIPE);
}

}  // namespace
}  // namespace weft::client
