#include "common/process/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "common/process/framed_socket.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;

std::string Framed(absl::string_view message) {
  auto frame = EncodeFrame(message);
  EXPECT_THAT(frame, IsOk());
  return *frame;
}

TEST(FrameTest, IsItsLengthInLittleEndianAndTheMessage) {
  EXPECT_EQ(Framed("abc"), std::string("\x03\0\0\0abc", 7));
  EXPECT_EQ(Framed(std::string(258, 'x')).substr(0, 4), std::string("\x02\x01\0\0", 4));
}

TEST(FrameTest, IsCutOutOfTheStreamByteByByte) {
  FrameDecoder decoder;
  const std::string stream = Framed("one") + Framed("") + Framed("three");
  std::vector<std::string> messages;
  for (const char byte : stream) {
    decoder.Append(absl::string_view(&byte, 1));
    auto message = decoder.Next();
    ASSERT_THAT(message, IsOk());
    if (message->has_value()) messages.push_back(**message);
  }
  EXPECT_THAT(messages, ::testing::ElementsAre("one", "", "three"));
  EXPECT_TRUE(decoder.AtBoundary());
}

TEST(FrameTest, ManyMessagesAtOnceComeInOrder) {
  FrameDecoder decoder;
  std::string stream;
  for (int i = 0; i < 5000; ++i) stream += Framed(std::string(static_cast<size_t>(i % 100), 'x'));
  decoder.Append(stream);
  for (int i = 0; i < 5000; ++i) {
    auto message = decoder.Next();
    ASSERT_THAT(message, IsOk());
    ASSERT_TRUE(message->has_value());
    ASSERT_EQ((*message)->size(), static_cast<size_t>(i % 100));
  }
  EXPECT_TRUE(decoder.AtBoundary());
}

TEST(FrameTest, ALengthBeyondTheLimitIsRefusedBeforeItsBytesCome) {
  FrameDecoder decoder;
  decoder.Append(absl::string_view("\x01\x00\x00\x01", 4));  // 16 MiB + 1
  EXPECT_THAT(decoder.Next(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("16777217")));
  EXPECT_THAT(EncodeFrame(std::string(kMaxFrameBytes + 1, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(EncodeFrame(std::string(kMaxFrameBytes, 'x')), IsOk());
}

class FramedSocketTest : public ::testing::Test {
 protected:
  FramedSocketTest() {
    auto pair = NewSocketPair();
    EXPECT_THAT(pair, IsOk());
    raw_ = pair->second.get();
    near_ = std::make_unique<FramedSocket>(std::move(pair->first));
    far_descriptor_ = std::move(pair->second);
  }
  std::unique_ptr<FramedSocket> near_;
  FileDescriptor far_descriptor_;
  int raw_ = -1;
};

TEST_F(FramedSocketTest, CarriesMessagesLargerThanTheSocketHolds) {
  FramedSocket far(std::move(far_descriptor_));
  const std::string large(kMaxFrameBytes, 'y');
  std::thread sender([&] { EXPECT_THAT(near_->Send(large), IsOk()); });
  EXPECT_THAT(far.Receive(), IsOkAndHolds(large));
  sender.join();
}

TEST_F(FramedSocketTest, TellsAnOrderlyEndFromATornMessage) {
  ASSERT_EQ(write(raw_, "\x01\0\0\0a", 5), 5);
  far_descriptor_.Close();
  EXPECT_THAT(near_->Receive(), IsOkAndHolds("a"));
  EXPECT_THAT(near_->Receive(), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(FramedSocketTest, AMessageCutShortIsDataLoss) {
  ASSERT_EQ(write(raw_, "\x09\0\0\0abc", 7), 7);
  far_descriptor_.Close();
  EXPECT_THAT(near_->Receive(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(FramedSocketTest, ADeadlineLosesNothing) {
  ASSERT_EQ(write(raw_, "\x02\0\0\0a", 5), 5);
  EXPECT_THAT(near_->Receive(absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  ASSERT_EQ(write(raw_, "b", 1), 1);
  EXPECT_THAT(near_->Receive(), IsOkAndHolds("ab"));
}

TEST_F(FramedSocketTest, SendingToOneWhoIsGoneIsAnErrorAndNoSignal) {
  far_descriptor_.Close();
  EXPECT_THAT(near_->Send("x"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(FramedSocketTest, ASendThatMissedItsDeadlineBreaksTheStream) {
  const std::string large(kMaxFrameBytes, 'y');
  EXPECT_THAT(near_->Send(large, absl::Now() + absl::Milliseconds(1)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(near_->Send("x"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(FramedSocketTest, ShutdownWakesAReceiver) {
  std::thread receiver(
      [&] { EXPECT_THAT(near_->Receive(), StatusIs(absl::StatusCode::kOutOfRange)); });
  near_->Shutdown();
  receiver.join();
}

}  // namespace
}  // namespace weft
