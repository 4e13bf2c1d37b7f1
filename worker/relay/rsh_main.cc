// weft-rsh HOST COMMAND WORD...: the program that mpirun takes for a remote shell. It asks the
// agent of this machine to run the command on the host that HOST stands for, and lives as long as
// the command: when it is killed, the agent stops the command.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "worker/relay/remote_shell.h"

namespace weft::worker {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread, ever
  return value == nullptr ? "" : value;
}

int Main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a killed mpirun takes its shells along
  if (getppid() == 1) return kAgentLostStatus;
  const std::string socket = Environment(kAgentSocketVariable);
  if (argc < 3 || socket.empty()) {
    std::fprintf(stderr, "usage: %s=SOCKET weft-rsh HOST COMMAND [WORD...]\n",
                 kAgentSocketVariable);
    return kAgentLostStatus;
  }
  RemoteShellRequest request;
  request.token = Environment(kGangTokenVariable);
  request.host = argv[1];
  // The words carry quotes that only a shell understands: joined as they are, like ssh does.
  request.command = absl::StrJoin(std::vector<std::string>(argv + 2, argv + argc), " ");
  const absl::StatusOr<int> status = RunRemoteShell(socket, request);
  if (status.ok()) return *status;
  std::fprintf(stderr, "weft-rsh %s: %s\n", argv[1], status.status().ToString().c_str());
  return kAgentLostStatus;
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }
