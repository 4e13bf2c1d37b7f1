// The remote shell of a gang: mpirun starts `weft-rsh HOST COMMAND WORD...` for every host; that
// program hands the request to its own agent over a unix socket and stays until the agent says that
// the command has ended. Both ends live here; neither knows gRPC.
//
// What travels, all integers little-endian:
//   weft-rsh -> agent   u32 length of what follows, u8 version (1), then three texts, each as
//                       u32 length + bytes: token, host, command
//   agent -> weft-rsh   u32 length of what follows, i32 exit status, u32 length + bytes: message
// A closed socket without an answer means that the other side is gone: the agent then stops the
// command, weft-rsh ends with kAgentLostStatus, which makes mpirun give the gang up.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/strong_int.h"

namespace weft::worker {

// weft-rsh finds its agent and proves which gang it belongs to by these; mpirun passes them on.
inline constexpr char kAgentSocketVariable[] = "WEFT_AGENT_SOCKET";
inline constexpr char kGangTokenVariable[] = "WEFT_GANG_TOKEN";
// No agent answers, or it went away: as ssh does, so that logs read alike.
inline constexpr int kAgentLostStatus = 255;

struct RemoteShellRequest {
  std::string token;    // which gang: the agent compares it with RelayGang::token
  std::string host;     // an alias made by RelayLauncher; MemberIndexOf(host) is the member
  std::string command;  // for `sh -c`; the words carry quotes and must be parsed by a shell
};

// The weft-rsh side: sends the request and waits for the end of the command, without a deadline
// (the command lives as long as the gang). Returns the command's exit status. kUnavailable when the
// agent cannot be reached or goes away; what the agent said besides is printed to standard error.
absl::StatusOr<int> RunRemoteShell(const std::string& socket_path,
                                   const RemoteShellRequest& request);

// The agent's side: one thread, any number of commands at a time.
class RemoteShellServer {
 public:
  using Session = StrongInt<struct RemoteShellSessionTag>;

  // Both are called on the server's thread, one at a time, and must return soon; they may call
  // Finish. Every request is followed by exactly one Finish (the caller's duty) or on_hangup.
  struct Callbacks {
    // Start `request.command`, or Finish it at once with a status other than 0.
    std::function<void(Session, RemoteShellRequest)> on_request;
    // weft-rsh is gone (mpirun ended or was killed): stop the command. Finish is not needed.
    std::function<void(Session)> on_hangup;
  };

  // Listens on a new unix socket (mode 0600; only this user and root may connect) and serves until
  // destroyed. A socket left behind at `path` is replaced. kInvalidArgument when the path is longer
  // than a socket address holds (107 bytes).
  static absl::StatusOr<std::unique_ptr<RemoteShellServer>> Listen(const std::string& path,
                                                                   Callbacks callbacks);
  // Closes every session without calling back, and removes the socket.
  virtual ~RemoteShellServer() = default;

  // The command ended. Any thread; a session that is already over is ignored.
  virtual void Finish(Session session, int exit_status, absl::string_view message) = 0;
};

}  // namespace weft::worker
