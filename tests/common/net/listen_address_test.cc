#include "common/net/listen_address.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(ParseListenAddressTest, TakesHostsAndPorts) {
  ASSERT_OK_AND_ASSIGN(ListenAddress address, ParseListenAddress("127.0.0.1:7733"));
  EXPECT_EQ(address.host, "127.0.0.1");
  EXPECT_EQ(address.port, 7733);
  ASSERT_OK_AND_ASSIGN(address, ParseListenAddress("[::1]:0"));
  EXPECT_EQ(address.host, "[::1]");
  EXPECT_EQ(address.port, 0);
}

TEST(ParseListenAddressTest, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "7733", ":7733", "localhost", "localhost:", "localhost:http",
                           "localhost:-1", "localhost:65536", "::1:80"}) {
    EXPECT_THAT(ParseListenAddress(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("host:port")))
        << text;
  }
}

TEST(CheckListenAddressTest, AFreePortIsFine) {
  EXPECT_THAT(CheckListenAddress("127.0.0.1:0"), IsOk());
}

TEST(CheckListenAddressTest, NamesThePortThatIsInUse) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GE(fd, 0);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string text = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  EXPECT_THAT(CheckListenAddress(text),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr(absl::StrCat(text, ": the port is in use"))));
}

TEST(CheckListenAddressTest, AnAddressOfAnotherMachineIsRefused) {
  // From the range that is set aside for documentation.
  EXPECT_THAT(CheckListenAddress("192.0.2.1:0"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("192.0.2.1:0")));
}

}  // namespace
}  // namespace weft
