#include "worker/relay/remote_shell.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "worker/relay/remote_shell_wire.h"
#include "worker/relay/unix_socket.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::IsOkAndHolds;
using testing::StatusIs;
using testing::TempDir;

// Connects as a peer that does not keep to the protocol.
int ConnectTo(const std::string& path) {
  const auto address = UnixAddress(path);
  const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(file, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)), 0);
  return file;
}

class RemoteShell : public ::testing::Test {
 protected:
  void Serve(RemoteShellServer::Callbacks callbacks) {
    auto server = RemoteShellServer::Listen(path_, std::move(callbacks));
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
  }

  TempDir folder_;
  std::string path_ = (folder_.path() / "agent.sock").string();
  std::unique_ptr<RemoteShellServer> server_;
};

TEST_F(RemoteShell, TheRequestArrivesWholeAndTheStatusComesBack) {
  RemoteShellRequest seen;
  Serve({[&](auto session, auto request) {
           seen = std::move(request);
           server_->Finish(session, 7, "");
         },
         [](auto) {}});
  const std::string command(200'000, 'x');  // more than one read takes
  EXPECT_THAT(RunRemoteShell(path_, {"token", "weft-h3", command}), IsOkAndHolds(7));
  EXPECT_EQ(seen.token, "token");
  EXPECT_EQ(seen.host, "weft-h3");
  EXPECT_EQ(seen.command, command);
}

TEST_F(RemoteShell, CommandsRunSideBySideAndEndInAnyOrder) {
  absl::Mutex mutex;
  std::vector<std::pair<RemoteShellServer::Session, std::string>> open;
  Serve({[&](auto session, auto request) {
           absl::MutexLock lock(&mutex);
           open.emplace_back(session, request.host);
         },
         [](auto) {}});
  std::vector<std::thread> shells;
  for (int i = 0; i < 5; ++i) {
    shells.emplace_back([&, i] {
      EXPECT_THAT(RunRemoteShell(path_, {"t", std::to_string(i), "c"}), IsOkAndHolds(10 + i));
    });
  }
  const auto all = [&] { return open.size() == 5; };
  mutex.LockWhen(absl::Condition(&all));
  for (auto one = open.rbegin(); one != open.rend(); ++one) {
    server_->Finish(one->first, 10 + std::stoi(one->second), "");
  }
  mutex.Unlock();
  for (std::thread& shell : shells) shell.join();
}

TEST_F(RemoteShell, AShellThatIsKilledIsAHangup) {
  absl::Notification requested;
  absl::Notification hung_up;
  std::optional<RemoteShellServer::Session> first;
  Serve({[&](auto session, auto) {
           first = session;
           requested.Notify();
         },
         [&](auto session) {
           EXPECT_EQ(session, *first);
           hung_up.Notify();
         }});
  const int shell = ConnectTo(path_);
  const std::string request = remote_shell_wire::EncodeRequest({"t", "h", "c"});
  ASSERT_EQ(write(shell, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  requested.WaitForNotification();
  close(shell);
  hung_up.WaitForNotification();
  server_->Finish(*first, 0, "late");  // harmless
}

TEST_F(RemoteShell, AnAgentThatEndsIsToldApartFromACommandThatFails) {
  absl::Notification requested;
  Serve({[&](auto, auto) { requested.Notify(); }, [](auto) {}});
  absl::StatusOr<int> result = 0;
  std::thread shell([&] { result = RunRemoteShell(path_, {"t", "h", "c"}); });
  requested.WaitForNotification();
  server_ = nullptr;
  shell.join();
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the agent has ended")));
  // The socket is gone with it.
  EXPECT_THAT(RunRemoteShell(path_, {"t", "h", "c"}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(path_)));
}

TEST_F(RemoteShell, GarbageIsRefusedWithoutACallback) {
  Serve({[&](auto, auto) { ADD_FAILURE() << "this was no request"; }, [](auto) {}});
  const std::string huge = "\xff\xff\xff\xff";
  std::string foreign = remote_shell_wire::EncodeRequest({"t", "h", "c"});
  foreign[4] = 9;  // the version
  std::string cut = remote_shell_wire::EncodeRequest({"t", "h", "c"});
  cut[5] = 100;  // the token's length
  for (const std::string& garbage : {huge, foreign, cut}) {
    const int peer = ConnectTo(path_);
    ASSERT_EQ(write(peer, garbage.data(), garbage.size()), static_cast<ssize_t>(garbage.size()));
    std::string answer;
    char byte = 0;
    while (read(peer, &byte, 1) == 1) answer.push_back(byte);  // until the server closes
    close(peer);
    const auto message = remote_shell_wire::TakeMessage(answer);
    ASSERT_TRUE(message.ok() && message->has_value());
    const auto decoded = remote_shell_wire::DecodeAnswer(**message);
    ASSERT_THAT(decoded, IsOk());
    EXPECT_EQ(decoded->exit_status, kAgentLostStatus);
    EXPECT_THAT(decoded->message, HasSubstr("remote shell"));
  }
}

TEST_F(RemoteShell, TheSocketIsForThisUserAloneAndReplacesAnOldOne) {
  Serve({[](auto, auto) {}, [](auto) {}});
  struct stat state {};
  ASSERT_EQ(stat(path_.c_str(), &state), 0);
  EXPECT_EQ(state.st_mode & 0777U, 0600U);
  // As after a crash: the file is there, nobody listens. Here somebody does; the newer one wins.
  auto second = RemoteShellServer::Listen(path_, {[](auto, auto) {}, [](auto) {}});
  EXPECT_THAT(second, IsOk());
}

TEST_F(RemoteShell, APathThatDoesNotFitASocketIsNamed) {
  const std::string path = "/tmp/" + std::string(120, 'a');
  EXPECT_THAT(RemoteShellServer::Listen(path, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)));
}

}  // namespace
}  // namespace weft::worker
