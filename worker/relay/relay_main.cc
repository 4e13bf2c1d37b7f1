// weft-relay: one process for each host of a gang, and the only program that contains MPI. It
// exchanges the gradients of its host's ranks, which it shares memory with, with the other hosts.
// Disposable: whatever goes wrong, it says so in the channel and leaves; a new generation gets new
// relays. Rules that keep a sick gang from hanging or lingering:
//  - after MPI_Init no blocking call of MPI, and never MPI_Finalize: it would wait for the dead;
//  - it leaves by _exit, with the buffers of unfinished operations still in place;
//  - SIGPIPE is ignored: a lost peer is a failed operation, not the end of the process;
//  - MPI_Init, which cannot be given a deadline, runs under an alarm;
//  - it dies with its parent (orted; of a gang on one host, which needs no MPI, the agent) and
//    leaves within a tenth of a second of its agent's death.

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "worker/comm/relay_channel.h"
#include "worker/relay/new_host_group.h"
#include "worker/relay/relay_environment.h"
#include "worker/relay/relay_loop.h"

namespace weft::worker {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): there is one thread yet
  return value == nullptr ? "" : value;
}

// Everything that MPI may still write to when the process leaves: kept until _exit.
struct Relay {
  std::unique_ptr<RelayChannel> channel;
  std::unique_ptr<HostGroup> group;
  std::unique_ptr<RelayLoop> loop;
};

// Serves until something ends it; returns what.
absl::Status Serve(Relay& relay, int start_seconds, int* argc, char*** argv) {
  const absl::Time start_deadline = absl::Now() + absl::Seconds(start_seconds);
  WEFT_RETURN_IF_ERROR(relay.channel->AbortStatus());
  WEFT_RETURN_IF_ERROR(relay.channel->ClaimRelay());
  WEFT_ASSIGN_OR_RETURN(relay.group,
                        NewHostGroup(relay.channel->options().hosts, start_seconds, argc, argv));
  relay.loop = std::make_unique<RelayLoop>(*relay.channel, *relay.group);
  return relay.loop->Run(start_deadline);
}

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() == 1) return 1;  // the parent died before the line above
  const std::string name = Environment(kRelayChannelVariable);
  int start_seconds = 15;
  const std::string seconds = Environment(kRelayStartSecondsVariable);
  if (name.empty() || (!seconds.empty() && (!absl::SimpleAtoi(seconds, &start_seconds) ||
                                            start_seconds < 1 || start_seconds > 3600))) {
    std::fprintf(stderr,
                 "weft-relay is started by weft-worker: %s must name the host's "
                 "shared memory and %s be 1..3600\n",
                 kRelayChannelVariable, kRelayStartSecondsVariable);
    return 2;
  }
  absl::StatusOr<std::unique_ptr<RelayChannel>> channel = RelayChannel::Open(name);
  if (!channel.ok()) {
    std::fprintf(stderr, "weft-relay: %s\n", channel.status().ToString().c_str());
    return 1;
  }
  Relay relay;
  relay.channel = *std::move(channel);
  const absl::Status end = Serve(relay, start_seconds, &argc, &argv);
  if (relay.channel->AbortStatus().ok()) {  // else the one who aborted has said why
    std::fprintf(stderr, "weft-relay of host %d: %s\n", relay.channel->options().host,
                 end.ToString().c_str());
  }
  relay.channel->Abort(end);
  // The agent would remove it; without one, nobody would.
  if (relay.channel->OwnerIsGone()) SharedMemory::Remove(name).IgnoreError();
  _exit(1);
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }
