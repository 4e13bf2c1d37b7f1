#include "tests/testing/postgres_server.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/testing/await.h"

namespace weft::testing {
namespace {

// The server's first process.
pid_t PidOf(const std::string& target) {
  const std::string host = std::vector<std::string>(absl::StrSplit(target, ' '))[0];
  std::ifstream file(host.substr(host.find('=') + 1) + "/data/postmaster.pid");
  pid_t pid = 0;
  file >> pid;
  return pid;
}

// As the system does without memory, or the server itself on a full disk: nobody waits for it then.
TEST(PostgresServerTest, AServerThatHasEndedByItselfIsStartedAgain) {
  PostgresServer server;
  const pid_t first = PidOf(server.NewDatabase());
  ASSERT_GT(first, 0);
  ASSERT_EQ(kill(first, SIGKILL), 0);
  ASSERT_TRUE(Await([first] { return kill(first, 0) != 0; }));
  server.Kill();
  server.Start();
  EXPECT_NE(PidOf(server.NewDatabase()), first);
}

}  // namespace
}  // namespace weft::testing
