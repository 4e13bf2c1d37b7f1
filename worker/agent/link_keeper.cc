#include "worker/agent/link_keeper.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/log/log.h"
#include "common/rpc/grpc_channel.h"

namespace weft::worker {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);
constexpr absl::Duration kWelcomeTimeout = absl::Seconds(5);
// gRPC's own pauses between attempts to reach the host must not add to ours.
constexpr absl::Duration kChannelPause = absl::Milliseconds(500);
// Where all agents knock at coordinators that stand by, as long as they do.
constexpr absl::Duration kStandbyPause = absl::Seconds(1);
// How often an agent looks which of several coordinators takes connections.
constexpr absl::Duration kLook = absl::Milliseconds(100);
constexpr int64_t kLooksToExplain = 50;  // from one reason why nobody answers to the next
// The coordinator's wish is obeyed within these bounds.
constexpr absl::Duration kShortestInterval = absl::Milliseconds(10);
constexpr absl::Duration kLongestInterval = absl::Minutes(1);

}  // namespace

LinkKeeper::LinkKeeper(EventLoop& loop, Callbacks callbacks,
                       std::shared_ptr<grpc::ChannelCredentials> credentials)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      credentials_(std::move(credentials)),
      backoff_(kFirstPause, kLongestPause) {}

LinkKeeper::~LinkKeeper() = default;

void LinkKeeper::Open() { Connect(); }

void LinkKeeper::Finish() {
  closed_ = true;
  if (link_ != nullptr) link_->Finish();
}

void LinkKeeper::Close() {
  loop_.Post([this] {
    closed_ = true;
    link_.reset();
  });
  // What gRPC still has to say, it says to a loop that is there.
  const absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](int* open) { return *open == 0; }, &open_streams_));
}

void LinkKeeper::Connect() {
  if (closed_) return;
  const absl::StatusOr<std::string> addresses = callbacks_.address();
  if (!addresses.ok()) return ConnectLater(addresses.status());
  const int64_t attempt = ++attempt_;
  const std::string address = Choose(*addresses);
  if (address.empty()) {
    loop_.RunAt(loop_.clock().Now() + kLook, [this] { Connect(); });
    if (attempt % kLooksToExplain != 1) return;
    address_ = coordinators_.begin()->first;
    Explain(absl::UnavailableError(
        absl::StrCat("none of the coordinators at ", *addresses, " takes connections")));
    return;
  }
  address_ = address;
  {
    const absl::MutexLock lock(&mutex_);
    ++open_streams_;
  }
  CoordinatorLink::Callbacks callbacks;
  callbacks.on_message = [this, attempt](v1::CoordinatorMessage message) {
    loop_.Post([this, attempt, message = std::move(message)] { OnMessage(attempt, message); });
  };
  callbacks.on_end = [this, attempt](const absl::Status& status) {
    loop_.Post([this, attempt, status] { OnEnd(attempt, status); });
    const absl::MutexLock lock(&mutex_);
    --open_streams_;  // the last thing: Close waits for it
  };
  v1::WorkerMessage hello;
  *hello.mutable_hello() = callbacks_.hello();
  link_ = std::make_unique<CoordinatorLink>(coordinators_.at(address).channel, hello,
                                            std::move(callbacks));
  loop_.RunAt(loop_.clock().Now() + kWelcomeTimeout, [this, attempt] {
    if (attempt == attempt_ && !up_ && link_ != nullptr) link_->Cancel();
  });
}

bool LinkKeeper::Coordinator::Ready() {
  const bool ready = channel->GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_READY;
  doubtful = doubtful && ready;
  return ready;
}

std::string LinkKeeper::Choose(const std::string& addresses) {
  std::vector<std::string> all = absl::StrSplit(addresses, ',');
  std::map<std::string, Coordinator> coordinators;
  for (const std::string& address : all) {
    const auto known = coordinators_.find(address);
    if (known != coordinators_.end()) {
      coordinators.insert(*known);
      continue;
    }
    ChannelOptions options;
    options.max_reconnect_pause = all.size() == 1 ? kChannelPause : kStandbyPause;
    options.credentials = credentials_;
    coordinators.emplace(address, Coordinator{NewChannel(address, options)});
  }
  coordinators_ = std::move(coordinators);
  if (all.size() == 1) return all.front();
  // gRPC tries them all meanwhile. Of those that take connections, the one tried last comes last,
  // and doubtful ones after the others.
  const auto last = std::find(all.begin(), all.end(), address_);
  if (last != all.end()) std::rotate(all.begin(), last + 1, all.end());
  const auto not_ready = [this](const std::string& address) {
    return !coordinators_.at(address).Ready();
  };
  all.erase(std::remove_if(all.begin(), all.end(), not_ready), all.end());
  if (all.empty()) return "";
  std::stable_partition(all.begin(), all.end(), [this](const std::string& address) {
    return !coordinators_.at(address).doubtful;
  });
  for (const std::string& address : all) {
    coordinators_.at(address).doubtful = address != all.front();
  }
  return all.front();
}

