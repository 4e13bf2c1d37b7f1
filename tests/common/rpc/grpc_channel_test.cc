// What a channel does while a connection is being made.
#include "common/rpc/grpc_channel.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/process/file_descriptor.h"

namespace weft {
namespace {

// A server that takes connections and says nothing, as one does that is far away or busy.
class SilentServer {
 public:
  SilentServer() : listening_(socket(AF_INET, SOCK_STREAM, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    auto* const any = reinterpret_cast<sockaddr*>(&address_);
    EXPECT_EQ(bind(listening_.get(), any, size), 0);
    EXPECT_EQ(getsockname(listening_.get(), any, &size), 0);
    EXPECT_EQ(listen(listening_.get(), 8), 0);
    thread_ = std::thread([this] {
      while (true) {
        FileDescriptor connection(accept(listening_.get(), nullptr, nullptr));
        if (!connection.is_open()) return;
        ++taken_;
        open_.push_back(std::move(connection));
      }
    });
  }
  ~SilentServer() {
    shutdown(listening_.get(), SHUT_RDWR);  // wakes the thread
    thread_.join();
  }
  [[nodiscard]] std::string address() const {
    return absl::StrCat("127.0.0.1:", ntohs(address_.sin_port));
  }
  [[nodiscard]] int taken() const { return taken_; }

 private:
  FileDescriptor listening_;
  sockaddr_in address_{};
  std::atomic<int> taken_ = 0;
  std::vector<FileDescriptor> open_;  // of the thread
  std::thread thread_;
};

TEST(GrpcChannel, AServerThatIsSlowToAnswerIsWaitedForUpToTheLimit) {
  SilentServer server;
  ChannelOptions options;
  options.connect_limit = absl::Seconds(20);
  const auto patient = NewChannel(server.address(), options);
  EXPECT_FALSE(patient->WaitForConnected(absl::ToChronoTime(absl::Now() + absl::Seconds(1))));
  EXPECT_EQ(server.taken(), 1) << "it gave up and began anew";
  options.connect_limit = absl::Milliseconds(100);
  const auto hasty = NewChannel(server.address(), options);
  EXPECT_FALSE(hasty->WaitForConnected(absl::ToChronoTime(absl::Now() + absl::Seconds(1))));
  EXPECT_GT(server.taken(), 2) << "the limit counts";
}

}  // namespace
}  // namespace weft