bool LinkKeeper::AnotherServes() {
  bool found = false;
  for (auto& [address, coordinator] : coordinators_) {
    if (address == address_) continue;
    found |= coordinator.Ready() && !coordinator.doubtful;
  }
  return found;
}

void LinkKeeper::ConnectLater(const absl::Status& why) {
  loop_.RunAt(loop_.clock().Now() + backoff_.Next(), [this] { Connect(); });
  Explain(why);
}

void LinkKeeper::Explain(const absl::Status& why) {
  const std::string code = absl::StatusCodeToString(why.code());
  if (!absl::IsUnavailable(why) || callbacks_.explain == nullptr) {
    return Complain(code, std::string(why.message()));
  }
  const auto done = [this, code, why](const std::string& reason) {
    if (up_ || closed_) return;
    if (reason.empty()) return Complain(code, std::string(why.message()));
    Complain(reason, absl::StrCat("no connection can be made: ", reason));
  };
  callbacks_.explain(address_, done);
}

// One line for a change, not one for each attempt: `trouble` is what has not changed.
void LinkKeeper::Complain(const std::string& trouble, const std::string& why) {
  if (std::exchange(last_trouble_, trouble) == trouble) return;
  LogWarning("link", "no connection to the coordinator; trying on",
             {{"address", address_}, {"why", why}});
}

void LinkKeeper::OnMessage(int64_t attempt, const v1::CoordinatorMessage& message) {
  if (attempt != attempt_ || link_ == nullptr) return;
  if (message.has_welcome()) return OnWelcome(message.welcome());
  if (up_) callbacks_.on_message(message);
}

void LinkKeeper::OnWelcome(const v1::Welcome& welcome) {
  if (up_.exchange(true)) return;
  backoff_.Reset();
  last_trouble_.clear();
  heartbeat_interval_ = std::clamp(absl::Milliseconds(welcome.heartbeat_milliseconds()),
                                   kShortestInterval, kLongestInterval);
  LogInfo("link", "connected to the coordinator", {{"address", address_}});
  callbacks_.on_up();
  BeatAgain();
}

void LinkKeeper::OnEnd(int64_t attempt, const absl::Status& status) {
  if (attempt != attempt_ || link_ == nullptr) return;
  link_.reset();
  const bool was_up = up_.exchange(false);
  if (closed_) return;
  if (was_up) {
    callbacks_.on_down();
  } else if (absl::IsFailedPrecondition(status)) {
    closed_ = true;
    return callbacks_.on_refused(status);
  } else {
    coordinators_.at(address_).doubtful = true;
  }
  ConnectLater(status.ok() ? absl::UnavailableError("the coordinator closed the connection")
                           : status);
}

void LinkKeeper::Send(v1::WorkerMessage message) {
  if (up_ && link_ != nullptr) link_->Send(std::move(message));
}

int64_t LinkKeeper::queued_bytes() const { return link_ == nullptr ? 0 : link_->queued_bytes(); }

void LinkKeeper::SendHeartbeat() {
  if (!up_) return;
  v1::WorkerMessage message;
  *message.mutable_heartbeat() = callbacks_.heartbeat();
  message.mutable_heartbeat()->set_sequence(++heartbeat_sequence_);
  Send(std::move(message));
  last_heartbeat_ = loop_.clock().Now();
}

void LinkKeeper::BeatAgain() {
  if (!up_) return;
  SendHeartbeat();
  if (AnotherServes()) {
    // Ours does not lead any more, and may be stopped: then nothing else would tell us soon.
    LogInfo("link", "another coordinator leads", {{"address", address_}});
    link_->Cancel();
    return;
  }
  loop_.RunAt(loop_.clock().Now() + heartbeat_interval_, [this, attempt = attempt_] {
    if (attempt == attempt_) BeatAgain();
  });
}

}  // namespace weft::worker
